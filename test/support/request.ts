/** Facts and raw requests for unit tests, without sockets. */
import type { IncomingMessage } from 'node:http'

import { nobody, type Facts } from '../../src/gates/gate.ts'
import { readFacts, type FactSettings } from '../../src/proxy/facts.ts'

/** A plain request that every gate passes; `change` replaces fields. */
export function someFacts(change: Partial<Facts> = {}): Facts {
  return {
    requestId: '00000000-0000-4000-8000-000000000000',
    time: 0,
    startedAt: 0,
    peer: '127.0.0.1',
    method: 'GET',
    target: '/health',
    path: '/health',
    host: '127.0.0.1:8080',
    headers: ['Host', '127.0.0.1:8080'],
    authorization: undefined,
    credentialInUrl: false,
    origin: undefined,
    fetchSite: undefined,
    contentType: undefined,
    framing: { kind: 'none' },
    expectsContinue: false,
    websocket: undefined,
    defect: undefined,
    ...change,
  }
}

export { nobody }

const settings: FactSettings = {
  maxUrlBytes: 8192,
  maxHeaders: 100,
  now: () => 0,
  monotonic: () => 0,
  newId: () => 'id',
  peerOf: () => '127.0.0.1',
}

/** What `readFacts` sees of a request line and headers. `headers` is flat: name, value, … */
export function factsOf(
  line: string,
  headers: readonly string[] = ['Host', 'localhost'],
  change: Partial<FactSettings> = {},
): Facts {
  const [method = '', url = '', version = ''] = line.split(' ')
  const request = {
    method,
    url,
    httpVersion: version.replace('HTTP/', ''),
    rawHeaders: [...headers],
  } as unknown as IncomingMessage
  return readFacts(request, { ...settings, ...change })
}
