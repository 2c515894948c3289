/** `hardshell plugins …`: what reaches the cell, and the owner's word for it. */
import { Failure } from '../errors.ts'
import type { PluginsFound } from '../plugins.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { record } from './record.ts'

const configOption = {
  type: 'string',
  value: 'FILE',
  summary: 'The configuration file; else HARDSHELL_CONFIG, then the one in the home.',
} as const

async function find({ io, options }: Call) {
  const [{ loadConfig }, plugins] = await Promise.all([
    import('../config/load.ts'),
    import('../plugins.ts'),
  ])
  const { config } = options
  const loaded = loadConfig({ env: io.env, ...(typeof config === 'string' ? { config } : {}) })
  const settings = loaded.config.plugins
  const { home } = loaded
  return { plugins, settings, home, found: await plugins.findPlugins(settings, home) }
}

/** Those that the owner wants and the cell does not get. */
const refusedOf = ({ plugins }: PluginsFound) =>
  plugins.filter(({ state }) => !['good', 'disabled', 'not enabled'].includes(state))

function print({ io, json }: Call, found: PluginsFound): ExitCode {
  const refused = refusedOf(found)
  const fault = found.lockFault ?? found.dirFault
  if (json) io.out(JSON.stringify(found))
  else {
    if (found.dir === undefined) io.out('plugins.dir is not set: no plugin reaches the cell')
    for (const { name, state, because, hash } of found.plugins) {
      io.out(`${state.padEnd(11)} ${name} ${because}${hash === undefined ? '' : ` (${hash})`}`)
    }
    if (found.lockFault !== undefined) io.err(`plugins.lock.json ${found.lockFault}`)
    if (found.dirFault !== undefined) io.err(`plugins.dir ${found.dirFault}`)
  }
  return refused.length > 0 || fault !== undefined ? 1 : 0
}

/** The commands of the noun `plugins`. */
export const pluginCommands: readonly Command[] = [
  {
    name: 'plugins list',
    summary: 'Show every plugin, and which reach the cell.',
    options: { config: configOption },
    run: async (call) => {
      const { found } = await find(call)
      print(call, found)
      return 0
    },
  },
  {
    name: 'plugins verify',
    summary: 'The same, and exit with 1 when an enabled plugin is not the one that was trusted.',
    options: { config: configOption },
    run: async (call) => print(call, (await find(call)).found),
  },
  {
    name: 'plugins trust',
    summary: 'Sign the present content of a plugin; the cell sees it after the next restart.',
    positionals: '<name>',
    options: { config: configOption },
    run: trust,
  },
]

async function trust(call: Call): Promise<ExitCode> {
  const { io, json, positionals } = call
  const name = positionals[0] ?? ''
  const { plugins, settings, home } = await find(call)
  if (settings.disabled.includes(name)) {
    throw new Failure('PLUGIN_DISABLED', `${name} is in plugins.disabled: remove it there first`)
  }
  const hash = await record(call, 'plugins trust', name, async () => {
    const value = await plugins.trustPlugin(settings, home, name)
    return { value, about: `${name}, sha-256 ${value.slice(0, 16)}` }
  })
  if (json) io.out(JSON.stringify({ name, hash }))
  else io.out(`trusted ${name} (${hash})`)
  if (!json && !settings.enabled.includes(name)) {
    io.err(`it is not enabled: add "${name}" to plugins.enabled`)
  }
  return 0
}
