/**
 * JSON-RPC calls of a bot to signal-cli (signal-cli-jsonrpc(5)): which of them go on. The list is of what a conversation
 * needs. What receives, links a device or changes the account is not on it, because each of these leads around the policy:
 * `receive` and `subscribeReceive` fetch the messages themselves, and a linked device gets a copy of all that come.
 */
import type { Buffer } from 'node:buffer'

import type { Account } from '../channels/channel.ts'
import { field, readJson, record } from '../channels/json.ts'
import { isOwnAccount } from '../channels/signal.ts'

/** Methods that may go on; names are compared exactly, as signal-cli does. */
const conversation: ReadonlySet<string> = new Set([
  'send',
  'sendReaction',
  'sendReceipt',
  'sendTyping',
  'sendMessageRequestResponse',
  'sendPollCreate',
  'sendPollVote',
  'sendPollTerminate',
  'sendPinMessage',
  'sendUnpinMessage',
  'sendAdminDelete',
  'sendContacts',
  'remoteDelete',
  'getAttachment',
  'getAvatar',
  'getSticker',
  'getUserStatus',
  'listGroups',
  'listContacts',
  'listIdentities',
  'listStickerPacks',
  'updateGroup',
  'joinGroup',
  'quitGroup',
  'updateContact',
  'removeContact',
  'updateProfile',
  'block',
  'unblock',
  'version',
])

/** Calls of one request. */
const batchMax = 20

/** What a request asks for, or why it does not go on. `id` is what the refusal answers to. */
export type Asked =
  | { readonly ok: true; readonly methods: readonly string[] }
  | { readonly ok: false; readonly because: string; readonly id: string | number | null }

/** Judges the body of a request: one call, or a batch in which each must be allowed. */
export function readCalls(body: Buffer, of: Account): Asked {
  const read = readJson(body)
  if (!read.ok) return { ok: false, because: `the call is ${read.because}`, id: null }
  const calls: readonly unknown[] = Array.isArray(read.value) ? read.value : [read.value]
  if (calls.length === 0 || calls.length > batchMax) {
    return { ok: false, because: `a batch has 1 to ${batchMax} calls`, id: null }
  }
  const methods: string[] = []
  for (const call of calls) {
    const because = wrong(call, of)
    if (because !== undefined) return { ok: false, because, id: idOf(call) }
    methods.push(String(field(call, 'method')))
  }
  return { ok: true, methods }
}

function wrong(call: unknown, of: Account): string | undefined {
  const method = field(call, 'method')
  if (record(call) === undefined || typeof method !== 'string') return 'a call has no method'
  if (!conversation.has(method)) return `${shown(method)} is nothing that a conversation needs`
  const account = field(field(call, 'params'), 'account')
  return account === undefined || isOwnAccount(account, of)
    ? undefined
    : 'it is for another account'
}

const shown = (method: string) =>
  /^[A-Za-z]{1,40}$/.test(method) ? `the method ${method}` : 'the method'

function idOf(call: unknown): string | number | null {
  const id = field(call, 'id')
  if (typeof id === 'number') return id
  return typeof id === 'string' && id.length <= 200 ? id : null
}

/** The answer to a call that does not go on; "method not found" is what bots know for one that a server lacks. */
export function rpcFailure(id: string | number | null, because: string): string {
  const error = { code: -32601, message: `Forbidden: Hardshell does not pass this on; ${because}` }
  return JSON.stringify({ jsonrpc: '2.0', error, id })
}
