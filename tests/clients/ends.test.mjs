// Streams with an end: a page that comes in the middle gets all, once, learns of the end, and does not come back.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { freePort } from '../harness/free.mjs';
import { Inbox, test } from '../harness/host.mjs';
import { open, startProxy } from '../harness/opened.mjs';
import { Client, start, waitFor } from '../harness/pushing.mjs';

const KEY = '0123456789abcdef0123456789abcdef';

async function startWithControl(...options) {
  const port = await freePort();
  const host = await start(`control=127.0.0.1:${port}`, `control_key=${KEY}`, ...options);
  host.control = async (path) => {
    const headers = { Authorization: `Bearer ${KEY}` };
    const response = await fetch(`http://127.0.0.1:${port}/v1/${path}`, { method: 'POST', headers });
    assert.equal(response.status, 200);
    return response.json();
  };
  host.mark = async (what, channel) => (await host.control(`${what}?channel=${channel}`)).id;
  return host;
}

const texts = (told, channel) => told.filter(([what]) => what === channel).map(([, data]) => data);

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: who comes in the middle, is cut off, and comes late gets all of it once, and the end`, async () => {
    const host = await startWithControl();
    const options = { channels: ['answer'], since: 'start', transports: [transport] };
    await host.mark('begin', 'answer');
    for (const token of ['1', '2', '3']) await host.publish('answer', token);
    const client = new Client(host, options);
    const seen = await client.until('answer', '3');
    await client.until('open');
    await host.publish('answer', '4');
    seen.push(...await client.until('answer', '4'));
    await host.box.cutWhile(async () => {
      await host.publish('answer', '5');
      await host.mark('end', 'answer');
    });
    seen.push(...await client.until('closed', 1000));
    assert.deepEqual(texts(seen, 'answer'), ['1', '2', '3', '4', '5']);
    assert.deepEqual(seen.slice(-2), [['end', 'answer'], ['closed', 1000]]);
    assert.equal(texts(seen, 'begin').length, 1);
    assert.equal(await client.push.ended, true);
    const late = await new Client(host, options).until('closed', 1000);
    assert.deepEqual(texts(late, 'answer'), ['1', '2', '3', '4', '5']);
    assert.deepEqual(texts(late, 'gap'), []);
    await host.waitForAll({ subscriptions: 0 });
  });

  test(`${transport}: a channel that has ended is left, and the others go on`, async () => {
    const host = await startWithControl();
    const client = new Client(host, { channels: ['a', 'b'], transports: [transport] });
    await client.until('open');
    await host.publish('a', 'one');
    await host.mark('end', 'a');
    await client.until('end', 'a');
    await host.publish('b', 'two');
    await client.until('b', 'two');
    await host.waitForAll({ subscriptions: 1 });
    await host.box.cutWhile(() => host.publish('b', 'three'));
    await client.until('b', 'three');
    // It begins anew, and the page has left it. It may ask again.
    await host.mark('begin', 'a');
    await host.publish('b', 'four');
    assert.deepEqual(texts(await client.until('b', 'four'), 'begin'), []);
    client.push.subscribe('a');
    await host.waitForAll({ subscriptions: 2 });
    await host.publish('a', 'five');
    await client.until('a', 'five');
    client.push.close();
    assert.equal(await client.push.ended, false);
  });
}

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: a close with code 1000 alone is no end`, async () => {
    const host = await startWithControl();
    const client = new Client(host, { channels: ['a'], transports: [transport] });
    await client.until('open');
    await host.waitForAll({ subscriptions: 1 });
    await host.control('disconnect?all=1&code=1000');
    if (transport !== 'poll') {
      await client.until('closed', 1000); // whoever closes with it wants the client to stay away
      client.push.subscribe('b');
    }
    client.push.close();
    assert.equal(await client.push.ended, false);
    assert.equal(client.push.transport, null);
  });

  test(`${transport}: after all channels have ended the page may subscribe to others`, async () => {
    const host = await startWithControl();
    const client = new Client(host, { channels: ['a'], transports: [transport] });
    for (const channel of ['a', 'b']) {
      await client.until('open');
      await host.waitForAll({ subscriptions: 1 });
      await host.publish(channel, 'one');
      await client.until(channel, 'one');
      assert.equal(client.push.transport, transport);
      const { ended } = client.push;
      await host.mark('end', channel);
      assert.deepEqual(await client.until('closed', 1000), [['end', channel], ['closed', 1000]]);
      assert.deepEqual([await ended, client.push.transport], [true, null]);
      await host.waitForAll({ subscriptions: 0 });
      client.push.subscribe(channel === 'a' ? 'b' : 'c');
      await client.until('connecting');
      assert.notEqual(client.push.ended, ended);
    }
    await client.until('open');
    const { ended } = client.push;
    client.push.close();
    assert.equal(await ended, false);
    client.push.subscribe('d');
    await host.waitForAll({ connections: 0 });
    assert.deepEqual(client.told, []);
  });
}

for (const transport of ['stream', 'poll']) {
  test(`${transport}: who has the end already is told of it, and does not wait for ever`, async () => {
    const host = await startWithControl();
    await host.publish('a', 'one');
    const end = await host.mark('end', 'a');
    await host.mark('end', 'b');
    const later = await host.publish('other', 'two');
    for (const since of [end, later]) {
      const client = new Client(host, { channels: ['a'], since, transports: [transport] });
      assert.deepEqual((await client.until('closed', 1000)).slice(-2), [['end', 'a'], ['closed', 1000]]);
      assert.equal(await client.push.ended, true);
    }
    const client = new Client(host, { channels: ['a', 'b'], since: later, transports: [transport] });
    const told = (await client.until('closed', 1000)).filter(([what]) => what === 'end');
    assert.deepEqual(told.map(([, channel]) => channel).sort(), ['a', 'b']);
    await host.waitForAll({ subscriptions: 0 });
  });

  test(`${transport}: a channel that the host gives and that is quiet keeps the page when its own has ended`, async () => {
    const host = await startWithControl();
    // The host gives one more channel than the page asks for.
    host.box.instead = (incoming) => {
      incoming.url += '&channel=quiet';
      return false;
    };
    const client = new Client(host, { channels: ['a'], transports: [transport] });
    await client.until('open');
    await host.publish('a', 'one');
    await host.mark('end', 'a');
    await client.until('end', 'a');
    await waitFor(() => host.box.waiting === 1);
    await host.publish('quiet', 'two');
    assert.deepEqual(await client.until('quiet', 'two'), [['quiet', 'two']]);
    await host.mark('end', 'quiet');
    await client.until('closed', 1000);
    assert.equal(await client.push.ended, true);
  });

  test(`${transport}: a page that subscribes again to what has ended asks once a second, and gets what comes`, async () => {
    const host = await startWithControl();
    await host.mark('end', 'a');
    const asked = performance.now();
    let ends = 0;
    const client = new Client(host, {
      channels: ['a'],
      transports: [transport],
      onend({ channel }) {
        ends++;
        client.push.subscribe(channel);
      },
    });
    await waitFor(() => ends === 5);
    const passed = performance.now() - asked;
    assert.ok(passed > 2000, `five times in ${passed} ms`);
    await host.mark('begin', 'a');
    await host.publish('a', 'one');
    await client.until('a', 'one');
  });
}

test('stream: cut off after the end and before the close, it comes back once, and is over', async () => {
  const host = await startWithControl();
  await host.publish('a', 'one');
  const { position } = await (await fetch(`http://127.0.0.1:${host.port}/push?channel=a&wait=0`)).json();
  const id = await host.mark('end', 'a');
  let streams = 0;
  host.box.instead = ({ url }, response) => {
    const isStream = url.includes('transport=stream');
    if (streams > 0) return false;
    if (isStream) {
      streams++;
      response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
      response.end(`${JSON.stringify({ type: 'end', channel: 'a', id })}\n`);
    } else {
      response.writeHead(200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ position, messages: [] }));
    }
    return true;
  };
  const client = new Client(host, { channels: ['a'], transports: ['stream'] });
  const told = await client.until('closed', 1000);
  assert.deepEqual(told, [['connecting'], ['open'], ['end', 'a'], ['connecting', 1006], ['closed', 1000]]);
  assert.equal(await client.push.ended, true);
});

test('push.js: where the beginning is gone, there is a gap', async () => {
  const host = await startWithControl('history_count=2');
  for (const token of ['1', '2', '3']) await host.publish('answer', token);
  const client = new Client(host, { channels: ['answer'], since: 'start' });
  assert.deepEqual(await client.until('open'), [
    ['connecting'], ['gap', 'answer'], ['answer', '2'], ['answer', '3'], ['open'],
  ]);
});

test('an EventSource gets all, the end, and stays away', async () => {
  const host = await startWithControl();
  const proxy = await startProxy(host);
  await host.publish('answer', 'one');
  const source = new EventSource(`http://127.0.0.1:${proxy.port}/push?channel=answer&since=start`);
  open.push(() => source.close());
  const inbox = new Inbox();
  for (const type of ['message', 'push-gap', 'push-end']) source.addEventListener(type, (event) => inbox.put(event));
  assert.equal((await inbox.next()).data, 'one');
  const id = await host.mark('end', 'answer');
  const end = await inbox.next();
  assert.deepEqual([end.type, end.lastEventId, JSON.parse(end.data)], [
    'push-end', id, { type: 'end', channel: 'answer', id },
  ]);
  await waitFor(() => source.readyState === EventSource.CLOSED);
  await host.waitForAll({ sse: 0, subscriptions: 0 });
});
