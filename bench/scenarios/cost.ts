/** For information: what a refusal costs, and what the audit log adds to a request. */
import { load, type Sample } from '../lib/load.ts'
import { smallPath, startCaddy, startHardshell, startUpstream, type Place } from '../lib/proxies.ts'
import { figure, range, type Effort, type Section } from '../lib/section.ts'
import { median, ratios, spread } from '../lib/stats.ts'

/** Refusals beside Caddy's, and allowed requests with and without the audit log. */
export async function cost(place: Place, effort: Effort): Promise<readonly Section[]> {
  const upstream = await startUpstream(place, 0)
  const caddy = await startCaddy(place, upstream.port)
  const full = await startHardshell(place, upstream.port)
  const unlogged = await startHardshell(place, upstream.port, {
    name: 'hardshell-unlogged',
    security: { auditLogging: false },
  })
  const ways = [
    { name: 'Caddy, 401', ...caddy, refused: true },
    { name: 'Hardshell, 401', ...full, refused: true },
    { name: 'Hardshell, allowed GET', ...full, refused: false },
    { name: 'Hardshell, allowed GET, audit log off', ...unlogged, refused: false },
  ]
  const samples = new Map<string, Sample[]>()
  for (let round = effort.smoke ? 0 : -1; round < effort.rounds; round += 1) {
    for (let turn = 0; turn < ways.length; turn += 1) {
      const way = ways[(turn + Math.max(round, 0)) % ways.length]
      if (way === undefined) continue
      const { name, port, child, refused } = way
      const token = refused ? undefined : place.token
      const plan = { port, pid: child.pid, token, refused, path: smallPath, connections: 32 }
      const seconds = round < 0 ? 1 : effort.seconds
      const sample = await load({ ...plan, method: 'GET', seconds })
      if (round >= 0) samples.set(name, [...(samples.get(name) ?? []), sample])
    }
  }
  for (const { child } of [unlogged, full, caddy, upstream]) await child.stop()
  return [section(samples)]
}

function section(samples: ReadonlyMap<string, readonly Sample[]>): Section {
  const cpu = (name: string) => (samples.get(name) ?? []).map((sample) => sample.cpuMicros)
  const refusal = spread(ratios(cpu('Hardshell, 401'), cpu('Caddy, 401')))
  const logged = spread(
    ratios(cpu('Hardshell, allowed GET'), cpu('Hardshell, allowed GET, audit log off')),
  )
  return {
    name: 'cost',
    title: 'What a refusal and the audit log cost (for information)',
    columns: ['way', 'requests/s', 'CPU µs'],
    rows: [...samples].map(([name, list]) => [
      name,
      figure(median(list.map((sample) => sample.perSecond))),
      range(spread(cpu(name)), 1),
    ]),
    goals: [],
    ratios: {
      '401: CPU over Caddy': refusal,
      'audit log: CPU of a GET with over without': logged,
    },
    notes: ['an allowed request writes two audit records, its decision and its completion'],
    broken: [...samples].flatMap(([name, list]) => {
      const bad = list.reduce((sum, sample) => sum + sample.bad, 0)
      return bad === 0 ? [] : [`${name}: ${bad} wrong answers`]
    }),
  }
}
