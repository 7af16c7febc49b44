// The walk-through of docs/operating.md, "one client is slow", with the console.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { token } from '../harness/tokens.mjs';
import { Console, Hub } from './console.mjs';
import { launch } from './demo.mjs';

// The words of the console that the walk-through names: they stand there, and where the operator has to find them. For a
// view that is its own heading, since its name is in the navigation of each.
const WORDS = ['Connections', 'Channels', 'Tail', 'Overview', 'Health', 'Close', '4000: it comes back', 'nobody is behind'];
const seen = [];

let browser;

// An EventSource that comes back behind a position: each of its events, with its name and data.
async function* events(hub, user, since, ...channels) {
  const of = [...channels.map((channel) => ['channel', channel]), ['token', token(channels, 3600, user)], ['transport', 'sse']];
  const url = `http://127.0.0.1:${hub.port}/push?${new URLSearchParams(of)}`;
  const response = await fetch(url, { headers: { 'Last-Event-ID': since } });
  assert.equal(response.status, 200);
  let rest = '';
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + part).split('\n\n');
    rest = whole.pop();
    for (const event of whole) {
      const field = (name) => event.split('\n').find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      yield { name: field('event') ?? 'message', data: field('data') };
    }
  }
}

before(async () => { browser = await launch(); });
after(() => browser?.close());

test('one client is slow: which, why, and what to do', async () => {
  const kept = ['history_count=100', 'history_bytes=64MB'];
  const hub = await Hub.start('outbox=64MB', ...kept, 'channel.prices.eur.slow_policy=latest');
  open.push(() => hub.stop());
  const good = await hub.subscribe('ada', 'prices');
  open.push(() => good.terminate());
  const lazy = await hub.subscribeLazily('eve', 'prices', 'news');
  const { id: position } = await hub.publish('prices', 'before');
  const payload = 'x'.repeat(1 << 20);
  for (let count = 0; count < 24; count++) await hub.publish('prices', payload);

  // The alert: somebody is behind.
  const console = await Console.open(browser, open, hub);
  const { page } = console;
  const note = async (locator) => seen.push((await locator.textContent()).trim());
  const opened = () => note(page.locator('main h1'));
  const waiting = page.locator('.chart').filter({ hasText: 'Waiting for slow clients' });
  await waiting.locator('.note', { hasText: '1 behind' }).waitFor();

  // Which?
  await opened();
  await page.locator('main a', { hasText: 'all' }).click();
  await console.shows('main .heading', '1 connection behind');
  await opened();
  const row = console.row('eve');
  assert.match(await row.textContent(), /MB.*eve.*127\.0\.0\.1.*sse/);
  assert.deepEqual((await row.locator('.tag').allTextContents()).sort(), ['news', 'prices']);

  // Why? It reads nothing, while others on the channel are not behind: so it is not the hub, and not the channel.
  await console.view('connections?channel=prices');
  await console.shows('main .heading', '2 connections · 1 behind');
  assert.match(await page.locator('main tbody tr').first().textContent(), /eve/);
  await console.view('channels?prefix=prices');
  await console.row('prices', '2').waitFor();
  assert.equal(await page.locator('main tr.warned').count(), 0, 'nothing was lost on the channel');
  await opened();
  // What is published there, and how large it is.
  await console.row('prices').locator('a', { hasText: 'Tail' }).click();
  await page.locator('main button', { hasText: 'Start' }).click();
  await console.shows('main .heading', 'Waiting for the first message');
  await opened();
  await hub.publish('prices', 'how large it is');
  await page.locator('ol.tail li', { hasText: 'how large it is' }).filter({ hasText: '15 B' }).waitFor();

  // What to do: it comes back by itself with its position, and gets what it missed.
  await console.view('connections?slow=1');
  const close = row.locator('button', { hasText: 'Close' });
  await note(close);
  await close.click();
  await note(page.locator('dialog option').first());
  await page.getByLabel('Reason').fill('slow');
  await page.locator('dialog button', { hasText: 'Close it' }).click();
  await console.shows('#toasts', 'is closed');
  lazy.destroy();
  const got = [];
  for await (const { name, data } of events(hub, 'eve', position, 'prices', 'news')) {
    assert.notEqual(name, 'push-gap');
    if (data === payload || data === 'how large it is') got.push(data);
    if (data === 'how large it is') break;
  }
  assert.equal(got.length, 25, 'nothing is missing');
  // Or only the newest value counts: the hub has such a policy for a channel.
  await console.view('health');
  await console.row('channel.prices.eur.slow_policy', 'latest').waitFor();
  await opened();
  await console.view('connections?slow=1');

  // Is it over?
  await console.shows('main .empty:visible', 'No connection');
  await console.view('overview');
  await note(waiting.locator('.note', { hasText: 'nobody is behind' }));
  const last = new Promise((resolve) => {
    good.on('message', (data) => { if (String(data) === 'the others go on') resolve(); });
  });
  await hub.publish('prices', 'the others go on');
  await last;
  const guide = await readFile(new URL('../../docs/operating.md', import.meta.url), 'utf8');
  const section = guide.split('\n## One client is slow\n')[1].split('\n## ')[0].replaceAll(/\s+/g, ' ');
  const named = [...section.matchAll(/\*([^*]+)\*/g)].map(([, words]) => words);
  assert.deepEqual(WORDS.filter((word) => !named.includes(word)), [], 'the walk-through names them');
  assert.deepEqual(WORDS.filter((word) => !seen.includes(word)), [], 'the console has them');
});
