/** Checks of who can reach Hardshell at all. */
import { isLoopback } from '../config/rules.ts'
import { parseNetwork } from '../identity/address.ts'
import { inGroup, ofConfig, ofMeasured, ofProblems, when, type Check } from './check.ts'

const loopback = 'Set gateway.bind to "127.0.0.1" and use a tunnel such as "tailscale serve".'
const isAll = (bind: string) => /^(0\.0\.0\.0|::|0*(:0*)+)$/.test(bind) && !isLoopback(bind)

/** Networks wider than one office: more than 256 addresses of IPv4, more than one /64 of IPv6. */
function isWide(text: string): boolean {
  const network = parseNetwork(text)
  if (network === undefined) return false
  return network.text.includes(':') ? network.bits < 64 : network.bits < 24
}

/** Binding, hops, origins, Tailscale, deprecated flags, and with `--deep` what really answers. */
export const exposureChecks: readonly Check[] = inGroup('exposure', [
  {
    id: 'exposure.all-interfaces',
    severity: 'CRITICAL',
    title: 'Hardshell does not listen on every network of the machine',
    remedy: loopback,
    look: ofConfig(({ gateway: { bind } }) =>
      when(isAll(bind), `gateway.bind is "${bind}", every network of this machine`),
    ),
  },
  {
    id: 'exposure.network',
    severity: 'HIGH',
    title: 'Hardshell listens on loopback only',
    remedy: loopback,
    look: ofConfig(({ gateway: { bind } }) =>
      when(
        !isAll(bind) && !isLoopback(bind) && bind !== 'container',
        `gateway.bind is "${bind}", which the network reaches over plain HTTP`,
      ),
    ),
  },
  {
    id: 'exposure.bind-refused',
    severity: 'HIGH',
    title: 'The bind address is one that can be used here',
    remedy: loopback,
    look: ofProblems('BIND_ALL', 'BIND_CONTAINER', 'LOOP'),
  },
  {
    id: 'exposure.bind-all-unused',
    severity: 'LOW',
    title: 'dangerouslyBindAllInterfaces is not set without need',
    remedy: 'Remove gateway.dangerouslyBindAllInterfaces.',
    look: ofConfig(({ gateway: { bind, dangerouslyBindAllInterfaces: all } }) =>
      when(all && !isAll(bind), 'gateway.dangerouslyBindAllInterfaces is true without need'),
    ),
  },
  {
    id: 'exposure.insecure-auth',
    severity: 'CRITICAL',
    title: 'controlUi.allowInsecureAuth is not set',
    remedy: 'Remove gateway.controlUi.allowInsecureAuth; it is never honoured.',
    look: ofConfig(({ gateway: { controlUi } }) =>
      when(controlUi.allowInsecureAuth === true, 'gateway.controlUi.allowInsecureAuth is true'),
    ),
  },
  {
    id: 'exposure.device-auth-off',
    severity: 'CRITICAL',
    title: 'controlUi.dangerouslyDisableDeviceAuth is not set',
    remedy: 'Remove gateway.controlUi.dangerouslyDisableDeviceAuth; it is never honoured.',
    look: ofConfig(({ gateway: { controlUi } }) =>
      when(
        controlUi.dangerouslyDisableDeviceAuth === true,
        'gateway.controlUi.dangerouslyDisableDeviceAuth is true',
      ),
    ),
  },
  {
    id: 'exposure.control-ui-deprecated',
    severity: 'INFO',
    title: 'No deprecated key is left in the configuration',
    remedy: 'Remove gateway.controlUi.',
    look: ofConfig(({ gateway: { controlUi } }) =>
      when(Object.values(controlUi).includes(false), 'gateway.controlUi has a deprecated key'),
    ),
  },
  {
    id: 'exposure.hops-wide',
    severity: 'MEDIUM',
    title: 'Trusted hops are single machines or small networks',
    remedy: 'Name the hop itself in gateway.trustedProxies, like "127.0.0.1".',
    look: ofConfig(({ gateway }) =>
      gateway.trustedProxies
        .filter(isWide)
        .map((hop) => ({ found: `gateway.trustedProxies believes everyone in ${hop}` })),
    ),
  },
  {
    id: 'exposure.funnel-allowed',
    severity: 'HIGH',
    title: 'Tailscale Funnel, the internet, is not let in',
    remedy: 'Remove gateway.auth.tailscale.allowFunnel.',
    look: ofConfig(({ gateway: { auth } }) =>
      when(auth.tailscale.allowFunnel, 'gateway.auth.tailscale.allowFunnel is true'),
    ),
  },
  {
    id: 'exposure.origin-plain',
    severity: 'MEDIUM',
    title: 'Public origins use https',
    remedy: 'Name the https origin in gateway.publicOrigins.',
    look: ofConfig(({ gateway }) =>
      gateway.publicOrigins
        .filter((origin) => origin.startsWith('http://'))
        .filter((origin) => {
          const host = URL.parse(origin)?.hostname.replace(/^\[|\]$/g, '') ?? ''
          return host !== 'localhost' && !isLoopback(host)
        })
        .map((origin) => ({ found: `gateway.publicOrigins has ${origin}, without TLS` })),
    ),
  },
  {
    id: 'exposure.port-elsewhere',
    severity: 'HIGH',
    title: 'Our port listens where the configuration says, and nowhere else',
    remedy: 'Find who listens with "ss -ltnp", and restart with "hardshell serve".',
    look: ofMeasured(
      ({ listening }) => listening,
      (listening, { config, running }) => {
        const port = Number(URL.parse(running?.url ?? '')?.port ?? config?.gateway.port ?? 0)
        const bind = config?.gateway.bind ?? '127.0.0.1'
        if (running === undefined) return { unmeasured: 'Hardshell is not running' }
        return listening
          .filter((one) => one.port === port && one.address !== bind && !isLoopback(one.address))
          .map(({ address }) => ({ found: `port ${port} also listens on ${address}` }))
      },
    ),
  },
  {
    id: 'exposure.answers-without-token',
    severity: 'CRITICAL',
    title: 'A request without a token is refused (--deep)',
    remedy: 'Another program may hold the port: see "ss -ltnp".',
    look: ofMeasured(
      ({ probes }) => probes,
      ({ withoutToken: status }) =>
        status === 0
          ? { unmeasured: 'nothing answered' }
          : when(status !== 401, `a request without a token is answered with ${status}, not 401`),
    ),
  },
  {
    id: 'exposure.answers-wrong-token',
    severity: 'CRITICAL',
    title: 'A request with a wrong token is refused (--deep)',
    remedy: 'Another program may hold the port: see "ss -ltnp".',
    look: ofMeasured(
      ({ probes }) => probes,
      ({ wrongToken: status }) =>
        status === 0
          ? { unmeasured: 'nothing answered' }
          : when(
              status !== 401 && status !== 429,
              `a request with a wrong token is answered with ${status}, not 401`,
            ),
    ),
  },
  {
    id: 'exposure.answers-foreign-host',
    severity: 'HIGH',
    title: 'A request for a foreign Host is refused (--deep)',
    remedy: 'Another program may hold the port: see "ss -ltnp".',
    look: ofMeasured(
      ({ probes }) => probes,
      ({ foreignHost: status }) =>
        status === 0
          ? { unmeasured: 'nothing answered' }
          : when(status < 400, `a request for a foreign Host is answered with ${status}`),
    ),
  },
  {
    id: 'exposure.funnel-on',
    severity: 'HIGH',
    title: 'Tailscale Funnel is off on this machine (--deep)',
    remedy: 'Run: tailscale funnel reset',
    look: ofMeasured(
      ({ probes }) => ('value' in probes ? probes.value.funnel : probes),
      (on) => when(on, 'Tailscale Funnel publishes a port of this machine to the internet'),
    ),
  },
])
