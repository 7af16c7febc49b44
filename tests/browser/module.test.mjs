// push.js, as a page uses it: recovery, gaps, channels that come and go, ends that are for good, tokens.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, afterEach, before } from 'node:test';
import { Host, test } from '../harness/host.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { launch } from './demo.mjs';

const SECRET = '0123456789abcdef0123456789abcdef';

let browser;
const open = [];

before(async () => { browser = await launch(); });
after(() => browser?.close());
afterEach(async () => {
  while (open.length > 0) await open.pop()();
});

async function start(...options) {
  const host = await Host.start('retry=100ms', ...options);
  open.push(() => host.stop());
  host.proxy = await Proxy.start(host.port);
  open.push(() => host.proxy.stop());
  return host;
}

// A page with nothing but the module, and what it told.
class Client {
  // `tokens` are given out one after the other; after the last one there is none.
  static async connect(host, options, tokens) {
    const client = new Client();
    const context = await browser.newContext();
    client.page = await context.newPage();
    const exceptions = [];
    client.page.on('pageerror', (error) => exceptions.push(error.stack));
    open.push(async () => {
      await context.close();
      assert.deepEqual(exceptions, []);
    });
    await client.page.goto(`http://127.0.0.1:${host.proxy.port}/style.css`); // the origin, without the demo
    await client.page.evaluate(async ([options, tokens, url]) => {
      const { connect } = await import('/push.js');
      window.told = [];
      const tell = (...what) => window.told.push(what.filter((part) => part !== undefined));
      window.push = connect(url, {
        ...options,
        token: tokens && (async () => tokens.shift() ?? null),
        onmessage: ({ channel, data }) => tell(channel ?? 'all', data),
        ongap: ({ channel }) => tell('gap', channel),
        onerror: ({ type, code }) => tell(type, code),
        onstate: (state, why) => tell(state, why?.code),
      });
    }, [options, tokens, host.direct ?? '/push']);
    return client;
  }

  // All that was told until this, which is waited for.
  async until(...last) {
    const told = await this.page.waitForFunction((last) => {
      const at = window.told.findIndex((what) => JSON.stringify(what) === last);
      return at >= 0 && window.told.splice(0, at + 1);
    }, JSON.stringify(last), { timeout: 30_000 });
    return told.jsonValue();
  }

  do(method, ...words) {
    return this.page.evaluate(([method, words]) => window.push[method](...words), [method, words]);
  }
}

function jwt(claims) {
  const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
  const text = `${part({ alg: 'HS256' })}.${part(claims)}`;
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

test('a lost connection comes back with what was missed, once and in order', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news', 'sport'] });
  assert.deepEqual(await client.until('open'), [['connecting'], ['open']]);
  for (let round = 0; round < 3; round++) {
    await host.publish('news', `before ${round}`);
    await client.until('news', `before ${round}`);
    host.proxy.cut();
    await host.publish('sport', `missed ${round}`);
    await host.broadcast(`missed by all ${round}`);
    assert.deepEqual(await client.until('open'), [
      ['connecting', 1006], ['sport', `missed ${round}`], ['all', `missed by all ${round}`], ['open'],
    ]);
  }
});

test('lost before the first message, it goes on from where it began', async () => {
  const host = await start();
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  host.proxy.cut();
  await host.publish('news', 'missed');
  assert.deepEqual(await client.until('open'), [['connecting', 1006], ['news', 'missed'], ['open']]);
});

test('what the history no longer has is told as a gap', async () => {
  const host = await start('history_count=1');
  const client = await Client.connect(host, { channels: ['news'] });
  await client.until('open');
  host.proxy.cut();
  for (const text of ['a', 'b', 'c']) await host.publish('news', text);
  const told = await client.until('news', 'c');
  // How many came before the connection was cut, or were had from the history, is not for us to say.
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
  while ((await host.stats()).subscriptions !== 2) await new Promise((resolve) => setTimeout(resolve, 10));
  host.proxy.cut();
  for (const channel of ['news', 'early', 'late']) await host.publish(channel, 'missed');
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

// A listener of the library's own, where tokens count.
async function startWithTokens() {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const address = `127.0.0.1:${free.address().port}`;
  free.close();
  await once(free, 'close');
  const host = await start(`listen=${address}`, 'auth=jwt', `jwt_secret=${SECRET}`, 'allowed_origins=*');
  host.direct = `http://${address}/push`;
  return host;
}

function token(seconds) {
  return jwt({ sub: 'ada', exp: Math.floor(Date.now() / 1000) + seconds, push: { subscribe: ['news'] } });
}

test('a token that ends: the next one goes on, and when there is none it is over', async () => {
  const host = await startWithTokens();
  // Clocks may differ by five seconds: so much longer a token is good.
  const client = await Client.connect(host, { channels: ['news'] }, [token(-3), token(-1)]);
  assert.deepEqual(await client.until('open'), [['connecting'], ['open']]);
  assert.deepEqual(await client.until('open'), [['connecting', 4403], ['open']]);
  await host.publish('news', 'with the second');
  assert.deepEqual(await client.until('closed', 4403), [['news', 'with the second'], ['connecting', 4403], ['closed', 4403]]);
});

test('renew: the connection goes on beyond its first token', async () => {
  const host = await startWithTokens();
  const client = await Client.connect(host, { channels: ['news'] }, [token(-3), token(600)]);
  await client.until('open');
  assert.equal(await client.do('renew'), true);
  await new Promise((resolve) => setTimeout(resolve, 4000)); // past the end of the first
  await host.publish('news', 'still here');
  assert.deepEqual(await client.until('news', 'still here'), [['news', 'still here']]);
});
