/** Bounds of the roads on which a bot calls out: each with its reason. */
import { KiB, MiB, minutes, seconds, type Limit } from '../limits.ts'

/** Bounds of the stand-in for a service's API. */
export const pollLimits = {
  connections: {
    default: 64,
    min: 4,
    max: 1024,
    why: 'One bot: a poll, a few calls and uploads at once.',
  },
  headerBytes: { default: KiB(16), min: KiB(1), max: KiB(32), why: 'A bot sends a few headers.' },
  headerTimeMs: {
    default: seconds(10),
    min: seconds(1),
    max: minutes(1),
    why: 'The bot is on this machine.',
  },
  requestTimeMs: {
    default: minutes(5),
    min: seconds(10),
    max: minutes(30),
    why: 'An upload of 50 MB over a slow disk.',
  },
  askBytes: {
    default: KiB(64),
    min: KiB(1),
    max: MiB(1),
    why: 'getUpdates has four parameters; the body is held whole.',
  },
  uploadBytes: {
    default: MiB(64),
    min: MiB(1),
    max: MiB(2048),
    why: 'The Bot API takes files up to 50 MB.',
  },
  answerBytes: {
    default: MiB(16),
    min: MiB(1),
    max: MiB(64),
    why: 'A hundred updates are read whole before one of them goes on.',
  },
  fileBytes: {
    default: MiB(64),
    min: MiB(1),
    max: MiB(2048),
    why: 'The Bot API serves files up to 20 MB.',
  },
  pollSeconds: { default: 50, min: 1, max: 50, why: 'The longest poll that the Bot API holds.' },
  answerTimeMs: {
    default: minutes(1),
    min: seconds(5),
    max: minutes(10),
    why: 'A service that says nothing for this long, beside the poll itself, is away.',
  },
  roundsLate: {
    default: 5,
    min: 1,
    max: 100,
    why: 'Withheld batches that are still confirmed once the time of a poll is over.',
  },
  eventBytes: {
    default: MiB(1),
    min: KiB(16),
    max: MiB(16),
    why: 'A Signal message has at most 64 KiB of text; attachments are fetched apart.',
  },
  streamSilenceMs: {
    default: minutes(2),
    min: seconds(30),
    max: minutes(60),
    why: 'signal-cli gives a sign of life every 15 s; a stream without one, or one that its bot does not read, is dead.',
  },
  rpcBytes: {
    default: MiB(32),
    min: KiB(64),
    max: MiB(256),
    why: 'A call is read whole before it goes on; attachments may stand in it as data URIs.',
  },
  rpcHeldBytes: {
    default: MiB(128),
    min: MiB(32),
    max: MiB(1024),
    why: 'All calls that are held at once.',
  },
  rpcAnswerBytes: {
    default: MiB(160),
    min: MiB(1),
    max: MiB(1024),
    why: 'An attachment of 100 MB in base64.',
  },
  refusalsPerMinute: {
    default: 60,
    min: 1,
    max: 10_000,
    why: 'Refused calls that are recorded; a bot in a loop must not fill the disk.',
  },
} as const satisfies Record<string, Limit>
