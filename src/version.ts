/** The version of this build, as package.json has it. */
import { readFileSync } from 'node:fs'

const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')

/** `major.minor.patch`. */
export const version: string = (JSON.parse(text) as { version: string }).version
