// The walk-through of docs/operating.md, "one client is slow", with the console.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Console, Hub } from './console.mjs';
import { launch } from './demo.mjs';

// The words of the console that the walk-through names: they stand there, and in the page that was seen.
const WORDS = ['Connections', 'Channels', 'Tail', 'Overview', 'Health', 'Close', '4000: it comes back', 'nobody is behind'];
const seen = [];

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

test('one client is slow: which, why, and what to do', async () => {
  const hub = await Hub.start('outbox=64MB');
  open.push(() => hub.stop());
  const good = await hub.subscribe('ada', 'prices');
  open.push(() => good.terminate());
  const lazy = await hub.subscribeLazily('eve', 'prices', 'news');
  const payload = 'x'.repeat(1 << 20);
  for (let count = 0; count < 24; count++) await hub.publish('prices', payload);

  // The alert: somebody is behind.
  const console = await Console.open(browser, open, hub);
  const { page } = console;
  const waiting = page.locator('.chart').filter({ hasText: 'Waiting for slow clients' });
  await waiting.locator('.note', { hasText: '1 behind' }).waitFor();

  // Which?
  await page.locator('main a', { hasText: 'all' }).click();
  await console.shows('main .heading', '1 connection behind');
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

  // What to do: it comes back by itself, with its position.
  await console.view('connections?slow=1');
  await row.locator('button', { hasText: 'Close' }).click();
  seen.push(await page.locator('body').innerText(), await page.locator('dialog option').first().textContent());
  await page.getByLabel('Reason').fill('slow');
  await page.locator('dialog button', { hasText: 'Close it' }).click();
  await console.shows('#toasts', 'is closed');
  lazy.destroy();

  // Is it over?
  await console.shows('main .empty:visible', 'No connection');
  await console.view('overview');
  await waiting.locator('.note', { hasText: 'nobody is behind' }).waitFor();
  seen.push(await page.locator('body').innerText());
  const last = new Promise((resolve) => {
    good.on('message', (data) => { if (String(data) === 'the others go on') resolve(); });
  });
  await hub.publish('prices', 'the others go on');
  await last;
  const guide = await readFile(new URL('../../docs/operating.md', import.meta.url), 'utf8');
  const section = guide.split('\n## One client is slow\n')[1].split('\n## ')[0].replaceAll(/\s+/g, ' ');
  const named = [...section.matchAll(/\*([^*]+)\*/g)].map(([, words]) => words);
  assert.deepEqual(WORDS.filter((word) => !named.includes(word)), [], 'the walk-through names them');
  assert.deepEqual(WORDS.filter((word) => !seen.some((text) => text.includes(word))), [], 'the console has them');
});
