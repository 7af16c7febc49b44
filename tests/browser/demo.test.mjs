// Messages that curl and the page publish appear in all four panes. Each transport is broken, and goes on where it was.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import { Host, test } from '../harness/host.mjs';
import { open, start, startProxy } from '../harness/opened.mjs';
import { Demo, launch, MS, TRANSPORTS } from './demo.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// Opens the page. At the end of the test it must not have thrown an error.
async function openDemo(at, query = '') {
  const demo = await Demo.open(browser, `http://127.0.0.1:${at.port}/${query}`);
  open.push(async () => {
    await demo.close();
    assert.deepEqual(demo.exceptions, []);
  });
  return demo;
}

async function curl(...words) {
  const { stdout } = await promisify(execFile)('curl', ['--silent', '--show-error', '--noproxy', '*', ...words]);
  return JSON.parse(stdout).id;
}

// Publishes, and returns the entry that panes must show for it.
async function publish(host, ...texts) {
  const shown = [];
  for (const text of texts) shown.push([await host.publish('news', text), text]);
  return shown;
}

async function allShow(demo, wanted) {
  const [last] = wanted.at(-1);
  for (const transport of TRANSPORTS) assert.deepEqual(await demo.shown(transport, last), wanted, transport);
}

test('what curl publishes appears in all four panes', async () => {
  const host = await start();
  const demo = await openDemo(host);
  const wanted = [];
  for (const text of ['hello', 'grüße <b>&amp;</b>', 'two\nlines']) {
    wanted.push([await curl('-d', text, `http://127.0.0.1:${host.port}/publish?channel=news`), text]);
  }
  await allShow(demo, wanted);
  for (const transport of TRANSPORTS) {
    const item = demo.pane(transport).locator(`li[data-id="${wanted[0][0]}"]`);
    assert.equal(await item.getAttribute('data-channel'), 'news');
    assert.equal(await demo.recovered(transport), 0);
  }
  // Each has one subscriber. The poll's next request may be on its way.
  await host.waitForAll({ websockets: 1, sse: 1, streams: 1, polls: 1 });
  assert.deepEqual(demo.complaints, []);
});

test('in a second and third tab the page loads, publishes and receives, and says what it leaves out', async () => {
  const host = await start();
  const demo = await openDemo(host);
  const tabs = [demo.page];
  for (const text of ['from the second', 'from the third']) {
    const tab = await demo.context.newPage();
    tab.setDefaultTimeout(MS);
    await tab.goto(`http://127.0.0.1:${host.port}/`);
    await tab.locator('section[data-transport="ws"][data-state="open"]').waitFor();
    for (const transport of TRANSPORTS.filter((name) => name !== 'ws')) {
      const pane = tab.locator(`section[data-transport="${transport}"][data-state="broken"]`);
      await pane.locator('li.note', { hasText: 'six connections' }).waitFor();
    }
    tabs.push(tab);
    await tab.fill('#text', text);
    await tab.click('#publish');
    await tab.locator('#result', { hasText: 'published as' }).waitFor();
    for (const other of tabs) await other.locator('section[data-transport="ws"] li .data', { hasText: text }).waitFor();
  }
  // A user who takes all six connections is told why nothing happens.
  for (const transport of TRANSPORTS.filter((name) => name !== 'ws')) {
    await tabs[1].locator(`section[data-transport="${transport}"] button.break`).click();
  }
  await host.waitForAll({ websockets: 3, sse: 2, streams: 2 });
  await tabs[2].fill('#text', 'no room');
  await tabs[2].click('#publish');
  await tabs[2].locator('#result', { hasText: /six connections|published as/ }).waitFor();
});

test('what the page publishes and broadcasts appears in all four panes', async () => {
  const host = await start();
  const demo = await openDemo(host);
  await demo.publish('to the channel');
  await demo.pane('ws').locator('li[data-channel="news"]').waitFor();
  await demo.publish('to all', '#broadcast');
  await demo.pane('ws').locator('li.broadcast').waitFor();
  const wanted = await demo.shown('ws');
  assert.deepEqual(wanted.map(([, text]) => text), ['to the channel', 'to all']);
  await allShow(demo, wanted);
  for (const transport of TRANSPORTS) assert.equal(await demo.pane(transport).locator('li.broadcast').count(), 1);
  assert.deepEqual(demo.complaints, []);
});

test('a broadcast by curl reaches a page of another channel', async () => {
  const host = await start();
  const demo = await openDemo(host, '?channel=other');
  await host.publish('news', 'not for this page');
  const id = await curl('-d', 'to all', `http://127.0.0.1:${host.port}/broadcast`);
  await allShow(demo, [[id, 'to all']]);
  assert.deepEqual(demo.complaints, []);
});

for (const transport of TRANSPORTS) {
  test(`${transport}: broken by its button, it recovers what it missed`, async () => {
    const host = await start();
    const demo = await openDemo(host);
    const wanted = await publish(host, 'before');
    await allShow(demo, wanted);
    for (let round = 1; round <= 3; round++) {
      await demo.press(transport);
      await demo.is(transport, 'broken');
      wanted.push(...(await publish(host, `missed ${round} a`, `missed ${round} b`, `missed ${round} c`)));
      await demo.shown(transport === 'ws' ? 'sse' : 'ws', wanted.at(-1)[0]);
      assert.equal((await demo.shown(transport)).length, wanted.length - 3, 'it is broken');
      await demo.press(transport);
      await demo.is(transport, 'open');
      wanted.push(...(await publish(host, `live ${round}`)));
      await allShow(demo, wanted);
      assert.equal(await demo.recovered(transport), 3 * round);
    }
    assert.deepEqual(demo.complaints, []);
  });
}

test('all broken before the first message, all recover it', async () => {
  const host = await start();
  const demo = await openDemo(host);
  await demo.page.click('#break-all');
  await demo.allAre('broken');
  const wanted = await publish(host, 'missed 1', 'missed 2');
  await demo.page.click('#break-all');
  await allShow(demo, wanted);
  assert.deepEqual(demo.complaints, []);
});

test('connections lost before the first message: the panes come back by themselves', async () => {
  const host = await start('retry=100ms');
  const proxy = await startProxy(host);
  const demo = await openDemo(proxy);
  // The poll's next request may be on its way.
  await host.waitForAll({ websockets: 1, sse: 1, streams: 1, polls: 1 });
  assert.ok(proxy.cut() >= 4);
  const wanted = await publish(host, 'missed 1', 'missed 2');
  await allShow(demo, wanted);
});

test('connections lost again and again while messages come: each once, in order', async () => {
  const host = await start('retry=100ms', 'history_count=1000');
  const proxy = await startProxy(host);
  const demo = await openDemo(proxy);
  const wanted = await publish(host, 'the first');
  await allShow(demo, wanted);
  let broken = 0;
  for (let round = 0; round < 6; round++) {
    // Breaks all connections, then some of those that come back, in heads and in the middle of messages.
    proxy.cutAfter(150, 400, 900, 2100);
    broken += proxy.cut();
    for (let count = 0; count < 10; count++) {
      wanted.push(...(await publish(host, `${round} ${count} ${'x'.repeat(200)}`)));
    }
    // Each pane that is back has got a part of the messages.
    await demo.shown(TRANSPORTS[round % 4], wanted.at(-1)[0]);
  }
  wanted.push(...(await publish(host, 'the last')));
  await allShow(demo, wanted);
  assert.ok(broken >= 6, `${broken} connections were cut`);
});

test('what the history no longer has is shown as a gap', async () => {
  const host = await start('history_count=3');
  const demo = await openDemo(host);
  const first = await publish(host, 'before');
  await allShow(demo, first);
  await demo.page.click('#break-all');
  await demo.allAre('broken');
  const missed = await publish(host, ...Array.from({ length: 10 }, (_, n) => `missed ${n}`));
  await demo.page.click('#break-all');
  await allShow(demo, [...first, 'gap', ...missed.slice(7)]);
  assert.deepEqual(demo.complaints, []);
});

test('a host that starts anew: the panes come back, and say that they do not know what they missed', async () => {
  const before = await Host.start('retry=100ms');
  const proxy = await startProxy(before);
  const demo = await openDemo(proxy);
  const first = await publish(before, 'in the old life');
  await allShow(demo, first);
  await before.stop();
  const next = await start('retry=100ms');
  proxy.upstream = next.port;
  const second = await publish(next, 'in the new life');
  await allShow(demo, [...first, 'gap', ...second]);
});

test('another channel is a new subscription', async () => {
  const host = await start();
  const demo = await openDemo(host);
  await demo.page.fill('#channel', 'other');
  await demo.page.press('#channel', 'Tab');
  await demo.allAre('open');
  await host.publish('news', 'not for this page any more');
  const id = await host.publish('other', 'for this page');
  await allShow(demo, [[id, 'for this page']]);
  assert.deepEqual(demo.complaints, []);
});
