// push.js and a model of a hub with patterns, in one process: connections are cut after any message, requests take any
// time, channels and patterns come and go, and some hosts name the channels themselves. Each message of what the page
// has all the time comes once, in the order of its channel, and a position that the page has stored leaves nothing out.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from '../harness/host.mjs';

const CASES = 80;
const SOURCE = readFileSync(new URL('../../examples-c/www/push.js', import.meta.url), 'utf8');
const CHANNELS = ['a.1', 'a.2', 'a.11', 'b.1', 'b.2', 'c'];
const NAMES = [{ pattern: 'a.1*' }, { pattern: 'b.1*' }, { pattern: 'a.*' }, { pattern: '*' }, ...CHANNELS];
// What the page has all the time.
const KEPT = [['a.1', { pattern: 'b.*' }], ['c', { pattern: 'a.*' }], ['b.1', { pattern: '*' }]];

const isSame = (one) => (other) => JSON.stringify(one) === JSON.stringify(other);
const fits = (name, channel) => name === channel || (name.endsWith('*') && channel.startsWith(name.slice(0, -1)));
const sequence = (position) => Number(position.split('-')[1]);
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

// push.js, or with a mistake in it.
const load = (from = '', to = '') => {
  assert.ok(SOURCE.includes(from), from);
  return import(`data:text/javascript,${encodeURIComponent(SOURCE.replace(from, to))}`);
};

let hub;

class Hub {
  log = [];
  sockets = new Set();
  #state;

  constructor(seed) {
    this.#state = seed * 7919 + 17;
    for (let n = 0; n < 5; n++) this.below(2);
    this.given = this.below(3) === 0 ? ['a.2', 'g'] : null; // the channels that the host names
  }

  below(bound) {
    this.#state = (this.#state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor(this.#state / 65_536) % bound;
  }

  publish(channel) {
    const message = { type: 'message', channel, id: `e-${this.log.length + 1}`, data: '' };
    this.log.push(message);
    for (const socket of this.sockets) if ([...socket.names].some((name) => fits(name, channel))) socket.say(message);
    return message.id;
  }

  since(position, names) {
    const isMissed = ({ channel, id }) => (
      sequence(id) > sequence(position) && names.some((name) => fits(name, channel))
    );
    return position ? this.log.filter(isMissed) : [];
  }
}

// The page's end of a connection to the model.
globalThis.WebSocket = class WebSocket {
  static OPEN = 1;
  readyState = 0;
  names = new Set();
  #frames = [];
  #requests = [];
  #budget = hub.below(3) ? Infinity : hub.below(30); // of messages, then it is cut

  constructor({ searchParams }) {
    setTimeout(() => this.#open(searchParams), 0);
  }

  #open(query) {
    if (this.readyState > 1) return;
    this.readyState = 1;
    this.onopen?.();
    const names = hub.given ?? [...query.getAll('channel'), ...query.getAll('pattern')];
    for (const message of hub.since(query.get('since'), names)) this.say(message);
    for (const channel of names) this.#confirm(channel);
    hub.sockets.add(this);
    this.#pump();
  }

  #confirm(channel, ref) {
    this.names.add(channel);
    this.say({ type: 'subscribed', channel, id: `e-${hub.log.length}`, ref });
  }

  say(frame) {
    this.#frames.push(JSON.stringify(frame));
  }

  #pump() {
    for (let left = hub.below(5); left > 0 && this.readyState === 1; left--) {
      if (this.#budget-- <= 0) this.cut();
      else if (this.#frames.length > 0) this.onmessage?.({ data: this.#frames.shift() });
    }
    if (this.#requests.length > 0 && hub.below(3)) this.#answer(this.#requests.shift());
    if (this.readyState === 1) setTimeout(() => this.#pump(), 0);
  }

  send(text) {
    this.#requests.push(JSON.parse(text));
  }

  #answer({ type, channel, pattern, since, ref }) {
    const name = pattern ?? channel;
    if (type === 'ping') return this.say({ type: 'pong', ref });
    if (type === 'unsubscribe') {
      const code = this.names.delete(name) ? undefined : 'not_subscribed';
      return this.say({ type: code ? 'error' : 'unsubscribed', code, channel: name, ref });
    }
    if (this.names.has(name)) return this.say({ type: 'error', code: 'subscribed', channel: name, ref });
    // A pattern brings nothing missed of what the connection has by name.
    for (const message of hub.since(since, [name])) if (!pattern || !this.names.has(message.channel)) this.say(message);
    return this.#confirm(name, ref);
  }

  calm() {
    this.#budget = Infinity;
  }

  cut() {
    const { onclose } = this;
    this.close();
    setTimeout(() => this.onclose && onclose?.({ code: 1012, reason: 'retry in 1 ms' }), 0);
  }

  close() {
    this.readyState = 3;
    hub.sockets.delete(this);
  }
};

// Returns what was wrong.
async function run({ connect }, seed) {
  hub = new Hub(seed);
  const kept = KEPT[hub.below(KEPT.length)];
  const others = NAMES.filter((name) => !kept.some(isSame(name)));
  const [told, stored, wrong] = [[], [], []];
  let state;
  hub.publish('x');
  const push = connect('http://hub/push', {
    channels: [kept[0]], patterns: [kept[1].pattern], since: 'e-1', transports: ['ws'],
    onmessage: (message) => told.push(message),
    ongap: (gap) => wrong.push(gap),
    onerror: (error) => wrong.push(error),
    onstate: (now) => { state = now; },
  });
  for (let step = 0; step < 120; step++) {
    const what = hub.below(10);
    if (what < 5) hub.publish(CHANNELS[hub.below(CHANNELS.length)]);
    else if (what === 5) push.subscribe(others[hub.below(others.length)]);
    else if (what === 6) push.unsubscribe(others[hub.below(others.length)]);
    else if (what === 7 && hub.below(3) === 0) for (const socket of hub.sockets) socket.cut();
    if (hub.below(12) === 0) stored.push([sequence(push.position), told.length]);
    for (let turns = hub.below(4); turns > 0; turns--) await turn();
  }
  const settled = async (isReached) => {
    for (let turns = 0; turns < 4000 && !isReached(); turns++) {
      for (const socket of hub.sockets) socket.calm();
      await turn();
    }
  };
  await settled(() => state === 'open');
  const last = hub.publish(kept[0]);
  await settled(() => state === 'open' && push.position === last);
  push.close();
  const numbers = told.map(({ id }) => sequence(id));
  if (new Set(numbers).size < numbers.length) wrong.push('a message came twice');
  const isKept = ({ channel }) => channel === kept[0] || fits(kept[1].pattern, channel);
  const wanted = hub.log.slice(1).filter(isKept);
  for (const channel of CHANNELS) {
    const of = (messages) => (
      messages.filter((message) => message.channel === channel && isKept(message)).map(({ id }) => id)
    );
    if (String(of(told)) !== String(of(wanted))) wrong.push(`${channel}: ${of(told)}, wanted ${of(wanted)}`);
  }
  for (const [position, count] of stored) {
    const had = new Set(numbers.slice(0, count));
    const isLost = ({ id }) => sequence(id) <= position && !had.has(sequence(id));
    if (wanted.some(isLost)) wrong.push(`the position ${position} came too early`);
  }
  return wrong;
}

test('nothing is lost, doubled or out of order, and no position comes too early', async () => {
  const push = await load();
  for (let seed = 1; seed <= CASES; seed++) assert.deepEqual(await run(push, seed), [], `seed ${seed}`);
});

for (const [mistake, from, to] of [
  ['what is known is told again', 'if (known.has(key)) return true;', ''],
  ['after a break it does not go back', 'position = whole;\n', ';\n'],
  ['channels begin anew when their pattern goes', 'session.fallBehind(name);\n', ';\n'],
]) {
  test(`the model finds a planted mistake: ${mistake}`, async () => {
    const push = await load(from, to);
    for (let seed = 1; seed <= 4 * CASES; seed++) if ((await run(push, seed)).length > 0) return;
    assert.fail('it is not found');
  });
}
