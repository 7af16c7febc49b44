// A page with a plain EventSource, while the hub behind it is stopped and started again: it gets everything, once.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../harness/free.mjs';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { launch, MS } from './demo.mjs';

const PROGRAM = fileURLToPath(new URL('../../target/stage/bin/pushd', import.meta.url));
const KEY = '0123456789abcdef0123456789abcdef';
const RESTARTS = 10;
// Between two restarts, at least.
const MESSAGES = 25;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// pushd with its log in a directory. It is stopped and started again on the same ports.
class Pushd {
  static async start(...options) {
    const pushd = new Pushd();
    pushd.directory = await mkdtemp(join(tmpdir(), 'push-restart-'));
    [pushd.port, pushd.control] = [await freePort(), await freePort()];
    pushd.options = [
      `listen=127.0.0.1:${pushd.port}`, `control=127.0.0.1:${pushd.control}`, `control_key=${KEY}`,
      `engine=file:${join(pushd.directory, 'log')}`, ...options,
    ];
    open.push(async () => {
      await pushd.stop();
      await rm(pushd.directory, { recursive: true });
    });
    await pushd.#spawn();
    return pushd;
  }

  async #spawn() {
    this.process = spawn(PROGRAM, ['-d', '60', ...this.options.flatMap((option) => ['-o', option])]);
    this.ended = once(this.process, 'exit');
    this.stderr = '';
    this.process.stderr.on('data', (data) => { this.stderr += data; });
    // It listens when it has read its log.
    while (!this.stderr.includes(`listening on 127.0.0.1:${this.control}`)) {
      assert.equal(this.process.exitCode, null, this.stderr);
      await pause(5);
    }
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    return this.ended;
  }

  async restart(signal = 'SIGTERM') {
    const [code] = await this.stop(signal);
    if (signal === 'SIGTERM') assert.equal(code, 0, this.stderr);
    await this.#spawn();
  }

  // The position of a message; null: the hub can't be reached, or was when it should have answered.
  async publish(channel, data, key) {
    const query = new URLSearchParams({ channel, key });
    const headers = { Authorization: `Bearer ${KEY}` };
    try {
      const url = `http://127.0.0.1:${this.control}/v1/publish?${query}`;
      const response = await fetch(url, { method: 'POST', headers, body: data, signal: AbortSignal.timeout(MS) });
      if (response.status === 503) return null;
      assert.equal(response.status, 200);
      return (await response.json()).id;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return null;
    }
  }
}

// A page of the hub's origin: without CORS, as where a proxy puts both under one name.
async function listen(pushd, channel) {
  const context = await browser.newContext();
  open.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(MS);
  await page.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.goto(`http://127.0.0.1:${pushd.port}/page`);
  await page.evaluate((channel) => {
    window.told = [];
    window.openings = 0;
    window.source = new EventSource(`/push?channel=${channel}`);
    window.source.onopen = () => { window.openings += 1; };
    window.source.onmessage = ({ data }) => window.told.push(data);
    window.source.addEventListener('push-gap', ({ data }) => window.told.push(`gap ${data}`));
  }, channel);
  await page.waitForFunction(() => window.openings > 0, null, { timeout: MS });
  return page;
}

test('an EventSource gets every message once and in order though pushd is restarted ten times', async () => {
  const pushd = await Pushd.start('retry=100ms', 'history_count=100000');
  const page = await listen(pushd, 'news');
  let [published, ended] = [0, false];
  // Each message again until it is acknowledged: its key stands for one message, before and after a restart.
  const publisher = (async () => {
    while (!ended) {
      const data = `m${published + 1}`;
      if (await pushd.publish('news', data, data)) published += 1;
      await pause(2);
    }
  })();
  const reached = async (count) => { while (published < count) await pause(5); };
  for (let restart = 1; restart <= RESTARTS; restart++) {
    await reached(published + MESSAGES);
    // It may be away for more than one of them. Now and then it is there for sure.
    if (restart % 2 === 0) await page.waitForFunction(() => window.source.readyState === 1, null, { timeout: MS });
    await pushd.restart();
  }
  await reached(published + MESSAGES);
  ended = true;
  await publisher;
  await page.waitForFunction((last) => window.told.at(-1) === last, `m${published}`, { timeout: MS });
  const [told, openings] = await page.evaluate(() => [window.told, window.openings]);
  assert.deepEqual(told, Array.from({ length: published }, (_, at) => `m${at + 1}`));
  assert.ok(openings > RESTARTS / 2, `it was there ${openings} times`);
  assert.ok(published >= (RESTARTS + 1) * MESSAGES);
});

test('an EventSource is told of a gap, or of what there was, after pushd was killed, and of nothing twice', async () => {
  const pushd = await Pushd.start('retry=100ms');
  const page = await listen(pushd, 'news');
  assert.ok(await pushd.publish('news', 'one', 'one'));
  await page.waitForFunction(() => window.told.length === 1, null, { timeout: MS });
  // Published and killed at once: nobody knows what else there was.
  assert.ok(await pushd.publish('news', 'two', 'two'));
  await pushd.restart('SIGKILL');
  assert.ok(await pushd.publish('news', 'three', 'three'));
  await page.waitForFunction(() => window.told.at(-1) === 'three', null, { timeout: MS });
  const told = await page.evaluate(() => window.told.map((data) => data.split(' ')[0]).join(' '));
  // On a slow machine it may have been quiet by then: nothing is lost, and there is no gap.
  assert.ok(['one gap three', 'one two gap three', 'one two three'].includes(told), told);
});
