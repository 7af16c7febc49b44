// A listener of the library's own that checks tokens, and the tokens.

import { createHmac } from 'node:crypto';
import { freePort } from './free.mjs';

export const SECRET = '0123456789abcdef0123456789abcdef';

// Options of such a listener, and its port.
export async function listenerWithTokens() {
  const port = await freePort();
  return { port, options: [`listen=127.0.0.1:${port}`, 'auth=jwt', `jwt_secret=${SECRET}`] };
}

// A token for this many seconds from now.
export function token(subscribe, seconds, user = 'ada') {
  const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + seconds, push: { subscribe } };
  const text = `${part({ alg: 'HS256' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}
