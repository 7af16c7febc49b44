// push.js and messages that leave its page out: it goes on behind them, over each transport.

import assert from 'node:assert/strict';
import { freePort } from '../harness/free.mjs';
import { test } from '../harness/host.mjs';
import { Client, isMessage, start, waitFor } from '../harness/pushing.mjs';

const KEY = 'a-key-of-some-length';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// A host, and a function that publishes what leaves a client out.
async function startWithControl() {
  const port = await freePort();
  const host = await start(`control=127.0.0.1:${port}`, `control_key=${KEY}`);
  const publishExcept = async (id, channel, data) => {
    const query = new URLSearchParams({ channel, except: id });
    const response = await fetch(`http://127.0.0.1:${port}/v1/publish?${query}`, {
      method: 'POST', body: data, headers: { Authorization: `Bearer ${KEY}` },
    });
    assert.equal(response.status, 200);
    return (await response.json()).id;
  };
  return { host, publishExcept };
}

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: a page does not get what leaves it out, live and after a break, and its position moves on`, async () => {
    const { host, publishExcept } = await startWithControl();
    const options = { channels: ['news'], transports: [transport], client: true };
    const [client, other] = [new Client(host, options), new Client(host, options)];
    assert.match(client.push.client, UUID);
    assert.notEqual(client.push.client, other.push.client);
    await client.until('open');
    await other.until('open');
    await host.waitForAll({ subscriptions: 2 });
    const own = await publishExcept(client.push.client, 'news', 'own');
    await other.until('news', 'own');
    await waitFor(() => client.push.position === own);
    await host.publish('news', 'to all');
    assert.deepEqual((await client.until('news', 'to all')).filter(isMessage), [['news', 'to all']]);
    // Between two requests they would not notice that they are cut off.
    await waitFor(() => host.box.waiting === (transport === 'ws' ? 0 : 2));
    await host.box.cutWhile(async () => {
      await client.until('connecting', 1006);
      await host.publish('news', 'missed');
      await publishExcept(client.push.client, 'news', 'own, missed');
    });
    assert.deepEqual((await client.until('open')).filter(isMessage), [['news', 'missed']]);
    await host.publish('news', 'last');
    assert.deepEqual((await client.until('news', 'last')).filter(isMessage), [['news', 'last']]);
    const theirs = (await other.until('news', 'last')).filter(isMessage).map(([, data]) => data);
    assert.deepEqual(theirs, ['to all', 'missed', 'own, missed', 'last']);
  });
}

test('a page publishes without an echo, with an id of its own and without', async () => {
  const host = await start('client_publish=true');
  const chosen = '0a1b2c3d-0000-4000-8000-00000000000a';
  for (const id of [chosen, undefined]) {
    const client = new Client(host, { channels: ['news'], client: id });
    const other = new Client(host, { channels: ['news'] });
    assert.equal(client.push.client, id ?? null);
    await client.until('open');
    await other.until('open');
    const own = await client.push.publish('news', 'own', { echo: false });
    await waitFor(() => client.push.position === own);
    await client.push.publish('news', 'with an echo');
    await other.until('news', 'own');
    assert.deepEqual((await client.until('news', 'with an echo')).filter(isMessage), [['news', 'with an echo']]);
    client.push.close();
    other.push.close();
  }
});

test('an id that is none is refused for good', async () => {
  const host = await start();
  const client = new Client(host, { channels: ['news'], transports: ['stream'], client: 'me' });
  await client.until('closed', 400);
});
