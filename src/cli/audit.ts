/** `audit tail`, `verify`, `query` and `export`: the hash-chained log as its owner reads it. */
import { join, resolve } from 'node:path'
import type { Query } from '../audit/read.ts'
import type { AuditRecord } from '../audit/record.ts'
import type { Verdict } from '../audit/verify.ts'
import { parseDuration } from '../config/readers.ts'
import { Failure } from '../errors.ts'
import { homeOf } from '../home.ts'
import type { Call, Command, ExitCode, OptionRow } from './command.ts'
import { printable } from './table.ts'

const dir: OptionRow = {
  type: 'string',
  value: 'DIR',
  summary: 'The folder of the log instead of $HARDSHELL_HOME/audit.',
}
const since: OptionRow = {
  type: 'string',
  value: 'WHEN',
  summary: 'Only from this moment on: "2026-01-31T08:00:00Z", or how long ago: "2h".',
}
const until: OptionRow = {
  type: 'string',
  value: 'WHEN',
  summary: 'Only up to this moment, written like --since.',
}
const wanted: Readonly<Record<string, OptionRow>> = {
  event: { type: 'string', value: 'EVENT', summary: 'Only this event; "request.*" for a family.' },
  code: { type: 'string', value: 'CODE', summary: 'Only this refusal code.' },
  identity: { type: 'string', value: 'NAME', summary: 'Only this identity.' },
  request: { type: 'string', value: 'ID', summary: 'Only the request with this id.' },
  since,
  until,
}

/** The rows of the noun `audit`. */
export const auditCommands: readonly Command[] = [
  {
    name: 'audit tail',
    summary: 'Show the newest records of the audit log, oldest first.',
    options: {
      n: { type: 'string', value: 'N', summary: 'How many records [20], at most 100000.' },
      follow: { type: 'boolean', summary: 'Go on with new records until interrupted.' },
      dir,
    },
    run: runTail,
  },
  {
    name: 'audit query',
    summary: 'Show the records that match, oldest first; of too many the newest.',
    options: {
      ...wanted,
      limit: { type: 'string', value: 'N', summary: 'At most so many records [1000].' },
      dir,
    },
    run: runQuery,
  },
  {
    name: 'audit verify',
    summary:
      'Check the hash chain and its signed checkpoints; exit 1 names the first broken record.',
    options: {
      start: {
        type: 'string',
        value: 'SEQ',
        summary: 'Accept known breaks before this record.',
      },
      key: {
        type: 'string',
        value: 'FILE',
        summary: 'The key of the checkpoints instead of $HARDSHELL_HOME/keys/audit.key.',
      },
      dir,
    },
    run: runVerify,
  },
  {
    name: 'audit export',
    summary: 'Write the records to standard output, as JSON lines or CSV.',
    options: {
      format: { type: 'string', value: 'FORMAT', summary: '"jsonl" [default] or "csv".' },
      ...wanted,
      dir,
    },
    run: runExport,
  },
]

async function runTail(call: Call): Promise<ExitCode> {
  const { tail, followRecords } = await import('../audit/read.ts')
  const folder = folderOf(call)
  const follow = call.options['follow'] === true
  const records = tail(folder, countOf(call, 'n', 20))
  if (call.json && !follow) {
    call.io.out(JSON.stringify(records))
    return 0
  }
  const show = (record: AuditRecord): void => {
    call.io.out(call.json ? JSON.stringify(record) : describe(record))
  }
  for (const record of records) show(record)
  if (!follow) return 0
  // Ends with the process: an interrupt is how a person stops it.
  const { signal } = new AbortController()
  const after = records.at(-1)?.seq ?? 0
  for await (const record of followRecords(folder, { after, signal })) show(record)
  return 0
}

async function runQuery(call: Call): Promise<ExitCode> {
  const { query } = await import('../audit/read.ts')
  const limit = countOf(call, 'limit', 1000)
  const found: AuditRecord[] = []
  let dropped = 0
  for await (const record of query(folderOf(call), queryOf(call))) {
    found.push(record)
    // Twice the limit, then cut: shifting for each record would make long answers slow.
    if (found.length === 2 * limit) dropped += found.splice(0, limit).length
  }
  dropped += found.splice(0, Math.max(0, found.length - limit)).length
  if (call.json) call.io.out(JSON.stringify(found))
  else for (const record of found) call.io.out(describe(record))
  if (dropped > 0) {
    call.io.err(`${dropped} older records left out: raise --limit, or use "hardshell audit export"`)
  }
  return 0
}

async function runVerify(call: Call): Promise<ExitCode> {
  const { verifyAudit } = await import('../audit/verify.ts')
  const key = textOf(call, 'key')
  const start = call.options['start'] === undefined ? undefined : countOf(call, 'start', 1)
  const verdict = await verifyAudit(folderOf(call), {
    ...(key === undefined ? {} : { keyFile: resolve(key) }),
    ...(start === undefined ? {} : { from: start }),
  })
  if (call.json) call.io.out(JSON.stringify(verdict))
  else for (const line of explain(verdict)) call.io.out(line)
  return verdict.ok ? 0 : 1
}

function explain(verdict: Verdict): string[] {
  const { broken, checkpoints, firstSeq, lastSeq } = verdict
  if (broken !== undefined) {
    const place = broken.line === 0 ? broken.file : `${broken.file} line ${broken.line}`
    const lines = [`broken at seq ${broken.seq} (${place}): ${printable(broken.because)}`]
    if (verdict.records > 0) {
      lines.push(`${verdict.records} records before it are as they were written`)
    }
    return lines
  }
  if (verdict.records === 0) return ['ok: the log has no records']
  const lines = [
    `ok: ${verdict.records} records, seq ${firstSeq} to ${lastSeq}, in ${verdict.files} files`,
    `head: ${verdict.head}`,
    `checkpoints: ${checkpoints.good} good; ${checkpoints.unsigned} newest records not signed yet`,
  ]
  if (firstSeq > 1) lines.push(`records before seq ${firstSeq} were removed by rotation`)
  if (checkpoints.keyMissing) lines.push('signatures not checked: there is no key; see --key')
  if (verdict.unfinished > 0) {
    lines.push(
      `the last line is unfinished (${verdict.unfinished} bytes): being written, or a crash`,
    )
  }
  return lines
}

async function runExport(call: Call): Promise<ExitCode> {
  const { query } = await import('../audit/read.ts')
  const format = textOf(call, 'format') ?? 'jsonl'
  if (format !== 'jsonl' && format !== 'csv') {
    throw badUsage(`--format is "jsonl" or "csv", not "${printable(format)}"`)
  }
  if (format === 'csv' && call.json) throw badUsage('--json and --format csv exclude each other')
  const records = query(folderOf(call), queryOf(call))
  if (format === 'csv') call.io.out(columns.join(','))
  if (call.json) call.io.out('[')
  let comma = ''
  for await (const record of records) {
    if (format === 'csv') call.io.out(csvRow(record))
    else call.io.out(`${call.json ? comma : ''}${JSON.stringify(record)}`)
    comma = ','
  }
  if (call.json) call.io.out(']')
  return 0
}

/** The columns of the CSV, in the order of DESIGN §8. */
const columns = [
  'seq',
  'time',
  'prev',
  'hash',
  'event',
  'requestId',
  'identity',
  'peer',
  'method',
  'path',
  'code',
  'status',
  'bytes',
  'ms',
  'channel',
  'sender',
  'room',
  'config',
  'because',
  'count',
  'first',
] as const satisfies readonly (keyof AuditRecord)[]

/**
 * RFC 4180. A cell that a spreadsheet would run as a formula gets an apostrophe before it
 * (CWE-1236).
 */
function csvRow(record: AuditRecord): string {
  return columns
    .map((column) => {
      const value = record[column]
      if (value === undefined || typeof value === 'number') return value ?? ''
      const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
    })
    .join(',')
}

/** One line for people: what they look for first, then the rest by name. */
function describe(record: AuditRecord): string {
  const { seq, time, event, method, path, code, status, identity, peer, because } = record
  const words = [String(seq), time, event, method, path, status, code]
    .filter((word) => word !== undefined)
    .map((word) => printable(String(word)))
  const { bytes, ms, channel, sender, room, count, first, requestId } = record
  const named = {
    identity,
    peer,
    bytes,
    ms,
    channel,
    sender,
    room,
    count,
    first,
    because,
    requestId,
  }
  for (const [name, value] of Object.entries(named)) {
    if (value !== undefined && value !== '') words.push(`${name}=${printable(String(value))}`)
  }
  return words.join(' ')
}

function folderOf({ options, io }: Call): string {
  const given = options['dir']
  if (typeof given === 'string') return resolve(given)
  return join(homeOf(io.env), 'audit')
}

function queryOf(call: Call): Query {
  const event = textOf(call, 'event')
  const code = textOf(call, 'code')
  const identity = textOf(call, 'identity')
  const requestId = textOf(call, 'request')
  const from = momentOf(call, 'since')
  const to = momentOf(call, 'until')
  return {
    ...(event === undefined ? {} : { event }),
    ...(code === undefined ? {} : { code }),
    ...(identity === undefined ? {} : { identity }),
    ...(requestId === undefined ? {} : { requestId }),
    ...(from === undefined ? {} : { since: from }),
    ...(to === undefined ? {} : { until: to }),
  }
}

/** A moment in ms since the epoch: RFC 3339, or how long ago. */
function momentOf(call: Call, option: 'since' | 'until'): number | undefined {
  const text = textOf(call, option)
  if (text === undefined) return undefined
  if (/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) {
    const moment = Date.parse(text)
    if (!Number.isNaN(moment)) return moment
  }
  const ago = parseDuration(text)
  if (ago.value !== undefined) return new Date().getTime() - ago.value
  throw badUsage(`--${option} is a moment like "2026-01-31T08:00:00Z" or a duration like "2h"`)
}

function countOf(call: Call, option: string, otherwise: number): number {
  const text = textOf(call, option)
  if (text === undefined) return otherwise
  const count = /^\d{1,16}$/.test(text) ? Number(text) : 0
  const most = option === 'start' ? Number.MAX_SAFE_INTEGER : 100_000
  if (count >= 1 && count <= most) return count
  const dashes = option.length === 1 ? '-' : '--'
  throw badUsage(`${dashes}${option} is a whole number from 1 to ${most}`)
}

function textOf({ options }: Call, option: string): string | undefined {
  const value = options[option]
  return typeof value === 'string' ? value : undefined
}

function badUsage(message: string): Failure {
  return new Failure('BAD_USAGE', message, { exitCode: 2 })
}
