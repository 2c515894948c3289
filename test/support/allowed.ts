/** Where a planted secret may stand, each row with its reason. Whatever is not here is a leak. */
import type { Hit } from './search.ts'
import type { SecretKind } from './secrets.ts'

/** One place. */
export interface Allowed {
  readonly kinds: readonly SecretKind[]
  /** The place in words, with the reason. */
  readonly where: string
  readonly at: (hit: Hit, content: Buffer) => boolean
}

/** What Hardshell itself writes: a home's folders of ours, and copies beside a configuration. */
const ours = /\/(?:audit|run|backups|migrations|cache)\/|\.backup-\d+$|\/state\.db/
const inFolders = ({ file }: Hit) => file.includes('/folders/') && !ours.test(file)

const before = ({ at }: Hit, content: Buffer) =>
  content.subarray(Math.max(0, at - 200), at).toString('latin1')

/** The arguments of a started program stand in the first line; what it wrote follows. */
function argumentsOf(content: Buffer): { readonly words: string; readonly end: number } {
  const end = content.indexOf('\n')
  const words = JSON.parse(content.toString('utf8', 0, end)) as readonly string[]
  return { words: words.join(' '), end }
}

/** Whether a place lies in the body of `describeAnswer`, which repeats the request as JSON. */
function isEcho({ at }: Hit, content: Buffer): boolean {
  const head = content.lastIndexOf('\r\n\r\n', at)
  const body = content.toString('latin1', head + 4, head + 40)
  return head !== -1 && /^(?:[0-9a-f]+\r\n)?\{"method":"/.test(body)
}

/** Commands that show a credential to the person who asked for it. */
const showing =
  /^(?:token new|token rotate|init|demo|security migrate|security audit .*--fix|auth hash-password)\b/

/** Tried first to last. */
export const allowed: readonly Allowed[] = [
  {
    kinds: ['key'],
    where: 'a key in the folder of keys, or where a test moved it or mounted it',
    at: ({ file }) => /\/(?:keys\/[\w.-]*key|key-elsewhere|hardshell-secrets-key)$/.test(file),
  },
  {
    kinds: ['gateway token', 'agent token', 'channel credential', 'password'],
    where:
      'a configuration as its owner wrote it, plain; not one in which Hardshell sealed something, and no copy',
    at: (hit, content) =>
      inFolders(hit) && /\.json5?$/.test(hit.file) && !content.includes('encrypted'),
  },
  {
    kinds: ['gateway token', 'agent token', 'channel credential', 'client token'],
    where:
      'a file that holds one secret and nothing else: tokenFile, { "file": … }, or a client\'s own',
    at: (hit, content) =>
      inFolders(hit) &&
      /\/(?:[\w.-]*token|keys\/[\w.-]+)$/.test(hit.file) &&
      hit.at === 0 &&
      content.toString('latin1').trim().length === hit.length,
  },
  {
    kinds: ['gateway token'],
    where: "the demo's file for curl, mode 0600, so that the token is in no argument",
    at: (hit) => inFolders(hit) && hit.file.endsWith('/curl.conf'),
  },
  {
    kinds: ['gateway token', 'client token', 'password'],
    where: 'what a command prints that was asked for a new token or for a hash',
    at: ({ file, at }, content) => {
      if (!file.includes('/said/')) return false
      const { words, end } = argumentsOf(content)
      const command = words.split(/(?:^|[\s/])main\.[jt]s['"]? /).at(-1) ?? ''
      return at > end && showing.test(command)
    },
  },
  {
    kinds: ['agent token'],
    where: 'an argument that a test gave to see it refused',
    at: ({ file, at }, content) => {
      if (!file.includes('/said/')) return false
      const { words, end } = argumentsOf(content)
      return at < end && words.includes(' config set ')
    },
  },
  {
    kinds: ['client token'],
    where: 'the answer to a login, and of the admin socket to who asked for a token',
    at: (hit, content) =>
      hit.file.includes('/answers/') &&
      /(?:set-cookie: (?:__Host-)?\w+=|"token":")$/i.test(before(hit, content)),
  },
  {
    kinds: ['agent token', 'channel credential'],
    where:
      'what the agent of a test says that it received: its token, and the proofs of services as they came',
    at: (hit, content) => hit.file.includes('/answers/') && isEcho(hit, content),
  },
  {
    kinds: ['agent token'],
    where: 'the agent token of a bot, in an answer to this bot',
    at: (hit, content) =>
      hit.file.includes('/answers/') && before(hit, content).endsWith('"https://example.com/'),
  },
  {
    kinds: ['client token'],
    where: 'what a program of a test prints, which is none of ours',
    at: ({ file, at }, content) => {
      if (!file.includes('/said/')) return false
      const { words, end } = argumentsOf(content)
      return at > end && words.includes('--input-type=module')
    },
  },
]
