// Pages in Chromium that see who is there, while others come and go, and while their transports break.

import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { Middlebox } from '../harness/middlebox.mjs';
import { open, start as startHost } from '../harness/opened.mjs';
import { listenerWithTokens, token } from '../harness/tokens.mjs';
import { launch } from './demo.mjs';
import { Page } from './page.mjs';

const ROOM = 'room.1';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

// The pages come from the host. They subscribe at a listener that checks tokens, through a middlebox.
async function start(...more) {
  const { port, options } = await listenerWithTokens();
  const host = await startHost(
    'retry=100ms', 'allowed_origins=*', 'channel.room.*.presence=true', ...options, ...more,
  );
  host.proxy = { port: host.port };
  host.box = await Middlebox.start(port);
  open.push(() => host.box.stop());
  host.direct = `http://127.0.0.1:${host.box.port}/push`;
  host.listener = `http://127.0.0.1:${port}/push`;
  return host;
}

const rights = (user, info) => token([ROOM], 600, user, info);

// A page of a user, with a token whenever it needs one.
function enter(host, user, info, late) {
  const tokens = { shift: () => () => rights(user, info) };
  return Page.connect(browser, open, host, { channels: [ROOM], presence: true }, { tokens, late });
}

const changes = (told) => told.filter(([what]) => ['join', 'leave'].includes(what));

test('a page sees who comes, with an info; a second tab is no join, and a reload no leave', async () => {
  const host = await start('presence_grace=1h');
  const ada = await enter(host, 'ada');
  await ada.knows(ROOM, 'ada');
  const bob = await enter(host, 'bob', 'Bob <b>');
  await bob.knows(ROOM, 'ada', 'bob');
  await ada.knows(ROOM, 'ada', 'bob');
  const info = await ada.page.evaluate((room) => window.push.presence(room).users.get('bob'), ROOM);
  assert.equal(info, 'Bob <b>');
  const tab = await enter(host, 'bob', 'Bob <b>');
  await tab.knows(ROOM, 'ada', 'bob');
  await bob.page.close();
  await tab.load();
  await tab.knows(ROOM, 'ada', 'bob');
  await enter(host, 'cleo');
  await ada.knows(ROOM, 'ada', 'bob', 'cleo');
  const told = await ada.until('join', ROOM, 'cleo', null);
  assert.deepEqual(changes(told), [['join', ROOM, 'bob', 'Bob <b>'], ['join', ROOM, 'cleo', null]]);
});

test('a page sees who goes', async () => {
  const host = await start('presence_grace=100ms');
  const ada = await enter(host, 'ada');
  await ada.knows(ROOM, 'ada');
  for (let round = 0; round < 2; round++) {
    const bob = await enter(host, 'bob');
    await ada.knows(ROOM, 'ada', 'bob');
    await bob.page.close();
    await ada.until('leave', ROOM, 'bob');
    await ada.knows(ROOM, 'ada');
  }
});

test('WebSocket, stream and polls: a page knows who is there, and is told of each who comes once', async () => {
  const host = await start('presence_grace=1h');
  const ada = await enter(host, 'ada', undefined, []);
  await ada.until('open');
  const users = ['ada'];
  await ada.knows(ROOM, ...users);
  for (const [upgrade, buffers, transport] of [[400, false, 'stream'], [400, true, 'poll'], ['pass', false, 'ws']]) {
    Object.assign(host.box, { upgrade, buffers });
    host.box.cut();
    await ada.page.evaluate("dispatchEvent(new Event('online'))");
    for (const when of ['meanwhile', 'after']) {
      // Somebody who is there for good, over a connection of its own.
      const user = `${transport} ${when}`;
      const there = new AbortController();
      open.push(() => there.abort());
      const query = new URLSearchParams({ channel: ROOM, transport: 'stream', token: rights(user) });
      const response = await fetch(`${host.listener}?${query}`, { signal: there.signal });
      assert.equal(response.status, 200);
      users.push(user);
      await ada.comesTo(transport, host.box);
      await ada.knows(ROOM, ...users);
    }
  }
  const told = await ada.page.evaluate(() => window.told);
  assert.deepEqual(changes(told), users.slice(1).map((user) => ['join', ROOM, user, null]));
});
