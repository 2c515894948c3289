/** A real browser in front of the whole of it: what people see, and what only a browser enforces. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { chromium, type Page } from 'playwright-core'
import { WebSocketServer } from 'ws'

import { startAgent, type Answer } from '../support/agent.ts'
import { startWithPassword, thePassword } from '../support/login.ts'
import { eventually } from '../support/sidecar.ts'

/** Every step of a page must come to its end within this, ms; the machine may be busy. */
const stepMs = 30_000

/** Its icon is in the page, or the browser would ask the agent for one at a moment of its own choice. */
const chatPage = `<!doctype html><title>Agent</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
<h1>The agent</h1><p id="asset"></p><p id="socket"></p><script src="/app.js"></script>`

const script = `document.getElementById('asset').textContent = 'script ran'
document.cookie = 'agents-own=1'
const socket = new WebSocket('ws://' + location.host + '/socket')
socket.onopen = () => socket.send('hello')
socket.onmessage = ({ data }) => { document.getElementById('socket').textContent = data }
socket.onclose = ({ code }) => { document.getElementById('socket').textContent = 'closed ' + code }`

const agentPages: Answer = (request, response) => {
  const [type, body] =
    request.url === '/app.js'
      ? ['text/javascript', script]
      : request.url === '/style.css'
        ? ['text/css', 'h1 { color: rgb(1, 2, 3) }']
        : ['text/html', chatPage]
  response.writeHead(200, { 'Content-Type': type })
  response.end(body)
}

async function shows(page: Page, id: string, text: string): Promise<void> {
  await page.locator(`#${id}`, { hasText: text }).waitFor({ timeout: stepMs })
}

async function submit(page: Page, password: string): Promise<void> {
  // The field takes the focus by itself: typing is all that a person does. A browser gives it with the first picture.
  await page.locator('input[type=password]:focus').waitFor({ timeout: stepMs })
  await page.keyboard.type(password)
  await page.keyboard.press('Enter')
}

test('a person logs in with a browser, uses the agent, and logs out', async () => {
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' })
  const side = await startWithPassword({ answer: agentPages })
  const sockets = new WebSocketServer({ server: side.agent.server })
  sockets.on('connection', (socket) => {
    socket.on('message', (data) => socket.send(`agent heard ${String(data as Buffer)}`))
  })
  const browser = await chromium.launch({
    executablePath: executablePath.trim(),
    timeout: 60_000,
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  })
  try {
    const context = await browser.newContext()
    context.setDefaultTimeout(stepMs)
    const page = await context.newPage()
    const complaints: string[] = []
    page.on('console', (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) complaints.push(message.text())
    })

    const first = await page.goto(`${side.url}/chat?room=1`)
    assert.equal(first?.status(), 401)
    assert.equal(await page.title(), 'Log in – Hardshell')
    await page.getByLabel('Password').waitFor()
    assert.equal(await page.evaluate('document.activeElement.id'), 'password')
    // The style of the page passes its own policy.
    assert.equal(await page.evaluate('getComputedStyle(document.body).display'), 'grid')

    await submit(page, 'not the passphrase')
    await page.getByRole('alert').filter({ hasText: 'This is not the password.' }).waitFor()
    assert.deepEqual(await context.cookies(), [])
    assert.equal(side.agent.seen.length, 0)

    await submit(page, thePassword)
    await page.waitForURL(`${side.url}/chat?room=1`)
    assert.equal(await page.title(), 'Agent')
    await shows(page, 'asset', 'script ran')
    assert.equal(
      await page.evaluate(`getComputedStyle(document.querySelector('h1')).color`),
      'rgb(1, 2, 3)',
    )
    await shows(page, 'socket', 'agent heard hello')
    const ours = (await context.cookies()).find(({ name }) => name === 'hardshell')
    assert.deepEqual([ours?.httpOnly, ours?.sameSite, ours?.path], [true, 'Strict', '/'])
    assert.equal(await page.evaluate('document.cookie'), 'agents-own=1')
    await page.reload()
    await shows(page, 'socket', 'agent heard hello')
    assert.ok(side.agent.seen.some(({ headers }) => headers.cookie === 'agents-own=1'))
    for (const { rawHeaders } of side.agent.seen) assert.doesNotMatch(rawHeaders.join(), /hss_/)

    const leaving = await context.newPage()
    await leaving.goto(`${side.url}/.hardshell/logout`)
    await leaving.getByRole('button', { name: 'Log out' }).click()
    await leaving.waitForURL(`${side.url}/`)
    assert.equal(await leaving.title(), 'Log in – Hardshell')
    await shows(page, 'socket', 'closed 1008')
    const again = await page.reload()
    assert.equal(again?.status(), 401)
    assert.deepEqual(complaints, [])
    await eventually(
      () => side.records().some(({ event }) => event === 'session.logout'),
      'the log has the logout',
    )
  } finally {
    await browser.close()
    sockets.close()
    await side.stop()
  }
})

/** What a page of another site can try: a socket, a read, a logout; all with the cookies of the browser. */
const attack = (target: string): string => `(async () => {
  const socket = await new Promise((resolve) => {
    const one = new WebSocket('${target.replace('http', 'ws')}/socket')
    one.onopen = () => resolve('open')
    one.onerror = () => resolve('refused')
  })
  const all = { mode: 'no-cors', credentials: 'include' }
  const get = await fetch('${target}/steal', all).then(({ type }) => type, String)
  const post = await fetch('${target}/.hardshell/logout', { ...all, method: 'POST' })
    .then(({ type }) => type, String)
  return [socket, get, post]
})()`

const frame = (target: string): string => `new Promise((resolve) => {
  const frame = document.createElement('iframe')
  frame.onload = resolve
  frame.src = '${target}/'
  document.body.append(frame)
})`

test('a page of another site can use the session for nothing, and frame no page of ours', async () => {
  const executablePath = execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' })
  const side = await startWithPassword({ answer: agentPages })
  // "localhost" is another site than 127.0.0.1: here stands whoever wants to abuse the session.
  const evil = await startAgent((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' })
    response.end('<!doctype html><title>Another site</title>')
  })
  const browser = await chromium.launch({
    executablePath: executablePath.trim(),
    timeout: 60_000,
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  })
  try {
    const context = await browser.newContext()
    context.setDefaultTimeout(stepMs)
    const page = await context.newPage()
    await page.goto(`${side.url}/`)
    await submit(page, thePassword)
    await shows(page, 'socket', 'closed')
    const before = side.agent.seen.length

    const attacker = await context.newPage()
    await attacker.goto(`http://localhost:${evil.port}/`)
    const tried = await attacker.evaluate(attack(side.url))
    assert.deepEqual(tried, ['refused', 'opaque', 'opaque'])
    assert.equal(side.agent.seen.length, before)
    const refused = side.records().filter(({ event }) => event === 'request.refused')
    const paths = refused.map(({ path }) => path)
    for (const path of ['/socket', '/steal', '/.hardshell/logout']) assert.ok(paths.includes(path))
    assert.ok(!side.records().some(({ event }) => event === 'session.logout'))

    await attacker.evaluate(frame(side.url))
    const framed = attacker.frames().at(-1)
    assert.doesNotMatch((await framed?.content()) ?? '', /<form/)
    assert.equal(side.agent.seen.length, before)
  } finally {
    await browser.close()
    await evil.stop()
    await side.stop()
  }
})
