/** Tokens by another library than the one that our own tests sign with, so that both agree on the standards. */
import { SignJWT, type JWTPayload } from 'jose'

import type { Jwk, TestKey } from './issuer.ts'

/** A compact JWS over these claims. */
export function sign({ alg, kid, privateKey }: TestKey, claims: Jwk): Promise<string> {
  return new SignJWT(claims as JWTPayload).setProtectedHeader({ alg, kid }).sign(privateKey)
}
