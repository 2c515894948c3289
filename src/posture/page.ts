/** docs/security-audit.md, made from the checks so that it cannot differ from them. */
import { groups, severities } from './check.ts'
import { checks } from './checks.ts'
import { criticalCap, minScoreDefault, weights } from './score.ts'

const cell = (text: string) => text.replaceAll('|', String.raw`\|`)

/** The page. */
export function auditPage(): string {
  const costs = severities.map((name) => `${name} ${weights[name]}`).join(', ')
  const tables = groups.map((group) => {
    const rows = checks
      .filter((check) => check.group === group)
      .map(
        ({ id, severity, title, remedy, unseen = false }) =>
          `| \`${id}\` | ${severity}${unseen ? ' *' : ''} | ${cell(title)} | ${cell(remedy)} |`,
      )
    const head = '| check | severity | what should hold | remedy |\n|---|---|---|---|'
    return `### ${group}\n\n${head}\n${rows.join('\n')}`
  })
  return `# The security audit

<!-- Made by "npm run docs" from the checks in src/posture; edit those. -->

\`hardshell security audit\` looks at the installation and changes nothing. Each check answers with a pass, with findings and
their remedy, or with "not measured" and why: that is an answer of its own and never means "fine".

| option | what it does |
|---|---|
| \`--deep\` | also asks live: no token, a wrong token (it counts as one failure of this address) and a foreign Host must be refused; the agent is asked around us; Tailscale is asked for Funnel; the cell that runs is looked at from outside and, in a twin of it, from inside |
| \`--fix\` | prints a plan, copies what it touches to \`backups/\` in the home, then mends file modes, replaces a missing or refused token (shown once) and seals copies that show secrets; a second run has nothing to do |
| \`--min-score N\` | exit code 1 below this score; ${minScoreDefault} unless said otherwise |
| \`--since DATE\` | what changed since the last audit before that day |
| \`--json\` | for machines: one object, described by [security-audit.schema.json](security-audit.schema.json); later versions may add members, and none is renamed, removed or given another meaning |
| \`--sarif\` | for machines: SARIF 2.1.0, valid against the schema of the standard in each of its editions; what was not measured is a result of kind "open", a suppression is one of kind "external" |

## The cell, from outside and from inside

With \`--deep\` the checks \`sandbox.cell-…\` do not read what was asked of the engine but what the kernel says and does. From outside, every
process in the control group of the running agent is read in /proc: users, capabilities, filters, namespaces, network, mounts,
limits; so a process that somebody put into the cell later is seen too. From inside, a *twin* tries what the agent could try: a container of our own image, made from what the
engine reports of the running one, in the same network. It tries to write, to execute what it wrote, to find a way out, an engine's socket or a device, and to make system calls that an agent does
not need. No packet leaves it, no file stays, nothing is tried in the workspace, which it has read-only, and it has none of the
agent's variables. It is removed at once, also on an interrupt; should the command be killed, it ends by itself after 15 s and the engine
removes it, and one that was made and never started is removed by the next deep audit. The agent is not touched: no command is run in its cell.

What cannot be seen is not measured: no engine, no running cell, the processes of a cell on another machine, namespaces that only root may
read, or an engine that cannot start the twin. [A decision](decisions/0013-a-twin-tries-the-walls.md) says why it is a twin.

## The score

100, less the cost of each check that has findings, once for each check: ${costs}. While a CRITICAL check has a finding the score
is at most ${criticalCap}; it is never below 0. Checks that were not measured, and suppressed ones, cost nothing.
A finding of a check marked * says what cannot be seen from here, not that something wrong was seen: it costs as the
next lower severity does. A from 95 where no HIGH finding is open, B from 85, C from 70, D from 50, F below.

A home from \`hardshell init\` scores 95 or more untouched, in each of its forms, on a machine whose own versions are in order.
Without \`--image\` the agent has no sandbox of ours: that is a HIGH finding, so the grade is then B at most. It costs little,
because how the agent is confined is not seen. What is seen counts in full: an agent that listens on a network
(\`agent.reachable-around\`), is reached over one (\`agent.upstream-remote\`), or runs as the user of Hardshell with its files
in sight (\`agent.reads-our-files\`).

Each audit leaves a line in \`history.jsonl\` in the home; the newest 500 are kept.

## Expected findings

\`audit-suppressions.json5\` in the home names findings that are expected, why, and until when (a year at most). A CRITICAL
finding cannot be suppressed. While an entry is wrong none of the file counts.

\`\`\`json5
{
  suppressions: [
    { id: "sandbox.not-applied", reason: "the agent runs under its vendor's own sandbox", until: "2027-01-31" },
  ],
}
\`\`\`

## The ${checks.length} checks

${tables.join('\n\n')}
`
}
