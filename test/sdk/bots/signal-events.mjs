import { EventSource } from 'eventsource'
import { heard, tell } from './tell.mjs'

// The usual Signal bot: reads the event stream of "signal-cli daemon --http" and answers by JSON-RPC.
const { SIGNAL_URL, SIGNAL_ACCOUNT } = process.env
const events = new EventSource(
  `${SIGNAL_URL}/api/v1/events?account=${encodeURIComponent(SIGNAL_ACCOUNT)}`,
)
let id = 0
const call = async (method, params) => {
  id += 1
  const answer = await fetch(`${SIGNAL_URL}/api/v1/rpc`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
  })
  return answer.json()
}
events.addEventListener('open', () => tell('READY', 'open'))
events.addEventListener('error', (event) => tell('LOST', event.code ?? 0))
events.addEventListener('receive', async (event) => {
  const { envelope } = JSON.parse(event.data)
  const kinds = ['dataMessage', 'editMessage', 'typingMessage', 'receiptMessage', 'syncMessage']
  const kind = kinds.find((one) => envelope[one] !== undefined) ?? 'unknown'
  const data = envelope.dataMessage ?? envelope.editMessage?.dataMessage
  const text = data?.reaction?.emoji ?? data?.message
  if (text === undefined || text === null) {
    tell('NOTED', kind)
    return
  }
  heard(text, envelope.sourceUuid)
  const group = data.groupInfo?.groupId
  const to = group === undefined ? { recipient: [envelope.sourceUuid] } : { groupId: group }
  // A service that is away for a moment is nothing that ends a bot.
  await call('send', { account: SIGNAL_ACCOUNT, message: `you said ${text}`, ...to }).catch(
    (error) => tell('FAILED', String(error)),
  )
})
// A bot does more than wait: the reader's own pause before it comes again does not keep a process.
setInterval(() => undefined, 60_000)
