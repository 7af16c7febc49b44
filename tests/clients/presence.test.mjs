// Who is there: push.js over each transport, cut and recovered, and clients without it. Users come and go over other
// connections, over each transport as well.

import assert from 'node:assert/strict';
import polyfill from 'event-source-polyfill';
import { EventSource } from 'eventsource';
import reconnecting from 'reconnecting-eventsource';
import WebSocket from 'ws';
import { connect } from '../../examples-c/www/push.js';
import { Inbox, test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Client, page, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { token } from '../harness/tokens.mjs';

const ROOM = 'room.1';
const TRANSPORTS = ['ws', 'stream', 'poll'];
const NOBODY_LEAVES = 'presence_grace=1h';
// A follower that polls is there without a break, if it comes back within this time. It may be late on a busy machine.
// So the tests with it wait for what is to come, and do not mind what else does.
const SOON = 'presence_grace=300ms';

const start = (...more) => startWithTokens('channel.room.*.presence=true', 'max_patterns=4', ...more);
const rights = (user, info) => token(['*'], 600, user, info);

// A page of a user. What it is told of who is there is in `heard`. It goes through the middlebox, or directly.
function enter(host, user, { info, transport, isDirect = false, ...more } = {}) {
  const heard = [];
  const client = new Client(isDirect ? { box: { port: host.box.upstream } } : host, {
    channels: [ROOM], presence: true, transports: transport && [transport], token: () => rights(user, info),
    onpresence: (presence) => heard.push(presence),
    onjoin: (join) => heard.push(join),
    onleave: (leave) => heard.push(leave),
    ...more,
  });
  return Object.assign(client, {
    heard,
    // The names, or their number.
    knows(channel = ROOM) {
      const { users, count } = client.push.presence(channel) ?? {};
      return users ? [...users.keys()].sort().join() : count ?? null;
    },
    heardOf: (type, user) => heard.filter((what) => what.type === type && what.user === user),
  });
}

// Waits until it knows these.
const untilKnows = (client, wanted, channel) => waitFor(() => client.knows(channel) === wanted);

test('what is no wish to know who is there is refused at once', () => {
  const url = 'http://127.0.0.1:1/push';
  for (const presence of ['room', 1, null, {}]) {
    assert.throws(() => connect(url, { presence }), { name: 'TypeError', message: /presence must be true, false, or/ });
  }
  assert.throws(() => connect(url, { presence: [{ pattern: 'room.*' }] }), /only channels have it/);
  assert.throws(() => connect(url, { presence: ['room.*'] }), TypeError);
  assert.throws(() => connect(`${url}?presence=1`), { name: 'TypeError', message: /the option presence/ });
  const push = connect(url, { transports: ['stream'] });
  open.push(() => push.close());
  assert.throws(() => push.subscribe('a', null, { presence: 'yes' }), TypeError);
  assert.throws(() => push.subscribe({ pattern: 'a*' }, null, { presence: true }), TypeError);
  assert.equal(push.presence('a'), null);
});

for (const transport of TRANSPORTS) {
  test(`${transport}: who is there, who comes with an info, and who goes`, async () => {
    const host = await start(SOON);
    const ada = enter(host, 'ada', { transport, info: 'Ada L.' });
    assert.equal(ada.push.presence(ROOM), null);
    await untilKnows(ada, 'ada');
    const [first] = ada.heard;
    assert.deepEqual(first, {
      type: 'presence', channel: ROOM, users: new Map([['ada', 'Ada L.']]), count: 1,
    });
    // Each is another user. The host may read a request of one after its page has closed, and then it comes once more.
    for (const [user, by, info] of [
      ['bob', 'ws', '{"name":"Bob"}'], ['cleo', 'stream', undefined], ['dan', 'poll', 'grüße "<b>"'],
    ]) {
      const other = enter(host, user, { transport: by, info, presence: false });
      await untilKnows(ada, `ada,${user}`);
      assert.equal(ada.push.presence(ROOM).users.get(user), info ?? null);
      assert.equal(ada.heardOf('join', user)[0].info, info ?? null);
      other.push.close();
      await waitFor(() => ada.heardOf('leave', user).length > 0 && ada.knows() === 'ada');
    }
    // Who is there is no message, and has no place in the order of messages.
    const last = await host.publish(ROOM, 'a message');
    await ada.until(ROOM, 'a message');
    await waitFor(() => ada.push.position === last);
  });

  test(`${transport}: a second tab is no join, and a reload or a break is no leave`, async () => {
    const host = await start(NOBODY_LEAVES);
    const ada = enter(host, 'ada', { transport });
    await untilKnows(ada, 'ada');
    const tabs = [];
    for (const by of [...TRANSPORTS, ...TRANSPORTS]) {
      tabs.push(enter(host, 'bob', { transport: by, presence: false }));
      await tabs.at(-1).until('open');
      if (tabs.length === 4) for (const { push } of tabs) push.close(); // the next one is the page loaded anew
    }
    await untilKnows(ada, 'ada,bob');
    // Now she and both tabs of his are cut off. Meanwhile somebody comes.
    await host.waitForAll({ subscriptions: 3 });
    await waitFor(() => host.box.waiting === (transport === 'ws' ? 2 : 3));
    await host.box.cutWhile(async () => {
      await ada.until('connecting', 1006);
      await enter(host, 'cleo', { isDirect: true }).until('open');
      assert.equal(ada.knows(), 'ada,bob', 'what it knew');
    });
    await untilKnows(ada, 'ada,bob,cleo');
    await enter(host, 'dan').until('open');
    await untilKnows(ada, 'ada,bob,cleo,dan');
    assert.deepEqual(ada.heard.filter(({ type }) => type !== 'presence').map(({ type, user }) => `${type} ${user}`), [
      'join bob', 'join cleo', 'join dan',
    ]);
  });

  test(`${transport}: another info is told as a join`, async () => {
    const host = await start(NOBODY_LEAVES);
    const ada = enter(host, 'ada', { transport });
    await untilKnows(ada, 'ada');
    for (const info of ['here', 'away', undefined, 'here']) {
      const bob = enter(host, 'bob', { info, presence: false });
      await waitFor(() => ada.push.presence(ROOM).users.get('bob') === (info ?? null));
      bob.push.close();
    }
    const told = ada.heardOf('join', 'bob');
    assert.deepEqual(told.map(({ info, count }) => [info, count]), [['here', 2], ['away', 2], [null, 2], ['here', 2]]);
  });

  test(`${transport}: of many only the number is told, and of fewer again who they are`, async () => {
    const host = await start('presence_detail=2', SOON);
    const ada = enter(host, 'ada', { transport });
    await untilKnows(ada, 'ada');
    const others = ['bob', 'cleo', 'dan'].map((user) => enter(host, user, { presence: false }));
    await untilKnows(ada, 4);
    assert.deepEqual(ada.push.presence(ROOM), { users: null, count: 4 });
    assert.ok(ada.heard.some((what) => what.type === 'presence' && what.users === null && what.count === 4));
    others[1].push.close();
    others[2].push.close();
    await untilKnows(ada, 'ada,bob');
    others[0].push.close();
    await waitFor(() => ada.heardOf('leave', 'bob').length > 0);
  });

  test(`${transport}: a channel without presence is served, and says so`, async () => {
    const host = await start(NOBODY_LEAVES);
    const ada = enter(host, 'ada', { transport, channels: [ROOM, 'news'] });
    await untilKnows(ada, 'ada');
    await waitFor(() => ada.heard.some(({ channel, off }) => channel === 'news' && off));
    assert.equal(ada.push.presence('news'), null);
    await host.publish('news', '1');
    await ada.until('news', '1');
  });

  test(`${transport}: it asks for some channels, then for others, and loses no message`, async () => {
    const host = await start(NOBODY_LEAVES, 'history_count=1000');
    const bob = enter(host, 'bob', { channels: [ROOM, 'room.2', 'room.3'], presence: ['room.3'] });
    await untilKnows(bob, 'bob', 'room.3');
    const ada = enter(host, 'ada', { transport, channels: [ROOM, 'room.2'], presence: [ROOM] });
    await untilKnows(ada, 'ada,bob');
    const wanted = [];
    const publish = async () => {
      wanted.push(`${wanted.length}`);
      await host.publish('room.2', wanted.at(-1));
    };
    await publish();
    ada.push.subscribe('room.2', null, { presence: true });
    await publish();
    await untilKnows(ada, 'ada,bob', 'room.2');
    ada.push.subscribe('room.3', null, { presence: true });
    await publish();
    await untilKnows(ada, 'ada,bob', 'room.3');
    assert.equal(ada.knows('room.2'), 'ada,bob');
    await untilKnows(bob, 'ada,bob', 'room.3');
    // It does not want to know any more.
    ada.push.subscribe('room.2', null, { presence: false });
    await publish();
    assert.equal(ada.push.presence('room.2'), null);
    ada.push.unsubscribe('room.3');
    assert.equal(ada.push.presence('room.3'), null);
    await publish();
    ada.heard.length = 0;
    const cleo = enter(host, 'cleo', { channels: [ROOM, 'room.2', 'room.3'], presence: false });
    await cleo.until('open');
    await untilKnows(ada, 'ada,bob,cleo');
    await publish();
    const told = await ada.until('room.2', wanted.at(-1));
    assert.deepEqual(told.filter(([channel]) => channel === 'room.2').map(([, text]) => text), wanted);
    assert.ok(ada.heard.every(({ channel }) => channel === ROOM), JSON.stringify(ada.heard));
    assert.deepEqual([ada.push.presence('room.2'), ada.push.presence('room.3')], [null, null]);
  });

  test(`${transport}: a channel that a pattern brings is followed by its name`, async () => {
    const host = await start(NOBODY_LEAVES);
    const ada = enter(host, 'ada', { transport, channels: [], patterns: ['room.*'] });
    await ada.until('open');
    ada.push.subscribe(ROOM);
    await untilKnows(ada, 'ada');
    await enter(host, 'bob', { presence: false }).until('open');
    await untilKnows(ada, 'ada,bob');
    assert.ok(ada.heard.every(({ channel }) => channel === ROOM), JSON.stringify(ada.heard));
    await host.publish(ROOM, '1');
    await host.publish('room.2', '2');
    const told = await ada.until('room.2', '2');
    assert.deepEqual(told.filter(([channel]) => channel.startsWith('room.')), [[ROOM, '1'], ['room.2', '2']]);
  });
}

test('WebSocket, stream and WebSocket again: who stays is told of nobody twice', async () => {
  const host = await start(NOBODY_LEAVES);
  const ada = enter(host, 'ada');
  await untilKnows(ada, 'ada');
  const come = ['bob', 'cleo', 'dan', 'eve'];
  for (let at = 0; at < come.length; at++) {
    const transport = at % 2 ? 'ws' : 'stream';
    host.box.upgrade = at % 2 ? 'pass' : 502;
    host.box.cut();
    page.dispatchEvent(new Event('online'));
    await enter(host, come[at], { isDirect: true, presence: false }).until('open');
    await waitFor(() => ada.push.transport === transport);
    await untilKnows(ada, ['ada', ...come.slice(0, at + 1)].join());
  }
  const changes = ada.heard.filter(({ type }) => type !== 'presence');
  assert.deepEqual(changes.map(({ type, user }) => `${type} ${user}`), come.map((user) => `join ${user}`));
});

// ---- without push.js ----

const urlOf = (host, user, query, port = host.box.upstream) => (
  `http://127.0.0.1:${port}/push?channel=${ROOM}&token=${rights(user)}&${query}`
);

// What an EventSource is told of who is there.
function usersOf(source) {
  const users = new Map();
  const on = (type, change) => source.addEventListener(type, ({ data }) => change(JSON.parse(data)));
  on('push-presence', (list) => {
    users.clear();
    for (const { user, info } of list.users) users.set(user, info);
  });
  on('push-join', ({ user, info }) => users.set(user, info));
  on('push-leave', ({ user }) => users.delete(user));
  return { users, knows: (wanted) => waitFor(() => [...users.keys()].sort().join() === wanted) };
}

const ReconnectingEventSource = reconnecting.default ?? reconnecting;

for (const [name, make] of [
  ['eventsource', (url) => new EventSource(url)],
  ['event-source-polyfill', (url) => new polyfill.EventSourcePolyfill(url)],
  ['reconnecting-eventsource', (url) => (
    new ReconnectingEventSource(url, { eventSourceClass: EventSource, max_retry_time: 100 })
  )],
]) {
  test(`${name}: after a break come what was missed and who is there`, async () => {
    const host = await start(NOBODY_LEAVES);
    const source = make(urlOf(host, 'ada', 'presence=1', host.box.port));
    open.push(() => source.close());
    const messages = new Inbox();
    source.addEventListener('message', ({ data }) => messages.put(data));
    const { knows } = usersOf(source);
    await knows('ada');
    await host.publish(ROOM, 'before');
    assert.equal(await messages.next(), 'before');
    await host.box.cutWhile(async () => {
      await enter(host, 'bob', { isDirect: true }).until('open');
      await host.publish(ROOM, 'during');
    });
    assert.equal(await messages.next(), 'during');
    await knows('ada,bob');
    await host.publish(ROOM, 'after');
    assert.equal(await messages.next(), 'after');
  });
}

for (const format of ['raw', 'json']) {
  test(`an EventSource, ${format}: who is there comes as events of their own`, async () => {
    const host = await start(SOON);
    const source = new EventSource(urlOf(host, 'ada', `presence=1&format=${format}`));
    open.push(() => source.close());
    const inbox = new Inbox();
    source.addEventListener('message', (event) => inbox.put(event));
    const { users, knows } = usersOf(source);
    await knows('ada');
    const bob = enter(host, 'bob', { info: 'Bob', presence: false });
    await knows('ada,bob');
    assert.equal(users.get('bob'), 'Bob');
    bob.push.close();
    await knows('ada');
    const id = await host.publish(ROOM, 'a message');
    assert.equal((await inbox.next()).lastEventId, id);
  });

  test(`fetch, SSE, ${format}: the event has the object as data, and no id`, async () => {
    const host = await start(NOBODY_LEAVES);
    const told = lines(urlOf(host, 'ada', `presence=1&format=${format}`), 'text/event-stream');
    const event = [];
    for await (const line of told) {
      if (line === '' && event.includes('event: push-presence')) break;
      if (line === '') event.length = 0;
      else event.push(line);
    }
    assert.deepEqual(event, [
      'event: push-presence', 'data: {"type":"presence","channel":"room.1","users":[{"user":"ada"}],"count":1}',
    ]);
  });
}

// The lines of an answer, one after the other.
async function* lines(url, type) {
  const abort = new AbortController();
  open.push(() => abort.abort());
  const response = await fetch(url, { headers: { Accept: type }, signal: abort.signal });
  assert.equal(response.status, 200);
  let rest = '';
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    yield* parts;
  }
}

test('fetch, a stream: who is there comes after what was missed, in exactly this form', async () => {
  const host = await start(NOBODY_LEAVES);
  await host.publish(ROOM, 'missed');
  const stream = lines(urlOf(host, 'ada', 'presence=1&last=1'), 'application/x-ndjson');
  const next = async () => (await stream.next()).value || next(); // an empty line is a heartbeat
  assert.equal(JSON.parse(await next()).data, 'missed');
  assert.equal(await next(), '{"type":"presence","channel":"room.1","users":[{"user":"ada"}],"count":1}');
  await enter(host, 'bob', { info: 'Bob', presence: false }).until('open');
  const whole = '{"type":"presence","channel":"room.1","users":[{"user":"ada"},{"user":"bob","info":"Bob"}],"count":2}';
  const told = await next();
  assert.ok([whole, '{"type":"join","channel":"room.1","user":"bob","info":"Bob","count":2}'].includes(told), told);
});

test('polls: each brings who is there if that has changed since the version of the one before', async () => {
  const host = await start(NOBODY_LEAVES, 'poll_timeout=1h');
  const poll = async (query) => {
    const response = await fetch(urlOf(host, 'ada', `transport=poll&${query}`));
    assert.equal(response.status, 200);
    return response.json();
  };
  // The first one is answered at once, though it may wait.
  const first = await poll('presence=1');
  assert.deepEqual(Object.keys(first), ['position', 'messages', 'presence']);
  assert.match(first.presence, /^[0-9a-z-]{1,40}$/);
  const ada = { type: 'presence', channel: ROOM, users: [{ user: 'ada' }], count: 1 };
  assert.deepEqual(first.messages, [ada]);
  // Nothing has changed.
  const asBefore = await poll(`presence=${first.presence}&wait=0`);
  assert.deepEqual([asBefore.messages, typeof asBefore.presence], [[], 'string']);
  // It waits until somebody comes.
  const waiting = poll(`presence=${asBefore.presence}&since=${first.position}`);
  await host.waitForAll({ polls: 1 });
  await enter(host, 'bob', { info: 'Bob', presence: false }).until('open');
  const both = { ...ada, users: [{ user: 'ada' }, { user: 'bob', info: 'Bob' }], count: 2 };
  const second = await waiting;
  assert.deepEqual(second.messages, [both]);
  // A message comes as ever, and a version of another life of the hub is as good as none.
  const id = await host.publish(ROOM, '1');
  const third = await poll(`presence=${second.presence}&since=${second.position}`);
  assert.deepEqual(third.messages.map(({ type }) => type), ['message']);
  assert.equal(third.position, id);
  for (const version of ['1', 'anotherlife-0']) {
    const answer = await poll(`presence=${version}&since=${id}`);
    assert.deepEqual([answer.messages, answer.position], [[both], id]);
  }
  // Without the wish there is nothing of it.
  for (const query of ['wait=0', 'wait=0&presence=0']) {
    assert.deepEqual(Object.keys(await poll(query)), ['position', 'messages']);
  }
});

test('what is no wish to know who is there is refused with 400', async () => {
  const host = await start();
  for (const transport of ['poll', 'stream', 'sse']) {
    for (const wrong of ['', 'YES', '1%202', '-'.repeat(41)]) {
      const response = await fetch(urlOf(host, 'ada', `transport=${transport}&presence=${wrong}`));
      const { error } = await response.json();
      assert.deepEqual([response.status, error.code], [400, 'presence'], `${transport} ${wrong}`);
    }
  }
});

// A WebSocket of the package ws, with the frames in an inbox.
async function dial(host, user, query, protocols) {
  const socket = new WebSocket(urlOf(host, user, query).replace('http', 'ws'), protocols);
  open.push(() => socket.terminate());
  const frames = new Inbox();
  socket.on('message', (text) => frames.put(JSON.parse(text)));
  const refused = new Promise((resolve) => {
    socket.on('unexpected-response', (_, { statusCode }) => resolve(statusCode));
  });
  socket.on('error', () => {});
  return { socket, frames, refused, say: (what) => socket.send(JSON.stringify(what)) };
}

test('a raw WebSocket has no form for who is there', async () => {
  const host = await start();
  const { refused } = await dial(host, 'ada', 'presence=1', []);
  assert.equal(await refused, 400);
});

test('a WebSocket: the list comes after `subscribed`, and a request may ask for it', async () => {
  const host = await start(NOBODY_LEAVES);
  const { frames, say } = await dial(host, 'ada', 'presence=1', ['push.v1.json']);
  const list = (channel) => ({ type: 'presence', channel, users: [{ user: 'ada' }], count: 1 });
  assert.equal((await frames.next()).type, 'subscribed');
  assert.deepEqual(await frames.next(), list(ROOM));
  say({ type: 'subscribe', channel: 'room.2', presence: true, ref: 1 });
  assert.deepEqual((({ type, ref }) => [type, ref])(await frames.next()), ['subscribed', 1]);
  assert.deepEqual(await frames.next(), list('room.2'));
  say({ type: 'subscribe', channel: 'news', presence: true, ref: 2 });
  assert.equal((await frames.next()).type, 'subscribed');
  assert.deepEqual(await frames.next(), { type: 'presence', channel: 'news', off: true });
  say({ type: 'subscribe', pattern: 'room.*', presence: true, ref: 3 });
  assert.deepEqual((({ type, code, ref }) => [type, code, ref])(await frames.next()), ['error', 'presence', 3]);
});
