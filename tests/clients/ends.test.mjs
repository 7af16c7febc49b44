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
  host.mark = async (what, channel) => {
    const headers = { Authorization: `Bearer ${KEY}` };
    const response = await fetch(`http://127.0.0.1:${port}/v1/${what}?channel=${channel}`, { method: 'POST', headers });
    assert.equal(response.status, 200);
    return (await response.json()).id;
  };
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
