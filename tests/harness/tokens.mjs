// A listener of the library's own, where tokens count; and tokens.

import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

const SECRET = '0123456789abcdef0123456789abcdef';

// Options of such a listener, and its port.
export async function listenerWithTokens() {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address();
  free.close();
  await once(free, 'close');
  return { port, options: [`listen=127.0.0.1:${port}`, 'auth=jwt', `jwt_secret=${SECRET}`] };
}

// For so many seconds from now.
export function token(subscribe, seconds) {
  const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
  const claims = { sub: 'ada', exp: Math.floor(Date.now() / 1000) + seconds, push: { subscribe } };
  const text = `${part({ alg: 'HS256' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}
