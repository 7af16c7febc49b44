// push.js in Chromium: WebSockets are broken in ways that only time shows, and the page comes and goes.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { Middlebox } from '../harness/middlebox.mjs';
import { open, start as startHost } from '../harness/opened.mjs';
import { launch } from './demo.mjs';
import { Page } from './page.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());
async function start(...options) {
  const host = await startHost('retry=100ms', ...options);
  host.proxy = await Middlebox.start(host.port);
  open.push(() => host.proxy.stop());
  return host;
}

const connect = (host, ...rest) => Page.connect(browser, open, host, ...rest);

const events = (...types) => `for (const type of ${JSON.stringify(types)}) dispatchEvent(new Event(type))`;

async function waitFor(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

for (const upgrade of [502, 'close', 'hang', 'mute']) {
  test(`a WebSocket that meets ${upgrade}: it goes on over the stream, and later over a WebSocket`, async () => {
    const host = await start('heartbeat=100ms');
    host.proxy.upgrade = upgrade;
    const client = await connect(host, { channels: ['news'] }, { clock: true });
    await client.passing(60_000, async () => (await client.count('connecting', 1006)) === 2);
    await client.until('open');
    assert.equal(await client.transport(), 'stream');
    assert.equal(host.proxy.count('upgrade'), 2);
    await host.publish('news', '1');
    await client.until('news', '1');
    // After a while it tries a WebSocket, and there is none yet.
    await client.leap(300_000);
    await waitFor(() => host.proxy.count('upgrade') === 3);
    await client.passing(60_000, () => host.proxy.trials === 0);
    await host.publish('news', '2');
    assert.deepEqual(await client.until('news', '2'), [['news', '2']]);
    host.proxy.upgrade = 'pass';
    await client.leap(600_000);
    await waitFor(async () => (await client.transport()) === 'ws');
    await host.publish('news', '3');
    assert.deepEqual((await client.until('news', '3')).slice(-2), [['open'], ['news', '3']]);
  });
}

// Chromium never loads a file again under the name under which it could not load it once.
test('push-fallback.js is loaded once it is there; until then WebSockets go on being tried', async () => {
  const host = await start();
  let missing = true;
  host.proxy.upgrade = 502;
  host.proxy.instead = ({ url }, response) => {
    if (!missing || !url.startsWith('/push-fallback.js')) return false;
    response.writeHead(404).end();
    return true;
  };
  const client = await connect(host, { channels: ['news'] });
  await waitFor(() => host.proxy.count('upgrade') === 3);
  missing = false;
  await client.until('open');
  assert.equal(await client.transport(), 'stream');
});

test('a stream that is held back: polls; and WebSocket, stream and polls have one position', async () => {
  const host = await start('history_count=1000');
  host.proxy.upgrade = 502;
  host.proxy.buffers = true;
  const client = await connect(host, { channels: ['news'] }, { late: [] });
  await client.until('open');
  assert.equal(await client.transport(), 'poll');
  const wanted = [];
  for (const [upgrade, buffers, transport] of [['pass', true, 'ws'], [400, false, 'stream'], [400, true, 'poll']]) {
    await host.publish('news', `live before ${transport}`);
    Object.assign(host.proxy, { upgrade, buffers });
    host.proxy.cut();
    await client.page.evaluate(events('online'));
    await host.publish('news', `missed before ${transport}`);
    wanted.push(['news', `live before ${transport}`], ['news', `missed before ${transport}`]);
    await client.comesTo(transport, host.proxy);
  }
  await host.publish('news', 'the last');
  assert.deepEqual((await client.until('news', 'the last')).filter(([what]) => what === 'news'), [
    ...wanted, ['news', 'the last'],
  ]);
});

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: the network goes and comes back`, async () => {
    const host = await start();
    const client = await connect(host, { channels: ['news'], transports: [transport] }, { clock: true });
    await client.until('open');
    await client.context.setOffline(true);
    host.proxy.cut(); // a network that fails does not close connections; they only carry nothing any more
    await client.until('connecting', 1006);
    await host.publish('news', 'missed');
    // This repeats until the wait is long. When the network is back, the wait ends at once.
    await client.passing(120_000, async () => (await client.count('connecting', 1006)) >= 6);
    await client.context.setOffline(false);
    const told = await client.until('open');
    assert.deepEqual(told.filter(([what]) => what !== 'connecting'), [['news', 'missed'], ['open']]);
  });

  test(`${transport}: put away and taken out again, the page has what it missed`, async () => {
    const host = await start();
    const client = await connect(host, { channels: ['news'], transports: [transport] });
    await client.until('open');
    await waitFor(async () => (await host.stats()).connections === 1);
    await client.page.evaluate('dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }))');
    await waitFor(async () => (await host.stats()).connections === 0);
    await host.publish('news', 'missed');
    await client.page.evaluate('dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))');
    assert.deepEqual(await client.until('news', 'missed'), [['news', 'missed']]);
    // Together with other events of the same moment it makes only one connection.
    await client.page.evaluate(`document.dispatchEvent(new Event('visibilitychange'));
      document.dispatchEvent(new Event('resume')); ${events('pageshow', 'online')}`);
    await host.publish('news', 'live');
    await client.until('news', 'live');
    await waitFor(async () => (await host.stats()).connections === 1);
  });

  test(`${transport}: after a sleep, a connection that is dead without knowing it is left`, async () => {
    const host = await start();
    const client = await connect(host, { channels: ['news'], transports: [transport] }, { clock: true });
    await client.until('open');
    await waitFor(async () => (await host.stats()).subscriptions === 1);
    host.proxy.freeze();
    await host.publish('news', 'missed');
    await client.leap(3_600_000);
    await client.passing(60_000, async () => (await client.count('news', 'missed')) === 1);
  });
}

test('while the server is away the attempts become rarer, and events do not make a storm of them', async () => {
  const host = await start();
  const client = await connect(host, { channels: ['news'] }, { clock: true });
  await client.until('open');
  host.proxy.upgrade = 'close';
  host.proxy.instead = (_, response) => response.destroy();
  host.proxy.seen.length = 0;
  host.proxy.cut();
  await client.until('connecting', 1006);
  await client.passing(600_000, () => host.proxy.seen.length >= 20);
  const quiet = await client.page.evaluate(() => performance.now());
  assert.ok(quiet > 120_000, `20 attempts in ${quiet} ms`);
  host.proxy.seen.length = 0;
  const before = await client.page.evaluate(() => performance.now());
  for (let n = 0; n < 100; n++) {
    await client.page.evaluate(events('online', 'pageshow', 'offline'));
    await client.page.clock.runFor(10);
  }
  // This is a second of the page. On a slow machine it is longer.
  const seconds = ((await client.page.evaluate(() => performance.now())) - before) / 1000;
  assert.ok(host.proxy.seen.length <= 10 * Math.max(seconds, 1), `${host.proxy.seen.length} attempts in ${seconds} s`);
});

test('the page is kept for its user to come back to, and goes on where it was', async () => {
  const keeping = await launch({ ignoreDefaultArgs: ['--disable-back-forward-cache'] });
  open.push(() => keeping.close());
  const host = await start();
  const client = await Page.connect(keeping, open, host, { channels: ['news'] });
  await client.until('open');
  await client.page.goto(`http://127.0.0.1:${host.proxy.port}/index.html?channel=other`);
  await host.publish('news', 'missed');
  await client.page.goBack({ waitUntil: 'commit' }); // it is not loaded again
  assert.deepEqual(await client.until('news', 'missed'), [['news', 'missed']]); // it is the same page that was left
});
