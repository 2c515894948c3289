/** Our own pages: plain HTML that works without a script, under a policy that allows nothing else. */
import { hash } from 'node:crypto'

/** Where the form goes. */
export const loginPath = '/.hardshell/login'
/** Where a session ends. */
export const logoutPath = '/.hardshell/logout'

/** A page and the headers that belong to it, flat. */
export interface Page {
  readonly html: string
  readonly headers: readonly string[]
}

const style = `
:root { color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif }
body { margin: 0; min-height: 100vh; display: grid; place-items: center }
main { width: min(22rem, 100vw - 2rem) }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, button { margin-top: .25rem; padding: .5rem; border: 1px solid GrayText; border-radius: .25rem }
button { margin-top: 1rem }
[role="alert"] { padding: .5rem; border-left: .25rem solid #c00 }
`

/**
 * Nothing is loaded, nothing runs, the form goes to us alone, and no page may frame this one. `same-origin` and not
 * `no-referrer`: with the latter a browser sends `Origin: null` with the form, which the origin gate refuses.
 */
const headers: readonly string[] = [
  'Content-Security-Policy',
  [
    "default-src 'none'",
    `style-src 'sha256-${hash('sha256', style, 'base64')}'`,
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'X-Frame-Options',
  'DENY',
  'Referrer-Policy',
  'same-origin',
  'Cross-Origin-Opener-Policy',
  'same-origin',
  'Cross-Origin-Resource-Policy',
  'same-origin',
]

/** The login form. `next` is where the browser goes afterwards; `error` is a sentence of ours. */
export function loginPage(next: string, error?: string): Page {
  const [alert, described] =
    error === undefined
      ? ['', '']
      : [`<p role="alert" id="error">${escape(error)}</p>\n`, ' aria-describedby="error"']
  return page(
    'Log in',
    `${alert}<form method="post" action="${loginPath}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required autofocus${described}>
<input name="next" type="hidden" value="${escape(next)}">
<button>Log in</button>
</form>`,
  )
}

/** The question before a session ends: a link alone must not end it. */
export function logoutPage(): Page {
  return page(
    'Log out',
    `<form method="post" action="${logoutPath}">\n<button>Log out</button>\n</form>`,
  )
}

function page(title: string, body: string): Page {
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} – Hardshell</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${body}
</main>
</body>
</html>
`
  return { html, headers }
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? '')
}

/** Longest path that a login leads back to: form, password and all stay under 4 KiB. */
const nextCharsMax = 1000

/**
 * The path that a login leads to: a path of this very host, or `/` for anything else (CWE-601). A browser reads `//x`
 * and `/\x` as another host, and drops tabs and line feeds before it looks.
 */
export function localPath(next: string): string {
  const local =
    next.length <= nextCharsMax &&
    /^\/(?!\/)[\x21-\x7e]*$/.test(next) &&
    !next.includes('\\') &&
    !next.startsWith('/.hardshell/')
  return local ? next : '/'
}

/** True for a browser that goes to a page, not for its scripts, its images or other programs (Fetch Metadata). */
export function isNavigation(headersOf: {
  readonly method: string
  readonly headers: readonly string[]
}): boolean {
  if (headersOf.method !== 'GET') return false
  const mode = valueOf(headersOf.headers, 'sec-fetch-mode') ?? 'navigate'
  const dest = valueOf(headersOf.headers, 'sec-fetch-dest') ?? 'document'
  return mode === 'navigate' && dest === 'document' && prefersHtml(headersOf.headers)
}

/** True when `Accept` names HTML and wants it at least as much as JSON (RFC 9110 §12.5.1); `*` names nothing. */
export function prefersHtml(flat: readonly string[]): boolean {
  const wanted = { html: 0, json: 0 }
  for (const range of (valueOf(flat, 'accept') ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    const given = parameters.find((parameter) => parameter.startsWith('q='))
    const quality = given === undefined ? 1 : Number(given.slice(2))
    if (type === 'text/html') wanted.html = quality
    if (/^application\/(?:problem\+)?json$/.test(type)) wanted.json = Math.max(wanted.json, quality)
  }
  return wanted.html > 0 && wanted.html >= wanted.json
}

/** A header of a flat list by its name in lower case; lines of the same name are one list. */
function valueOf(flat: readonly string[], name: string): string | undefined {
  let found: string | undefined
  for (let i = 0; i + 1 < flat.length; i += 2) {
    if (flat[i]?.toLowerCase() !== name) continue
    found = found === undefined ? flat[i + 1] : `${found}, ${flat[i + 1]}`
  }
  return found
}
