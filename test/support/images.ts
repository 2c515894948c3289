/** Images for tests on a machine that can pull nothing: a base made of its own files, and ours built on it. */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The root of this checkout. */
export const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** Stands in for the pinned base of the Dockerfiles: Node 24, npm, a shell. */
export const baseImage = 'hardshell-test-base:local'
/** The real Dockerfile, built on the stand-in. */
export const hardshellImage = 'hardshell-test:local'
/** The example agent, built on the stand-in. */
export const exampleAgentImage = 'hardshell-test-agent:local'

/** What a program said and how it ended. */
export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end, at most ten minutes; a failing one is an answer, not a throw. */
export function run(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env?: Readonly<Record<string, string>>; input?: string } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      [...args],
      {
        cwd: options.cwd ?? checkout,
        // The classic builder is the one that every engine has; clients warn and change their mind otherwise.
        env: {
          ...process.env,
          DOCKER_BUILDKIT: '0',
          COMPOSE_DOCKER_CLI_BUILD: '0',
          ...options.env,
        },
        timeout: 600_000,
        killSignal: 'SIGKILL',
        maxBuffer: 64 * 1024 * 1024,
      },
      (error, stdout, stderr) => {
        if (error === null) resolve({ code: 0, stdout, stderr })
        else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr })
        else reject(new Error(`${file} ${args.join(' ')}: ${error.message}`))
      },
    )
    // A program that ends without reading its input is no failure of the test.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input ?? '')
  })
}

/** Like `run`, for programs whose failure fails the test; returns what they wrote to standard output. */
export async function must(...call: Parameters<typeof run>): Promise<string> {
  const ran = await run(...call)
  if (ran.code === 0) return ran.stdout
  const said = `${ran.stdout}\n${ran.stderr}`.trim().split('\n').slice(-30).join('\n')
  throw new Error(`${call[0]} ${call[1].join(' ')}: exit ${ran.code}\n${said}`)
}

/** One build at a time on this machine, so that the second finds the layers of the first. */
const build = (...command: readonly string[]) =>
  must('flock', [join(tmpdir(), `hardshell-images-${process.getuid?.() ?? 0}.lock`), ...command])

/** Makes the base image, a second of work when it is there already. */
export async function ensureBaseImage(): Promise<string> {
  await build('sh', 'deploy/base-image.sh', baseImage)
  return baseImage
}

/** Builds the real Dockerfile on the stand-in; layers that did not change are reused. */
export async function ensureHardshellImage(): Promise<string> {
  await ensureBaseImage()
  await build(...dockerBuild, '--tag', hardshellImage, '.')
  return hardshellImage
}

/** Builds the example agent on the stand-in. */
export async function ensureExampleAgentImage(): Promise<string> {
  await ensureBaseImage()
  await build(...dockerBuild, '--tag', exampleAgentImage, 'deploy/example-agent')
  return exampleAgentImage
}

const dockerBuild = ['docker', 'build', '--force-rm', '--build-arg', `BASE=${baseImage}`]

/** A copy of the checkout without what was built or installed, as `git clone` would give it; `remove` deletes it. */
export async function copyOfCheckout(): Promise<{ dir: string; remove: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'hardshell-copy-'))
  const installed = ['node_modules', 'test/sdk/node_modules', 'dist']
  const left = new Set([...installed, '.git', 'deploy/secrets', 'deploy/.env', '.env'])
  await cp(checkout, dir, {
    recursive: true,
    filter: (path) => !left.has(relative(checkout, path)),
  })
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) }
}
