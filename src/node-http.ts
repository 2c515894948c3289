/**
 * What we use of node:http. An ES import of the module itself reads every export of it, also the getters of its
 * WebSocket classes, and so loads Node's own copy of undici: a tenth of start-up for nothing.
 */
const http = process.getBuiltinModule('node:http')

/** Makes a server (node:http). */
export const createServer = http.createServer
/** Makes a request (node:http). */
export const request = http.request
/** The standard sentence of each status code (RFC 9110 §15). */
export const STATUS_CODES = http.STATUS_CODES
