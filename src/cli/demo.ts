/** `demo`: the example agent in a sandbox, the sidecar in front of it, and the lines to try. */
import { spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { codeOf, Failure, messageOf } from '../errors.ts'
import { writeAtomic } from '../files.ts'
import type { Command, ExitCode, Io } from './command.ts'
import { firstConfig, makeHome } from './init.ts'

/** The example agent and the set-up script, as they ship. */
const deploy = new URL('../../deploy/', import.meta.url).pathname

/** The port of the example agent inside its cell. */
const agentPort = 18789

/** The command `demo`. */
export const demoCommands: readonly Command[] = [
  {
    name: 'demo',
    summary: 'Run the bundled example agent in a sandbox behind Hardshell, and print what to try.',
    options: { port: { type: 'string', value: 'PORT', summary: 'The port to listen on [8080].' } },
    run: async ({ io, options }) => {
      const port = portOf(options['port'])
      const image = await exampleImage(io)
      const { firstWish } = await import('./wish.ts')
      const wish = firstWish()
      // Short, because sockets lie in it; in the temporary folder, because nothing of a demo is kept.
      const parent = mkdtempSync(join(tmpdir(), 'hardshell-'))
      try {
        return await runDemo(join(parent, 'home'), { image, port, wish }, io)
      } finally {
        await rm(parent, { recursive: true, force: true })
      }
    },
  },
]

function portOf(given: unknown): number {
  const port = given === undefined ? 8080 : Number(given)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Failure('BAD_USAGE', '--port must be a whole number from 0 to 65535', { exitCode: 2 })
  }
  return port
}

/** The image of the example agent, made from this process's own Node: no registry is needed. */
async function exampleImage(io: Io): Promise<string> {
  const { Engine, engineSockets } = await import('../agent/engine.ts')
  const { localImage } = await import('../agent/image.ts')
  const sockets = engineSockets(io.env)
  const find = async () => {
    let refused: unknown
    for (const socket of sockets) {
      const candidate = new Engine(socket)
      try {
        await candidate.ping()
        return candidate
      } catch (thrown) {
        await candidate.close()
        if (codeOf(thrown) !== 'ENGINE_ABSENT') refused ??= thrown
      }
    }
    // An engine that is there and not for this user is not one to install.
    if (refused !== undefined) throw refused
    return undefined
  }
  const engine = (await find()) ?? (await setUpEngine(io, find))
  try {
    io.out('Making the image of the example agent …')
    return await localImage(engine, {
      name: 'hardshell-example-agent',
      nodePath: process.execPath,
      add: [{ from: join(deploy, 'example-agent'), to: '/agent' }],
      args: ['/agent/server.mjs'],
    })
  } finally {
    await engine.close()
  }
}

/** Installs and starts an engine where that can be done; else the script says on one line what to install. */
async function setUpEngine<T>(io: Io, find: () => Promise<T | undefined>): Promise<T> {
  io.out('No container engine answers: setting one up (deploy/setup.sh engine) …')
  const code = await new Promise<number>((resolve, reject) => {
    const child = spawn('sh', [join(deploy, 'setup.sh'), 'engine'], { stdio: ['ignore', 2, 2] })
    child.once('error', reject)
    child.once('close', (status) => resolve(status ?? 1))
  }).catch((thrown: unknown) => {
    throw new Failure('ENGINE_SETUP', `deploy/setup.sh cannot be run: ${messageOf(thrown)}`)
  })
  const engine = code === 0 ? await find() : undefined
  if (engine === undefined) {
    throw new Failure(
      'ENGINE_ABSENT',
      'the demo needs a container engine: install one ("sudo apt-get install docker.io"), start it, and run the demo again',
    )
  }
  return engine
}

interface Demo {
  readonly image: string
  readonly port: number
  readonly wish: Promise<NodeJS.Signals>
}

async function runDemo(home: string, { image, port, wish }: Demo, io: Io): Promise<ExitCode> {
  const config = firstConfig({ image })
    .replace('port: 8080', `port: ${port}`)
    .replace(/(image: [^\n]*)\n/, `$1\n    port: ${agentPort},\n    healthPath: "/health",\n`)
  const { token, configFile } = makeHome(home, config)
  writeAtomic(join(home, 'curl.conf'), `header = "Authorization: Bearer ${token}"\n`)
  const { serve } = await import('./serve.ts')
  // The demo's home is its own: whatever the caller's environment says about an installation does not apply.
  const env = {
    ...io.env,
    HARDSHELL_HOME: home,
    HARDSHELL_CONFIG: configFile,
    HARDSHELL_LOG_LEVEL: 'warn',
  }
  delete (env as Record<string, string | undefined>)['HARDSHELL_TOKEN']
  return serve(
    {
      config: configFile,
      json: false,
      wish,
      onReady: ({ url, agent }) => {
        // Who copies the lines at once gets the answers that they promise: until the agent is ready, /health says 503.
        void Promise.resolve(agent.ready()).then((state) => {
          if (state !== 'down') io.out(guide(url, home, token))
        })
      },
    },
    { ...io, env },
  )
}

function guide(url: string, home: string, token: string): string {
  return `
Hardshell listens on ${url}; the example agent runs in a sandbox behind it. In another terminal:

  curl -i ${url}/health
      401: no credential, no way in

  curl -i --config ${home}/curl.conf ${url}/health
      200: the token is in that file, so it is in no process list

  head -c 11000000 /dev/zero | curl -i --config ${home}/curl.conf --data-binary @- ${url}/echo
      413: more than 10 MB

  HARDSHELL_TOKEN=${token} deploy/verify.sh ${url}
      every check of the hardening guide

The record of it: HARDSHELL_HOME=${home} npm run --silent hardshell audit tail
Ctrl-C takes everything down.`
}
