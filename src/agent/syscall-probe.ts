/**
 * Programs that make one system call and exit with its error number (0 when the kernel did it). Node cannot make a
 * system call by number, and a bare machine has no compiler, so the few instructions are written out here.
 */

/** One call: its number for each architecture, and its arguments; missing ones are 0. */
export interface Probe {
  readonly x64: number
  readonly arm64: number
  readonly args: readonly number[]
}

/** The calls that a cell must refuse with EPERM (1), or ENOSYS (38) for clone3; the kernel itself allows each. */
export const deniedProbes: Readonly<Record<string, Probe>> = {
  'socket AF_VSOCK': { x64: 41, arm64: 198, args: [40, 1, 0] },
  'socket netlink netfilter': { x64: 41, arm64: 198, args: [16, 3, 12] },
  'socket AF_ALG': { x64: 41, arm64: 198, args: [38, 5, 0] },
  'socket AF_PACKET': { x64: 41, arm64: 198, args: [17, 3, 0] },
  io_uring_setup: { x64: 425, arm64: 425, args: [1, 0] },
  'ptrace TRACEME': { x64: 101, arm64: 117, args: [0] },
  'unshare user': { x64: 272, arm64: 97, args: [0x10000000] },
  'unshare net': { x64: 272, arm64: 97, args: [0x40000000] },
  'clone3 without arguments': { x64: 435, arm64: 435, args: [0, 0] },
  'keyctl get session': { x64: 250, arm64: 219, args: [0, -3, 0] },
  'personality no ASLR': { x64: 135, arm64: 92, args: [0x40000] },
  bpf: { x64: 321, arm64: 280, args: [0, 0, 0] },
  perf_event_open: { x64: 298, arm64: 241, args: [0, 0, 0, 0, 0] },
  userfaultfd: { x64: 323, arm64: 282, args: [0] },
  memfd_secret: { x64: 447, arm64: 447, args: [0] },
  'mount nothing': { x64: 165, arm64: 40, args: [0, 0, 0, 0, 0] },
  'setns of no descriptor': { x64: 308, arm64: 268, args: [-1, 0] },
  name_to_handle_at: { x64: 303, arm64: 264, args: [-100, 0, 0, 0, 0] },
}

/** Calls that every agent needs; they show that a probe can also succeed. */
export const allowedProbes: Readonly<Record<string, Probe>> = {
  'socket AF_UNIX': { x64: 41, arm64: 198, args: [1, 1, 0] },
  'socket AF_INET': { x64: 41, arm64: 198, args: [2, 1, 0] },
  'socket netlink route': { x64: 41, arm64: 198, args: [16, 3, 0] },
  getpid: { x64: 39, arm64: 172, args: [] },
}

/** Where the program of a probe stands in an image that has them. */
export const probePath = (name: string): string => `/hardshell/probe/${name.replaceAll(' ', '_')}`

/** A static ELF program for this machine's architecture that makes the call. */
export function programOf(probe: Probe): Buffer {
  const arm = process.arch === 'arm64'
  const code = arm ? armCode(probe) : intelCode(probe)
  const at = 0x400000n
  const head = Buffer.alloc(120)
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]).copy(head)
  head.writeUInt16LE(2, 16)
  head.writeUInt16LE(arm ? 183 : 62, 18)
  head.writeUInt32LE(1, 20)
  head.writeBigUInt64LE(at + 120n, 24)
  head.writeBigUInt64LE(64n, 32)
  head.writeUInt16LE(64, 52)
  head.writeUInt16LE(56, 54)
  head.writeUInt16LE(1, 56)
  // One segment, loaded whole, to read and to execute.
  head.writeUInt32LE(1, 64)
  head.writeUInt32LE(5, 68)
  head.writeBigUInt64LE(at, 80)
  head.writeBigUInt64LE(at, 88)
  const size = BigInt(120 + code.length)
  head.writeBigUInt64LE(size, 96)
  head.writeBigUInt64LE(size, 104)
  head.writeBigUInt64LE(0x1000n, 112)
  return Buffer.concat([head, code])
}

/** mov rax, number; mov each argument; syscall; if negative exit(-result) else exit(0). */
function intelCode(probe: Probe): Buffer {
  const loads = [
    [0x48, 0xbf],
    [0x48, 0xbe],
    [0x48, 0xba],
    [0x49, 0xba],
    [0x49, 0xb8],
    [0x49, 0xb9],
  ]
  const parts = loads.map((opcode, index) => [
    ...opcode,
    ...wide(BigInt.asUintN(64, BigInt(probe.args[index] ?? 0))),
  ])
  return Buffer.from([
    ...parts.flat(),
    ...[0x48, 0xb8, ...wide(BigInt(probe.x64))],
    ...[0x0f, 0x05],
    // xor edi, edi; test rax, rax; jns +5; mov rdi, rax; neg rdi — two instructions of three bytes
    ...[0x31, 0xff, 0x48, 0x85, 0xc0, 0x79, 0x06, 0x48, 0x89, 0xc7, 0x48, 0xf7, 0xdf],
    // mov eax, 231 (exit_group); syscall
    ...[0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05],
  ])
}

function wide(value: bigint): readonly number[] {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return [...bytes]
}

/** The same with movz/movk, svc 0, cmp, cneg. */
function armCode(probe: Probe): Buffer {
  const words: number[] = []
  const load = (register: number, value: bigint) => {
    for (let half = 0; half < 4; half += 1) {
      const bits = Number((value >> BigInt(16 * half)) & 0xffffn)
      words.push(
        ((half === 0 ? 0xd2800000 : 0xf2800000) | (half << 21) | (bits << 5) | register) >>> 0,
      )
    }
  }
  for (let index = 0; index < 6; index += 1) {
    load(index, BigInt.asUintN(64, BigInt(probe.args[index] ?? 0)))
  }
  load(8, BigInt(probe.arm64))
  // svc 0; cmp x0, 0; neg x1, x0; csel x0, x1, xzr, lt
  words.push(0xd4000001, 0xf100001f, 0xcb0003e1, 0x9a9fb020)
  load(8, 94n)
  words.push(0xd4000001)
  const code = Buffer.alloc(words.length * 4)
  words.forEach((word, index) => code.writeUInt32LE(word, index * 4))
  return code
}
