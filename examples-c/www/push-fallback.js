// push.js without a WebSocket: the NDJSON stream, or long-polling if a proxy holds the stream back. push.js loads this
// file when it needs it.
//
// First come polls that do not wait, until nothing is missing any more. They show the position of the subscription, and
// that the server can be reached. Then the stream, or polls that wait, go on from that position. When the channels
// change, the present request is given up and all of this begins anew. Messages that were not delivered yet come again.
// Patterns stand among the channels, as in push.js.

const ANSWER = 10_000;
const FIRST_BYTE = 4000; // of a stream; the server sends it at once
const SILENCE = 60_000; // of a stream or a poll; heartbeats of a stream are normally more frequent
const SHORTEST_POLL = 1000; // of polls without messages; else a cache in between could make us ask without end. Also of
// settlings with nothing but marks; else so could a page that subscribes again to each channel that has ended

export function openFallback(kind, target, session) {
  const { wanted, begun } = session;
  let request; // aborts the present request
  let stopped = null; // why it was aborted: 'changed', 'silent', 'closed'
  let phase; // 'settling', 'asked' for new messages, 'live'
  let silences = 0; // streams in a row that fell silent
  let brought; // 'marks', 'messages': what the present settling has brought; undefined: nothing
  let marked = 0; // settlings in a row that have brought nothing but marks
  let settledAt = 0; // when the last one began
  let seen; // the version of who is there that the last poll has told; '1': none, so all of it is to be told
  let misfits = new Set(); // channels for which the URL has no room
  let timer;

  run();

  async function run() {
    for (;;) {
      try {
        phase = 'settling';
        await pace();
        await settle();
        phase = 'asked';
        await follow();
      } catch (error) {
        clearTimeout(timer);
        if (stopped === 'closed') return;
        const why = stopped === null ? reasonOf(error) : lostBySilence();
        if (why) return session.lost(why);
        stopped = null;
      }
    }
  }

  // Null: it only begins anew.
  function lostBySilence() {
    const heldBack = { code: 1006, reason: 'the stream is held back on its way', heldBack: true };
    if (stopped === 'changed') return null;
    if (phase === 'settling') return { code: 1006, reason: 'no answer' };
    if (kind === 'poll') return null;
    return phase === 'asked' || ++silences > 1 ? heldBack : null;
  }

  function stop(why) {
    if (stopped === null || why === 'closed') stopped = why;
    request?.abort();
  }

  function within(ms) {
    clearTimeout(timer);
    timer = setTimeout(stop, ms, 'silent');
  }

  async function pace() {
    const rest = settledAt + SHORTEST_POLL - performance.now();
    if (marked > 1 && rest > 0) {
      await new Promise((resolve) => { timer = setTimeout(resolve, rest); });
      stopped = null; // what the page has changed meanwhile is settled now
    }
    settledAt = performance.now();
  }

  // Gets what was missed in the channels that have begun. After that the other channels begin, too.
  async function settle() {
    brought = undefined;
    fit();
    try {
      await catchUpBegun();
      await begin(fitting(wanted).filter((channel) => !begun.has(channel)));
    } finally {
      marked = brought === 'marks' ? marked + 1 : 0;
    }
  }

  async function catchUpBegun() {
    for (;;) {
      try {
        if (hasSome()) await catchUp(fitting(begun));
        return;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        await sift(error);
      }
    }
  }

  // Without any channel there is no request, unless the server gives one of the page's user.
  function hasSome() {
    return begun.size > 0 || session.own;
  }

  // A request names all channels for which its URL has room.
  function fit() {
    let room = session.room - target.href.length;
    misfits = new Set();
    for (const channel of session.patternsFirst(wanted)) {
      if (session.roomOf(channel) > room) misfits.add(channel);
      else room -= session.roomOf(channel);
    }
  }

  function fitting(channels) {
    return [...channels].filter((channel) => !misfits.has(channel));
  }

  // The server can be reached by this transport. Before that nothing is given up: perhaps a WebSocket is next again.
  function reached() {
    const reason = 'the URL has no room for more channels; only over a WebSocket there may be more';
    for (const channel of misfits) refuse(channel, { word: 'uri_too_long', reason });
    misfits.clear();
    // A WebSocket was lost before these had caught up, and a request has one position for all channels.
    for (const [channel, from] of session.behind) {
      session.behind.delete(channel);
      if (from) session.received({ type: 'gap', channel, id: session.position });
    }
  }

  async function catchUp(channels) {
    while (await poll(channels, { wait: 0 }, ANSWER));
  }

  function isRefusal(error) {
    return !stopped && error.code !== 401 && session.isFinal(error.code);
  }

  function refuse(channel, { word, reason }) {
    session.refused(channel, { type: 'error', code: word, message: reason, channel });
  }

  // The server has refused the channels together. Those that it refuses alone, too, do no harm to the others. If there
  // are too many patterns, the last one has to go.
  async function sift(error) {
    if (error.word === 'patterns' && begunPatterns().length > 1) return refuse(begunPatterns().pop(), error);
    const isOfOne = [400, 403].includes(error.code) && error.word !== 'channels';
    const channels = fitting(begun);
    if (channels.length === 1 || !isOfOne) throw error;
    const refusals = new Map();
    for (const channel of channels) {
      try {
        within(ANSWER);
        const { body } = await ask([channel], { transport: 'poll', wait: 0 }, 'application/json');
        await body?.cancel(); // its messages come with those of the others
      } catch (refusal) {
        if (!isRefusal(refusal)) throw refusal;
        refusals.set(channel, refusal);
      }
    }
    if (refusals.size === 0 || refusals.size === channels.length) throw error;
    for (const [channel, refusal] of refusals) refuse(channel, refusal);
  }

  // Asks for all channels together. If the server refuses, it asks for each one, so that a channel that is not allowed
  // does no harm to the others.
  async function begin(fresh) {
    if (fresh.length === 0) return;
    try {
      await catchUp([...begun, ...fresh]);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (fresh.length > 1) {
        for (const channel of fresh) await begin([channel]);
      } else {
        refuse(fresh[0], error);
      }
      return;
    }
    for (const channel of fresh) if (wanted.has(channel)) begun.add(channel);
  }

  async function follow() {
    try {
      await followAll();
    } catch (error) {
      if (stopped !== null || error.word !== 'patterns_total') throw error;
      await giveWay(error);
    }
  }

  async function followAll() {
    if (hasSome() && kind === 'stream') return stream();
    session.opened();
    if (!hasSome()) return pause(); // the page has no channel yet, so there is nothing to ask for
    seen = '1'; // the channels may be others than before
    const told = () => `${session.position} ${seen}`;
    for (;;) {
      const asked = performance.now();
      const before = told();
      await poll([...begun], session.followsSome() ? { presence: seen } : {}, SILENCE);
      if (told() === before && performance.now() - asked < SHORTEST_POLL) await pause(SHORTEST_POLL);
    }
  }

  function begunPatterns() {
    return [...begun].filter((name) => session.kindOf(name) === 'pattern');
  }

  // The server has no room for more patterns now. Those for which it has none do no harm to the others.
  async function giveWay(error) {
    clearTimeout(timer);
    const patterns = begunPatterns();
    const misplaced = [];
    for (const pattern of patterns) if (!(await hasRoom(pattern))) misplaced.push(pattern);
    if (misplaced.length === 0) misplaced.push(patterns.at(-1));
    if (misplaced.length === begun.size && !session.own) throw error; // nothing is left: later there may be room
    for (const pattern of misplaced) refuse(pattern, error);
  }

  // Only a request that stays takes a place, and a refusal comes at once.
  async function hasRoom(pattern) {
    let isLate = false;
    const late = setTimeout(() => {
      isLate = true;
      request.abort();
    }, SHORTEST_POLL);
    try {
      const { body } = await ask([pattern], { transport: 'stream' }, 'application/x-ndjson');
      await body?.cancel();
    } catch (error) {
      if (!isLate || stopped !== null) {
        if (error.word === 'patterns_total') return false;
        throw error;
      }
    } finally {
      clearTimeout(late);
    }
    return true;
  }

  // Until the channels change, or for a while.
  function pause(ms) {
    return new Promise((resolve, reject) => {
      check();
      request = new AbortController();
      request.signal.onabort = reject;
      if (ms) timer = setTimeout(resolve, ms);
    });
  }

  // Returns whether there is more at once.
  async function poll(channels, parameters, ms) {
    within(ms);
    let text = '';
    try {
      const response = await ask(channels, { transport: 'poll', ...parameters }, 'application/json');
      for await (const part of partsOf(response)) {
        within(ANSWER); // for the next part: a slow link may need long for all of them
        text += part;
      }
    } finally {
      clearTimeout(timer);
    }
    const { position, messages, presence, retry, more, ended } = JSON.parse(text);
    reached();
    for (const message of messages) take(message);
    if (ended) allEnded(channels, messages, position);
    check(['changed']);
    session.position = position;
    seen = presence ?? seen;
    if (retry !== undefined) throw { code: 1001, reason: 'server going away', retry };
    return more;
  }

  // All channels of a request have ended. Those that had ended before its position are not among its messages.
  function allEnded(channels, messages, id) {
    const told = messages.filter(({ type }) => type === 'end').map(({ channel }) => channel);
    for (const channel of channels) if (!told.includes(channel)) take({ type: 'end', channel, id });
    check(['changed']);
    if (session.hasEnded()) session.allEnded(); // else the page has subscribed to another channel, or again
  }

  async function stream() {
    within(FIRST_BYTE);
    const presence = session.followsSome() ? { presence: 1 } : {};
    const response = await ask([...begun], { transport: 'stream', ...presence }, 'application/x-ndjson');
    if (!response.body?.getReader) throw { code: 1006, reason: 'streams are not known here', heldBack: true };
    let rest = '';
    for await (const text of partsOf(response)) {
      within(SILENCE);
      if (phase === 'live') silences = 0;
      else session.opened();
      phase = 'live';
      if (!text.includes('\n')) {
        rest += text;
        continue;
      }
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) if (line !== '') take(JSON.parse(line)); // an empty line is a heartbeat
    }
    throw { code: 1006, reason: 'connection lost' };
  }

  // Delivers a message, unless the page has closed meanwhile. After any other change, all messages that have come are
// still delivered first.
  function take(message) {
    check(['changed']);
    if (message.type === 'close') throw message;
    if (!['begin', 'end'].includes(message.type)) brought = 'messages';
    else brought ??= 'marks';
    session.received(message);
  }

  function check(except = []) {
    if (stopped !== null && !except.includes(stopped)) throw new Error(stopped);
  }

  async function ask(channels, parameters, type) {
    check();
    request = new AbortController();
    const address = new URL(target);
    for (const channel of channels) address.searchParams.append(session.kindOf(channel), channel);
    for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
    // A channel that has not begun begins now.
    if (session.position && hasSome()) address.searchParams.set('since', session.position);
    else if (session.last && !session.position) address.searchParams.set('last', session.last);
    const response = await fetch(address, { signal: request.signal, cache: 'no-store', credentials: 'include' });
    if (!response.ok) throw await refusal(response);
    if (!response.headers.get('Content-Type')?.startsWith(type)) {
      await response.body?.cancel();
      throw { code: 1006, reason: "the answer is not the server's" };
    }
    return response;
  }

  return {
    kind,
    change: () => session.hasEnded() || stop('changed'), // when all channels have ended, the server says so
    // A request can't be asked whether it lives. A new request shows it.
    check: () => phase !== 'settling' && stop('changed'),
    close() {
      stop('closed');
      clearTimeout(timer);
    },
  };
}

// The text of a response, in the parts in which it comes. Where there are no streams it comes at once.
async function* partsOf(response) {
  const reader = response.body?.getReader?.();
  if (!reader) return yield response.text();
  const decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}

function reasonOf(error) {
  return error.code === undefined || error instanceof Error ? { code: 1006, reason: String(error) } : error;
}

// An HTTP status, and the server's error about it.
async function refusal(response) {
  const { error } = (await response.json().catch(() => null)) ?? {};
  const seconds = Number(response.headers.get('Retry-After') ?? 0);
  return {
    code: response.status,
    reason: error?.message ?? (typeof error === 'string' ? error : `HTTP ${response.status}`),
    word: error?.code ?? 'refused',
    retry: seconds > 0 ? (seconds + Math.random()) * 1000 : 0,
  };
}
