// push.js, as a page uses it: recovery, gaps, channels that come and go, final closes, tokens.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { Host, test } from '../harness/host.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { open, start as startHost, startProxy } from '../harness/opened.mjs';
import { listenerWithTokens, soon, token } from '../harness/tokens.mjs';
import { launch } from './demo.mjs';
import { Page } from './page.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());
async function start(...options) {
  const host = await startHost('retry=100ms', ...options);
  host.proxy = await startProxy(host);
  return host;
}

const Client = {
  connect: (host, options, tokens) => Page.connect(browser, open, host, options, { tokens, late: [4000, 10_000] }),
};

test('a lost connection comes back with what was missed, once and in order', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news', 'sport'] });
  assert.deepEqual(await client.until('open'), [['connecting'], ['open']]);
  for (let round = 0; round < 3; round++) {
    await host.publish('news', `before ${round}`);
    await client.until('news', `before ${round}`);
    await host.proxy.cutWhile(async () => {
      await host.publish('sport', `missed ${round}`);
      await host.broadcast(`missed by all ${round}`);
    });
    assert.deepEqual(await client.until('open'), [
      ['connecting', 1006], ['sport', `missed ${round}`], ['all', `missed by all ${round}`], ['open'],
    ]);
  }
});

test('lost before the first message, it goes on from where it began', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  await host.proxy.cutWhile(() => host.publish('news', 'missed'));
  assert.deepEqual(await client.until('open'), [['connecting', 1006], ['news', 'missed'], ['open']]);
});

test('what the history no longer has is told as a gap', async () => {
  const host = await start('history_count=1');
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  await host.proxy.cutWhile(async () => {
    for (const text of ['a', 'b', 'c']) await host.publish('news', text);
  });
  const told = await client.until('news', 'c');
  assert.ok(told.some(([what]) => what === 'gap'), JSON.stringify(told));
});

test('last and since: where it begins', async () => {
  const host = await start();
  const ids = [];
  for (const text of ['a', 'b', 'c']) ids.push(await host.publish('news', text));
  const last = await Client.connect(host, { channels: ['news'], last: 1 });
  assert.deepEqual(await last.until('open'), [['connecting'], ['news', 'c'], ['open']]);
  const since = await Client.connect(host, { channels: ['news'], since: ids[0] });
  assert.deepEqual(await since.until('open'), [['connecting'], ['news', 'b'], ['news', 'c'], ['open']]);
  assert.equal(await since.page.evaluate(() => window.push.position), ids[2]);
});

test('channels that come and go are those that it comes back with', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news'] });
  // Before it is connected as well as after.
  await client.do('subscribe', 'early');
  await client.until('open');
  await client.do('subscribe', 'late');
  await client.do('unsubscribe', 'news');
  // There are two before, too. So a message of one of them shows that it is subscribed.
  while ((await client.count('late', 'begun')) === 0) await host.publish('late', 'begun');
  await host.waitForAll({ subscriptions: 2 });
  await host.publish('late', 'all is told');
  await client.until('late', 'all is told');
  await host.proxy.cutWhile(async () => {
    for (const channel of ['news', 'early', 'late']) await host.publish(channel, 'missed');
  });
  assert.deepEqual(await client.until('open'), [
    ['connecting', 1006], ['early', 'missed'], ['late', 'missed'], ['open'],
  ]);
});

test('a server that goes away is come back to; the gap of a new life is told', async () => {
  const first = await Host.start('retry=100ms');
  const host = { proxy: await Proxy.start(first.port) };
  open.push(() => host.proxy.stop());
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  await first.stop();
  const next = await Host.start('retry=100ms');
  open.push(() => next.stop());
  host.proxy.upstream = next.port;
  const told = await client.until('open');
  assert.deepEqual(told[0], ['connecting', 1001]);
  assert.ok(told.some(([what]) => what === 'gap'), JSON.stringify(told));
});

test('a browser offers compression, and has it where it is on', async () => {
  const long = JSON.stringify(Array.from({ length: 200 }, (_, n) => ({ n, price: n * 7919 % 1000 })));
  for (const [option, extensions] of [
    ['compression=false', ''],
    ['compression=true', 'permessage-deflate; server_no_context_takeover; client_no_context_takeover'],
  ]) {
    const host = await start(option);
    const client = await Client.connect(host, { channels: ['news'] });
    await client.until('open');
    await host.publish('news', long);
    assert.deepEqual(await client.until('news', long), [['news', long]]);
    assert.equal(await client.do('send', long), true);
    assert.deepEqual(await client.until('all', long), [['all', long]]);
    const agreed = await client.page.evaluate(async () => {
      const socket = new WebSocket('/push?channel=news');
      await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
      const { extensions } = socket;
      socket.close();
      return extensions;
    });
    assert.equal(agreed, extensions);
  }
});

test('what is said by send comes to the server', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  assert.equal(await client.do('send', 'hello'), true);
  await client.page.waitForFunction(() => window.told.length > 0); // the host is an echo
  assert.deepEqual(await client.until('all', 'hello'), [['all', 'hello']]);
  await client.do('close');
  assert.equal(await client.do('send', 'hello'), false);
  while ((await host.stats()).websockets > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual(await client.page.evaluate(() => window.told), []);
});

async function startWithTokens() {
  const { port, options } = await listenerWithTokens();
  const host = await start(...options, 'allowed_origins=*');
  host.direct = `http://127.0.0.1:${port}/push`;
  return host;
}

// Publishes to a channel again and again while something is waited for.
async function whilePublishing(host, channel, data, wait) {
  const timer = setInterval(() => host.publish(channel, data).catch(() => {}), 50);
  try {
    return await wait();
  } finally {
    clearInterval(timer);
  }
}

test('a token that ends: the next one goes on, and when there is none it is over', async () => {
  const host = await startWithTokens();
  await soon(async (seconds) => {
    const shortly = () => token(['news'], seconds);
    const client = await Client.connect(host, { channels: ['news'] }, [shortly, shortly]);
    const told = await whilePublishing(host, 'news', 'x', () => client.end());
    const states = told.filter(([what]) => what !== 'news');
    const life = [['open'], ['connecting', 4403]];
    assert.deepEqual(states, [['connecting'], ...life, ...life, ['closed', 4403]]);
    assert.ok(told.every(([what], at) => what !== 'open' || told[at + 1][0] === 'news'), 'each token lets messages through');
  });
});

test('renew: the connection goes on beyond its first token', async () => {
  const host = await startWithTokens();
  await soon(async (seconds) => {
    const first = token(['news'], seconds);
    const connect = (...tokens) => Client.connect(host, { channels: ['news'] }, tokens.map((one) => () => one));
    const client = await connect(first, token(['news'], 600));
    const other = await connect(first);
    const isRenewed = await client.do('renew');
    // The other one has only the first token. When it is over, that has ended.
    const before = await other.end();
    const text = `after ${seconds}`;
    await host.publish('news', text);
    const told = await client.until('news', text);
    assert.deepEqual([told, isRenewed], [[['connecting'], ['open'], ['news', text]], true]);
    assert.deepEqual(before, [['connecting'], ['open'], ['connecting', 4403], ['closed', 4403]]);
  });
});
