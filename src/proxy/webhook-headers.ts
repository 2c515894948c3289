/** The headers with which a webhook goes on to the agent. */
import type { Facts } from '../gates/gate.ts'

/** What is told to the agent besides. */
export interface WebhookHeaderSettings {
  /** Tell the agent in X-Forwarded-* headers what the service sees. */
  readonly forwardedHeaders: boolean
  readonly publicOrigins: readonly string[]
}

/** As the service sent them, its proof included; flat. `replacing` is what a thinned body made false. */
export function headersOfWebhook(
  facts: Facts,
  replacing: readonly string[],
  { forwardedHeaders, publicOrigins }: WebhookHeaderSettings,
): readonly string[] {
  const all = replacing.length === 0 ? [...facts.headers] : without(facts.headers, replacing)
  if (facts.authorization !== undefined) all.push('Authorization', facts.authorization)
  all.push(...replacing, 'X-Request-Id', facts.requestId)
  if (forwardedHeaders) {
    const secure = publicOrigins.includes(`https://${facts.host}`)
    all.push('X-Forwarded-For', facts.peer, 'X-Forwarded-Host', facts.host)
    all.push('X-Forwarded-Proto', secure ? 'https' : 'http')
  }
  return all
}

function without(headers: readonly string[], replacing: readonly string[]): string[] {
  const names = new Set(replacing.flatMap((name, i) => (i % 2 === 0 ? [name.toLowerCase()] : [])))
  const left: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] ?? ''
    if (!names.has(name.toLowerCase())) left.push(name, headers[i + 1] ?? '')
  }
  return left
}
