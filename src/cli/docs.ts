/** docs/cli.md from the rows of the commands. */
import type { Command } from './command.ts'

function optionLines({ options = {} }: Command): readonly string[] {
  return Object.entries(options).map(([name, row]) => {
    const flag = `${name.length === 1 ? '-' : '--'}${name}`
    const value = row.type === 'string' ? ` ${row.value ?? 'VALUE'}` : ''
    const again = row.multiple === true ? ' May be given several times.' : ''
    return `- \`${flag}${value}\`: ${row.summary}${again}`
  })
}

/** The text of docs/cli.md; `usageOf` gives the usage line of a command. */
export function renderCliDocs(
  commands: readonly Command[],
  usageOf: (command: Command) => string,
): string {
  const sections = commands.map((command) => {
    const options = optionLines(command)
    return [
      `## ${command.name}`,
      command.summary,
      `\`\`\`\n${usageOf(command)}\n\`\`\``,
      ...(options.length > 0 ? [options.join('\n')] : []),
    ].join('\n\n')
  })
  return [
    '# Commands',
    '<!-- Made by "npm run docs" from the rows in src/cli; edit those. -->',
    `Every command takes \`--json\` and \`--help\`, exits with 0 on success, 1 on a finding or refusal and 2 on bad usage, and says on
one line what is wrong and what to do. Nothing secret is ever an argument: secrets come from stdin, a prompt or a file.`,
    ...sections,
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}
