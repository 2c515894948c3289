/** Every check of the security audit, in the order of the report. A new one is a row in the file of its group. */
import { agentChecks } from './checks-agent.ts'
import { cellChecks } from './checks-cell.ts'
import { credentialChecks } from './checks-credentials.ts'
import { exposureChecks } from './checks-exposure.ts'
import { fileChecks, secretChecks } from './checks-files.ts'
import { limitChecks } from './checks-limits.ts'
import { peopleChecks } from './checks-people.ts'
import {
  auditChecks,
  configurationChecks,
  pluginChecks,
  timeChecks,
  versionChecks,
} from './checks-rest.ts'
import { sandboxChecks } from './checks-sandbox.ts'
import type { Check } from './check.ts'

const judged: readonly Check[] = [
  ...credentialChecks,
  ...exposureChecks,
  ...peopleChecks,
  ...limitChecks,
  ...fileChecks,
  ...secretChecks,
  ...sandboxChecks,
  ...cellChecks,
  ...agentChecks,
  ...pluginChecks,
  ...auditChecks,
  ...versionChecks,
  ...timeChecks,
]

/** What the file checks say of files the loader says too. */
const fileCodes = ['FILE_MODE', 'FILE_LINK', 'FILE_LINKS', 'FILE_OWNER']

const spokenFor = new Set([
  ...judged.flatMap(({ look }) => ('codes' in look ? (look.codes as readonly string[]) : [])),
  ...fileCodes,
])

/** All checks. */
export const checks: readonly Check[] = [...configurationChecks(spokenFor), ...judged]
