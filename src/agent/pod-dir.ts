/** The folder with the two doors of a pod: for the portal and us, and for nobody else. */
import { chmodSync, lchownSync, lstatSync, mkdirSync, realpathSync } from 'node:fs'
import { Failure } from '../errors.ts'
import type { Owner } from '../egress/deny.ts'

/** The longest path that a Unix socket can have on Linux (`sun_path` less its end mark). */
const socketPathBytes = 107

/** Makes the folder, 0700 and the portal's, or a `Failure` when something else stands there. */
export function makePodDir(dir: string, portal: Owner, self: Owner): void {
  if (Buffer.byteLength(`${dir}/out.sock`) > socketPathBytes) {
    throw new Failure(
      'POD_DIR',
      `${dir} is too long a path for a Unix socket (${socketPathBytes} bytes with its name): set HARDSHELL_HOME to a shorter one.`,
    )
  }
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const found = lstatSync(dir)
  if (!found.isDirectory() || realpathSync(dir) !== dir) {
    throw new Failure('POD_DIR', `${dir} is reached through a symbolic link: use the real path.`)
  }
  if (found.uid !== self.uid && found.uid !== portal.uid) {
    throw new Failure('POD_DIR', `${dir} belongs to user ${found.uid}: remove it and start again.`)
  }
  chmodSync(dir, 0o700)
  if (found.uid !== portal.uid || found.gid !== portal.gid) lchownSync(dir, portal.uid, portal.gid)
}

/** Who the portal runs as: this process's own user, or, where that is root, a user that nobody else is. */
export function portalOwner(self: Owner, agentUid: number): Owner {
  if (self.uid !== 0) return self
  const id = agentUid === 65_532 ? 65_531 : 65_532
  return { uid: id, gid: id }
}
