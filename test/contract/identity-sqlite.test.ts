import { openSqlite } from '../../src/store/sqlite.ts'
import { crashContract } from './rotation-crash.ts'
import { rotationContract } from './rotation.ts'
import { tokenContract } from './tokens.ts'

const open = (now: () => number) => openSqlite(':memory:', { now })

tokenContract('tokens on sqlite', open)
rotationContract('rotation on sqlite', open)
crashContract('a broken rotation on sqlite', open)
