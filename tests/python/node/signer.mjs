// Signs and encrypts with jose. One JSON question a line on standard input, one JSON answer a line on standard output.
import { answerLines } from './lines.mjs';
import * as jose from 'jose';

const text = new TextEncoder();
const keys = new Map();

const operations = {
  // A fresh key under a handle: its public members, as jose exports them. A secret is the caller's.
  async generate({ handle, alg, secret }) {
    if (secret !== undefined) {
      keys.set(handle, text.encode(secret));
      return { jwk: await jose.exportJWK(text.encode(secret)) };
    }
    const { publicKey, privateKey } = await jose.generateKeyPair(alg, { crv: alg === 'EdDSA' ? 'Ed25519' : undefined });
    keys.set(handle, privateKey);
    return { jwk: await jose.exportJWK(publicKey), pem: await jose.exportSPKI(publicKey) };
  },

  async sign({ handle, header, claims }) {
    return new jose.SignJWT(claims).setProtectedHeader(header).sign(keys.get(handle));
  },

  // Signs any bytes; `b64: false` and extensions are the caller's choice.
  async signBytes({ handle, header, payload, crit }) {
    const signer = new jose.CompactSign(text.encode(payload)).setProtectedHeader(header);
    return signer.sign(keys.get(handle), { crit });
  },

  // A JWE for whoever holds the private half of a public key.
  async encrypt({ jwk, header, payload }) {
    const key = await jose.importJWK(jwk, header.alg);
    return new jose.CompactEncrypt(text.encode(payload)).setProtectedHeader(header).encrypt(key);
  },
};

await answerLines(operations);
