// A browser and the server's answers, without push.js: subprotocols, preflights, an EventSource that outlives its
// server.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { open, start, startProxy } from '../harness/opened.mjs';
import { listenerWithTokens, token } from '../harness/tokens.mjs';
import { launch, MS } from './demo.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// A page of the host, without the demo.
async function page(host) {
  const context = await browser.newContext();
  open.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(MS);
  await page.goto(host.url('/style.css'));
  return page;
}

// Opens a WebSocket. Returns the protocol and the first message, or the close code.
const dial = (page, url, protocols, then) => page.evaluate(async ([url, protocols, then]) => {
  const socket = new WebSocket(url, protocols);
  return new Promise((resolve) => {
    socket.onclose = ({ code }) => resolve(code);
    socket.onmessage = ({ data }) => resolve([socket.protocol, data]);
    if (then) socket.onopen = () => socket.send(then);
  });
}, [url, protocols, then]);

test('a browser gets a subprotocol of those that it offers', async () => {
  const host = await start();
  const tab = await page(host);
  const url = host.url('/push?channel=a', 'ws');
  // The host is an echo.
  assert.deepEqual(await dial(tab, url, ['my-app'], 'raw'), ['my-app', 'raw']);
  assert.deepEqual(await dial(tab, url, [], 'raw'), ['', 'raw']);
  const [protocol, message] = await dial(tab, url, ['my-app', 'push.v1.json']);
  assert.deepEqual([protocol, JSON.parse(message).type], ['push.v1.json', 'subscribed']);
  assert.equal(await dial(tab, url, ['PUSH.V1.JSON']), 1006);
});

test('a page sends its token as a subprotocol', async () => {
  const { port, options } = await listenerWithTokens();
  const host = await start(...options, 'allowed_origins=*');
  const tab = await page(host);
  const url = `ws://127.0.0.1:${port}/push?channel=a`;
  const good = token(['a'], 600);
  const [protocol, message] = await dial(tab, url, ['push.v1.json', good]);
  assert.deepEqual([protocol, JSON.parse(message).type], ['push.v1.json', 'subscribed']);
  assert.equal(await dial(tab, url, ['push.v1.json']), 1006);
  assert.equal(await dial(tab, url, ['push.v1.json', token(['a'], -60)]), 1006);
  await host.publish('a', 'kept');
  assert.deepEqual(await dial(tab, `${url}&last=1`, [good, 'my-app']), ['my-app', 'kept']);
});

test('a page of an allowed origin sends the headers that its framework adds', async () => {
  const other = await start();
  const host = await start(`allowed_origins=${other.url('')}`);
  await host.publish('a', 'kept');
  const tab = await page(other);
  const answer = await tab.evaluate(async (url) => {
    const headers = {
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'x-requested-with': 'XMLHttpRequest',
      'content-type': 'application/json', 'x-csrf-token': 'token', Authorization: 'Bearer token',
    };
    const response = await fetch(url, { headers, credentials: 'include' });
    return response.json();
  }, host.url('/push?channel=a&last=1'));
  assert.deepEqual(answer.messages.map(({ data }) => data), ['kept']);
});

test('an EventSource with an id of the server before this one goes on', async () => {
  const before = createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('retry: 100\nid: 1700000000:0\ndata: from the server before\n\n');
  });
  before.listen(0, '127.0.0.1');
  await once(before, 'listening');
  open.push(() => before.close());
  const host = await start();
  await host.publish('a', 'kept');
  const proxy = await startProxy(host);
  const tab = await page({ url: (path) => `http://127.0.0.1:${proxy.port}${path}` });
  proxy.cut();
  proxy.upstream = before.address().port;
  await tab.evaluate(() => {
    window.seen = [];
    const source = new EventSource('/push?channel=a');
    for (const type of ['message', 'push-gap']) source.addEventListener(type, ({ data }) => window.seen.push(data));
  });
  await tab.waitForFunction(() => window.seen.length === 1, null, { polling: 10 });
  proxy.upstream = host.port;
  proxy.cut();
  await tab.waitForFunction(() => window.seen.length === 3, null, { polling: 10 });
  const seen = await tab.evaluate(() => window.seen);
  assert.deepEqual([seen[0], JSON.parse(seen[1]).type, seen[2]], ['from the server before', 'gap', 'kept']);
});
