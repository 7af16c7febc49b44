// Node's `ws`: raw frames, the dialogue of push.v1.json, pings.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import WebSocket from 'ws';
import { Host, Inbox, test } from '../harness/host.mjs';
import { open, start } from '../harness/opened.mjs';
import { listenerWithTokens, token } from '../harness/tokens.mjs';

// A connection whose messages wait in `inbox`: text as strings, binary as buffers.
async function connect(host, query, { subprotocol, ...options } = {}) {
  const socket = new WebSocket(host.url(`/push?${query}`, 'ws'), subprotocol, options);
  socket.inbox = new Inbox();
  socket.on('message', (data, binary) => socket.inbox.put(binary ? data : data.toString()));
  socket.closed = once(socket, 'close');
  socket.on('error', () => {});
  await once(socket, 'open');
  open.push(() => socket.terminate());
  return socket;
}

async function dialogue(host, query = '') {
  const socket = await connect(host, query, { subprotocol: 'push.v1.json' });
  socket.nextObject = async () => JSON.parse(await socket.inbox.next());
  socket.ask = (request) => {
    socket.send(typeof request === 'string' ? request : JSON.stringify(request));
    return socket.nextObject();
  };
  return socket;
}

async function refusal(host, query, subprotocol) {
  const socket = new WebSocket(host.url(`/push?${query}`, 'ws'), subprotocol);
  socket.on('error', () => {});
  const [, response] = await once(socket, 'unexpected-response');
  const chunks = await response.toArray();
  return { status: response.statusCode, error: JSON.parse(Buffer.concat(chunks)).error };
}

test('raw: payloads as published, text and binary', async () => {
  const host = await start();
  const socket = await connect(host, 'channel=a&channel=b');
  assert.equal(socket.protocol, '');
  await host.publish('a', 'text, grüße');
  await host.publish('c', 'not subscribed');
  await host.publish('b', Buffer.from([0xff, 0x00]));
  await host.broadcast('to all');
  assert.deepEqual(await socket.inbox.take(3), ['text, grüße', Buffer.from([0xff, 0x00]), 'to all']);
});

test('raw: what is sent comes back, in order, fragmented or not', async () => {
  const host = await start('max_client_message=4MB', 'max_message=4MB', 'outbox=16MB');
  const socket = await connect(host, 'channel=a');
  const large = Buffer.alloc(3 << 20, 'grüße ');
  socket.send('one');
  socket.send(Buffer.from([1, 2, 3]));
  for (let at = 0; at < large.length; at += 100_001) {
    socket.send(large.subarray(at, at + 100_001), { binary: true, fin: at + 100_001 >= large.length });
  }
  socket.send('');
  assert.deepEqual(await socket.inbox.take(4), ['one', Buffer.from([1, 2, 3]), large, '']);
});

test('raw: goes on at a position', async () => {
  const host = await start();
  const first = await host.publish('a', 'one');
  await host.publish('a', 'two');
  const socket = await connect(host, `channel=a&since=${first}`);
  await host.publish('a', 'three');
  assert.deepEqual(await socket.inbox.take(2), ['two', 'three']);
});

test('push.v1.json: subscribe, message, unsubscribe, ping', async () => {
  const host = await start();
  const socket = await dialogue(host);
  assert.equal(socket.protocol, 'push.v1.json');
  const { id: begun, ...subscribed } = await socket.ask({ type: 'subscribe', channel: 'a' });
  assert.deepEqual(subscribed, { type: 'subscribed', channel: 'a' });
  const id = await host.publish('a', 'one', 'tick');
  const message = { type: 'message', channel: 'a', id, event: 'tick', data: 'one' };
  assert.deepEqual(await socket.nextObject(), message);
  assert.deepEqual(await socket.ask({ type: 'unsubscribe', channel: 'a' }), { type: 'unsubscribed', channel: 'a' });
  await host.publish('a', 'missed');
  assert.deepEqual(await socket.ask({ type: 'ping' }), { type: 'pong' });
  assert.deepEqual(await socket.ask({ type: 'subscribe', channel: 'a', since: begun }), message);
  assert.equal((await socket.nextObject()).data, 'missed');
  assert.equal((await socket.nextObject()).type, 'subscribed');
});

test('push.v1.json: publishing is refused', async () => {
  const host = await start();
  const socket = await dialogue(host);
  const answer = await socket.ask({ type: 'publish', channel: 'a', data: 'x' });
  assert.deepEqual([answer.type, answer.code, answer.channel], ['error', 'publish', 'a']);
  assert.equal((await host.stats()).published, 0);
});

test('push.v1.json: publishing where it is allowed', async () => {
  const host = await start('client_publish=true');
  const [publisher, subscriber] = [await dialogue(host), await dialogue(host, 'channel=a')];
  assert.equal((await subscriber.nextObject()).type, 'subscribed');
  const answer = await publisher.ask({ type: 'publish', channel: 'a', data: 'said', event: 'talk' });
  assert.deepEqual([answer.type, answer.channel], ['published', 'a']);
  const message = { type: 'message', channel: 'a', id: answer.id, event: 'talk', data: 'said' };
  assert.deepEqual(await subscriber.nextObject(), message);
});

test('push.v1.json: a message to the host comes back', async () => {
  const host = await start();
  const socket = await dialogue(host);
  assert.deepEqual(await socket.ask({ type: 'message', data: 'echo' }), { type: 'message', data: 'echo' });
});

test('push.v1.json: nonsense is an error, and the connection goes on', async () => {
  const host = await start();
  const socket = await dialogue(host);
  for (const nonsense of ['{', '[]', '{"type":"fly"}', '{"type":"subscribe"}']) {
    const answer = await socket.ask(nonsense);
    assert.deepEqual([answer.type, answer.code], ['error', 'malformed'], nonsense);
  }
  assert.deepEqual(await socket.ask({ type: 'ping' }), { type: 'pong' });
});

test('compression: what is published, and what is sent', async () => {
  const host = await start('compression=true', 'max_client_message=1MB', 'max_message=1MB');
  const text = JSON.stringify(Array.from({ length: 2000 }, (_, n) => ({ n, price: n * 7919 % 1000, side: 'grüße' })));
  for (const offer of [true, { threshold: 0 }, { clientMaxWindowBits: 10 }, { serverMaxWindowBits: 15, threshold: 0 }]) {
    const socket = await connect(host, 'channel=a', { perMessageDeflate: offer });
    assert.equal(socket.extensions, 'permessage-deflate');
    for (const payload of [text, 'short', '', Buffer.from(text)]) {
      socket.send(payload);
      assert.deepEqual(await socket.inbox.next(), payload);
    }
    await host.publish('a', text);
    assert.equal(await socket.inbox.next(), text);
  }
  for (const offer of [false, { serverMaxWindowBits: 9 }]) {
    const socket = await connect(host, 'channel=a', { perMessageDeflate: offer });
    assert.equal(socket.extensions, '');
    await host.publish('a', text);
    assert.equal(await socket.inbox.next(), text);
  }
});

test('one subprotocol of several is chosen', async () => {
  const host = await start();
  const socket = await connect(host, '', { subprotocol: ['chat', 'push.v1.json', 'push.v9'] });
  assert.equal(socket.protocol, 'push.v1.json');
});

// Node's `ws`, like a browser, fails the connection if none of the subprotocols that it offers is chosen.
test('a client with a subprotocol of its own gets raw frames', async () => {
  const host = await start();
  const socket = await connect(host, 'channel=a', { subprotocol: ['my-app', 'other'] });
  assert.equal(socket.protocol, 'my-app');
  await host.publish('a', 'raw');
  assert.equal(await socket.inbox.next(), 'raw');
});

test('a subprotocol of ours is written as it is', async () => {
  const host = await start();
  for (const name of ['PUSH.V1.JSON', 'push.v2.json']) {
    const { status, error } = await refusal(host, 'channel=a', [name]);
    assert.deepEqual([status, error.code], [400, 'subprotocol']);
    assert.match(error.message, /push\.v1\.json/);
  }
});

test('a token may be one of the subprotocols', async () => {
  const { port, options } = await listenerWithTokens();
  const host = await start(...options);
  const own = { url: (path, scheme) => `${scheme}://127.0.0.1:${port}${path}` };
  const good = token(['a'], 600);
  for (const [subprotocol, chosen] of [
    [['push.v1.json', good], 'push.v1.json'], [[good, 'push.v1.json'], 'push.v1.json'], [[good, 'my-app'], 'my-app'],
    [[good], good],
  ]) {
    const socket = await connect(own, 'channel=a', { subprotocol });
    assert.equal(socket.protocol, chosen);
  }
  for (const subprotocol of [['push.v1.json'], ['push.v1.json', token(['a'], -60)]]) {
    assert.equal((await refusal(own, 'channel=a', subprotocol)).status, 401);
  }
  await host.publish('a', 'x');
});

test('refusals have a status and a reason', async () => {
  const host = await start();
  for (const [query, code] of [['', 'channel'], ['channel=a&since=nothing', 'position'], ['channel=a&last=x', 'last']]) {
    const { status, error } = await refusal(host, query);
    assert.deepEqual([status, error.code], [400, code], query);
  }
});

test('who answers pings stays', async () => {
  const host = await start('heartbeat=100ms', 'ping_timeout=60s');
  const socket = await connect(host, 'channel=a');
  for (let count = 0; count < 5; count++) await once(socket, 'ping');
  await host.publish('a', 'still here');
  assert.equal(await socket.inbox.next(), 'still here');
});

test('who answers no pings is closed with 4408', async () => {
  const host = await start('heartbeat=100ms', 'ping_timeout=200ms');
  const socket = await connect(host, 'channel=a', { autoPong: false });
  const [code, reason] = await socket.closed;
  assert.equal(code, 4408);
  assert.ok(reason.length > 0);
});

test('pings of the client are answered', async () => {
  const host = await start();
  const socket = await connect(host, 'channel=a');
  socket.ping('are you there?');
  const [payload] = await once(socket, 'pong');
  assert.equal(payload.toString(), 'are you there?');
});

test('a close is answered with its code', async () => {
  const host = await start();
  const socket = await connect(host, 'channel=a');
  socket.close(4000, 'enough');
  assert.equal((await socket.closed)[0], 4000);
});

test('a client that breaks the protocol is closed with 1002', async () => {
  const host = await start();
  const socket = await connect(host, 'channel=a');
  socket._socket.write(Buffer.from([0x81, 0x01, 0x78])); // not masked
  assert.equal((await socket.closed)[0], 1002);
});

test('a stop says 1001', async () => {
  const host = await Host.start();
  const sockets = [await connect(host, 'channel=a'), await dialogue(host, 'channel=a')];
  await host.publish('a', 'the last');
  const stopped = host.stop();
  assert.equal(await sockets[0].inbox.next(), 'the last');
  for (const socket of sockets) assert.equal((await socket.closed)[0], 1001);
  await stopped;
});
