// A page in Chromium that has a pattern, while its transports break: it goes on over each of them.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { Middlebox } from '../harness/middlebox.mjs';
import { open, start as startHost } from '../harness/opened.mjs';
import { launch } from './demo.mjs';
import { Page } from './page.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

const isMessage = ([what]) => what.startsWith('room.');

test('WebSocket, stream and polls: a page has all channels that its pattern fits, each message once', async () => {
  const host = await startHost('retry=100ms', 'history_count=1000', 'max_patterns=4');
  host.proxy = await Middlebox.start(host.port);
  open.push(() => host.proxy.stop());
  const client = await Page.connect(browser, open, host, { channels: ['room.1'], patterns: ['room.*'] }, { late: [] });
  await client.until('open');
  assert.equal(await client.transport(), 'ws');
  const wanted = [];
  const publish = async (channel, text) => {
    wanted.push([channel, text]);
    await host.publish(channel, text);
  };
  for (const [upgrade, buffers, transport] of [[400, false, 'stream'], [400, true, 'poll'], ['pass', false, 'ws']]) {
    await publish('room.1', `live before ${transport}`);
    await publish(`room.${transport}`, `live before ${transport}`);
    Object.assign(host.proxy, { upgrade, buffers });
    host.proxy.cut();
    await client.page.evaluate("dispatchEvent(new Event('online'))");
    await publish(`room.${transport}`, 'missed');
    await publish('room.1', `missed before ${transport}`);
    await client.comesTo(transport, host.proxy);
  }
  await publish('room.last', 'the last');
  const told = await client.until('room.last', 'the last');
  assert.deepEqual(told.filter(isMessage), wanted);
  assert.ok(!told.some(([what]) => ['gap', 'error', 'closed'].includes(what)), JSON.stringify(told));
  // A pattern comes and goes on the live connection.
  await client.do('subscribe', { pattern: 'desk.*' });
  await host.waitForAll({ patterns: 2 });
  await host.publish('desk.1', 'seen');
  await client.until('desk.1', 'seen');
  await client.do('unsubscribe', { pattern: 'desk.*' });
  await host.waitForAll({ patterns: 1 });
  await host.publish('desk.1', 'unseen');
  await host.publish('room.1', 'seen');
  assert.deepEqual(await client.until('room.1', 'seen'), [['room.1', 'seen']]);
});
