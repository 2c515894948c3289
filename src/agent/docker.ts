/** The driver for Docker and engines that speak its API: a pod of a portal without a network, and the agent that joins it. */
import { readFileSync } from 'node:fs'
import type { AuditSink } from '../audit/record.ts'
import type { Listener, Owner } from '../egress/deny.ts'
import { codeOf, Failure, messageOf } from '../errors.ts'
import { Engine, engineAbsent, EngineFailure, type EngineInfo, type Listed } from './engine.ts'
import {
  bodyOf,
  mismatches,
  type Bind,
  type ContainerBody,
  type ContainerPlan,
} from './hardening.ts'
import { fieldOf, isRecord, textOf } from './json.ts'
import { makePodDir, portalOwner } from './pod-dir.ts'
import { makePortalImage, programSource } from './portal-image.ts'
import {
  egressPort,
  hashOf,
  type Cell,
  type CellEnd,
  type CellSpec,
  type SandboxDriver,
} from './sandbox.ts'

/** What the driver is told. */
export interface DockerSettings {
  /** Unix sockets to try, in order. */
  readonly engineSockets: readonly string[]
  /** The folder under which each pod gets its own; made by us, 0700. */
  readonly podRoot: string
  /** The user and group of this process. */
  readonly self: Owner
  /** The Node binary of the portal. */
  readonly nodePath: string
  /** Connections through a portal at once. */
  readonly connections: number
  /** Seconds that an agent has between SIGTERM and SIGKILL. */
  readonly graceSeconds: number
}

/** What the driver needs from outside. */
export interface DockerDeps {
  readonly audit: AuditSink
  /** Opens the way out of a cell at this socket, for this user. */
  readonly openEgress: (socketPath: string, owner: Owner | undefined) => Promise<Listener>
}

const label = {
  instance: 'io.hardshell.instance',
  cell: 'io.hardshell.cell',
  role: 'io.hardshell.role',
  config: 'io.hardshell.config',
} as const

const seccompFile = `${import.meta.dirname}/../../deploy/seccomp.json`

/** A pod that is planned but not made. */
interface Plans {
  readonly portal: ContainerPlan
  /** Its network is set when the portal has an id. */
  readonly agent: ContainerPlan
  readonly hash: string
  readonly images: Readonly<Record<Role, Image>>
}

type Role = 'portal' | 'agent'

/** What we need to know about an image. */
interface Image {
  readonly id: string
  readonly env: readonly string[]
  readonly volumes: readonly string[]
}

/** Makes pods on the first engine that answers. */
export class DockerDriver implements SandboxDriver {
  readonly name = 'docker'
  readonly #settings: DockerSettings
  readonly #deps: DockerDeps
  readonly #egress = new Map<string, Listener>()
  #engine: Engine | undefined
  #info: EngineInfo | undefined

  constructor(settings: DockerSettings, deps: DockerDeps) {
    this.#settings = settings
    this.#deps = deps
  }

  get lacks(): readonly string[] {
    const lacks = ["The cell shares this machine's kernel: a flaw in the kernel is a way out."]
    if (this.#info?.swapLimit === false) {
      lacks.push('This kernel does not limit swap, so memory beyond the limit may be swapped out.')
    }
    return lacks
  }

  async unavailable(): Promise<string | undefined> {
    try {
      const info = await this.#connect()
      const has = (name: string) => info.securityOptions.some((option) => option.includes(name))
      if (has('name=rootless') || has('name=userns')) {
        return `the container engine at ${this.#engine?.socketPath} maps users (rootless or userns-remap), which this version cannot use: use a rootful engine, or set agent.upstream to an agent that already runs.`
      }
      if (!has('name=seccomp')) {
        return 'the container engine has no seccomp, which the sandbox needs: use a kernel with CONFIG_SECCOMP_FILTER.'
      }
      if (!info.memoryLimit || !info.pidsLimit) {
        return 'the container engine cannot limit memory or processes here: mount the memory and pids controllers of cgroups.'
      }
      return undefined
    } catch (thrown) {
      return messageOf(thrown)
    }
  }

  socketPath(spec: CellSpec): string {
    return `${this.#dir(spec)}/in.sock`
  }

  async check(spec: CellSpec): Promise<void> {
    makePodDir(this.#dir(spec), this.#owner(spec), this.#settings.self)
    await this.#plan(spec)
  }

  async start(spec: CellSpec): Promise<Cell> {
    const engine = await this.#ready()
    const plans = await this.#plan(spec)
    await this.#open(spec)
    await this.#removeAll(await this.#own(engine, spec))
    const made: string[] = []
    try {
      const portal = await this.#run(engine, spec, 'portal', plans.portal, plans, made)
      const network = `container:${portal}`
      const agent = await this.#run(engine, spec, 'agent', { ...plans.agent, network }, plans, made)
      return this.#cell(engine, portal, agent, false)
    } catch (thrown) {
      await this.#removeQuietly(engine, made)
      throw thrown
    }
  }

  async adopt(spec: CellSpec): Promise<Cell | undefined> {
    const engine = await this.#ready()
    const found = await this.#own(engine, spec)
    const portal = found.find((one) => one.running && one.labels[label.role] === 'portal')
    const agent = found.find((one) => one.running && one.labels[label.role] === 'agent')
    if (portal === undefined || agent === undefined || found.length !== 2) return undefined
    const plans = await this.#plan(spec)
    if (found.some((one) => one.labels[label.config] !== plans.hash)) return undefined
    const network = `container:${portal.id}`
    for (const [role, id, plan] of [
      ['portal', portal.id, plans.portal],
      ['agent', agent.id, { ...plans.agent, network }],
    ] as const) {
      if ((await this.#differences(engine, id, role, bodyOf(plan), plan.binds, plans)).length > 0) {
        return undefined
      }
    }
    await this.#open(spec)
    return this.#cell(engine, portal.id, agent.id, true)
  }

  async reap(instance: string): Promise<number> {
    const engine = await this.#ready()
    const found = await engine.list({ [label.instance]: instance })
    await this.#removeAll(found)
    return found.length
  }

  async close(): Promise<void> {
    await Promise.all([...this.#egress.values()].map((listener) => listener.close()))
    this.#egress.clear()
    await this.#engine?.close()
    this.#engine = undefined
  }

  #dir(spec: CellSpec): string {
    return `${this.#settings.podRoot}/pod-${spec.cell}`
  }

  #owner(spec: CellSpec): Owner {
    return portalOwner(this.#settings.self, spec.uid)
  }

  /** Connects to the first engine that answers, and asks it once what it can do. */
  async #connect(): Promise<EngineInfo> {
    if (this.#info !== undefined) return this.#info
    let denied: unknown
    for (const socketPath of this.#settings.engineSockets) {
      const engine = new Engine(socketPath)
      try {
        const info = await engine.info()
        this.#engine = engine
        this.#info = info
        return info
      } catch (thrown) {
        await engine.close()
        if (codeOf(thrown) !== 'ENGINE_ABSENT') denied ??= thrown
      }
    }
    if (denied !== undefined) throw denied
    throw new EngineFailure('ENGINE_ABSENT', engineAbsent(this.#settings.engineSockets), 0)
  }

  async #ready(): Promise<Engine> {
    await this.#connect()
    if (this.#engine === undefined) throw new Failure('ENGINE_ABSENT', 'The driver is closed.')
    return this.#engine
  }

  /** Makes the folder and the way out before anything can ask for them. */
  async #open(spec: CellSpec): Promise<void> {
    const dir = this.#dir(spec)
    const owner = this.#owner(spec)
    makePodDir(dir, owner, this.#settings.self)
    if (this.#egress.has(dir)) return
    const other = owner.uid === this.#settings.self.uid ? undefined : owner
    this.#egress.set(dir, await this.#deps.openEgress(`${dir}/out.sock`, other))
  }

  /** Containers of this cell, whoever made them. */
  #own(engine: Engine, spec: CellSpec): Promise<readonly Listed[]> {
    return engine.list({ [label.instance]: spec.instance, [label.cell]: spec.cell })
  }

  /** Agents before portals, so that no agent ever outlives its empty network. */
  async #removeAll(found: readonly Listed[]): Promise<void> {
    const engine = await this.#ready()
    const agentsFirst = found.toSorted(
      (a, b) =>
        Number(a.labels[label.role] === 'portal') - Number(b.labels[label.role] === 'portal'),
    )
    for (const { id } of agentsFirst) await engine.remove(id)
  }

  async #plan(spec: CellSpec): Promise<Plans> {
    const engine = await this.#ready()
    const image = await this.#image(engine, spec.image)
    const seccomp = JSON.stringify(JSON.parse(readFileSync(seccompFile, 'utf8')))
    const portalImage = await makePortalImage(engine, this.#settings.nodePath)
    const images = { agent: image, portal: await this.#image(engine, portalImage) }
    const swaps = this.#info?.swapLimit === false
    const agent = { ...agentPlan(spec, image, seccomp), swaps }
    const portal = { ...this.#portalPlan(spec, images.portal, seccomp), swaps }
    const hash = hashOf(bodyOf(agent), bodyOf(portal))
    const labels = (role: Role) => ({
      [label.instance]: spec.instance,
      [label.cell]: spec.cell,
      [label.role]: role,
      [label.config]: hash,
    })
    return {
      portal: { ...portal, labels: labels('portal') },
      agent: { ...agent, labels: labels('agent') },
      hash,
      images,
    }
  }

  #portalPlan(spec: CellSpec, image: Image, seccomp: string): ContainerPlan {
    const { connections } = this.#settings
    return {
      image: image.id,
      entrypoint: ['/usr/local/bin/node', '--max-old-space-size=96'],
      args: [
        programSource('portal').to,
        '--dir=/portal',
        `--agent-port=${spec.port}`,
        `--egress-port=${egressPort}`,
        `--connections=${connections}`,
      ],
      env: [],
      workdir: '/',
      ...this.#owner(spec),
      labels: {},
      network: 'none',
      binds: [{ source: this.#dir(spec), target: '/portal' }],
      volumes: image.volumes,
      memoryBytes: 256 * 1024 ** 2,
      cpus: 1,
      pidsLimit: 64,
      // Two descriptors per connection, the way out, and what Node itself holds.
      openFiles: 2 * connections + 1024,
      tmpBytes: 1024 ** 2,
      swaps: false,
      seccomp,
    }
  }

  async #image(engine: Engine, name: string): Promise<Image> {
    const found = await engine.image(name)
    if (found === undefined) {
      throw new Failure(
        'IMAGE_MISSING',
        `agent.image ${name} is not on this machine: run "docker pull ${name}", or build it with "docker build -t ${name} .".`,
      )
    }
    const env = fieldOf(found, 'Config', 'Env')
    const volumes = fieldOf(found, 'Config', 'Volumes')
    return {
      id: textOf(fieldOf(found, 'Id')),
      env: Array.isArray(env) ? env.map(String) : [],
      volumes: isRecord(volumes) ? Object.keys(volumes) : [],
    }
  }

  /** Makes a container, looks at it before and after it starts, and gives its id. */
  async #run(
    engine: Engine,
    spec: CellSpec,
    role: Role,
    plan: ContainerPlan,
    plans: Plans,
    made: string[],
  ): Promise<string> {
    const body = bodyOf(plan)
    const id = await engine.create(`hardshell-${spec.instance}-${spec.cell}-${role}`, body)
    made.push(id)
    for (const step of ['created', 'started'] as const) {
      if (step === 'started') await engine.start(id)
      const wrong = await this.#differences(engine, id, role, body, plan.binds, plans)
      if (wrong.length > 0) {
        await engine.kill(id, 'SIGKILL').catch(() => undefined)
        const fields = wrong.join(', ')
        this.#deps.audit.append({
          event: 'sandbox.mismatch',
          because: `${role} ${step}: ${fields}`,
        })
        throw new Failure(
          'SANDBOX_MISMATCH',
          `The engine made another ${role} container than it was asked for (${fields}), so it was removed: look for a proxy, plugin or default of the engine that changes containers.`,
        )
      }
    }
    return id
  }

  async #differences(
    engine: Engine,
    id: string,
    role: Role,
    body: ContainerBody,
    binds: readonly Bind[],
    plans: Plans,
  ): Promise<readonly string[]> {
    const image = plans.images[role]
    return mismatches(
      {
        body,
        imageId: image.id,
        imageEnv: image.env,
        binds,
        defaultRuntime: this.#info?.defaultRuntime ?? '',
      },
      await engine.inspect(id),
    )
  }

  #cell(engine: Engine, portal: string, agent: string, adopted: boolean): Cell {
    const ended = Promise.race([
      engine.wait(agent).then(
        (code) => endOf(engine, agent, code),
        (thrown: unknown) => lost(thrown),
      ),
      engine.wait(portal).then(
        (): CellEnd => ({ because: 'portal ended' }),
        (thrown: unknown) => lost(thrown),
      ),
    ])
    return {
      containers: [portal.slice(0, 12), agent.slice(0, 12)],
      adopted,
      ended,
      logs: (lines) => engine.logs(agent, lines),
      stop: async () => {
        await engine.stop(agent, this.#settings.graceSeconds)
        await engine.remove(agent)
        await engine.remove(portal)
      },
    }
  }

  /** Cleans up after a failed start; the failure that is already on its way is the one to be told. */
  async #removeQuietly(engine: Engine, ids: readonly string[]): Promise<void> {
    for (const id of ids.toReversed()) {
      await engine.remove(id).catch((thrown: unknown) => {
        this.#deps.audit.append({ event: 'sandbox.left', because: messageOf(thrown).slice(0, 200) })
      })
    }
  }
}

function agentPlan(spec: CellSpec, image: Image, seccomp: string): ContainerPlan {
  return {
    image: image.id,
    entrypoint: spec.command,
    args: spec.args,
    env: spec.env,
    workdir: spec.workdir,
    uid: spec.uid,
    gid: spec.gid,
    labels: {},
    network: '',
    binds: bindsOf(spec),
    volumes: image.volumes,
    memoryBytes: spec.memoryBytes,
    cpus: spec.cpus,
    pidsLimit: spec.pidsLimit,
    openFiles: 4096,
    tmpBytes: 64 * 1024 ** 2,
    swaps: false,
    seccomp,
  }
}

function bindsOf({ workspace, plugins = [] }: CellSpec): readonly Bind[] {
  const own = workspace === undefined ? [] : [{ source: workspace, target: workspace }]
  const reads = plugins.map(({ name, source }): Bind => ({
    source,
    target: `/plugins/${name}`,
    readOnly: true,
  }))
  return [...own, ...reads]
}

/** Why an agent ended. The engine counts any kill for lack of memory in the cell; only a deadly one is `oom`. */
async function endOf(engine: Engine, agent: string, code: number): Promise<CellEnd> {
  let state: unknown
  try {
    state = fieldOf(await engine.inspect(agent), 'State')
  } catch (thrown) {
    return lost(thrown)
  }
  const oom = fieldOf(state, 'OOMKilled') === true
  const failed = textOf(fieldOf(state, 'Error'))
  if (failed !== '') return { because: `exit ${code}: ${failed.slice(0, 200)}`, exitCode: code }
  if (code === 126 || code === 127) {
    const because = `exit ${code}: the program of agent.command, or of the image, cannot be run in the cell`
    return { because, exitCode: code }
  }
  if (oom && code === 137) return { because: 'oom', exitCode: code }
  if (code === 137) return { because: 'killed (exit 137)', exitCode: code }
  return { because: oom ? `exit ${code} after lack of memory` : `exit ${code}`, exitCode: code }
}

function lost(thrown: unknown): CellEnd {
  return { because: `engine lost (${codeOf(thrown) || messageOf(thrown)})`, lost: true }
}
