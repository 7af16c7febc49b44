// push.js and the channel of the page's user, which the server gives by itself (option user_channel).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { freePort } from '../harness/free.mjs';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Client, isMessage, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { token } from '../harness/tokens.mjs';

const KEY = 'a-key-of-some-length';

for (const transport of ['ws', 'stream', 'poll']) {
  for (const channels of [['news'], []]) {
    const beside = channels.length > 0 ? 'beside its own channels' : 'without any other channel';
    test(`${transport}: the page gets what its user gets, ${beside}, and goes on after a break`, async () => {
      const host = await startWithTokens('user_channel=true');
      const asked = [];
      host.box.instead = ({ url }) => {
        asked.push(new URL(url, 'http://host').searchParams.getAll('channel'));
        return false;
      };
      const client = new Client(host, {
        channels, transports: [transport], user: true, token: () => token(['news', 'sport'], 600),
      });
      const open = await client.until('open');
      assert.deepEqual(open, [['connecting'], ['open']]);
      const subscriptions = channels.length + 1;
      await host.waitFor('subscriptions', subscriptions);
      await host.publish('user:ada', 'live');
      await client.until('user:ada', 'live');
      await host.publish('user:bob', 'not hers');
      // Between two requests it would not notice that it is cut off.
      await waitFor(() => host.box.waiting === (transport === 'ws' ? 0 : 1));
      await host.box.cutWhile(async () => {
        await client.until('connecting', 1006);
        await host.publish('user:ada', 'missed');
        for (const channel of channels) await host.publish(channel, 'missed, too');
      });
      const missed = (await client.until('open')).filter(isMessage);
      assert.deepEqual(missed, [['user:ada', 'missed'], ...channels.map((channel) => [channel, 'missed, too'])]);
      // A channel that the page wants later comes beside it, too, and no request has named the user's.
      client.push.subscribe('sport');
      await host.waitForAll({ subscriptions: subscriptions + 1 });
      await host.publish('sport', '1');
      await client.until('sport', '1');
      await host.publish('user:ada', 'last');
      const told = await client.until('user:ada', 'last');
      assert.deepEqual(told.filter(isMessage), [['user:ada', 'last']]);
      assert.ok(asked.flat().every((channel) => !channel.startsWith('user:')), JSON.stringify(asked));
      // What the page does not want it does not get.
      client.push.unsubscribe('user:ada');
      await host.publish('user:ada', 'unwanted');
      await host.publish('sport', '2');
      assert.deepEqual((await client.until('sport', '2')).filter(isMessage), [['sport', '2']]);
    });
  }

  test(`${transport}: where users have no channels, a page that counts on one goes on with its own`, async () => {
    const host = await startWithTokens();
    const client = new Client(host, {
      channels: [], transports: [transport], user: true, token: () => token(['news'], 600),
    });
    if (transport === 'ws') {
      await client.until('open');
      client.push.subscribe('news');
      await host.waitFor('subscriptions', 1);
      await host.publish('news', '1');
      await client.until('news', '1');
    } else {
      // A request without any channel is the mistake of the page.
      await client.until('closed', 400);
    }
  });

  test(`${transport}: a page that names the channel of a user is told that it may not, and the others go on`, async () => {
    const host = await startWithTokens('user_channel=true');
    const client = new Client(host, {
      channels: ['news'], transports: [transport], token: () => token(['*'], 600),
    });
    await client.until('open');
    client.push.subscribe('user:bob');
    await client.until('error', 'channel', 'user:bob');
    await host.publish('user:bob', 'not hers');
    await host.publish('news', '1');
    assert.deepEqual((await client.until('news', '1')).filter(isMessage), [['news', '1']]);
  });

  test(`${transport}: when its channels have ended, the page goes on with what its user gets`, async () => {
    const port = await freePort();
    const host = await startWithTokens('user_channel=true', `control=127.0.0.1:${port}`, `control_key=${KEY}`);
    const client = new Client(host, {
      channels: ['answer'], transports: [transport], token: () => token(['answer'], 600),
    });
    await client.until('open');
    await host.publish('user:ada', 'before');
    await client.until('user:ada', 'before');
    const ended = await fetch(`http://127.0.0.1:${port}/v1/end?channel=answer`, {
      method: 'POST', headers: { Authorization: `Bearer ${KEY}` },
    });
    assert.equal(ended.status, 200);
    await client.until('end', 'answer');
    await host.waitFor('subscriptions', 1);
    await host.publish('user:ada', 'after');
    const told = await client.until('user:ada', 'after');
    assert.ok(!told.some(([what]) => what === 'closed'), JSON.stringify(told));
  });
}

test('ws: messages of the user that come before the confirmations do not move the position of the others', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const urls = [];
  const asked = [];
  server.on('connection', (socket, { url }) => {
    const { searchParams } = new URL(url, 'http://host');
    urls.push([searchParams.getAll('channel'), searchParams.get('since')]);
    const say = (object) => socket.send(JSON.stringify(object));
    socket.on('message', (text) => {
      const { type, channel, since, ref } = JSON.parse(text);
      asked.push([type, channel, since]);
      say({ type: type === 'ping' ? 'pong' : `${type}d`, channel, id: type === 'ping' ? undefined : 'e-70', ref });
    });
    say({ type: 'message', channel: 'user:ada', id: 'e-50', data: 'x' });
    if (urls.length === 1) return socket.close(1011, 'before it has confirmed anything');
    for (const channel of searchParams.getAll('channel')) say({ type: 'subscribed', channel, id: 'e-60' });
    say({ type: 'subscribed', channel: 'user:ada', id: 'e-60' });
  });
  open.push(async () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  });
  const client = new Client({ box: server.address() }, { channels: ['news'], since: 'e-1' });
  await client.until('connecting', 1011);
  assert.equal(client.push.position, 'e-1');
  await client.until('open');
  // The channel is asked for from where it is, and the user's by nobody.
  assert.deepEqual(urls, [[['news'], 'e-1'], [[], 'e-50']]);
  assert.deepEqual(asked.filter(([type]) => type !== 'ping'), [['subscribe', 'news', 'e-1']]);
  await waitFor(() => client.push.position === 'e-70');
});
