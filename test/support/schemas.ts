/** What a JSON Schema says of our machine-readable output, by a validator that knows nothing of us. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Ajv, type AnySchemaObject, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import { reportSchema } from '../../src/posture/schema.ts'

type Tree = Readonly<Record<string, unknown>>

const isTree = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Every object of a document. */
function objectsIn(value: unknown): readonly Tree[] {
  if (Array.isArray(value)) return value.flatMap(objectsIn)
  return isTree(value) ? [value, ...Object.values(value).flatMap(objectsIn)] : []
}

/** SARIF's schema is not of Ajv's strict dialect: enumerations without a type, and a pattern that is none for Unicode. */
function compile(schema: AnySchemaObject, strict: boolean): ValidateFunction {
  const ajv = new Ajv({ allErrors: true, strict, unicodeRegExp: strict })
  formats.default(ajv)
  return ajv.compile(schema)
}

/** Draft 4 as Draft 7, which reads it alike where none of these words stands. */
function draft7(schema: Tree): Tree {
  const { $schema, id: _, ...rest } = schema
  assert.equal($schema, 'http://json-schema.org/draft-04/schema#')
  for (const words of objectsIn(rest)) {
    for (const word of [
      'exclusiveMinimum',
      'exclusiveMaximum',
      'dependencies',
      '$id',
      'const',
      'if',
    ]) {
      assert.ok(!(word in words), `the schema has ${word}`)
    }
  }
  return rest
}

/** The schema without the word that its editions do not agree on; see test/fixtures/sarif/README.md. */
function everyEdition(schema: Tree): Tree {
  const copy = structuredClone(schema) as {
    definitions: { suppression: { properties: Record<string, unknown> } }
  }
  assert.ok(delete copy.definitions.suppression.properties['status'])
  return copy
}

/** Objects that are described may have no other member: so the description is complete. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (!isTree(schema)) return schema
  const below = Object.entries(schema).map(([name, value]) => [name, closed(value)] as const)
  return {
    ...Object.fromEntries(below),
    ...(isTree(schema['properties']) ? { additionalProperties: false } : {}),
  }
}

const file = new URL('../fixtures/sarif/sarif-schema-2.1.0.json', import.meta.url)
const sarif = compile(everyEdition(draft7(JSON.parse(readFileSync(file, 'utf8')) as Tree)), false)
const report = compile(closed(reportSchema) as AnySchemaObject, true)

function faultsBy(validate: ValidateFunction, value: unknown): readonly string[] {
  if (validate(value)) return []
  return (validate.errors ?? []).map(
    ({ instancePath, message = '', params }) =>
      `${instancePath} ${message} ${JSON.stringify(params)}`,
  )
}

/** What is wrong with a SARIF log, by the schema of the standard; empty when it is valid. */
export const sarifFaults = (log: unknown): readonly string[] => faultsBy(sarif, log)

/** What is wrong with the output of `security audit --json`, by docs/security-audit.schema.json with nothing unnamed. */
export const reportFaults = (value: unknown): readonly string[] => faultsBy(report, value)
