import { AppService } from 'matrix-appservice'
import { heard, tell } from './tell.mjs'

const service = new AppService({ homeserverToken: process.env.HS_TOKEN })
service.on('type:m.room.message', ({ content, sender }) => heard(content.body, sender))
await service.listen(0, '127.0.0.1', 10)
tell('READY', service.server?.address()?.port ?? service.httpServer?.address()?.port)
