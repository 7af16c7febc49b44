// A port that is free at this moment, for a server that starts later or again.
//
// It is not one of the ports that the system gives to clients. Otherwise some client could have it before the server
// does, and a client that looks for the server while it is away could meet itself.
// TEST_PORTS=FIRST-LAST chooses others.

import { once } from 'node:events';
import { createServer } from 'node:net';

const [first, last] = (process.env.TEST_PORTS ?? '10000-31999').split('-').map(Number);
// The last ports that were given: their servers may not have started yet.
const given = [];

export async function freePort() {
  for (;;) {
    const port = first + Math.floor(Math.random() * (last - first + 1));
    if (given.includes(port)) continue;
    const server = createServer().listen(port, '127.0.0.1');
    const free = await once(server, 'listening').then(() => true, () => false);
    if (!free) continue;
    server.close();
    await once(server, 'close');
    given.push(port);
    given.splice(0, given.length - 100);
    return port;
  }
}
