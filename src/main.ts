#!/usr/bin/env node
/** Entry: checks the Node version before anything newer is loaded, then runs the command line. */
const needed = 24

if (Number(process.versions.node.split('.')[0]) < needed) {
  process.stderr.write(
    `hardshell: needs Node ${needed} or newer, this is ${process.versions.node}; in a checkout use "npm run hardshell"\n`,
  )
  process.exit(2)
}
if (/--insecure-http-parser/.test(process.env['NODE_OPTIONS'] ?? '')) {
  process.stderr.write(
    'hardshell: NODE_OPTIONS holds --insecure-http-parser, which lets requests be smuggled; remove it\n',
  )
  process.exit(2)
}
// State, keys and logs of ours are for us alone, whatever the caller's umask says.
process.umask(0o077)
resolveOwnModules()
const { keepCompiled } = await import('./compile-cache.ts')
keepCompiled(process.env)
const { processIo, run } = await import('./cli/run.ts')
process.exitCode = await run(process.argv.slice(2), processIo(process))

/**
 * Tells Node where the built modules of this program are: where the import says. Node itself asks the disk for links,
 * packages and formats on the way to each of them, which is a seventh of a start.
 */
function resolveOwnModules(): void {
  const self = 'main.js'
  if (!import.meta.url.endsWith(`/${self}`)) return
  const root = import.meta.url.slice(0, -self.length)
  process.getBuiltinModule('node:module').registerHooks({
    resolve(specifier, context, next) {
      const { parentURL } = context
      if (!specifier.startsWith('.') || parentURL?.startsWith(root) !== true) {
        return next(specifier, context)
      }
      const { href } = new URL(specifier, parentURL)
      return { url: href, format: 'module', shortCircuit: true }
    },
  })
}
