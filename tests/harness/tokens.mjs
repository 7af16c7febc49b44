// A listener of the library's own that checks tokens, and the tokens.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { freePort } from './free.mjs';

export const SECRET = '0123456789abcdef0123456789abcdef';

// Options of such a listener, and its port.
export async function listenerWithTokens() {
  const port = await freePort();
  return { port, options: [`listen=127.0.0.1:${port}`, 'auth=jwt', `jwt_secret=${SECRET}`] };
}

// Tries something with tokens that are good for so many seconds, until a try had that time. On a slow machine a token may
// end before the client is connected with it. Then the next try gets more time. `attempt` gets the number for `token`: the
// server allows for clocks that differ by five seconds.
export async function soon(attempt) {
  const [LEEWAY, TIMES] = [5, [3, 8, 20, 40]];
  for (const seconds of TIMES) {
    try {
      return await attempt(seconds - LEEWAY);
    } catch (error) {
      if (!(error instanceof assert.AssertionError) || seconds === TIMES.at(-1)) throw error;
    }
  }
}

// A token for this many seconds from now. `info` is what others are told of the user.
export function token(subscribe, seconds, user = 'ada', info = undefined) {
  const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + seconds, push: { subscribe, info } };
  const text = `${part({ alg: 'HS256' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}
