/**
 * A token and its successor. The order of the writes is what makes a crash harmless: the successor first, and then, in
 * one swap, its name in the record of the old token. Until then the old one is as it was and the new one counts for
 * nothing; from then on both are good.
 */
import { Failure } from '../errors.ts'
import { hours } from '../limits.ts'
import { absent, type Store } from '../store/store.ts'
import { endOf, isRenewable, type Rotation } from './token-life.ts'
import { fingerprintOf, type TokenRecord, type TokenView } from './token-record.ts'
import { asFailure, recordPrefix, type Known, type TokenTable } from './token-table.ts'
import { makeToken, type RandomBytes } from './token-text.ts'

const { hash } = process.getBuiltinModule('node:crypto')

/** A rotation that happened. The text of the new token is here and nowhere else. */
export interface Rotated {
  readonly token: string
  readonly view: TokenView
  /** The token that was rotated; its `endsAt` says until when it stays good. */
  readonly previous: TokenView
}

/** What a rotation works with. */
export interface RotatorDeps {
  readonly store: Store
  readonly table: TokenTable
  readonly now: () => number
  readonly random: RandomBytes
  readonly rotation?: Rotation | undefined
  readonly onTrouble?: ((failure: Failure) => void) | undefined
  /** Reads the tokens into the table again. */
  readonly load: () => Promise<void>
  /** Removes ended tokens where there are too many; a rotation goes on even if none can go. */
  readonly makeRoom: () => Promise<void>
}

/** Swaps lost to other writers before giving up. */
const swapsMax = 10
/** A successor that nobody names is left alone for this long: its rotation may be under way in another process. */
const unbornMs = hours(1)

/** Who asks for a successor: the owner at any time, or the client that holds the token, once it is due. */
export type RotationBy = 'owner' | 'client'

/** Makes successors. One call at a time: the book sees to that. */
export class Rotator {
  readonly #deps: RotatorDeps

  constructor(deps: RotatorDeps) {
    this.#deps = deps
  }

  /**
   * Gives the token a successor of the same name and rights. Of several who ask, one gets it; the others fail with
   * TOKEN_ROTATED. Fails with TOKEN_CONFIGURED, TOKEN_ENDED or TOKEN_NOT_DUE where there is none to be had.
   */
  async rotate(find: () => Known, by: RotationBy): Promise<Rotated> {
    const { table, load, makeRoom } = this.#deps
    await load()
    await this.#sweep()
    const { record: old } = this.#rotatable(find(), by)
    await makeRoom()
    const { successor, token } = await this.#bear(old)
    const rotated = await this.#name(old.id, successor, by)
    try {
      await load()
    } catch (thrown) {
      // It is done, and the text must not be lost over it; until a reading succeeds nobody comes in.
      table.unreadable = asFailure(thrown)
      this.#deps.onTrouble?.(table.unreadable)
    }
    const view = table.viewOf(successor)
    const previous = table.viewOf(rotated)
    table.tell('token.rotated', rotated, describe(successor, previous))
    return { token, view, previous }
  }

  /** Ends the grace of a rotated token now. Fails with TOKEN_NOT_ROTATED for one without a successor. */
  async retire(find: () => Known): Promise<TokenView> {
    const { table, now } = this.#deps
    for (let tries = 0; tries < swapsMax; tries += 1) {
      await this.#deps.load()
      const { record, version } = find()
      if (record.rotatedAt === undefined) throw notRotated(record)
      if (this.#endOf(record) !== undefined) return table.viewOf(record)
      const retired = { ...record, graceEndsAt: now() }
      if (await this.#swap(retired, version)) {
        await this.#deps.load()
        return table.viewOf(retired)
      }
    }
    throw conflict()
  }

  /** Writes the successor, which counts for nothing yet. */
  async #bear(old: TokenRecord): Promise<{ successor: TokenRecord; token: string }> {
    const { now, random } = this.#deps
    const { id, token } = makeToken(random)
    const { name, scopes, paths, networks, expiresAt } = old
    const successor: TokenRecord = {
      id,
      name,
      kind: 'managed',
      digest: hash('sha256', token, 'base64'),
      scopes,
      paths,
      networks,
      createdAt: now(),
      // What was granted for a time is not granted for longer by being rotated.
      ...(expiresAt === undefined ? {} : { expiresAt }),
      predecessorId: old.id,
    }
    if (!(await this.#swap(successor, absent))) throw conflict()
    return { successor, token }
  }

  /** Names the successor in the record of the old token: the one write that decides. */
  async #name(oldId: string, successor: TokenRecord, by: RotationBy): Promise<TokenRecord> {
    const { table, now, rotation, load } = this.#deps
    for (let tries = 0; tries < swapsMax; tries += 1) {
      const { record, version } = await this.#still(oldId, successor, by)
      const graceEndsAt = now() + (rotation?.graceMs ?? 0)
      const rotated: TokenRecord = {
        ...record,
        rotatedAt: now(),
        successorId: successor.id,
        // One past its age and grace gets no new grace.
        ...(this.#endOf(record) === undefined ? { graceEndsAt } : {}),
      }
      try {
        if (await this.#swap(rotated, version)) return rotated
        await load()
      } catch (thrown) {
        // Whether it was written is not known: only reading tells.
        await load()
        const written = table.get(oldId)?.record
        if (written?.successorId === successor.id) return written
        throw thrown
      }
    }
    await this.#remove(successor)
    throw conflict()
  }

  /** The old token as it is now, if it may still be rotated; else the successor made for it goes again. */
  async #still(oldId: string, successor: TokenRecord, by: RotationBy): Promise<Known> {
    try {
      const known = this.#deps.table.get(oldId)
      if (known === undefined) throw conflict()
      return this.#rotatable(known, by)
    } catch (thrown) {
      await this.#remove(successor)
      throw thrown
    }
  }

  #rotatable(known: Known, by: RotationBy): Known {
    const { record, life } = known
    const { table, now } = this.#deps
    if (record.kind === 'configured') {
      throw new Failure(
        'TOKEN_CONFIGURED',
        'The configured token cannot be renewed by Hardshell: put a new one into gateway.auth.tokenFile ("openssl rand -hex 32").',
      )
    }
    const { successorId } = record
    if (successorId !== undefined && table.get(successorId) !== undefined) {
      throw new Failure(
        'TOKEN_ROTATED',
        `The token ${record.name} (${record.id}) was rotated already: its successor is ${successorId}. Rotate that one, or end the old one with "hardshell token revoke ${record.id}".`,
      )
    }
    const end = this.#endOf(record)
    const renewable = by === 'client' ? isRenewable(life, now()) : true
    if (end !== undefined && !(end === 'aged' && renewable)) {
      throw new Failure(
        'TOKEN_ENDED',
        `The token ${record.name} (${record.id}) is ${end}. Make a new one with "hardshell token new".`,
      )
    }
    if (renewable) return known
    throw new Failure('TOKEN_NOT_DUE', `The token ${record.name} (${record.id}) is not due yet.`)
  }

  /** Removes successors that nobody names and nobody will. */
  async #sweep(): Promise<void> {
    const { table, now } = this.#deps
    const left = table.unborn().filter(({ record }) => record.createdAt < now() - unbornMs)
    for (const { record } of left) await this.#deps.store.remove(recordPrefix + record.id)
  }

  async #remove({ id }: TokenRecord): Promise<void> {
    try {
      await this.#deps.store.remove(recordPrefix + id)
    } catch (thrown) {
      // It counts for nothing and goes with the next sweep; why the rotation failed matters more.
      this.#deps.onTrouble?.(asFailure(thrown))
    }
  }

  #swap(record: TokenRecord, version: number): Promise<boolean> {
    const key = recordPrefix + record.id
    return this.#deps.store.compareAndSwap(key, version, JSON.stringify(record))
  }

  #endOf(record: TokenRecord) {
    return endOf(record, this.#deps.now(), this.#deps.rotation)
  }
}

function describe(successor: TokenRecord, { endsAt }: TokenView): string {
  const until = endsAt === undefined ? 'refused from now on' : `good until ${iso(endsAt)}`
  return `${until}, successor ${successor.id} with fingerprint ${fingerprintOf(successor)}`
}

const iso = (ms: number) => new Date(ms).toISOString()

const conflict = () =>
  new Failure('TOKEN_CONFLICT', 'The token was changed by others at the same time. Try again.')

const notRotated = ({ name, id }: TokenRecord) =>
  new Failure(
    'TOKEN_NOT_ROTATED',
    `The token ${name} (${id}) has no successor: end it with "hardshell token revoke ${id}".`,
  )
