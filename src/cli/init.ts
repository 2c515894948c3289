/** `init`: a home with a configuration and a 256-bit token; nothing to edit before the first start. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { Failure } from '../errors.ts'
import { ensureDir, writeAtomic } from '../files.ts'
import { homeOf } from '../home.ts'
import { keyFiles, keyOf, saveKey } from '../secrets/key.ts'
import type { Call, Command } from './command.ts'
import { record } from './record.ts'

/** The configuration that `init` writes: the minimal template, with the token in a file of its own. */
export function firstConfig(
  agent: { readonly upstream: string } | { readonly image: string },
): string {
  const line =
    'upstream' in agent
      ? `upstream: ${JSON.stringify(agent.upstream)}, // where your bot listens; OpenClaw's port unless you change it`
      : `image: ${JSON.stringify(agent.image)},`
  return `// Hardshell. Every key: docs/configuration.md. Check a change with "hardshell config check".
{
  gateway: {
    bind: "127.0.0.1",
    port: 8080,
    // Behind a tunnel, name the origin that clients use: publicOrigins: ["https://box.your-tailnet.ts.net"]
    auth: {
      mode: "token",
      tokenFile: "keys/gateway.token",
    },
    dmPolicies: { enabled: true, denyByDefault: true, allowlist: [] },
  },
  security: {
    followSymlinks: false,
    maxRequestSize: "10MB",
    rateLimiting: { enabled: true, requestsPerMinute: 60 },
  },
  plugins: { trustLevel: "verified-only" },
  agent: {
    ${line}
  },
}
`
}

/** Judges what was given for the agent before anything is written. The token is not there yet, so only the agent counts. */
async function judge(text: string, env: Call['io']['env']): Promise<void> {
  const [{ loadConfig }, { ConfigFailure }] = await Promise.all([
    import('../config/load.ts'),
    import('../config/problems.ts'),
  ])
  try {
    loadConfig({ env, config: join(homeOf(env), 'config.json5'), text })
  } catch (thrown) {
    if (!(thrown instanceof ConfigFailure)) throw thrown
    const wrong = thrown.problems.find(({ path }) => path.startsWith('agent.'))
    if (wrong === undefined) return
    const { path, message, remedy } = wrong
    throw new Failure('BAD_USAGE', `--${path.slice('agent.'.length)} ${message}. ${remedy}`, {
      exitCode: 2,
    })
  }
}

/** The configuration that a home has already. */
const configIn = (home: string) =>
  ['config.json5', 'config.json'].map((name) => join(home, name)).find((path) => existsSync(path))

/** Makes a home: configuration, token, the key of secrets, folders. Throws Failure when a configuration is there already. */
export function makeHome(home: string, config: string): { token: string; configFile: string } {
  const configFile = join(home, 'config.json5')
  const there = configIn(home)
  if (there !== undefined) {
    throw new Failure(
      'ALREADY_THERE',
      `${there} exists already: remove it, or set HARDSHELL_HOME to another folder`,
    )
  }
  for (const folder of [home, join(home, 'keys'), join(home, 'audit'), join(home, 'run')])
    ensureDir(folder)
  const token = randomBytes(32).toString('base64url')
  writeAtomic(join(home, 'keys', 'gateway.token'), `${token}\n`)
  // A key that was restored before stays: it opens what the owner is about to bring back.
  const secretsKey = keyFiles(home).current
  if (!existsSync(secretsKey)) saveKey(secretsKey, keyOf(randomBytes(32)))
  writeAtomic(configFile, config)
  return { token, configFile }
}

/** The command `init`. */
export const initCommands: readonly Command[] = [
  {
    name: 'init',
    summary: 'Make a configuration and a 256-bit token; nothing to edit before the first start.',
    options: {
      upstream: {
        type: 'string',
        value: 'URL',
        summary: 'Where the bot listens [http://127.0.0.1:18789].',
      },
      image: {
        type: 'string',
        value: 'IMAGE',
        summary: 'Launch this container image in a sandbox instead.',
      },
    },
    run: async (call) => {
      const { io, json, options } = call
      const { upstream, image } = options
      if (typeof upstream === 'string' && typeof image === 'string') {
        throw new Failure('BAD_USAGE', '--upstream and --image exclude each other', { exitCode: 2 })
      }
      const agent =
        typeof image === 'string'
          ? { image }
          : { upstream: typeof upstream === 'string' ? upstream : 'http://127.0.0.1:18789' }
      const config = firstConfig(agent)
      await judge(config, io.env)
      const home = homeOf(io.env)
      const about = 'a configuration, a token and a key'
      const make = () => ({ value: makeHome(home, config), about })
      // The log of a home that is there already has nothing to take in: this is refused.
      const { token, configFile } =
        configIn(home) === undefined ? await record(call, 'init', home, make) : make().value
      if (json) io.out(JSON.stringify({ configFile, token }))
      else {
        io.err(`wrote ${configFile} and keys/gateway.token beside it. The token, shown once:`)
        io.out(token)
        io.err('Start with "hardshell serve".')
      }
      return 0
    },
  },
]
