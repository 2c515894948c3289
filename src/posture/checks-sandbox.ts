/** Checks of the cell and of the engine that makes it. */
import { inGroup, ofConfig, ofMeasured, unmeasured, when, type Check, type Look } from './check.ts'
import type { EngineFacts, PostureContext } from './context.ts'

/** Only where we launch the agent does the engine concern us. */
function ofEngine(look: (engine: EngineFacts, context: PostureContext) => Look) {
  return ofConfig((config, context) => {
    if (config.agent.image === undefined) return unmeasured('Hardshell launches no agent')
    return ofMeasured(({ engine }) => engine, look)(context)
  })
}

const enginePorts = new Set([2375, 2376])

/** Mode, drift, engine socket, image. */
export const sandboxChecks: readonly Check[] = inGroup('sandbox', [
  {
    id: 'sandbox.off',
    severity: 'CRITICAL',
    title: 'The sandbox is not switched off',
    remedy: 'Set agent.image and remove agents.defaults.sandbox.mode.',
    look: ofConfig(({ agents }) =>
      when(agents.defaults.sandbox.mode === 'off', 'agents.defaults.sandbox.mode is "off"'),
    ),
  },
  {
    id: 'sandbox.not-applied',
    severity: 'HIGH',
    title: 'The agent runs in a cell of ours',
    remedy:
      'Set agent.image to launch it in a sandbox, or start both with deploy/compose.existing-bot.yaml; where you know what confines it, suppress this finding with the reason.',
    unseen: true,
    look: ofConfig(({ agent, agents }) =>
      when(
        agent.image === undefined && agents.defaults.sandbox.mode !== 'off',
        'agent.upstream is run by someone else: no sandbox of ours is applied, and what confines it is not seen from here',
      ),
    ),
  },
  {
    id: 'sandbox.drift',
    severity: 'CRITICAL',
    title: 'The running containers are what they were asked to be',
    remedy: 'Run "hardshell agent restart", and find out who changed them.',
    look: ofEngine(({ containers }) =>
      containers.length === 0
        ? unmeasured('no container of this installation runs')
        : containers
            .filter(({ wrong }) => wrong.length > 0)
            .map(({ name, wrong }) => ({ found: `${name} differs in ${wrong.join(', ')}` })),
    ),
  },
  {
    id: 'sandbox.image-missing',
    severity: 'LOW',
    title: 'The image of the agent is on this machine',
    remedy: 'Pull or build the image that agent.image names.',
    look: ofEngine(({ image }, { config }) =>
      image === undefined
        ? unmeasured('the engine was not asked')
        : when(!image, `agent.image ${config?.agent.image ?? ''} is not on this machine`),
    ),
  },
  {
    id: 'sandbox.image-unpinned',
    severity: 'LOW',
    title: 'The image of the agent is named by its digest',
    remedy: 'Use the form "name@sha256:…" in agent.image.',
    look: ofConfig(({ agent: { image } }) =>
      when(
        image !== undefined && !image.includes('@sha256:'),
        `agent.image ${image ?? ''} can be another image tomorrow`,
      ),
    ),
  },
  {
    id: 'sandbox.engine-socket',
    severity: 'CRITICAL',
    title: 'Not everyone on this machine may use the container engine',
    remedy: 'Run: sudo chmod 660 on the socket of the engine.',
    look: ofMeasured(
      ({ engine }) => engine,
      ({ socketPath, mode }) =>
        when((mode & 0o006) !== 0, `${socketPath} has mode ${mode.toString(8)}`, {
          file: socketPath,
        }),
    ),
  },
  {
    id: 'sandbox.engine-tcp',
    severity: 'HIGH',
    title: 'The container engine does not listen on TCP',
    remedy: 'Remove "-H tcp://…" from the options of the engine.',
    look: ofMeasured(
      ({ listening }) => listening,
      (listening) =>
        listening
          .filter(({ port }) => enginePorts.has(port))
          .map(({ address, port }) => ({ found: `${address}:${port} listens, an engine's port` })),
    ),
  },
  {
    id: 'sandbox.engine-seccomp',
    severity: 'HIGH',
    title: 'The engine can filter system calls',
    remedy: 'Use a kernel with CONFIG_SECCOMP_FILTER.',
    look: ofEngine(({ securityOptions }) =>
      when(
        !securityOptions.some((option) => option.includes('seccomp')),
        'the engine has no seccomp',
      ),
    ),
  },
  {
    id: 'sandbox.engine-apparmor',
    severity: 'INFO',
    title: 'A security module of the kernel confines containers',
    remedy: 'Boot with AppArmor or SELinux, where the distribution offers it.',
    look: ofEngine(({ securityOptions }) =>
      when(
        !securityOptions.some((option) => /apparmor|selinux/.test(option)),
        'the engine has neither AppArmor nor SELinux',
      ),
    ),
  },
  {
    id: 'sandbox.root',
    severity: 'INFO',
    title: 'Hardshell does not run as root',
    remedy: 'Run it as a user of its own.',
    look: ({ uid }) => when(uid === 0, 'Hardshell runs as root'),
  },
])
