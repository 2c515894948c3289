import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fieldOf } from '../../src/agent/json.ts'
import { bodyOfTwin, readReport } from '../../src/agent/twin.ts'
import { interfacesIn, mountsIn, processIn, runningCell } from '../../src/posture/cell.ts'
import { cellChecks } from '../../src/posture/checks-cell.ts'
import { cellWith, statusWith } from '../support/posture-cells.ts'
import { configWith, contextWith } from '../support/posture.ts'

test('a process is read from what the kernel says of it', () => {
  const over = { Uid: '1000\t0\t1000\t1000', CapBnd: '0000000000000400', NoNewPrivs: '0' }
  assert.deepEqual(processIn(7, statusWith({ ...over, Seccomp: '1' })), {
    pid: 7,
    name: 'node',
    uids: [1000, 0, 1000, 1000],
    capabilities: ['CapBnd'],
    noNewPrivileges: false,
    seccomp: false,
  })
})

test('a process that has ended is none, and one whose fields are missing is not taken for harmless', () => {
  assert.equal(processIn(7, undefined), undefined)
  assert.equal(processIn(7, statusWith({ State: 'Z (zombie)' })), undefined)
  const bare = processIn(7, 'Name:\tsh\nUid:\t1\t1\t1\t1\n')
  assert.equal(bare?.capabilities.length, 5)
  assert.deepEqual([bare?.noNewPrivileges, bare?.seccomp], [false, false])
})

test('a name that a process chose is not a command of the terminal', () => {
  assert.equal(processIn(7, statusWith({ Name: '\u001b[2Jroot' }))?.name, '??2Jroot')
})

test('mounts and interfaces are read from the tables of the kernel', () => {
  const line =
    '36 35 98:0 /mnt\\0401 /a\\040b rw,noatime master:1 - ext4 /dev/root ro,errors=continue'
  assert.deepEqual(mountsIn(`${line}\n`), [
    { root: '/mnt 1', target: '/a b', type: 'ext4', writable: false },
  ])
  const table = 'Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0:1 2\n'
  assert.deepEqual(interfacesIn(table), ['lo', 'eth0'])
})

test('a process of another container is not taken for one of the cell', () => {
  const seen = runningCell('f'.repeat(64), process.pid)
  assert.ok('unmeasured' in seen)
  assert.ok('unmeasured' in runningCell('f'.repeat(64), undefined))
})

test('a report counts once all of its lines are there', () => {
  const report = { status: 'x', allowed: ['unshare_user'], untried: [] }
  const text = Buffer.from(JSON.stringify(report)).toString('base64')
  const lines = [text.slice(0, 10), text.slice(10)].map(
    (chunk, at) => `2026-11-22T00:00:00Z hardshell-in-cell ${at + 1}/2 ${chunk}`,
  )
  assert.equal(readReport([]), undefined)
  assert.equal(readReport(['something else', lines[1] ?? '']), undefined)
  assert.deepEqual(readReport(lines), { ...report, allowed: ['unshare user'] })
})

test('a twin takes everything that the engine reports, but what could change or tell something', () => {
  const inspected = {
    Config: { User: '1000:1000', Env: ['API_KEY=planted'] },
    Mounts: [{ Destination: '/work' }],
    HostConfig: {
      Privileged: true,
      NetworkMode: 'container:abc',
      Binds: ['/var/run/docker.sock:/s:rw'],
      Mounts: [{ Type: 'bind', Source: '/w', Target: '/work', ReadOnly: false }],
      PortBindings: { '80/tcp': [{ HostPort: '80' }] },
      RestartPolicy: { Name: 'always' },
    },
  }
  const body = bodyOfTwin(inspected, 'sha256:1', {}, 15)
  const host = (name: string) => fieldOf(body, 'HostConfig', name)
  assert.deepEqual([host('Privileged'), host('NetworkMode')], [true, 'container:abc'])
  assert.deepEqual(host('Binds'), ['/var/run/docker.sock:/s:ro'])
  assert.equal(fieldOf(host('Mounts'), '0'), undefined)
  assert.match(JSON.stringify(host('Mounts')), /"ReadOnly":true/)
  assert.deepEqual([host('PortBindings'), host('AutoRemove')], [{}, true])
  assert.ok(!JSON.stringify(body).includes('planted'))
  assert.ok(JSON.stringify(fieldOf(body, 'Cmd')).includes('--skip=/work'))
})

test('what was not seen of one cell is not measured, and no fault in it hides a fault that was seen', () => {
  const hidden = { unmeasured: 'hidden' }
  const [user] = cellChecks
  const look = (...value: ReturnType<typeof cellWith>[]) =>
    user?.look(contextWith({ cells: { value }, config: configWith() }))
  const blind = { ...cellWith(), running: hidden }
  assert.deepEqual(look(cellWith(), blind), hidden)
  const root = cellWith({}, { status: statusWith({ Uid: '0\t0\t0\t0' }) })
  const found = look(blind, root)
  assert.match(JSON.stringify(found), /a process in its twin is root/)
})
