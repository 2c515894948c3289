/** A process that launches an agent and does nothing else: tests kill it to see what the next one makes of its pod. */
import { createAgent, type AgentSettings } from '../../src/agent/create.ts'
import { AuditList } from './engine.ts'

const settings = JSON.parse(process.argv[2] ?? '') as AgentSettings
const agent = await createAgent(settings, {
  audit: new AuditList(),
  now: () => Date.now(),
  nodePath: process.execPath,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
})
await agent.start()
const waited = await (agent.ready() ?? 'ready')
process.stdout.write(`${JSON.stringify({ waited, status: await agent.status() })}\n`)
