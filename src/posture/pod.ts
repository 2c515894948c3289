/** What every container of a cell must be, read off what the engine reports: an independent look at our own work. */
import { fieldOf, isRecord, textOf } from '../agent/json.ts'
import type { Config } from '../config/schema.ts'

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === '' ||
  value === false ||
  (Array.isArray(value) && value.length === 0) ||
  (isRecord(value) && Object.keys(value).length === 0)

const textsOf = (value: unknown): readonly string[] =>
  Array.isArray(value) ? value.map(String) : []

/** Names of the fields in which a running container is not what a cell must be; empty when it is. */
export function strayFields(
  inspected: unknown,
  config: Config,
  home: string,
  imageId: string,
): readonly string[] {
  const host = (name: string) => fieldOf(inspected, 'HostConfig', name)
  const { memory, pidsLimit, cpus } = config.agents.defaults.sandbox.docker
  const agent = fieldOf(inspected, 'Config', 'Labels', 'io.hardshell.role') === 'agent'
  const options = textsOf(host('SecurityOpt'))
  const uid = Number.parseInt(textOf(fieldOf(inspected, 'Config', 'User')), 10)
  const network = textOf(host('NetworkMode'))
  const must: Readonly<Record<string, boolean>> = {
    Privileged: host('Privileged') === false,
    ReadonlyRootfs: host('ReadonlyRootfs') === true,
    CapDrop: textsOf(host('CapDrop')).includes('ALL'),
    CapAdd: isEmpty(host('CapAdd')),
    NoNewPrivileges: options.some((option) => option.startsWith('no-new-privileges')),
    Seccomp: options.some((option) => option.startsWith('seccomp={')),
    NetworkMode: network === 'none' || (agent && network.startsWith('container:')),
    PortBindings: isEmpty(host('PortBindings')),
    PidMode: isEmpty(host('PidMode')),
    IpcMode: host('IpcMode') === 'private',
    UsernsMode: isEmpty(host('UsernsMode')),
    Devices: isEmpty(host('Devices')) && isEmpty(host('DeviceRequests')),
    Binds: isEmpty(host('Binds')) && isEmpty(host('VolumesFrom')),
    User: uid > 0,
    Memory: host('Memory') === (agent ? memory : 256 * 1024 ** 2),
    PidsLimit: host('PidsLimit') === (agent ? pidsLimit : 64),
    NanoCpus: host('NanoCpus') === Math.round((agent ? cpus : 1) * 1e9),
    Image: !agent || imageId === '' || fieldOf(inspected, 'Image') === imageId,
    Mounts: mountsFit(fieldOf(inspected, 'Mounts'), config, home, agent),
  }
  return Object.entries(must)
    .filter(([, holds]) => !holds)
    .map(([name]) => name)
}

function mountsFit(mounts: unknown, config: Config, home: string, agent: boolean): boolean {
  if (!Array.isArray(mounts)) return isEmpty(mounts)
  return mounts.every((mount: unknown) => {
    const source = textOf(fieldOf(mount, 'Source'))
    const writable = fieldOf(mount, 'RW') === true
    if (!agent) return source.startsWith(`${home}/run/pod-`)
    if (source === config.agent.workspace) return true
    return source.startsWith(`${home}/run/plugins/`) && !writable
  })
}
