/** The table of settings as JSON Schema (draft 2020-12), for editors. */
import type { JsonSchema } from './readers.ts'
import type { Row } from './row.ts'
import { isAvailable, tree } from './tree.ts'
import type { Node } from './tree.ts'

const withVariable = { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' }
const secretFile = {
  type: 'object',
  properties: { file: { type: 'string', minLength: 1 } },
  required: ['file'],
  additionalProperties: false,
}

/** What "config set" writes; nobody types it. */
const sealed = {
  type: 'object',
  properties: {
    encrypted: { type: 'string', pattern: String.raw`^[\w-]+\.\.[\w-]+\.[\w-]*\.[\w-]+$` },
  },
  required: ['encrypted'],
  additionalProperties: false,
}

/** A fragment that also lets `${VAR}` stand where its strings stand. */
function open(schema: JsonSchema, secret: boolean): JsonSchema {
  if (schema['type'] === 'array') {
    return { ...schema, items: open(schema['items'] as JsonSchema, secret) }
  }
  if (schema['type'] === 'object') {
    const values = schema['additionalProperties'] as JsonSchema
    return { ...schema, additionalProperties: open(values, secret) }
  }
  const forms = [schema, ...(isConstrained(schema) ? [withVariable] : [])]
  const all = secret ? [...forms, secretFile, sealed] : forms
  return all.length === 1 ? schema : { anyOf: all }
}

function isConstrained(schema: JsonSchema): boolean {
  return schema['type'] === 'string' && ('pattern' in schema || 'enum' in schema)
}

/** Leaves out the words whose capability comes later. */
function available(row: Row<unknown>): JsonSchema {
  const { schema } = row.reader
  const words = schema['enum']
  if (!Array.isArray(words)) return schema
  return { ...schema, enum: words.filter((word) => row.since?.needs?.(word) !== true) }
}

function leaf(row: Row<unknown>): JsonSchema {
  if (!isAvailable(row)) {
    return { description: `${row.doc} Not available in this version.`, not: {} }
  }
  const fallback = row.default === undefined ? {} : { default: row.reader.write(row.default) }
  return { description: row.doc, ...fallback, ...open(available(row), row.secret ?? false) }
}

function schemaOf(node: Node): JsonSchema {
  if (node.row !== undefined) return leaf(node.row)
  const properties = Object.fromEntries(
    [...node.children].map(([name, child]) => [name, schemaOf(child)]),
  )
  const others = node.wildcard === undefined ? false : schemaOf(node.wildcard)
  return { type: 'object', properties, additionalProperties: others }
}

/** The JSON Schema of a configuration file. */
export function jsonSchema(): JsonSchema {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Hardshell configuration',
    ...schemaOf(tree),
  }
}
