/** Claims about who is asking, under the names that proxies, identity providers, clouds and meshes use (CWE-290, CWE-348). */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar()
})
after(() => side.stop())

/** The names of those headers that reached the agent. */
async function arrived(names: readonly string[], method = 'GET'): Promise<string[]> {
  side.agent.seen.length = 0
  for (let i = 0; i < names.length; i += 50) {
    const claims = names.slice(i, i + 50).map((name) => `${name}: owner@example.org`)
    const line = `${method} / HTTP/1.1`
    const auth = `Authorization: Bearer ${side.token}`
    const answer = await exchange(side.port, [
      head(line, 'Host: localhost', auth, ...claims, 'Connection: close'),
    ])
    assert.equal(answer.status, 200)
  }
  const seen = side.agent.seen.flatMap(({ rawHeaders }) => rawHeaders)
  return names.filter((name) => seen.includes(name))
}

const words = (text: string) => text.trim().split(/\s+/)

test('no claim about the client reaches the agent, whatever proxy is known to make it', async () => {
  const claims = words(`
    Forwarded X-Forwarded-For X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Prefix
    X-Forwarded-Client-Cert X-Forwarded-Access-Token X-Forward-For X-Real-IP X-RealIP X-Client-IP X-ClientIP
    X-Cluster-Client-IP X-Originating-IP X-Remote-IP X-Remote-Addr X-Remote-User X-Remote-Group X-Proxy-User
    Client-IP Proxy-Client-IP WL-Proxy-Client-IP HTTP-Client-IP True-Client-IP X-ProxyUser-Ip
    Remote-User Remote-Groups Remote-Name Remote-Email X-Authelia-User X-Authentik-Username X-Authentik-Groups
    X-Auth-Request-User X-Auth-Request-Email X-Auth-Request-Groups X-Auth-User X-Auth-Username X-Auth-Userid
    X-Auth-Email X-Auth-Groups X-Auth-Roles X-Auth-Subject X-User X-Username X-User-Id X-User-Email X-User-Name
    X-User-Roles X-User-Groups X-Email X-Userinfo X-WebAuth-User X-Vouch-User X-Vouch-IdP-Claims-Email
    X-Token-User-Email X-Token-User-Roles X-Token-Subject X-Consumer-ID X-Consumer-Username
    X-Consumer-Custom-ID X-Credential-Identifier X-Anonymous-Consumer X-Authenticated-Userid
    X-Authenticated-Groups X-Pomerium-Jwt-Assertion X-Okta-User X-SAML-User X-LDAP-User X-Shib-User Shib-Session-ID
    IV-User IV-Groups IV-Creds SM-User OAM-Remote-User Teleport-Jwt-Assertion Ngrok-Auth-User-Email
    Tailscale-User-Login Tailscale-User-Name X-Tailscale-User X-Replit-User-Id Impersonate-User Impersonate-Group
    Client-Cert Client-Cert-Chain SSL-Client-Cert SSL-Client-S-DN X-SSL-Cert X-SSL-Client-Verify X-Client-Cert
    X-Client-DN X-Client-Verify X-ARR-ClientCert X-Amzn-Mtls-Clientcert-Subject
    CF-Connecting-IP CF-Connecting-IPv6 CF-Access-Jwt-Assertion CF-Access-Authenticated-User-Email CF-IPCountry
    CF-Pseudo-IPv4 CF-Visitor CF-Worker CloudFront-Viewer-Address Fastly-Client-IP Fastly-SSL Fly-Client-IP
    X-Akamai-Edgescape Incap-Client-IP X-Sucuri-ClientIP DO-Connecting-IP X-NF-Client-Connection-IP
    X-Vercel-Forwarded-For X-Azure-ClientIP X-Azure-SocketIP X-Azure-FDID X-MS-Client-Principal
    X-MS-Client-Principal-Name X-MS-Token-AAD-Id-Token X-Amzn-Oidc-Identity X-Amzn-Oidc-Data
    X-Goog-Authenticated-User-Email X-Goog-IAP-JWT-Assertion X-AppEngine-User-Email X-AppEngine-Cron
    X-AppEngine-QueueName X-CloudTasks-QueueName X-Endpoint-API-UserInfo X-Apigateway-Api-Userinfo
    X-Envoy-External-Address X-Envoy-Internal X-Envoy-Original-Path X-Istio-Attributes X-JWT-Payload L5D-Client-Id
    Dapr-Caller-App-Id X-Hardshell-Identity X-OpenClaw-Scopes X-OpenClaw-User`)
  assert.deepEqual(await arrived(claims), [])
  assert.deepEqual(
    await arrived(claims.map((name) => name.toLowerCase())),
    [],
    'in any case of letters',
  )
})

test('no header changes the host, path, scheme or method that was judged, nor an inner setting', async () => {
  const names = words(`
    X-Original-URL X-Original-Host X-Rewrite-URL X-Host X-HTTP-Host-Override X-Backend-Host X-Script-Name X-Scheme
    X-Url-Scheme X-HTTPS Front-End-Https X-HTTP-Method-Override X-HTTP-Method X-Method-Override
    Proxy X-Accel-Mapping X-Sendfile-Type X-Middleware-Subrequest X-Custom-IP-Authorization`)
  assert.deepEqual(await arrived(names, 'POST'), [])
})

test('what applications, webhooks and traces send goes on', async () => {
  const names = words(`
    X-Api-Key X-Auth-Token X-Requested-With X-CSRF-Token X-Client-Version X-Client-Info X-User-Agent X-Custom
    X-Hub-Signature-256 X-Slack-Signature X-Twilio-Signature X-Line-Signature X-Telegram-Bot-Api-Secret-Token
    X-Signature-Ed25519 X-Nextcloud-Talk-Signature X-GitHub-Event X-Goog-Channel-ID X-MS-Conversation-ID
    Traceparent Tracestate X-B3-TraceId X-Amzn-Trace-Id CF-Ray CDN-Loop Accept-Language Prefer Idempotency-Key`)
  assert.deepEqual(await arrived(names), names)
})

test('an expectation of HTTP/1.0 is ignored (RFC 9110 §10.1.1)', async () => {
  const lines = head(
    'POST / HTTP/1.0',
    'Host: localhost',
    `Authorization: Bearer ${side.token}`,
    'Expect: 100-continue',
    'Content-Length: 5',
  )
  const answer = await exchange(side.port, [lines, 100, 'hello'])
  assert.equal(answer.status, 200, 'an HTTP/1.0 client knows no interim answer')
  assert.equal(side.agent.seen.at(-1)?.body.toString(), 'hello')
})
