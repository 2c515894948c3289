/** The rows of the table of settings for the sandbox: they stand under `agents.defaults.sandbox`. */
import { GiB, MiB } from '../limits.ts'
import { choice, count, flag, fraction, list, memory, text, tighten } from './readers.ts'
import { key, optional, under, valuesLater } from './row.ts'
import type { Table } from './row.ts'

/** How tight a cell is by default is the most that it may have: the keys only tighten. */
const bounds = {
  memory: { min: MiB(32), max: GiB(2) },
  cpus: { min: 0.05, max: 2 },
  pids: { min: 8, max: 256 },
}

const cellsLater = { what: 'session cells' }

/** The keys of the sandbox. */
export const sandboxRows = {
  mode: optional(
    choice(['off', 'non-main', 'all']),
    'Which sessions get a cell of their own; without it one cell serves all sessions, and "off" is only for agent.upstream.',
    { restart: true, since: valuesLater(cellsLater, 'non-main', 'all') },
  ),
  scope: key(choice(['session', 'group', 'shared', 'agent']), 'session', 'What shares a cell.', {
    restart: true,
    since: cellsLater,
  }),
  driver: key(
    choice(['auto', 'docker', 'runc', 'bubblewrap']),
    'auto',
    'What runs the cell; "auto" takes the first that works here.',
    { restart: true, since: valuesLater({ what: 'this driver' }, 'runc', 'bubblewrap') },
  ),
  ...under('docker', {
    image: optional(text('an image reference'), 'The image of session cells.', {
      restart: true,
      since: cellsLater,
    }),
    network: key(
      tighten(choice(['none']), 'Use "none"; the cell has no network.'),
      'none',
      'The network of the cell.',
      { restart: true },
    ),
    readOnlyRoot: key(
      tighten(flag, 'Use true; the cell writes only to its tmpfs and workspace.', (on) => on),
      true,
      'The root of the cell cannot be written.',
      { restart: true },
    ),
    capDrop: key(
      tighten(list(text('a capability')), 'Use ["ALL"].', (dropped) => dropped.includes('ALL')),
      ['ALL'],
      'Capabilities that the cell does not have.',
      { restart: true },
    ),
    memory: key(
      tighten(memory(bounds.memory), 'Use "32MB" to "2GB".'),
      bounds.memory.max,
      'Memory of the cell; "512m" and "1g" are understood too.',
      { restart: true },
    ),
    cpus: key(
      tighten(fraction(bounds.cpus), 'Use 0.05 to 2.'),
      bounds.cpus.max,
      'Processors of the cell.',
      { restart: true },
    ),
    pidsLimit: key(
      tighten(count(bounds.pids), 'Use 8 to 256.'),
      bounds.pids.max,
      'Processes and threads of the cell.',
      { restart: true },
    ),
    user: key(
      tighten(
        text('"uid:gid" in numbers', {
          pattern: /^\d{1,9}:\d{1,9}$/,
          remedy: 'Use numbers like "1000:1000".',
        }),
        'Use a user and a group from 100 up; root is refused.',
        (user) => user.split(':').every((id) => Number(id) >= 100),
      ),
      '1000:1000',
      'User and group that the agent runs as.',
      { restart: true },
    ),
  }),
} satisfies Table
