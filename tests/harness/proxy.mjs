// A TCP proxy in front of a host, which breaks connections as a network does.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Proxy {
  #pairs = new Set();
  #held = null;
  #budgets = [];
  // How many connections there were.
  count = 0;

  // To that port of the host; `upstream` may be changed, for connections to come.
  static async start(upstream) {
    const proxy = new Proxy();
    proxy.upstream = upstream;
    proxy.server = createServer((client) => proxy.#accept(client));
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  // The next connections are cut after that many bytes to the client, one number each; later ones are not.
  cutAfter(...bytes) {
    this.#budgets.push(...bytes);
  }

  // Breaks all connections there are; says how many.
  cut() {
    const { size } = this.#pairs;
    for (const pair of this.#pairs) reset(pair);
    return size;
  }

  // The same, and nothing gets through before `body` is done: what it publishes has been missed.
  async cutWhile(body) {
    let release;
    this.#held = new Promise((resolve) => { release = resolve; });
    this.cut();
    await body();
    this.#held = null;
    release();
  }

  async stop() {
    this.cut();
    this.server.close();
    await once(this.server, 'close');
  }

  async #accept(client) {
    this.count++;
    if (this.#held) await this.#held;
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
