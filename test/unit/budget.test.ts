/** Budgets of senders and of answers, on both sides of each bound. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Allowance, Recent, SenderBudget } from '../../src/senders/budget.ts'
import { TestClock } from '../support/people.ts'

const minute = 60_000
const day = 24 * 60 * minute

const budgetOf = (clock: TestClock, perMinute: number, perDay: number, sendersMax = 100) =>
  new SenderBudget({ perMinute, perDay, sendersMax }, clock.now)

test('the twentieth message of a minute passes and the next does not, until the minute is over', () => {
  const clock = new TestClock()
  const budget = budgetOf(clock, 20, 500)
  for (let said = 0; said < 20; said += 1) assert.equal(budget.spend('a'), undefined)
  assert.equal(budget.spend('a'), 'minute')
  clock.pass(minute - 1)
  assert.equal(budget.spend('a'), 'minute')
  clock.pass(1)
  assert.equal(budget.spend('a'), undefined)
})

test('the five hundredth message of a day passes and the next does not, until the day is over', () => {
  const clock = new TestClock()
  const budget = budgetOf(clock, 20, 500)
  for (let said = 0; said < 500; said += 1) {
    assert.equal(budget.spend('a'), undefined)
    clock.pass(minute)
  }
  assert.equal(budget.spend('a'), 'day')
  clock.pass(day - 500 * minute - 1)
  assert.equal(budget.spend('a'), 'day')
  clock.pass(1)
  assert.equal(budget.spend('a'), undefined)
})

test('a message that the minute refuses does not count for the day', () => {
  const clock = new TestClock()
  const budget = budgetOf(clock, 1, 2)
  assert.equal(budget.spend('a'), undefined)
  for (let said = 0; said < 10; said += 1) assert.equal(budget.spend('a'), 'minute')
  clock.pass(minute)
  assert.equal(budget.spend('a'), undefined)
})

test('one sender does not use up what another has', () => {
  const budget = budgetOf(new TestClock(), 1, 1)
  assert.equal(budget.spend('a'), undefined)
  assert.equal(budget.spend('a'), 'day')
  assert.equal(budget.spend('b'), undefined)
})

test('a flood of senders costs bounded memory', () => {
  const budget = budgetOf(new TestClock(), 1, 1, 50)
  for (let sender = 0; sender < 10_000; sender += 1) budget.spend(String(sender))
  assert.equal(budget.size, 50)
})

test('no order of messages and pauses lets a sender say more than the bounds', () => {
  const steps = fc.array(fc.integer({ min: 0, max: 3 * minute }), { maxLength: 200 })
  fc.assert(
    fc.property(steps, (pauses) => {
      const clock = new TestClock()
      const budget = budgetOf(clock, 3, 10)
      const passed: number[] = []
      for (const pause of pauses) {
        clock.pass(pause)
        if (budget.spend('a') === undefined) passed.push(clock.ms)
      }
      // Fixed windows: at most twice the bound around the seam of two of them.
      for (const at of passed) {
        const inMinute = passed.filter((one) => one >= at && one < at + minute).length
        const inDay = passed.filter((one) => one >= at && one < at + day).length
        assert.ok(inMinute <= 6 && inDay <= 20)
      }
    }),
  )
})

test('an allowance of an hour ends with the hour and says when', () => {
  const clock = new TestClock()
  const answers = new Allowance(2, clock.now)
  assert.deepEqual([answers.take(), answers.take(), answers.take()], [true, true, false])
  assert.equal(answers.resetMs, 60 * minute)
  clock.pass(60 * minute)
  assert.ok(answers.take())
})

test('a key is recent until as many others have come', () => {
  const recent = new Recent(3)
  assert.deepEqual(
    ['a', 'a', 'b', 'c', 'a'].map((key) => recent.add(key)),
    [true, false, true, true, false],
  )
  recent.add('d')
  assert.ok(!recent.has('a') && recent.has('d'))
})
