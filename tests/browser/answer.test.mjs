// A model's answer, as it is written (examples-c/answer.c): however a page comes, goes and comes back, it shows the
// whole answer, once, and knows when it is complete. The fake model counts, so a number that is missing or doubled shows.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { launch, MS } from './demo.mjs';

const program = (path) => fileURLToPath(new URL(`../../target/${path}`, import.meta.url));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The whole answer.
const counted = (tokens) => Array.from({ length: tokens }, (_, at) => `${at + 1} `).join('');

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

async function startAnswer(tokens, ...options) {
  const host = await startProgram(['-p', '0', '-n', `${tokens}`, ...options.flatMap((option) => ['-o', option])]);
  const proxy = await Proxy.start(host.port);
  open.push(() => proxy.stop());
  return proxy;
}

async function startProgram(parameters) {
  const host = spawn(program('examples-c/answer'), parameters);
  const ended = once(host, 'exit');
  let stderr = '';
  host.stderr.on('data', (data) => { stderr += data; });
  const stop = async (signal) => {
    host.kill(signal);
    const [code, killed] = await ended;
    assert.ok(code === 0 || killed === 'SIGKILL', stderr);
  };
  open.push(() => stop('SIGTERM'));
  const [line] = await Promise.race([once(createInterface(host.stdout), 'line'), ended]);
  const address = /^listening on http:\/\/127\.0\.0\.1:(\d+)\/$/.exec(line);
  assert.ok(address, `it ended with ${line}: ${stderr}`);
  return { port: Number(address[1]), stop };
}

class Page {
  static async open(proxy, hash = '') {
    const page = new Page();
    const context = await browser.newContext();
    const exceptions = [];
    open.push(async () => {
      await context.close();
      assert.deepEqual(exceptions, []);
    });
    page.page = await context.newPage();
    page.page.setDefaultTimeout(MS);
    page.page.on('pageerror', (error) => exceptions.push(error.stack));
    await page.page.goto(`http://127.0.0.1:${proxy.port}/answer.html${hash}`);
    return page;
  }

  async ask() {
    await this.page.click('#ask');
    await this.wait(() => location.hash !== '');
    return this.page.evaluate(() => location.hash);
  }

  wait(condition, argument) {
    return this.page.waitForFunction(condition, argument, { timeout: MS, polling: 10 });
  }

  // Waits until the model has written so much.
  reach(token) {
    return this.wait((text) => document.getElementById('text').textContent.includes(text), ` ${token} `);
  }

  async complete() {
    await this.wait(() => document.getElementById('state').textContent === 'complete');
    return this.page.textContent('#text');
  }
}

test('a reload in the middle, a second tab, a phone that joins late, a lost network: each shows all of it, once', async () => {
  const proxy = await startAnswer(400);
  const tab = await Page.open(proxy);
  const hash = await tab.ask();
  await tab.reach(20);
  await tab.page.reload();
  const second = await Page.open(proxy, hash);
  await second.reach(40);
  await proxy.cutWhile(() => pause(300));
  await Promise.all([tab.reach(120), second.reach(120)]);
  assert.equal(await tab.complete(), counted(400));
  assert.equal(await second.complete(), counted(400));
  const late = await Page.open(proxy, hash);
  assert.equal(await late.complete(), counted(400));
  // Nobody comes back for it.
  const { count } = proxy;
  await tab.page.reload();
  assert.equal(await tab.complete(), counted(400));
  // A browser asks for a little more behind the page. A page that comes back does so each four seconds at the latest.
  let before;
  for (let tries = 0; tries < 6 && proxy.count !== before; tries++) {
    before = proxy.count;
    await pause(5000);
  }
  assert.equal(proxy.count, before, `${proxy.count - count} connections since the reload`);
});

test('Stop ends the answer where it is, for all', async () => {
  const proxy = await startAnswer(100_000);
  const tab = await Page.open(proxy);
  const other = await Page.open(proxy, await tab.ask());
  await Promise.all([tab.reach(10), other.reach(10)]);
  await tab.wait(() => !document.getElementById('stop').disabled);
  await tab.page.click('#stop');
  const text = await tab.complete();
  assert.equal(text, counted(text.trim().split(' ').length));
  assert.equal(await other.complete(), text);
});

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`the program ends with ${signal} in the middle, and no page waits for the rest`, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'push-answer-'));
    open.push(() => rm(directory, { recursive: true }));
    const list = join(directory, 'list');
    const parameters = ['-p', '0', '-n', '100000', '-l', list, '-o', `engine=file:${directory}/log`, '-o', 'retry=100ms'];
    const first = await startProgram(parameters);
    const proxy = await Proxy.start(first.port);
    open.push(() => proxy.stop());
    const tab = await Page.open(proxy);
    await tab.ask();
    await tab.reach(20);
    await first.stop(signal);
    proxy.upstream = (await startProgram(parameters)).port;
    const text = await tab.complete();
    // A program that is killed may lose what its log had not written yet, and the page is told of a gap.
    if (signal === 'SIGTERM') assert.equal(text, counted(text.trim().split(' ').length));
    while (await readFile(list, 'utf8') !== '') await pause(10);
  });
}

test('the hub is started again in the middle, and everybody has all of it, once', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'push-answer-'));
  open.push(() => rm(directory, { recursive: true }));
  const options = [
    'listen=none', `attach_listen=unix:${directory}/attach`, `engine=file:${directory}/log`, 'retry=100ms',
    'channel.answer.*.history_count=10000', 'auth=none',
  ];
  let pushd;
  const start = async () => {
    pushd = spawn(program('stage/bin/pushd'), ['-d', '0', ...options.flatMap((option) => ['-o', option])]);
    pushd.ended = once(pushd, 'exit');
    let said = '';
    pushd.stderr.on('data', (data) => { said += data; });
    while (!said.includes('listening on')) {
      assert.equal(pushd.exitCode, null, said);
      await pause(5);
    }
  };
  const stop = async () => {
    pushd.kill('SIGTERM');
    await pushd.ended;
  };
  await start();
  open.push(stop);
  const proxy = await startAnswer(600, `attach=unix:${directory}/attach`);
  const tab = await Page.open(proxy);
  const other = await Page.open(proxy, await tab.ask());
  for (const token of [30, 150]) {
    await Promise.all([tab.reach(token), other.reach(token)]);
    await stop();
    await start();
  }
  assert.equal(await tab.complete(), counted(600));
  assert.equal(await other.complete(), counted(600));
});
