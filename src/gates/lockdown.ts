/** The kill switch: while it is on, nobody passes. */
import { allow, deny, type Gate } from './gate.ts'

/** Refuses everything while `locked()` says so. */
export function lockdownGate(locked: () => boolean): Gate {
  return {
    name: 'lockdown',
    decide: () => (locked() ? deny('LOCKDOWN', 'lockdown is on', ['Retry-After', '60']) : allow),
  }
}
