// Starts the legacy server as a user would, publishes to it, and ends it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test as boundless } from 'node:test';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../target/examples-c/legacy-server', import.meta.url));

// A test with its own bound of time, so that a test that hangs is named and the others still run. The bound is long, as
// the machine may be busy.
export function test(name, body) {
  return boundless(name, { timeout: 240_000 }, body);
}

export class Host {
  // `options` are options of the library, as NAME=VALUE.
  static async start(...options) {
    const host = new Host();
    host.process = spawn(PROGRAM, ['-p', '0', ...options.flatMap((option) => ['-o', option])]);
    host.ended = once(host.process, 'exit');
    host.stderr = '';
    host.process.stderr.on('data', (data) => { host.stderr += data; });
    const lines = createInterface(host.process.stdout);
    const [line] = await Promise.race([once(lines, 'line'), host.ended]);
    const address = /^listening on http:\/\/127\.0\.0\.1:(\d+)\/$/.exec(line);
    if (!address) throw new Error(`the host ended with ${line}: ${host.stderr}`);
    host.port = Number(address[1]);
    return host;
  }

  url(path = '/', scheme = 'http') {
    return `${scheme}://127.0.0.1:${this.port}${path}`;
  }

  // Returns the message's position.
  publish(channel, data, event) {
    const query = new URLSearchParams({ channel, ...(event && { event }) });
    return this.#post(`/publish?${query}`, data);
  }

  broadcast(data) {
    return this.#post('/broadcast', data);
  }

  async stats() {
    const response = await fetch(this.url('/stats'));
    return response.json();
  }

  async waitFor(name, least) {
    while ((await this.stats())[name] < least) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  // Waits until all gauges have these values. A client that changes its transport may be counted twice meanwhile.
  async waitForAll(wanted) {
    const are = (stats) => Object.entries(wanted).every(([name, value]) => stats[name] === value);
    while (!are(await this.stats())) await new Promise((resolve) => setTimeout(resolve, 10));
  }

  // It must end well, and without output.
  async stop() {
    this.process.kill('SIGTERM');
    const [code] = await this.ended;
    assert.deepEqual([code, this.stderr], [0, '']);
  }

  async #post(path, body) {
    const response = await fetch(this.url(path), { method: 'POST', body });
    assert.equal(response.status, 200);
    return (await response.json()).id;
  }
}

// A queue of everything that comes. next() waits.
export class Inbox {
  #items = [];
  #waiting = [];

  put(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => { this.#waiting.push(resolve); });
  }

  async take(count) {
    const items = [];
    while (items.length < count) items.push(await this.next());
    return items;
  }
}
