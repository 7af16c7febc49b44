// push.js and a model of a hub that tells who is there, in one process, over each transport: connections end after any
// message, requests take any time, channels and the wish to know who is there come and go. In the end the page knows
// who is in each channel, it was told of each who came and went, and it has lost no message meanwhile.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import '../harness/clock.mjs'; // its long timers do not run: no request is given up because this process stood still
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';

const CASES = 60;
const TRANSPORTS = ['ws', 'stream', 'poll'];
const CHANNELS = ['a', 'b', 'c'];
const KEPT = 'a'; // the page has it all the time
const USERS = ['ada', 'bob', 'cleo', 'dan', 'eve', 'fay'];
const DETAIL = 4; // of more than these only the number is told

const sequence = (position) => Number(position.split('-')[1]);
const turn = () => new Promise((resolve) => { setImmediate(resolve); });

// push.js and push-fallback.js, or with a mistake in one of them.
async function load(mistake) {
  const directory = await mkdtemp(join(tmpdir(), 'push-'));
  open.push(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, 'package.json'), '{"type":"module"}');
  for (const file of ['push.js', 'push-fallback.js']) {
    let text = await readFile(new URL(`../../examples-c/www/${file}`, import.meta.url), 'utf8');
    if (mistake?.file === file) {
      assert.equal(text.split(mistake.from).length, 2, mistake.from);
      text = text.replace(mistake.from, mistake.to);
    }
    await writeFile(join(directory, file), text);
  }
  return import(pathToFileURL(join(directory, 'push.js')));
}

let hub;

class Hub {
  log = [];
  lines = new Set(); // the open connections
  version = 2; // 1 in a poll stands for none
  isCalm = false;
  // `plain`: since when the channel's list is told, with all changes after it.
  rooms = new Map(CHANNELS.map((name) => (
    [name, { members: new Map(), changes: [], version: 2, plain: 2, off: false }]
  )));
  #state;

  constructor(seed) {
    this.#state = seed * 7919 + 17;
    for (let n = 0; n < 5; n++) this.below(2);
  }

  below(bound) {
    this.#state = (this.#state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(this.#state / 65_536) % bound;
  }

  any(list) {
    return list[this.below(list.length)];
  }

  get position() {
    return `e-${this.log.length}`;
  }

  publish(channel) {
    const message = { type: 'message', channel, id: `e-${this.log.length + 1}`, data: '' };
    this.log.push(message);
    for (const line of this.lines) if (line.names.has(channel)) line.say(message);
    return message.id;
  }

  since(position, names) {
    return this.log.filter(({ channel, id }) => sequence(id) > sequence(position) && names.includes(channel));
  }

  // Somebody comes, goes, or has another info; or the channel's presence is turned on or off.
  move() {
    const channel = this.any(CHANNELS);
    const room = this.rooms.get(channel);
    const isTold = () => !room.off && room.members.size <= DETAIL;
    const was = isTold();
    const change = { channel, user: this.any(USERS) };
    if (this.below(20) === 0) room.off = !room.off;
    else if (room.members.has(change.user) && this.below(3)) {
      change.type = 'leave';
      room.members.delete(change.user);
    } else {
      change.type = 'join';
      change.info = this.any([undefined, 'here', 'away']);
      room.members.set(change.user, change.info);
    }
    room.version = ++this.version;
    if (was && isTold() && change.type) {
      room.changes.push([room.version, { ...change, count: room.members.size }]);
    } else room.plain = room.version;
  }

  all(channel) {
    const { off, members } = this.rooms.get(channel);
    const start = { type: 'presence', channel };
    if (off) return { ...start, off };
    if (members.size > DETAIL) return { ...start, count: members.size };
    return { ...start, users: [...members].sort().map(([user, info]) => ({ user, info })), count: members.size };
  }

  // What brings one up to date who has this version.
  news(channel, known) {
    const { version, plain, changes } = this.rooms.get(channel);
    if (known === version) return [];
    if (!(known >= plain) || this.below(4) === 0) return [this.all(channel)];
    return changes.filter(([at]) => at > known).map(([, change]) => change);
  }
}

// What the hub sends over one connection.
class Line {
  names = new Set();
  follows = new Map(); // channel, version
  frames = [];
  #budget = hub.below(3) ? Infinity : hub.below(60);

  constructor(names, since, presence) {
    for (const message of since ? hub.since(since, names) : []) this.say(message);
    for (const name of names) this.add(name, presence);
    hub.lines.add(this);
  }

  add(name, presence) {
    this.names.add(name);
    if (presence) this.follows.set(name, undefined);
  }

  remove(name) {
    this.follows.delete(name);
    return this.names.delete(name);
  }

  say(frame) {
    this.frames.push(JSON.stringify(frame));
  }

  // Whether the connection ends now.
  get breaks() {
    return this.#budget-- <= 0 && !hub.isCalm;
  }

  // The next frame, at the pace of the channels.
  next() {
    for (const [channel, known] of this.follows) {
      if (hub.below(6)) continue;
      for (const change of hub.news(channel, known)) this.say(change);
      this.follows.set(channel, hub.rooms.get(channel).version);
    }
    return this.frames.shift();
  }
}

globalThis.WebSocket = class WebSocket {
  static OPEN = 1;
  readyState = 0;
  #requests = [];

  constructor({ searchParams }) {
    setImmediate(() => this.#open(searchParams));
  }

  #open(query) {
    if (this.readyState > 1) return;
    this.readyState = 1;
    this.onopen?.();
    const names = query.getAll('channel');
    this.line = new Line(names, query.get('since'), query.get('presence') === '1');
    for (const name of names) this.#confirm(name);
    this.#pump();
  }

  #confirm(channel, ref) {
    this.line.say({ type: 'subscribed', channel, id: hub.position, ref });
  }

  #pump() {
    for (let left = hub.below(5); left > 0 && this.readyState === 1; left--) {
      if (this.line.breaks) return this.#cut();
      const frame = this.line.next();
      if (frame) this.onmessage?.({ data: frame });
    }
    if (this.#requests.length > 0 && hub.below(3)) this.#answer(this.#requests.shift());
    if (this.readyState === 1) setImmediate(() => this.#pump());
  }

  send(text) {
    this.#requests.push(JSON.parse(text));
  }

  #answer({ type, channel, since, presence, ref }) {
    if (type === 'ping') return this.line.say({ type: 'pong', ref });
    if (type === 'unsubscribe') {
      const code = this.line.remove(channel) ? undefined : 'not_subscribed';
      return this.line.say({ type: code ? 'error' : 'unsubscribed', code, channel, ref });
    }
    if (this.line.names.has(channel)) return this.line.say({ type: 'error', code: 'subscribed', channel, ref });
    for (const message of since ? hub.since(since, [channel]) : []) this.line.say(message);
    this.line.add(channel, presence);
    return this.#confirm(channel, ref);
  }

  #cut() {
    const { onclose } = this;
    this.close();
    setImmediate(() => this.onclose && onclose?.({ code: 1012, reason: 'retry in 1 ms' }));
  }

  close() {
    this.readyState = 3;
    hub.lines.delete(this.line);
  }
};

globalThis.fetch = async ({ searchParams: query }, { signal }) => {
  for (let turns = hub.below(4); turns > 0; turns--) await turn();
  signal.throwIfAborted();
  const body = query.get('transport') === 'poll' ? await poll(query, signal) : stream(query, signal);
  const type = query.get('transport') === 'poll' ? 'application/json' : 'application/x-ndjson';
  return new Response(body, { headers: { 'Content-Type': type } });
};

async function poll(query, signal) {
  const names = query.getAll('channel');
  const since = query.get('since') ?? hub.position;
  const known = Number(query.get('presence') ?? NaN);
  for (;;) {
    const followed = query.has('presence') ? names.filter((name) => (
      known === 1 || hub.rooms.get(name).version > known
    )) : [];
    const messages = [...hub.since(since, names), ...followed.map((name) => hub.all(name))];
    if (messages.length > 0 || query.get('wait') === '0') {
      const presence = query.has('presence') ? String(hub.version) : undefined;
      const retry = !hub.isCalm && hub.below(8) === 0 ? 1 : undefined;
      return JSON.stringify({ position: hub.position, messages, presence, retry });
    }
    await turn();
    signal.throwIfAborted();
  }
}

function stream(query, signal) {
  const line = new Line(query.getAll('channel'), query.get('since'), query.get('presence') === '1');
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      const say = (text) => controller.enqueue(encoder.encode(`${text}\n`));
      const end = () => {
        hub.lines.delete(line);
        return true;
      };
      const pump = () => {
        if (signal.aborted) return end() && controller.error(new Error('aborted'));
        if (line.breaks) return end() && say('{"type":"close","code":1012,"reason":"","retry":1}');
        const frame = hub.below(3) ? line.next() : undefined;
        if (frame) say(frame);
        return setImmediate(pump);
      };
      say('');
      pump();
    },
  });
}

// What a page shows that only adds and removes after its first list, and one that replaces it by each list.
class Shown {
  wrong = [];
  by = { changes: new Map(), lists: new Map() };

  forget(channel) {
    for (const shown of Object.values(this.by)) shown.delete(channel);
  }

  presence({ channel, users, off }) {
    if (off || !users) return this.forget(channel);
    if (!this.by.changes.has(channel)) this.by.changes.set(channel, new Map(users));
    this.by.lists.set(channel, new Map(users));
  }

  join({ channel, user, info }) {
    const users = this.by.changes.get(channel);
    if (!users || users.get(user) === info) this.wrong.push(`${user} joins ${channel}, and was there or nothing was`);
    for (const shown of Object.values(this.by)) shown.get(channel)?.set(user, info);
  }

  leave({ channel, user }) {
    const users = this.by.changes.get(channel);
    if (!users?.has(user)) this.wrong.push(`${user} leaves ${channel}, and was not there`);
    for (const shown of Object.values(this.by)) shown.get(channel)?.delete(user);
  }

  of(channel) {
    return Object.values(this.by).map((shown) => textOf(shown.get(channel)));
  }
}

const textOf = (users) => users && JSON.stringify([...users].sort());

// Returns what was wrong.
async function run({ connect }, seed, turns = 20_000) {
  hub = new Hub(seed);
  const [told, shown] = [[], new Shown()];
  const names = hub.any([true, [KEPT, 'b']]);
  const wanted = new Set([KEPT]);
  const chosen = new Map();
  let state;
  const push = connect('http://hub/push', {
    channels: [KEPT], since: hub.publish('x'), transports: [TRANSPORTS[seed % 3]], presence: names,
    onmessage: (message) => told.push(message),
    ongap: (gap) => shown.wrong.push(gap),
    onerror: (error) => shown.wrong.push(error),
    onpresence: (presence) => shown.presence(presence),
    onjoin: (change) => shown.join(change),
    onleave: (change) => shown.leave(change),
    onstate: (now) => { state = now; },
  });
  const follows = (channel) => chosen.get(channel) ?? (names === true || names.includes(channel));
  // What is wrong with what the page knows.
  const differences = () => CHANNELS.flatMap((channel) => {
    const known = push.presence(channel);
    const { off, members } = hub.rooms.get(channel);
    if (!wanted.has(channel) || !follows(channel) || off) return known ? [`${channel} is known`] : [];
    const users = members.size > DETAIL ? null : new Map([...members].map(([user, info = null]) => [user, info]));
    const want = [textOf(users), members.size];
    const has = [textOf(known?.users), known?.count];
    if (String(has) !== String(want)) return [`${channel}: it knows ${has}, wanted ${want}`];
    return users && shown.of(channel).some((text) => text !== want[0]) ? [`${channel}: ${shown.of(channel)}`] : [];
  });
  for (let round = 0; round < 4; round++) {
    hub.isCalm = false;
    for (let step = 0; step < 30; step++) {
      const what = hub.below(10);
      const channel = hub.any(CHANNELS);
      if (what < 4) hub.move();
      else if (what < 6) hub.publish(channel);
      else if (what === 6) {
        const presence = hub.any([undefined, true, true, false]);
        wanted.add(channel);
        if (presence !== undefined) chosen.set(channel, presence);
        push.subscribe(channel, null, { presence });
        if (!follows(channel)) shown.forget(channel);
      } else if (what === 7 && channel !== KEPT) {
        wanted.delete(channel);
        chosen.delete(channel);
        push.unsubscribe(channel);
        shown.forget(channel);
      } else if (what === 8 && channel !== KEPT && wanted.has(channel)) {
        // It leaves and comes back at once, while news is under way.
        for (let moves = 0; moves < 4; moves++) hub.move();
        for (let left = 1 + hub.below(3); left > 0; left--) await turn();
        push.unsubscribe(channel);
        shown.forget(channel);
        chosen.set(channel, true);
        push.subscribe(channel, null, { presence: true });
      } else if (what === 9) {
        // It changes its mind again while it still catches up with what it missed by the change before.
        for (const presence of [!follows(KEPT), follows(KEPT)]) {
          hub.publish(KEPT);
          chosen.set(KEPT, presence);
          push.subscribe(KEPT, null, { presence });
          if (!presence) shown.forget(KEPT);
          for (let left = hub.below(6); left > 0; left--) await turn();
        }
      }
      for (let left = hub.below(4); left > 0; left--) await turn();
    }
    hub.isCalm = true;
    const last = hub.publish(KEPT);
    const isSettled = () => state === 'open' && push.position === last && differences().length === 0;
    for (let left = turns; left > 0 && !isSettled() && shown.wrong.length === 0; left--) await turn();
    shown.wrong.push(...differences());
    if (shown.wrong.length > 0) break;
  }
  const { wrong } = shown;
  push.close();
  const ids = (messages) => String(messages.filter(({ channel }) => channel === KEPT).map(({ id }) => id));
  if (ids(told) !== ids(hub.log)) wrong.push(`it was told ${ids(told)}, wanted ${ids(hub.log)}`);
  return wrong;
}

test('the page knows who is there, is told of all who come and go, and loses no message', async () => {
  const push = await load();
  for (let seed = 1; seed <= CASES; seed++) assert.deepEqual(await run(push, seed), [], `seed ${seed}`);
});

for (const [mistake, file, from, to] of [
  ['a list that stands for many tells nobody of them', 'push.js', 'if (!users || !before) return;', 'return;'],
  ['who is known comes again', 'push.js', "if (knows === (type === 'join')) return;", ''],
  ['what is under way of a subscription before is told', 'push.js', 'if (!room?.users) return;',
    'if (!room?.users) return tellOf(type, channel, user, info, count);'],
  ['a channel is not joined again to follow it', 'push.js', ' && !isToRejoin(name)', ''],
  ['it is joined again before it is as far as the others', 'push.js', ' && !late.has(name) && !awaited.has(name)', ''],
  ['it begins anew when it is joined again', 'push.js', 'session.fallBehind(name);\n', ';\n'],
  ['polls of other channels go on from a version', 'push-fallback.js', "seen = '1'; //", "seen ??= '1'; //"],
  ['polls forget the version', 'push-fallback.js', 'seen = presence ?? seen;', ''],
]) {
  test(`the model finds a planted mistake: ${mistake}`, async () => {
    const push = await load({ file, from, to });
    for (let seed = 1; seed <= 4 * CASES; seed++) if ((await run(push, seed, 500)).length > 0) return;
    assert.fail('it is not found');
  });
}
