/** Our own image: Node, the portal, and the programs that try the walls of a cell from inside. */
import { existsSync } from 'node:fs'
import { Failure } from '../errors.ts'
import type { Engine } from './engine.ts'
import { localImage, type Source } from './image.ts'
import { allowedProbes, deniedProbes, probePath, programOf } from './syscall-probe.ts'

/** A program beside this file under a name that Node takes for a module without a package beside it. */
export function programSource(name: 'portal' | 'in-cell'): Source {
  // `.ts` from a checkout, `.js` from a build.
  const kinds = ['ts', 'js'].map((kind) => ({
    kind,
    from: `${import.meta.dirname}/${name}.${kind}`,
  }))
  const found = kinds.find(({ from }) => existsSync(from))
  if (found === undefined) {
    throw new Failure('PORTAL_MISSING', `The ${name} program is missing: install Hardshell again.`)
  }
  return { from: found.from, to: `/hardshell/${name}.m${found.kind}` }
}

/** Makes the image unless the engine has it, and gives its name. */
export function makePortalImage(engine: Engine, nodePath: string): Promise<string> {
  const probes = Object.entries({ ...deniedProbes, ...allowedProbes })
  return localImage(engine, {
    name: 'hardshell-portal',
    nodePath,
    add: [
      programSource('portal'),
      programSource('in-cell'),
      ...probes.map(([name, probe]) => ({ program: programOf(probe), to: probePath(name) })),
    ],
    args: [],
  })
}
