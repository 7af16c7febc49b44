// A port that is free at this moment, for a server that starts later or again.
//
// It is not one of the ports that the system gives to clients. Otherwise some client could have it before the server
// does, and a client that looks for the server while it is away could meet itself.

import { once } from 'node:events';
import { createServer } from 'node:net';

export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(() => true, () => false);
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
