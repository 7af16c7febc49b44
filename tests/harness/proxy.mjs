// A TCP proxy in front of a host, which breaks connections as a network does.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { Gate } from './gate.mjs';

export class Proxy {
  #pairs = new Set();
  #gate = new Gate();
  #budgets = [];
  // How many connections there were.
  count = 0;

  // It connects to this port of the host. `upstream` may be changed for later connections.
  static async start(upstream) {
    const proxy = new Proxy();
    proxy.upstream = upstream;
    proxy.server = createServer((client) => proxy.#accept(client));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  // The next connections are cut after this many bytes to the client, one number each. Later ones are not.
  cutAfter(...bytes) {
    this.#budgets.push(...bytes);
  }

  // Breaks all connections, and returns how many.
  cut() {
    const { size } = this.#pairs;
    for (const pair of this.#pairs) reset(pair);
    return size;
  }

  // The same, and nothing gets through before `body` is done. So clients miss the messages that it publishes.
  async cutWhile(body) {
    await this.#gate.cutWhile(() => this.cut(), body);
  }

  async stop() {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  async #accept(client) {
    this.count++;
    // It may go while the gate is shut.
    client.on('error', () => {});
    await this.#gate.passed();
    if (client.destroyed) return;
    const host = connect(this.upstream, '127.0.0.1');
    const pair = [client, host];
    this.#pairs.add(pair);
    let budget = this.#budgets.shift() ?? Infinity;
    for (const [socket, other] of [pair, [host, client]]) {
      socket.setNoDelay();
      socket.on('error', () => reset(pair));
      socket.on('close', () => {
        this.#pairs.delete(pair);
        other.end();
      });
    }
    client.on('data', (data) => host.write(data));
    host.on('data', (data) => {
      if (data.length < budget) {
        budget -= data.length;
        client.write(data);
      } else {
        client.write(data.subarray(0, budget), () => reset(pair));
        budget = 0;
      }
    });
  }
}

function reset(pair) {
  for (const socket of pair) socket.destroy();
}
