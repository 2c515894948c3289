/** What holds for every installation, however strange. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { checks } from '../../src/posture/checks.ts'
import type { PostureContext } from '../../src/posture/context.ts'
import { reportOf, textOf } from '../../src/posture/report.ts'
import { sarifOf } from '../../src/posture/sarif.ts'
import { configWith, contextWith, fileWith, merge } from '../support/posture.ts'

const agentDocument = (document: object): Pick<PostureContext, 'agentConfig'> => ({
  agentConfig: merge(contextWith().agentConfig, { value: { document } }) as never,
})

test('no secret of the configuration or of the agent reaches a report', () => {
  const secret = fc.string({
    unit: fc.constantFrom(...'abcdef0123456789'),
    minLength: 12,
    maxLength: 70,
  })
  fc.assert(
    fc.property(secret, secret, secret, secret, (gateway, agent, theirs, hooks) => {
      const config = configWith({
        gateway: { auth: { token: gateway, passwordHash: `$argon2id$${gateway}` } },
        agent: { token: agent, env: { API_KEY: agent } },
      })
      const document = {
        gateway: { auth: { token: theirs, password: theirs } },
        hooks: { token: hooks },
      }
      const report = reportOf(contextWith({ config, ...agentDocument(document) }))
      const said =
        textOf(report) + JSON.stringify(report) + JSON.stringify(sarifOf(report, '1.0.0'))
      for (const value of [gateway, agent, theirs, hooks]) assert.ok(!said.includes(value), value)
    }),
    { numRuns: 50 },
  )
})

test('whatever stands in the file of the agent, every check answers', () => {
  fc.assert(
    fc.property(fc.object({ maxDepth: 4 }), (document) => {
      for (const { group, look } of checks) {
        if (group === 'agent') look(contextWith(agentDocument(document)))
      }
    }),
    { numRuns: 100 },
  )
})

test('a name cannot command the terminal that the report is printed on, nor add a line to it', () => {
  const linesFor = (name: string) => {
    const path = `/home/me/.hardshell/${name}`
    const report = reportOf(contextWith({ files: [fileWith({ role: 'key', path, mode: 0o644 })] }))
    return textOf(report).split('\n')
  }
  const sound = linesFor('a.key').length
  fc.assert(
    fc.property(fc.string(), (name) => {
      const lines = linesFor(`${name}\u001b[2J\r\nscore 100 of 100`)
      assert.equal(lines.length, sound)
      assert.ok(lines.every((line) => !/[\u0000-\u001f\u007f-\u009f]/.test(line)))
    }),
  )
})

test('mending one more thing never lowers the score', () => {
  const roles = ['home', 'config', 'keys', 'key', 'state', 'audit', 'run'] as const
  const some = fc.array(fc.constantFrom(...roles), { minLength: 1 })
  fc.assert(
    fc.property(some, (open) => {
      const score = (spoiled: readonly (typeof roles)[number][]) =>
        reportOf(contextWith({ files: spoiled.map((role) => fileWith({ role, mode: 0o777 })) }))
          .score
      assert.ok(score(open.slice(1)) >= score(open))
    }),
  )
})
