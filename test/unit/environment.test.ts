/** The short way through the environment must read it as the schema does. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { readEnvironment, variables } from '../../src/config/environment.ts'

/** A value that the short way does not know, and the schema lets through. */
const forTheSchema = { MONITORING_URL: 'https://überwachung.example' }

test('an environment reads the same whether or not its values must go through the schema', () => {
  const names = Object.keys(variables).filter((name) => name !== 'MONITORING_URL')
  const levels = fc.constantFrom('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent')
  const level = fc.oneof(levels, fc.string())
  const values = Object.fromEntries(
    names.map((name) => [name, name === 'HARDSHELL_LOG_LEVEL' ? level : fc.string()]),
  )
  fc.assert(
    fc.property(fc.record(values, { requiredKeys: [] }), (env) => {
      assert.deepEqual(readEnvironment(env), readEnvironment({ ...env, ...forTheSchema }))
    }),
  )
})
