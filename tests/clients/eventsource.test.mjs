// Node's `eventsource`, which does what a browser's EventSource does: it comes back by itself, with the last id it saw.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { Host, Inbox, test } from '../harness/host.mjs';
import { open, start, startProxy } from '../harness/opened.mjs';

// Subscribes through `port`. Events of these types wait in `inbox`.
async function listen(port, query, types = ['message']) {
  const source = new EventSource(`http://127.0.0.1:${port}/push?${query}`);
  source.inbox = new Inbox();
  source.opened = new Inbox();
  for (const type of types) source.addEventListener(type, (event) => source.inbox.put(event));
  source.addEventListener('open', (event) => source.opened.put(event));
  source.failures = new Inbox();
  source.addEventListener('error', (event) => source.failures.put(event));
  open.push(() => source.close());
  return source;
}

test('messages with their positions, and no event before the first', async () => {
  const host = await start();
  await host.publish('a', 'old');
  const source = await listen(host.port, 'channel=a');
  await source.opened.next();
  const wanted = [];
  for (const data of ['one', 'two\nlines', 'grüße']) wanted.push([data, await host.publish('a', data)]);
  const seen = await source.inbox.take(3);
  assert.deepEqual(seen.map((event) => [event.data, event.lastEventId]), wanted);
});

test('event types reach their listeners only', async () => {
  const host = await start();
  const source = await listen(host.port, 'channel=a', ['message', 'tick']);
  await source.opened.next();
  await host.publish('a', 'untyped');
  await host.publish('a', 'for nobody', 'tock');
  await host.publish('a', 'typed', 'tick');
  await host.broadcast('to all');
  const seen = await source.inbox.take(3);
  assert.deepEqual(seen.map((event) => [event.type, event.data]), [
    ['message', 'untyped'], ['tick', 'typed'], ['message', 'to all'],
  ]);
});

test('a gap is told by an event of its own', async () => {
  const host = await start('history_count=2');
  const ids = [];
  for (let count = 0; count < 5; count++) ids.push(await host.publish('a', `${count}`));
  const source = await listen(host.port, `channel=a&since=${ids[0]}`, ['message', 'push-gap']);
  const seen = await source.inbox.take(3);
  assert.deepEqual(seen.map((event) => event.type), ['push-gap', 'message', 'message']);
  assert.deepEqual(seen.map((event) => event.lastEventId), ids.slice(2));
});

test('a pattern: channels that come later as well, and what was missed of them', async () => {
  const host = await start('retry=100ms', 'max_patterns=1');
  const proxy = await startProxy(host);
  const source = await listen(proxy.port, 'pattern=news.*&channel=news.a&format=json', ['message', 'push-gap']);
  await source.opened.next();
  const seen = async (count) => (await source.inbox.take(count)).map(({ type, data, lastEventId }) => {
    const { channel, data: text } = JSON.parse(data);
    return [type, channel, text, lastEventId];
  });
  const wanted = [];
  for (const channel of ['news.a', 'other', 'news.b']) {
    const id = await host.publish(channel, '1');
    if (channel !== 'other') wanted.push(['message', channel, '1', id]);
  }
  assert.deepEqual(await seen(2), wanted);
  await proxy.cutWhile(async () => {
    for (const channel of ['news.c', 'news.a']) {
      wanted.push(['message', channel, '2', await host.publish(channel, '2')]);
    }
  });
  assert.deepEqual(await seen(2), wanted.slice(2));
});

test('broken within messages again and again, it goes on where it was', async () => {
  const host = await start('retry=100ms', 'history_count=10000');
  const proxy = await startProxy(host);
  const source = await listen(proxy.port, 'channel=a');
  await source.opened.next();
  const wanted = [[await host.publish('a', 'the first'), 'the first']];
  const seen = [await source.inbox.next()];
  // Heads are about 250 bytes, messages 1,050: breaks within heads, between events and in the middle of them.
  const breaks = [100, 260, 300, 1000, 1300, 2500, 5003, 7777, 11_111, 300, 1400];
  proxy.cutAfter(...breaks);
  assert.equal(proxy.cut(), 1);
  for (let count = 0; count < 200; count++) {
    const data = `${count} ${'x'.repeat(1000)}`;
    wanted.push([await host.publish('a', data), data]);
  }
  seen.push(...(await source.inbox.take(200)));
  assert.deepEqual(seen.map((event) => [event.lastEventId, event.data]), wanted);
  assert.equal(proxy.count, breaks.length + 2);
});

test('cut off before the first message, it comes back to where it subscribed', async () => {
  const host = await start('retry=100ms');
  await host.publish('a', 'old');
  const proxy = await startProxy(host);
  const source = await listen(proxy.port, 'channel=a');
  // It knows where it is when this event has come, behind the head.
  const placed = new Inbox();
  source.addEventListener('push-open', (event) => placed.put(event));
  await placed.next();
  await source.opened.next();
  assert.equal(proxy.cut(), 1);
  const missed = await host.publish('a', 'missed');
  await source.opened.next();
  const live = await host.publish('a', 'live');
  const seen = await source.inbox.next();
  assert.deepEqual([seen.data, seen.lastEventId], ['missed', missed]);
  assert.equal((await source.inbox.next()).lastEventId, live);
});

test('a stop is told', async () => {
  const host = await Host.start('retry=100ms');
  const source = await listen(host.port, 'channel=a', ['message', 'push-close']);
  await source.opened.next();
  await host.publish('a', 'the last');
  await host.stop();
  const [last, close] = await source.inbox.take(2);
  assert.equal(last.data, 'the last');
  const { code, type } = JSON.parse(close.data);
  assert.deepEqual([close.type, type, code], ['push-close', 'close', 1001]);
});

test('after a refusal that nothing can mend it stays away', async () => {
  const host = await start();
  const source = await listen(host.port, 'channel=a&since=nothing');
  const failure = await source.failures.next();
  assert.equal(failure.code, 400);
  assert.equal(source.readyState, EventSource.CLOSED);
});
