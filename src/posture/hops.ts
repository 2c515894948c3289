/** The way of a request, hop by hop: what is wrong where, and the command that mends it. */
import type { PostureContext } from './context.ts'

/** One hop of the way. */
export interface Hop {
  readonly hop: 'client' | 'tailscale' | 'hardshell' | 'agent'
  readonly state: 'well' | 'wrong' | 'not used' | 'not measured'
  /** One clause. */
  readonly because: string
  /** What mends it, to be typed. */
  readonly command?: string
}

/** Client → Tailscale → Hardshell → agent, in this order. */
export function hopsOf(context: PostureContext): readonly Hop[] {
  return [clientHop(context), tailscaleHop(context), hardshellHop(context), agentHop(context)]
}

function clientHop({ config, configFile, problems, tokens, running }: PostureContext): Hop {
  const hop = 'client'
  if (config === undefined) {
    return { hop, state: 'not measured', because: 'the configuration cannot be read' }
  }
  const { mode } = config.gateway.auth
  const bad = problems.find(({ code }) => code.startsWith('TOKEN_') || code === 'PASSWORD_HASH')
  if (bad !== undefined) {
    const command = configFile === undefined ? 'hardshell init' : 'hardshell security audit --fix'
    return { hop, state: 'wrong', because: `${bad.path} ${bad.message}`, command }
  }
  if (mode !== 'token')
    return { hop, state: 'well', because: `clients prove themselves by ${mode}` }
  if (!('value' in tokens)) {
    const started =
      running === undefined ? 'there is a token; it was not used yet' : 'no token seen'
    return { hop, state: 'not measured', because: started }
  }
  const good = tokens.value.filter(({ status }) => status === 'good')
  if (good.length > 0) return { hop, state: 'well', because: `${good.length} good tokens` }
  if (tokens.value.length === 0) {
    return { hop, state: 'not measured', because: 'no token was used yet' }
  }
  const because = 'every token has expired, was replaced or revoked'
  return { hop, state: 'wrong', because, command: 'hardshell token new --name me' }
}

function tailscaleHop({ config, tailscale, running }: PostureContext): Hop {
  const hop = 'tailscale'
  const uses =
    config?.gateway.auth.tailscale.enabled === true ||
    config?.gateway.publicOrigins.some((origin) => origin.endsWith('.ts.net')) === true
  if (!uses) return { hop, state: 'not used', because: 'no key of the configuration asks for it' }
  if (!('value' in tailscale)) {
    const command = 'sudo systemctl start tailscaled'
    return { hop, state: 'wrong', because: tailscale.unmeasured, command }
  }
  const { backend, serves } = tailscale.value
  if (backend !== 'Running') {
    return { hop, state: 'wrong', because: `tailscaled says ${backend}`, command: 'tailscale up' }
  }
  if (!serves) {
    const port = URL.parse(running?.url ?? '')?.port ?? String(config?.gateway.port ?? 8080)
    const command = `tailscale serve --bg http://127.0.0.1:${port}`
    return { hop, state: 'wrong', because: 'nothing is served to our port', command }
  }
  return { hop, state: 'well', because: 'serves to our port' }
}

function hardshellHop(context: PostureContext): Hop {
  const { running, problems, listening, config, configHash, configFile } = context
  const hop = 'hardshell'
  const wrong = (because: string, command: string): Hop => ({
    hop,
    state: 'wrong',
    because,
    command,
  })
  if (running?.auditFailing !== undefined) {
    return wrong(`the audit log cannot be written: ${running.auditFailing}`, 'df -h')
  }
  if (configFile === undefined && problems.length > 0) {
    return wrong('there is no configuration', 'hardshell init')
  }
  const [problem] = problems
  if (problem !== undefined) {
    const subject = problem.path === '' ? (configFile ?? 'the configuration') : problem.path
    return wrong(`${subject} ${problem.message}`, 'hardshell config check')
  }
  if (running === undefined) {
    const port = config?.gateway.port
    const held = 'value' in listening && listening.value.some((one) => one.port === port)
    return held
      ? wrong(
          `it does not run, and another program holds port ${port}`,
          `ss -ltnp sport = :${port}`,
        )
      : wrong('it does not run', 'hardshell serve')
  }
  if (configHash !== undefined && configHash !== running.configHash) {
    return wrong('the configuration changed since it started', 'hardshell stop; hardshell serve')
  }
  return { hop, state: 'well', because: `listens on ${running.url}` }
}

function agentHop({ running, config, engine }: PostureContext): Hop {
  const hop = 'agent'
  const image = config?.agent.image
  if (running === undefined) {
    if (image === undefined)
      return { hop, state: 'not measured', because: 'Hardshell does not run' }
    if (!('value' in engine)) {
      const command = 'sudo systemctl start docker'
      return { hop, state: 'wrong', because: engine.unmeasured, command }
    }
    return engine.value.image === false
      ? { hop, state: 'wrong', because: 'its image is missing', command: `docker pull ${image}` }
      : { hop, state: 'not measured', because: 'Hardshell does not run' }
  }
  const { state, because, driver } = running.agent
  if (state === 'ready') return { hop, state: 'well', because: `ready, driver ${driver}` }
  const why = because === undefined ? state : `${state}: ${because}`
  const command = driver === 'external' ? 'start the agent itself' : 'hardshell agent logs'
  return { hop, state: 'wrong', because: why, command }
}

/** Hops as lines for people. */
export function hopLines(hops: readonly Hop[]): readonly string[] {
  const marks = { well: 'ok', wrong: 'WRONG', 'not used': '-', 'not measured': '?' } as const
  return hops.map(({ hop, state, because, command }) => {
    const mend = command === undefined ? '' : `\n${' '.repeat(18)}→ ${command}`
    return `${marks[state].padEnd(6)} ${hop.padEnd(10)} ${because}${mend}`
  })
}
