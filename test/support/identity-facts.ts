import type { Facts } from '../../src/gates/gate.ts'

/** Facts of a plain GET from 192.0.2.7, with what a test changes. */
export function facts(changes: Partial<Facts> = {}): Facts {
  return {
    requestId: '00000000-0000-4000-8000-000000000000',
    time: 1_800_000_000_000,
    startedAt: 0,
    peer: '192.0.2.7',
    method: 'GET',
    target: '/',
    path: '/',
    host: 'localhost',
    headers: [],
    authorization: undefined,
    credentialInUrl: false,
    origin: undefined,
    fetchSite: undefined,
    contentType: undefined,
    framing: { kind: 'none' },
    expectsContinue: false,
    websocket: undefined,
    defect: undefined,
    ...changes,
  }
}
