// A pushd with the console, its clients, and the console in Chromium.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { freePort } from '../harness/free.mjs';
import { SECRET, token } from '../harness/tokens.mjs';
import { MS } from './demo.mjs';

export const KEY = 'a-key-of-some-length';
const PROGRAM = process.env.PUSHD ?? fileURLToPath(new URL('../../target/release/pushd', import.meta.url));
export const VIEWS = ['overview', 'connections', 'channels', 'users', 'hosts', 'health', 'tail', 'publish'];

// A hub with tokens, so that clients have users.
export class Hub {
  static async start(...options) {
    const hub = new Hub();
    hub.options = options;
    [hub.port, hub.control] = [await freePort(), await freePort()];
    await hub.run();
    return hub;
  }

  // Something else may have the port for a moment while the hub is away.
  async run() {
    for (const until = Date.now() + MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      try {
        return await this.#start();
      } catch (error) {
        if (!this.log.includes('Address already in use') || Date.now() > until) throw error;
      }
    }
  }

  async #start() {
    const options = [
      `listen=127.0.0.1:${this.port}`, `control=127.0.0.1:${this.control}`, `control_key=${KEY}`, 'console=true',
      'auth=jwt', `jwt_secret=${SECRET}`, 'heartbeat=10m', 'log_level=debug', ...this.options,
    ];
    this.process = spawn(PROGRAM, options.flatMap((option) => ['-o', option]), { stdio: ['ignore', 'ignore', 'pipe'] });
    this.ended = once(this.process, 'exit');
    this.log = '';
    const lines = createInterface(this.process.stderr);
    lines.on('line', (line) => { this.log += `${line}\n`; });
    while (!this.log.includes(`listening on 127.0.0.1:${this.control}`)) {
      const line = await Promise.race([once(lines, 'line'), this.ended.then(() => null)]);
      if (!line) throw new Error(`pushd ended: ${this.log}`);
    }
  }

  // The key must never be in the log.
  async stop() {
    this.process.kill('SIGTERM');
    await this.ended;
    assert.ok(!this.log.includes(KEY), this.log);
  }

  url(path = '/console') {
    return `http://127.0.0.1:${this.control}${path}`;
  }

  async ask(method, path, body) {
    const response = await fetch(this.url(path), { method, body, headers: { Authorization: `Bearer ${KEY}` } });
    assert.ok(response.ok, `${path}: ${response.status}`);
    return response.json();
  }

  publish(channel, data, event) {
    return this.ask('POST', `/v1/publish?${new URLSearchParams({ channel, ...(event && { event }) })}`, data);
  }

  // Waits for an answer. A hub may say that no hub has answered it in time.
  async until(path, fits) {
    for (;;) {
      const response = await fetch(this.url(path), { headers: { Authorization: `Bearer ${KEY}` } });
      assert.ok(response.ok || response.status === 503, `${path}: ${response.status}`);
      const answer = await response.json();
      if (response.ok && fits(answer)) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // Waits for a line of the log.
  async logs(pattern) {
    while (!pattern.test(this.log)) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  // A WebSocket of a user. `closed` resolves to its close code and reason.
  async subscribe(user, ...channels) {
    const query = new URLSearchParams([...channels.map((channel) => ['channel', channel]), ['token', token(channels, 3600, user)]]);
    const socket = new WebSocket(`ws://127.0.0.1:${this.port}/push?${query}`);
    await once(socket, 'open');
    socket.closed = once(socket, 'close').then(([code, reason]) => [code, String(reason)]);
    return socket;
  }

  // A client that reads the head of its stream, and nothing more.
  async subscribeLazily(user, ...channels) {
    const query = new URLSearchParams([...channels.map((channel) => ['channel', channel]), ['token', token(channels, 3600, user)]]);
    const socket = net.connect(this.port, '127.0.0.1');
    socket.write(`GET /push?${query}&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await once(socket, 'readable');
    socket.on('error', () => {});
    return socket;
  }
}

// The console in a page. At its end nothing may have gone wrong: no exception, no violation of the policy, no request
// to another origin, and the key in no address.
export class Console {
  exceptions = [];
  violations = [];
  addresses = [];
  // Requests that got no answer, for tests that wait in vain.
  lost = [];

  static async open(browser, open, hub, { at = hub.control, login = true, width = 1280, height = 800, init = () => {}, ...options } = {}) {
    const console = new Console();
    console.context = await browser.newContext({ viewport: { width, height }, reducedMotion: 'reduce', ...options });
    console.context.setDefaultTimeout(MS);
    console.page = await console.context.newPage();
    console.origin = `http://127.0.0.1:${at}`;
    const { page } = console;
    page.on('pageerror', (error) => console.exceptions.push(error.stack));
    page.on('request', (request) => console.addresses.push(request.url()));
    page.on('requestfailed', (request) => console.lost.push(`${request.method()} ${request.url()}: ${request.failure()?.errorText}`));
    await page.exposeFunction('violated', (what) => console.violations.push(what));
    await page.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => window.violated(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
    });
    // Notes go after six seconds, and a busy machine may not have looked at them by then.
    await page.addInitScript(() => {
      const { setTimeout } = window;
      window.setTimeout = (work, ms, ...more) => setTimeout(work, ms === 6000 ? 60_000 : ms, ...more);
    });
    await page.addInitScript(init);
    open.push(() => console.close());
    await page.goto(`${console.origin}/console`);
    if (login) await console.login();
    return console;
  }

  async close() {
    const elsewhere = this.addresses.filter((address) => !address.startsWith(`${this.origin}/`));
    await this.context.close();
    assert.deepEqual([this.exceptions, this.violations, elsewhere], [[], [], []]);
    assert.ok(this.addresses.every((address) => !address.includes(KEY)));
  }

  async login(key = KEY) {
    // A hub on a busy machine may answer too late.
    const late = this.page.locator('#told', { hasText: 'Try again' });
    do {
      await this.page.fill('#key', key);
      await this.page.press('#key', 'Enter');
      await this.page.locator('#views a').or(late).first().waitFor().catch(async (error) => {
        const says = await this.page.locator('body').innerText({ timeout: 1000 }).catch(String);
        throw new Error(`no console after the login; the page says ${JSON.stringify(says)}; lost: ${this.lost.join(', ') || 'nothing'}`, { cause: error });
      });
    } while (await late.isVisible());
  }

  async view(path) {
    await this.page.evaluate((to) => { location.hash = `#/${to}`; }, path);
    await this.page.locator(`main[data-view="${path.split('?')[0]}"] h1`).waitFor();
  }

  // Measures which channels are busy, until this row is there. Nothing may come in the five seconds of a measurement.
  async measures(...row) {
    for (let does = 'Measure who is busiest'; !(await this.row(...row).first().isVisible()); does = 'Measure again') {
      await this.page.locator('main button', { hasText: does }).click();
      await this.page.locator('main button:enabled', { hasText: 'Measure again' }).waitFor();
    }
  }

  row(...texts) {
    return texts.reduce((rows, hasText) => rows.filter({ hasText }), this.page.locator('main tbody tr'));
  }

  text(selector) {
    return this.page.locator(selector).first().textContent();
  }

  // Waits until an element has a text.
  async shows(selector, hasText) {
    await this.page.locator(selector).filter({ hasText }).first().waitFor();
  }
}
