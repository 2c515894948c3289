/** All commands, one file per noun, loaded when asked for: start-up time is a feature. */
import type { Command } from './command.ts'

/** First word → its rows. The order is the order of `--help` and docs/cli.md. */
export const nouns: Readonly<Record<string, () => Promise<readonly Command[]>>> = {
  serve: async () => (await import('./serve.ts')).serveCommands,
  init: async () => (await import('./init.ts')).initCommands,
  demo: async () => (await import('./demo.ts')).demoCommands,
  status: async () => (await import('./status.ts')).statusCommands,
  doctor: async () => (await import('./doctor.ts')).doctorCommands,
  health: async () => (await import('./status.ts')).statusCommands,
  stop: async () => (await import('./status.ts')).statusCommands,
  token: async () => (await import('./token.ts')).tokenCommands,
  auth: async () => (await import('./auth.ts')).authCommands,
  pairing: async () => (await import('./pairing.ts')).pairingCommands,
  allowlist: async () => (await import('./allowlist.ts')).allowlistCommands,
  channel: async () => (await import('./channel.ts')).channelCommands,
  audit: async () => (await import('./audit.ts')).auditCommands,
  security: async () => {
    const [{ securityCommands }, { migrateCommands }] = await Promise.all([
      import('./security.ts'),
      import('./migrate.ts'),
    ])
    return [...securityCommands, ...migrateCommands]
  },
  config: async () => (await import('./config.ts')).configCommands,
  secrets: async () => (await import('./secrets.ts')).secretsCommands,
  plugins: async () => (await import('./plugins.ts')).pluginCommands,
  agent: async () => (await import('./agent.ts')).agentCommands,
}

/** Every row, each once. */
export async function loadCommands(): Promise<readonly Command[]> {
  const groups = await Promise.all(Object.values(nouns).map((load) => load()))
  return [...new Set(groups.flat())]
}

/** The row that a command line names, by its first one or two words, and the arguments behind them. */
export async function commandNamed(
  argv: readonly string[],
): Promise<{ command: Command; rest: readonly string[] } | undefined> {
  const noun = argv[0] ?? ''
  if (!Object.hasOwn(nouns, noun)) return undefined
  const rows = (await nouns[noun]?.()) ?? []
  for (const length of [2, 1]) {
    const command = rows.find(({ name }) => name === argv.slice(0, length).join(' '))
    if (command !== undefined) return { command, rest: argv.slice(length) }
  }
  return undefined
}
