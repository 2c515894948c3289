import { createServer } from 'node:http'
import botbuilder from 'botbuilder'
import { heard, listening, tell } from './tell.mjs'

const { CloudAdapter, ConfigurationBotFrameworkAuthentication, TeamsActivityHandler } = botbuilder
const { APP_ID, TENANT_ID, KEYS_ROOT } = process.env
const metadata = `${KEYS_ROOT}/v1/.well-known/openidconfiguration`
const adapter = new CloudAdapter(
  new ConfigurationBotFrameworkAuthentication({
    MicrosoftAppId: APP_ID,
    MicrosoftAppPassword: 'unused',
    MicrosoftAppTenantId: TENANT_ID,
    MicrosoftAppType: 'SingleTenant',
    ToBotFromChannelOpenIdMetadataUrl: metadata,
    ToBotFromEmulatorOpenIdMetadataUrl: metadata,
    ToBotFromChannelTokenIssuer: 'https://api.botframework.com',
    OAuthUrl: 'https://token.botframework.com',
    ToChannelFromBotLoginUrl: `https://login.microsoftonline.com/${TENANT_ID}`,
    ToChannelFromBotOAuthScope: 'https://api.botframework.com',
    CallerId: '',
    ValidateAuthority: 'true',
  }),
)
adapter.onTurnError = (_context, error) => tell('FAILED', String(error))
class Guarded extends TeamsActivityHandler {
  constructor() {
    super()
    this.onMessage(async ({ activity }, next) => {
      heard(activity.text, activity.from.aadObjectId)
      await next()
    })
  }
}
const bot = new Guarded()
const server = createServer(async (req, res) => {
  const parts = []
  for await (const part of req) parts.push(part)
  const body = JSON.parse(Buffer.concat(parts).toString())
  const request = { body, headers: req.headers, method: req.method }
  const response = {
    socket: res.socket,
    header: (name, value) => res.setHeader(name, value),
    status: (status) => (res.statusCode = status),
    send: (sent) => res.write(typeof sent === 'string' ? sent : JSON.stringify(sent ?? '')),
    end: () => res.end(),
  }
  try {
    await adapter.process(request, response, (context) => bot.run(context))
  } catch (thrown) {
    tell('FAILED', String(thrown))
    if (!res.writableEnded) res.writeHead(401).end()
  }
})
server.listen(0, '127.0.0.1')
await listening(server)
