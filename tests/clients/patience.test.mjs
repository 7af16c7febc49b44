// push.js has patience with slow links, and not too much of it with what never comes. The test lets the time pass.

import { clock } from '../harness/clock.mjs';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { WebSocketServer } from 'ws';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Client, start, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { token } from '../harness/tokens.mjs';

const www = fileURLToPath(new URL('../../examples-c/www/', import.meta.url));

// A directory that has push.js, and not push-fallback.js.
async function alone() {
  const directory = await mkdtemp(join(tmpdir(), 'push-'));
  open.push(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  await copyFile(join(www, 'push.js'), join(directory, 'push.js'));
  const { connect } = await import(pathToFileURL(join(directory, 'push.js')));
  return { connect, fallback: join(directory, 'push-fallback.js') };
}

test('while push-fallback.js is not there, WebSockets go on being tried', async () => {
  const host = await start();
  const { connect } = await alone();
  host.box.upgrade = 502;
  const client = new Client(host, { channels: ['news'] }, connect);
  await waitFor(() => host.box.count('upgrade') === 4);
  host.box.upgrade = 'pass';
  await client.until('open');
  assert.equal(client.push.transport, 'ws');
});

test('push-fallback.js is loaded as soon as it is there', async () => {
  const host = await start();
  const { connect, fallback } = await alone();
  host.box.upgrade = 502;
  const client = new Client(host, { channels: ['news'] }, connect);
  await waitFor(() => host.box.count('upgrade') === 3);
  await copyFile(join(www, 'push-fallback.js'), fallback);
  await client.until('open');
  assert.equal(client.push.transport, 'stream');
});

test('push-fallback.js that never comes is given up, and WebSockets go on being tried', async () => {
  const host = await start();
  const { connect, fallback } = await alone();
  await writeFile(fallback, 'await new Promise(() => {});');
  host.box.upgrade = 502;
  const client = new Client(host, { channels: ['news'] }, connect);
  await waitFor(() => host.box.count('upgrade') === 2 && clock.has(30_000));
  host.box.upgrade = 'pass';
  clock.pass(30_000);
  await client.until('open');
  assert.equal(client.push.transport, 'ws');
});

// The refusal brings the other transport, and not the ten seconds after which push.js gives up a handshake. Here these
// would never pass.
test('a proxy that drops Upgrade costs less than two seconds', async () => {
  const host = await start();
  host.box.upgrade = 'drop';
  const before = clock.waited;
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  assert.equal(client.push.transport, 'stream');
  assert.deepEqual(host.box.answered, [400, 400]);
  assert.ok(clock.waited - before < 2000, `${clock.waited - before} ms`);
});

test('a token that never comes is asked for again', async () => {
  const host = await startWithTokens();
  const tokens = [new Promise(() => {}), token(['news'], 600)];
  const client = new Client(host, { channels: ['news'], token: () => tokens.shift() });
  await waitFor(() => clock.has(30_000));
  clock.pass(30_000);
  assert.deepEqual(await client.until('open'), [['connecting'], ['connecting', 1006], ['open']]);
});

test('poll: an answer may take long as long as something of it comes', async () => {
  const host = await start();
  const position = await host.publish('news', '1');
  const held = [];
  host.box.instead = (_, response) => {
    if (held.length > 1) return false;
    held.push(response.writeHead(200, { 'Content-Type': 'application/json' }));
    response.flushHeaders();
    return true;
  };
  const client = new Client(host, { channels: ['news'], transports: ['poll'] });
  const send = async (response, part) => {
    clock.pass(8000);
    const { set } = clock;
    response.write(part);
    await waitFor(() => clock.set > set);
  };
  // This one stops, and is given up ten seconds later.
  await waitFor(() => held.length === 1);
  for (const part of ['{"position"', ':"']) await send(held[0], part);
  clock.pass(10_000);
  await client.until('connecting', 1006);
  await waitFor(() => held.length === 2);
  for (const part of ['{"position"', `:"${position}"`, ',"messages"', ':[]']) await send(held[1], part);
  held[1].end('}');
  assert.deepEqual(await client.until('open'), [['open']]);
});

// A server of WebSockets that says what the test says, and the sockets that have come to it.
async function listening() {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  open.push(async () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  });
  const sockets = [];
  server.on('connection', (socket) => sockets.push(socket));
  return { server, sockets };
}

// A hub that shares a log may be asked for a position of another one, which has read further.
test('ws: a channel that a hub can not give yet is asked for again on another connection', async () => {
  const { server, sockets } = await listening();
  const client = new Client({ box: server.address() }, { channels: ['news'], transports: ['ws'] });
  const asked = async (at, type) => {
    await waitFor(() => sockets.length > at);
    sockets[at].send('{"type":"subscribed","channel":"news","id":"e-1"}');
    for (;;) {
      const [data] = await once(sockets[at], 'message');
      const request = JSON.parse(data);
      if (request.type === type) return request;
    }
  };
  const first = asked(0, 'subscribe');
  await client.until('open');
  client.push.subscribe('late');
  const { ref, channel } = await first;
  const again = asked(1, 'subscribe');
  sockets[0].send(JSON.stringify({ type: 'error', code: 'behind', message: 'try again', channel, ref }));
  assert.deepEqual(await client.until('connecting', 1013), [['connecting', 1013]]);
  const request = await again;
  assert.equal(request.channel, 'late');
  sockets[1].send(JSON.stringify({ type: 'subscribed', channel: 'late', id: 'e-2', ref: request.ref }));
  sockets[1].send('{"type":"message","channel":"late","id":"e-3","data":"1"}');
  assert.deepEqual(await client.until('late', '1'), [['open'], ['late', '1']]);
});

// A page sees nothing of a WebSocket's message before its end.
test('ws: the first message of a replay may take a minute', async () => {
  const { server, sockets } = await listening();
  const client = new Client({ box: server.address() }, { channels: ['news'], since: 'e-1', transports: ['ws'] });
  const passes = async (ms) => {
    await waitFor(() => clock.has(60_000));
    clock.pass(ms);
  };
  await passes(60_000);
  assert.deepEqual(await client.until('connecting', 1006), [['connecting'], ['connecting', 1006]]);
  await waitFor(() => sockets.length === 2);
  await passes(55_000);
  const { set } = clock;
  sockets[1].send('{"type":"message","channel":"news","id":"e-2","data":"large"}');
  await waitFor(() => clock.set > set);
  await passes(55_000);
  sockets[1].send('{"type":"subscribed","channel":"news","id":"e-2"}');
  assert.deepEqual(await client.until('open'), [['news', 'large'], ['open']]);
});

test('stream: a channel that is refused leaves no timer behind', async () => {
  const host = await startWithTokens();
  const client = new Client(host, { transports: ['stream'], token: () => token(['news'], 600) });
  await client.until('open');
  client.push.subscribe('secret');
  await client.until('error', 'channel', 'secret');
  clock.pass(10_000);
  client.push.subscribe('news');
  await waitFor(async () => (await host.stats()).subscriptions === 1);
  await host.publish('news', '1');
  const told = await client.until('news', '1');
  assert.deepEqual(told.filter(([what]) => what !== 'open'), [['news', '1']]);
});
