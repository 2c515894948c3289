/** Brings polled messages to the desk of their account: judged, recorded, then answered where a stranger asks. */
import { hash } from 'node:crypto'

import type { Desk, Heard } from '../senders/desk.ts'
import type { People } from '../senders/people.ts'
import { Unrecorded } from './door-book.ts'
import type { PollDeps } from './poll-updates.ts'

/** The ear of one account. A road on which the bot calls out has no answer of its own: strangers are told by a call. */
export function pollEar(desk: Desk, people: Pick<People, 'record'>): PollDeps['hear'] {
  return async (messages, body) => {
    const heard: Heard[] = []
    // In order: the budget of a sender counts what came first.
    for (const message of messages) heard.push(await desk.hear(message))
    await recorded(people, heard, hash('sha256', body))
    for (const { message, tell } of heard) if (tell !== undefined) desk.answer(message, tell)
    return heard.map(({ passes }) => passes)
  }
}

function recorded(
  people: Pick<People, 'record'>,
  heard: readonly Heard[],
  digest: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    people.record(heard, { digest }, (failure) => {
      if (failure === undefined) resolve()
      else reject(new Unrecorded(failure))
    })
  })
}
