// Live push for a page: one subscription that comes back by itself and goes on where it was. It has no dependencies.
// Copy this file. Copy push-fallback.js beside it for pages behind proxies that break WebSockets, and push.d.ts for
// TypeScript.
//
//   import { connect } from './push.js';
//   const push = connect('/push', {
//     channels: ['news'],            // and `patterns: ['chat.*']`: all channels whose names begin so
//     onmessage: ({ channel, data, event, id }) => { … },
//     ongap: ({ channel }) => { … },    // messages are missing and are gone: load the page's state anew
//     onend: ({ channel }) => { … },    // the channel's stream has ended: nothing more comes of it
//     onstate: (state, why) => { … },   // 'connecting', 'open', 'closed' for good; why: { code, reason }
//     presence: true,                // who is there, by user: of all channels, or of some: ['news']
//     onpresence: ({ channel, users, count }) => { … },  // users: a Map from names to infos; null: too many to tell
//     onjoin: ({ channel, user, info }) => { … },  onleave: ({ channel, user }) => { … },
//   });
//   push.subscribe('prices');  push.unsubscribe('prices');  push.close();
//   push.subscribe({ pattern: 'room.*' }, ({ channel, data }) => { … });  // with a function for these messages alone
//   push.send('to the server');  await push.publish('news', 'to all');
//
// docs/protocol.md has the other options.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const LONGEST_ADVICE = 3_600_000;
const QUIET = 30_000; // then a connection is asked whether it lives: a page can't see the server's pings
const ANSWER = 10_000;
const REPLAY = 60_000; // for a message of a megabyte over a slow link: a page sees nothing of it before its end
const LATE = 30_000; // then a token, or the file of the other transports, is not waited for any longer
const LONGEST_URL = 7000; // many proxies take 8 KB
const AT_ONCE = 8; // channels that catch up at the same time: the server has a bound for what waits for a client
const TRIES = 2; // of a transport that was never open; then another one is tried
const MORE_TRIES = 5; // of a transport that was open: then more likely the server is away
const AGAIN = 300_000; // then a transport that did not work is tried again; the time doubles each time, up to
const LATEST = 3_600_000;
const OWN = 'user:'; // the channel of the page's user: the server gives it by itself, and no request may name it
const MOST_KNOWN = 10_000; // messages that are remembered, so that they are not told twice; then the oldest give way

// After these codes coming back changes nothing: done, a defect of the client, not allowed. The service's own codes are
// 3000 to 3999. A code below 1000 is an HTTP status.
function isFinal(code) {
  if (code < 1000) return code >= 400 && code < 500 && ![408, 425, 429].includes(code);
  return [1000, 1002, 1003, 1007, 1008, 1009, 4403].includes(code) || (code >= 3000 && code < 4000);
}

export function connect(url, options = {}) {
  if ('pattern' in options || /[?&]pattern=/.test(String(url))) {
    throw new TypeError("patterns are named by the option patterns, such as patterns: ['news.*']");
  }
  if (/[?&]presence=/.test(String(url))) {
    throw new TypeError("who is there is asked for by the option presence, such as presence: ['news']");
  }
  const { channels = [], patterns = [], since = null, last, token, user = false } = options;
  const { transports = ['ws', 'stream', 'poll'], presence = false } = options;
  const client = options.client === true ? randomId() : options.client ?? null; // leaves this page out of messages
  if (!transports.length || !transports.every((kind) => ['ws', 'stream', 'poll'].includes(kind))) {
    throw new TypeError('transports must be some of ws, stream and poll');
  }
  // Patterns stand among the channels, here and below: they end in *, and no channel's name does.
  const wanted = new Set([...Array.from(patterns, (pattern) => nameOf({ pattern })), ...Array.from(channels, nameOf)]);
  if (typeof presence !== 'boolean' && (typeof presence === 'string' || !presence?.[Symbol.iterator])) {
    throw new TypeError("presence must be true, false, or names of channels, such as ['news']");
  }
  // The channels of which the page asks who is there.
  const shown = new Set(typeof presence === 'boolean' ? [] : Array.from(presence, nameOf));
  shown.forEach(hasPresence);
  const chosen = new Map(); // whether it asks, as it has said in `subscribe`
  const rooms = new Map(); // what it knows of them: { users, count }
  const begun = new Set(wanted); // the channels that `position` covers; others begin when the server confirms them
  const behind = new Map(); // those of them that go on from positions of their own; null: that have not begun
  const left = new Set(); // the channels that the page has unsubscribed from
  const given = new Set(); // those that the host gives; beside them the server may ignore the channels of the URL
  const handlers = new Map(); // the functions for messages of single channels and patterns
  let known = null; // what the page was told after `whole`, while it is not sure how far its patterns are; null: it is
  let position = since;
  let own = user; // whether the server gives a channel of the page's user beside these
  let whole = since; // the position that counts for all channels, while some are behind
  let link = null; // to the server, open or opening; null: there is none until the next attempt
  let using = null; // the transport by which it is open
  let openedAt = 0;
  let attempt = 0; // numbers the attempts, so that a late token is not used for another attempt
  let wait = FIRST_WAIT;
  let notBefore = 0; // nothing makes the next attempt earlier than this
  let timer; // of the next attempt
  let looking; // the timer of the next look for a WebSocket
  let trial = null; // that WebSocket
  let looks = 0; // numbers these looks, as `attempt` does the attempts
  let soon = false; // then the next look comes at once
  let misses = 0; // how often push-fallback.js could not be loaded
  let failures = {}; // of each transport, since it was last open
  let shut = {}; // until when a transport is not tried
  let again = AGAIN;
  const proven = new Set();
  let isOver = false; // all channels have ended; `subscribe` opens it anew
  let finished; // settles `ended`
  let ended;
  let listeners; // to what happens to the page

  // The session is what a link works with. A link calls nothing of it any more once it is closed.
  const session = {
    wanted, begun, behind, given, last, isFinal, kindOf, patternsFirst, roomOf, room: LONGEST_URL,
    opened, lost, refused, welcome, hasEnded, allEnded, fallBehind, follows, followsSome,
    get position() { return position; },
    set position(reached) { position = reached; },
    get own() { return own; },
    received(message, isLate = false) {
      const { type, id, channel } = message;
      if (['presence', 'join', 'leave'].includes(type)) return met(message);
      if (isLate) {
        if (id && behind.has(channel)) behind.set(channel, id);
      } else if (id) position = id;
      if (channel && !welcome(channel)) return; // it was under way when the page unsubscribed
      if (isKnown(message)) return;
      if (type === 'gap') tell('ongap', message);
      else if (type === 'begin') tell('onbegin', message);
      else if (type === 'end') channelEnded(message);
      else if (type === 'message' || type === 'broadcast') deliver(message);
      // A position alone stands for a message that leaves this client out.
    },
    complain: (error) => tell('onerror', error),
  };

  async function open() {
    drop();
    const mine = attempt;
    const kind = choose();
    if (known) { // back to where all was sure
      position = whole;
      behind.clear();
    } else if (behind.size === 0) {
      whole = position;
      if ([...wanted].some(isPattern)) known = new Set();
    }
    link = { kind, close() {}, check() {}, change() {} }; // until there is one
    if (!position) for (const name of wanted) begun.add(name);
    let start = openSocket;
    let target;
    try {
      if (kind !== 'ws') start = await inTime(loadFallback());
    } catch (error) {
      misses++;
      if (mine === attempt) lost({ code: 1006, reason: String(error) }); // then WebSockets have another chance
      return;
    }
    try {
      target = await address();
    } catch (error) {
      if (mine === attempt) retry({ code: 1006, reason: String(error) });
      return;
    }
    if (mine !== attempt) return;
    if (!target) return end({ code: 4403, reason: 'no token' });
    try {
      link = start(kind, target, session);
    } catch (error) {
      lost({ code: 1006, reason: String(error) }); // this browser has no such transport, or it may not be used
    }
  }

  // Some browsers never load a file again that they could not load once, unless its name is another one. A bundler
  // knows only the first name. So the names take turns.
  async function loadFallback() {
    const other = `./push-fallback.js?${misses}`;
    const load = () => import('./push-fallback.js');
    const loadOther = () => import(/* webpackIgnore: true */ /* @vite-ignore */ other);
    return (await (misses % 2 ? loadOther() : load())).openFallback;
  }

  // Returns the URL with a fresh token, or null if there is none.
  async function address() {
    const target = new URL(url, globalThis.location?.href);
    if (client) target.searchParams.set('client', client);
    if (!token) return target;
    const fresh = await inTime(token());
    if (fresh) target.searchParams.set('token', fresh);
    return fresh ? target : null;
  }

  const isShut = (kind) => shut[kind] > performance.now();

  function choose() {
    if (transports.every(isShut)) shut = {};
    return transports.find((kind) => !isShut(kind));
  }

  function opened() {
    const { kind } = link;
    known = null;
    failures[kind] = 0;
    proven.add(kind);
    openedAt = performance.now();
    if (transports.slice(0, transports.indexOf(kind)).includes('ws')) {
      looking ??= setTimeout(look, soon ? FIRST_WAIT : again);
    }
    soon = false;
    if (using === kind) return; // the transport is the same, for instance after the channels changed
    using = kind;
    tell('onstate', 'open');
  }

  function lost(why) {
    if (why.ended) return allEnded();
    const { kind } = link;
    const wasOpen = using !== null;
    const { code, heldBack } = why;
    // A new token may be let in: if the old one was let in before, or if it was only too old.
    const renewable = token && ([401, 4403].includes(code) || (wasOpen && code === 403));
    if (isFinal(code) && !renewable) return end(why);
    if (wasOpen && performance.now() - openedAt > wait) wait = FIRST_WAIT;
    let other = false;
    if (heldBack || (kind === 'ws' && !wasOpen && code === 1006)) {
      failures[kind] = (failures[kind] ?? 0) + 1;
      if (heldBack || failures[kind] >= (proven.has(kind) ? MORE_TRIES : TRIES)) {
        shut[kind] = performance.now() + again;
        other = !transports.every(isShut);
      }
    } else if (!wasOpen) {
      shut = {}; // the server is away, or refuses: then any transport fails
    }
    retry(why, other);
  }

  // A server that goes away says when to come back. Otherwise the wait is random, and longer each time. There is no
  // wait before another transport is tried.
  function retry(why, other = false) {
    drop();
    using = null;
    const pause = why.retry ? Math.min(why.retry, LONGEST_ADVICE) : other ? 0 : wait * (0.5 + Math.random() / 2);
    notBefore = performance.now() + (why.retry ? pause : Math.min(pause, FIRST_WAIT));
    timer = setTimeout(open, pause);
    if (!other) wait = Math.min(wait * 2, LONGEST_WAIT);
    tell('onstate', 'connecting', why);
  }

  // The network or the page is back. An attempt that waits is made now, and an open link has to show that it lives.
  function wake() {
    if (link) return link.check();
    wait = FIRST_WAIT;
    clearTimeout(timer);
    timer = setTimeout(open, Math.max(notBefore - performance.now(), 0));
  }

  // Another network may let a transport through that this one did not, or the other way round.
  function changed() {
    failures = {};
    shut = {};
    again = AGAIN;
    proven.clear();
    if (looking) {
      clearTimeout(looking);
      looking = setTimeout(look, FIRST_WAIT);
    }
    wake();
  }

  // Tries whether a WebSocket works by now. Until it is known to work, the other transport goes on.
  async function look() {
    const mine = ++looks;
    trial?.close();
    trial = null;
    const result = (works) => {
      if (mine !== looks) return;
      trial?.close();
      trial = null;
      if (works) {
        shut = {};
        failures = {};
        return open();
      }
      again = Math.min(again * 2, LATEST);
      shut.ws = performance.now() + again;
      looking = setTimeout(look, again);
    };
    try {
      const target = await address();
      if (mine !== looks) return;
      trial = openSocket('ws', target, {
        wanted: begun, begun: new Set(begun), position: null,
        received() {}, refused() {}, complain() {}, fallBehind() {}, welcome: () => true,
        behind: new Map(), given: new Set(), hasEnded: () => false, follows: () => false, followsSome: () => false,
        opened: () => result(true), lost: () => result(false),
      });
    } catch {
      result(false);
    }
  }

  // The server does not give a channel, or has taken it away.
  function refused(channel, error) {
    if (channel.startsWith(OWN)) own = false;
    wanted.delete(channel);
    behind.delete(channel);
    rooms.delete(channel);
    if (begun.delete(channel) && !using) soon = true; // perhaps WebSockets failed because of this channel
    tell('onerror', error);
  }

  // Nothing more comes of a channel, so it is left. Only the server knows whether it was the last one, since the host
  // may give others, which are quiet. A request needs a channel, so the last one stays in `begun` until the server has
  // said that there are no others.
  function channelEnded(message) {
    const { channel } = message;
    if (channel.startsWith(OWN)) own = user; // a user's channel never ends: the host has given this one
    if (wanted.has(channel) || !isFitted(channel, wanted)) leave(channel);
    if (wanted.size === 0 && !own) begun.add(channel);
    tell('onend', message);
    if (wanted.has(channel)) begun.add(channel); // the page waits for it to begin anew, and `position` covers it
    link?.change();
  }

  // Whether all channels that are known have ended. The channel of a user never does.
  function hasEnded() {
    return wanted.size === 0 && begun.size > 0 && !own;
  }

  // The server has said so: there is nothing to come back for.
  function allEnded() {
    for (const channel of wanted) leave(channel); // those that the server has ignored, since the host gives others
    isOver = true;
    finished(true);
    rest();
    tell('onstate', 'closed', { code: 1000, reason: 'all channels have ended' });
  }

  function want(channel) {
    if (hasEnded()) begun.clear();
    wanted.add(channel);
  }

  function leave(channel) {
    wanted.delete(channel);
    begun.delete(channel);
    behind.delete(channel);
    rooms.delete(channel);
    left.add(channel);
  }

  // The channel goes on by itself from the present position.
  function fallBehind(channel) {
    if (behind.size === 0) whole = position;
    behind.set(channel, position);
    known ??= new Set();
  }

  // Whether the page gets messages of the channel. The host may subscribe it to channels that it did not ask for.
  function welcome(channel) {
    if (wanted.has(channel)) return true;
    const isOfHost = given.has(channel);
    if (isFitted(channel, wanted) && (left.has(channel) || !isOfHost)) return true;
    if (left.has(channel) || (!isOfHost && isFitted(channel, left))) return false;
    if (channel.startsWith(OWN)) {
      own = true;
      return true;
    }
    want(channel);
    begun.add(channel);
    return true;
  }

  // Whether the page asks who is in the channel. The server tells it of all channels of a URL, or of none.
  function follows(channel) {
    return !isPattern(channel) && (chosen.get(channel) ?? (presence === true || shown.has(channel)));
  }

  function followsSome() {
    return presence === true || shown.size > 0 || [...chosen.values()].includes(true);
  }

  // Who is in a channel, comes or goes. A list may stand for many who come and go. So may one after a break, and over
  // polls there are only lists. Then the page is told of the difference.
  function met({ type, channel, user, info = null, users, count, off }) {
    if (!follows(channel) || (left.has(channel) && !wanted.has(channel))) return;
    if (type === 'presence') return off ? unseen(channel) : seen(channel, users, count);
    const room = rooms.get(channel);
    if (!room?.users) return; // a list comes first, so this is of a subscription that the page has left
    room.count = count;
    const knows = room.users.has(user) && (type === 'leave' || room.users.get(user) === info);
    if (knows === (type === 'join')) return;
    if (type === 'join') room.users.set(user, info);
    else room.users.delete(user);
    tellOf(type, channel, user, info, count);
  }

  function tellOf(type, channel, user, info, count) {
    if (type === 'join') tell('onjoin', { type, channel, user, info, count });
    else tell('onleave', { type, channel, user, count });
  }

  // The channel has no presence.
  function unseen(channel) {
    rooms.delete(channel);
    tell('onpresence', { type: 'presence', channel, off: true });
  }

  function seen(channel, list, count) {
    const before = rooms.get(channel)?.users;
    const users = list ? new Map(list.map(({ user, info = null }) => [user, info])) : null;
    const room = { users, count };
    rooms.set(channel, room);
    tell('onpresence', { type: 'presence', channel, users: users && new Map(users), count });
    if (!users || !before) return;
    const gone = [...before].filter(([user]) => !users.has(user));
    const come = [...users].filter(([user, info]) => !before.has(user) || before.get(user) !== info);
    for (const [type, changes] of [['leave', gone], ['join', come]]) {
      for (const [user, info] of changes) {
        if (rooms.get(channel) !== room) return; // the page has left it meanwhile
        tellOf(type, channel, user, info, count);
      }
    }
  }

  // Whether the page has been told of this. A pattern may bring again what came before a break, or by a channel's name.
  function isKnown({ type, channel, id }) {
    if (!known || !id || !['message', 'broadcast', 'begin', 'end'].includes(type)) return false;
    const key = `${type} ${id} ${channel}`;
    if (known.has(key)) return true;
    if (known.size >= MOST_KNOWN) known.delete(known.values().next().value);
    known.add(key);
    return false;
  }

  // A function that was given for several of the names gets the message once.
  function deliver(message) {
    const { channel } = message;
    tell('onmessage', message);
    if (!channel) return;
    const done = new Set();
    for (const [name, handler] of [...handlers]) {
      if ((name !== channel && !fits(name, channel)) || done.has(handler)) continue;
      if (handlers.get(name) !== handler) continue; // the page has left it meanwhile
      done.add(handler);
      call(handler, message);
    }
  }

  function tell(name, ...what) {
    call(options[name], ...what);
  }

  // If a function of the page throws, the error is reported, and does not stop the messages.
  function call(body, ...what) {
    try {
      body?.call(options, ...what);
    } catch (error) {
      setTimeout(() => { throw error; });
    }
  }

  function drop() {
    attempt++;
    looks++;
    clearTimeout(timer);
    clearTimeout(looking);
    trial?.close();
    link?.close();
    looking = trial = link = null;
  }

  function end(why) {
    close();
    tell('onstate', 'closed', why);
  }

  function close() {
    isOver = false;
    handlers.clear();
    rooms.clear();
    finished(false);
    rest();
  }

  function rest() {
    listeners.abort();
    drop();
    using = null;
  }

  function listen(target, type, listener) {
    const { signal } = listeners;
    target?.addEventListener?.(type, () => signal.aborted || listener(), { signal }); // Node 20 forgets the signal
  }

  function prepare() {
    isOver = false;
    ended = new Promise((resolve) => { finished = resolve; });
    listeners = new AbortController();
    listen(globalThis, 'online', changed);
    listen(globalThis, 'offline', () => link?.check());
    listen(globalThis, 'pagehide', drop); // browsers do not keep a page with open connections in their cache
    listen(globalThis, 'pageshow', wake);
    listen(globalThis.document, 'resume', wake);
    listen(globalThis.document, 'visibilitychange', () => document.visibilityState === 'visible' && wake());
  }

  function begin() {
    const { signal } = listeners;
    if (!signal.aborted) tell('onstate', 'connecting');
    if (!signal.aborted) open(); // else the page has closed it
  }

  prepare();
  queueMicrotask(begin); // when connect has returned, so that the page's functions can use its result

  function request(what, resolve, reject) {
    if (link?.request?.(what, resolve, reject)) return null;
    const needs = using && using !== 'ws';
    const message = needs ? `${what.type} needs a WebSocket; in use is: ${using}` : 'not connected';
    return { type: 'error', code: needs ? 'transport' : 'not_connected', message };
  }

  // False: nothing was sent.
  function say(what) {
    const error = request(what);
    if (error?.code === 'transport') tell('onerror', error);
    return !error;
  }

  return {
    get position() { return known || behind.size > 0 ? whole : position; },
    get transport() { return using; }, // 'ws', 'stream', 'poll'; null: it is not open
    get client() { return client; }, // tell it to your application, which then publishes except for it
    // To new messages of a channel or { pattern }; with a function for these alone; and to who is there.
    subscribe(what, onmessage, { presence: isFollowed } = {}) {
      const name = nameOf(what);
      if (isFollowed !== undefined && typeof isFollowed !== 'boolean') {
        throw new TypeError('presence of a single channel must be true or false');
      }
      if (isFollowed) hasPresence(name);
      if (isFollowed !== undefined) chosen.set(name, isFollowed);
      if (!follows(name)) rooms.delete(name);
      if (onmessage) handlers.set(name, onmessage);
      want(name);
      left.delete(name);
      if (isFitted(name, begun)) begun.add(name); // a pattern brings it, so it is as far as that
      if (isOver) {
        prepare();
        begin();
      } else link?.change();
    },
    unsubscribe(what) {
      const name = nameOf(what);
      handlers.delete(name);
      chosen.delete(name);
      rooms.delete(name);
      left.add(name);
      if (!wanted.has(name)) return; // perhaps it has ended
      leave(name);
      link?.change();
    },
    presence(channel) { // who is there: { users, count } as in onpresence; null: it is not known
      const { users, count } = rooms.get(nameOf(channel)) ?? {};
      return count === undefined ? null : { users: users && new Map(users), count };
    },
    get ended() { return ended; }, // a promise: true when all channels have ended, false when it is closed before that
    send: (data) => say({ type: 'message', ...payload(data) }), // to the server
    // To all subscribers of the channel; with `echo: false` to all but this one. With a `key` it may be repeated, and is
    // published once.
    publish: (channel, data, { event, key, echo } = {}) => new Promise((resolve, reject) => {
      const error = request({ type: 'publish', channel, ...payload(data), event, key, echo }, resolve, reject);
      if (error) reject(failure(error));
    }),
    // To the server, with its answer: text, or bytes.
    call: (data) => new Promise((resolve, reject) => {
      const error = request({ type: 'call', ...payload(data) }, resolve, reject);
      if (error) reject(failure(error));
    }),
    async renew() { // sends a new token before the old one ends; without it a reconnect does that
      if (!using || using === 'ws') return say({ type: 'token', token: await token() });
      open();
      return true;
    },
    close, // no function of the page is called any more
  };
}

// Rejects if the promise does not settle.
function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it takes too long')), LATE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A UUID. crypto.randomUUID is missing where a page comes over http.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

// The name of a channel, or the pattern of { pattern }. They can't be taken for each other.
function nameOf(what) {
  const isNamed = 'pattern' in Object(what);
  const name = String(isNamed ? what.pattern : what);
  if (!isNamed && isPattern(name)) {
    throw new TypeError(`channel ${name}: no channel's name ends in *; a pattern is named by { pattern: '${name}' }`);
  }
  if (isNamed && !/^[^*]*\*$/.test(name)) {
    throw new TypeError(`pattern ${name}: it has one *, as its last character, as news.* does`);
  }
  return name;
}

function hasPresence(name) {
  if (isPattern(name)) throw new TypeError(`presence of ${name}: only channels have it, and patterns have none`);
}

function isPattern(name) {
  return name.endsWith('*');
}

// How requests call it.
function kindOf(name) {
  return isPattern(name) ? 'pattern' : 'channel';
}

function fits(pattern, channel) {
  return isPattern(pattern) && channel.startsWith(pattern.slice(0, -1)) && !channel.startsWith(OWN);
}

function isFitted(channel, names) {
  for (const name of names) if (fits(name, channel)) return true;
  return false;
}

function patternsFirst(names) {
  return [...names].sort((one, other) => isPattern(other) - isPattern(one));
}

// What a channel takes of a URL, or a pattern.
function roomOf(name) {
  return '&channel='.length + encodeURIComponent(name).length;
}

function failure({ code, message, status }) {
  return Object.assign(new Error(message), { code }, status && { status });
}

// Text, or bytes.
function payload(data) {
  if (typeof data === 'string') return { data };
  if (!(data instanceof ArrayBuffer || ArrayBuffer.isView(data))) throw new TypeError('data must be text or bytes');
  const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
  return { data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')), base64: true };
}

function content({ data, base64 }) {
  return base64 ? Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)) : data;
}

// ---- WebSocket, subprotocol push.v1.json ----

function openSocket(kind, target, session) {
  const { position: start, behind, given } = session;
  const joined = new Set(); // the channels that the server knows, or was asked for
  const late = new Set(); // those of them that were asked for with a position of their own, until they are confirmed
  const patterns = new Set(); // those that the server may have, also while they leave
  const followed = new Set(); // those of which the server tells who is there
  const asked = new Map(); // requests without an answer, by number
  let number = 0;
  let isOpen = false; // requests may be sent
  let isAsking = false; // whether the server has confirmed all channels of the URL that it will
  let isConfirmed = false; // whether the server has said of a channel that the page is subscribed to it
  let hasOwn = false; // whether anything of the user's channel has come
  let isDeciding = false; // whether the server has been asked if it gives channels that have not ended
  let isTold = false; // nothing is missing any more
  let asking = false; // whether it lives
  let timer;

  target.protocol = target.protocol.replace('http', 'ws');
  // The channels for which the URL has no room follow as requests.
  let room = LONGEST_URL - target.href.length;
  for (const name of patternsFirst(session.begun)) {
    if (behind.has(name)) continue;
    if (roomOf(name) > room || (given.size > 0 && !given.has(name))) behind.set(name, start);
    else {
      room -= roomOf(name);
      target.searchParams.append(kindOf(name), name);
      joined.add(name);
      if (isPattern(name)) patterns.add(name);
    }
  }
  const isFollowing = session.followsSome();
  if (isFollowing) target.searchParams.set('presence', '1');
  for (const name of joined) if (session.follows(name)) followed.add(name);
  const awaited = new Set(joined); // until they are confirmed
  if (session.position) target.searchParams.set('since', session.position);
  else if (session.last) target.searchParams.set('last', session.last);
  const socket = new WebSocket(target, 'push.v1.json');
  within(ANSWER);
  socket.onopen = () => {
    if (session.position || session.last) within(REPLAY);
    if (joined.size > 0) return; // `subscribed` comes, after the missed messages
    if (!session.own) return opened();
    // The same goes for the channel of the user. A server that gives none answers this first.
    request({ type: 'ping' }, () => hasOwn || opened());
  };
  socket.onmessage = ({ data }) => {
    listen();
    received(JSON.parse(data));
  };
  socket.onerror = () => {}; // the close says why
  socket.onclose = ({ code, reason }) => {
    session.lost({ code, reason, retry: Number(/retry in (\d+) ms/.exec(reason)?.[1] ?? 0) });
  };

  function opened() {
    if (!isOpen) {
      isOpen = true;
      listen();
      change(); // channels that the page has changed meanwhile, and those that are late
    }
    if (isTold || late.size > 0 || awaited.size > 0 || decides()) return;
    isTold = true;
    listen();
    session.opened();
  }

  // All channels that are known have ended. The server confirms those that the host gives before it answers this.
  function decides() {
    if (!isConfirmed || !session.hasEnded()) return false;
    isDeciding ||= request({ type: 'ping' }, () => {
      isDeciding = false;
      if (session.hasEnded()) session.allEnded();
      else opened();
    });
    return isDeciding;
  }

  // Once the server has begun to confirm, it confirms all that it will. It ignores the channels of the URL if the host
  // gives others. Then these are asked for, from where they are.
  function askAgain() {
    isAsking = false;
    if (awaited.size > 0) for (const channel of joined) if (!awaited.has(channel)) given.add(channel);
    for (const name of awaited) {
      patterns.delete(name);
      if (joined.delete(name) && session.wanted.has(name) && !behind.has(name)) behind.set(name, start);
    }
    awaited.clear();
    change();
    opened();
  }

  function settled(channel) {
    late.delete(channel);
    behind.delete(channel);
    change(); // the next one that is late
    opened();
  }

  // What comes of a channel that the host gives says nothing about those of the URL.
  function gives(channel) {
    for (const other of awaited) if (!behind.has(other)) behind.set(other, start);
    if (channel.startsWith(OWN) && !session.wanted.has(channel)) {
      hasOwn = true;
      return;
    }
    given.add(channel);
    joined.add(channel);
    if (isFollowing && session.follows(channel)) followed.add(channel);
  }

  function received(message) {
    const { type, channel, code } = message;
    switch (type) {
      case 'message': case 'broadcast': case 'gap': case 'begin': case 'end': case 'position':
        if (channel && !joined.has(channel) && !isFitted(channel, patterns) && session.welcome(channel)) gives(channel);
        return session.received(message, behind.has(channel));
      case 'presence': case 'join': case 'leave': return session.received(message);
      case 'subscribed':
        isConfirmed = true;
        if (message.ref === undefined && !awaited.delete(channel)) {
          gives(channel);
          session.welcome(channel);
          change();
        }
        session.position = message.id; // it covers all channels, including those of before
        if (isPattern(channel)) confirmed(channel, message.ref === undefined || behind.get(channel) === start);
        if (awaited.size > 0 && !isAsking) isAsking = request({ type: 'ping' }, askAgain);
        if (session.wanted.has(channel)) session.begun.add(channel);
        if (message.ref !== undefined) answered(message);
        return settled(channel);
      case 'unsubscribed':
        if (!code) return answered(message);
        awaited.delete(channel);
        joined.delete(channel);
        patterns.delete(channel);
        session.refused(channel, message);
        return isOpen || joined.size === 0 ? settled(channel) : undefined; // else others are still confirmed
      default: return answered(message);
    }
  }

  // What a pattern brings goes on with it.
  function confirmed(pattern, isFromStart) {
    for (const name of session.wanted) {
      if (joined.has(name) || !fits(pattern, name)) continue;
      if (isFromStart && behind.get(name) === start) behind.delete(name);
      if (!behind.has(name)) session.begun.add(name);
    }
  }

  // A pattern has gone. The channels that the page has beside it go on where they are.
  function gone(pattern) {
    patterns.delete(pattern);
    change();
  }

  // An answer has the number of its request. Answers to publish may come later than others.
  function answered(message) {
    const { what, resolve, reject } = asked.get(message.ref) ?? {};
    asked.delete(message.ref);
    if (message.type === 'answer') return resolve?.(content(message));
    if (what?.type === 'unsubscribe' && what.pattern) return gone(what.pattern);
    if (message.type !== 'error') return resolve?.(message.id);
    if (reject) reject(failure(message));
    else if (what?.type === 'subscribe') {
      // This hub has not read its log up to there yet. Later it will have, or another hub.
      if (message.code === 'behind') return session.lost({ code: 1013, reason: message.message });
      notSubscribed(what.pattern ?? what.channel, message);
    } else if (what?.type !== 'unsubscribe') session.complain(message);
  }

  function notSubscribed(name, error) {
    if (error.code !== 'subscribed') {
      joined.delete(name);
      patterns.delete(name);
      session.refused(name, { ...error, channel: name });
    } // else the host was first
    settled(name);
  }

  function request(what, resolve, reject) {
    if (socket.readyState !== WebSocket.OPEN) return false;
    const ref = what.type === 'message' ? undefined : ++number; // a message has no answer
    socket.send(JSON.stringify({ ...what, ref }));
    if (ref) asked.set(ref, { what, resolve, reject });
    return true;
  }

  function change() {
    if (!isOpen) return;
    for (const name of joined) {
      if ((session.wanted.has(name) && !isToRejoin(name)) || !joined.delete(name)) continue;
      request({ type: 'unsubscribe', [kindOf(name)]: name });
    }
    const wide = [...session.wanted].filter(isPattern);
    const open = [...wide, ...patterns];
    for (const name of [...wide, ...session.wanted]) {
      if (joined.has(name) || patterns.has(name)) continue; // a pattern that leaves has to be gone first
      const isBrought = open.some((pattern) => pattern !== name && fits(pattern, name) && brings(pattern, name));
      if (!isBrought || session.follows(name)) join(name);
    }
    if (isTold) decides();
  }

  // Who is there is told from a subscription's beginning on, or not at all. So the channel is left and joined again. It
  // goes on from its position. If it is not as far as that yet, this comes later.
  function isToRejoin(name) {
    const isSettled = session.begun.has(name) && !late.has(name) && !awaited.has(name);
    return isSettled && session.follows(name) !== followed.has(name);
  }

  // What a pattern brings is not asked for by its name, unless that is further behind.
  function brings(pattern, name) {
    return !behind.has(name) || behind.has(pattern) || awaited.has(pattern);
  }

  function join(name) {
    // A pattern has brought it until now.
    if (session.begun.has(name) && !behind.has(name)) {
      session.fallBehind(name);
      isTold = false;
      listen();
    }
    const since = behind.get(name);
    if (since !== undefined && late.size >= AT_ONCE) return;
    joined.add(name);
    if (since !== undefined) late.add(name);
    if (isPattern(name)) patterns.add(name);
    const last = since === null ? session.last : undefined;
    const isFollowed = session.follows(name);
    if (isFollowed) followed.add(name);
    else followed.delete(name);
    request({
      type: 'subscribe', [kindOf(name)]: name, since: since ?? undefined, last, presence: isFollowed || undefined,
    });
  }

  function within(ms) {
    clearTimeout(timer);
    timer = setTimeout(() => session.lost({ code: 1006, reason: 'no answer' }), ms);
  }

  // Notices a connection that is dead without a sign, as after a laptop's sleep.
  function listen() {
    asking = false;
    if (!isTold) return within(REPLAY);
    clearTimeout(timer);
    timer = setTimeout(check, QUIET);
  }

  function check() {
    if (!isTold || asking) return;
    asking = true;
    request({ type: 'ping' });
    within(ANSWER);
  }

  function close() {
    clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    const error = { code: 'lost', message: 'the connection was lost before the answer; perhaps it was done' };
    for (const { reject } of asked.values()) reject?.(failure(error));
    asked.clear();
  }

  return { kind, request, change, check, close };
}
