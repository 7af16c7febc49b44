// The demo page of libpush: four subscribers of the same channel, each over another transport.
//
// The WebSocket is push.js, which an application can copy as it is. Where WebSockets do not work, it goes on over the
// stream or polls. Each other pane has its own transport (20 lines). All follow one rule: remember the position of the
// last message, and give it as `since` when connecting again.
import { connect } from './push.js';

// Where to subscribe: here, or where the server says in the page's head.
const PUSH = document.querySelector('meta[name=push]')?.content ?? '/push';
const MAX_ITEMS = 500; // in a list; older ones are removed
const MAX_STREAM = 1 << 20; // characters of a response; then a new stream is opened, because XHR keeps them all
const RETRY_MS = 1000;
const MAX_RETRY_MS = 10000;
const SLOW_MS = 2000; // after this time the page says that a publish is waiting
const SIX = 'a browser has six connections to a server over HTTP/1.1, for all of its tabs together';

// ---- transports ----
//
// A transport connects to pane.url() and tells the pane what happens: opened(), subscribed(position),
// received(message), reached(position), waiting() while it reconnects by itself, lost(why, forGood).
// It returns a function that ends it at once. After that it calls nothing of the pane any more.

function webSocket(pane) {
  const push = connect(PUSH, {
    channels: page.channels,
    since: pane.asks(),
    onmessage: (message) => pane.received(message),
    ongap: (gap) => pane.received(gap),
    onerror: (error) => pane.received(error),
    onstate: (state, why) => {
      if (state === 'open') {
        const { transport } = push;
        pane.find('.how').textContent = transport === 'ws' ? TRANSPORTS.ws.how : `push.js, instead over: ${transport}`;
        pane.opened();
        pane.subscribed(push.position);
      }
      else if (state === 'closed') pane.lost(why.reason || `closed with ${why.code}`, true);
      else if (why) pane.waiting(why.reason);
    },
  });
  return push.close;
}

function eventSource(pane) {
  const source = new EventSource(pane.url());
  source.onopen = () => pane.opened();
  source.onmessage = (event) => pane.received(JSON.parse(event.data));
  source.addEventListener('push-gap', (event) => pane.received({ type: 'gap', id: event.lastEventId }));
  source.addEventListener('push-close', (event) => {
    const { code, reason } = JSON.parse(event.data);
    if (!isFinal(code)) return; // the browser comes back by itself
    source.close();
    pane.lost(reason, true);
  });
  source.onerror = () => {
    // CLOSED: the answer was an HTTP error. After that an EventSource gives up.
    if (source.readyState === EventSource.CLOSED) pane.lost('refused');
    else pane.waiting();
  };
  return () => source.close();
}

function longPoll(pane) {
  const abort = new AbortController();
  const poll = async () => {
    // Without a position, each request would begin with what is new at that moment. With one, no message is lost in
    // between.
    if (!pane.since()) await Promise.race([page.start, delay(2000)]);
    while (!abort.signal.aborted) {
      if (pane.since()) pane.opened();
      const response = await fetch(pane.url(), { signal: abort.signal, cache: 'no-store' });
      const answer = await response.json();
      if (abort.signal.aborted) return;
      if (!response.ok) throw new Error(answer.error?.message ?? `HTTP ${response.status}`);
      pane.opened();
      answer.messages.forEach((message) => pane.received(message));
      pane.reached(answer.position);
    }
  };
  poll().catch((error) => abort.signal.aborted || pane.lost(error.message));
  return () => abort.abort();
}

function xhrStream(pane) {
  const request = new XMLHttpRequest();
  let read = 0;
  request.open('GET', pane.url());
  request.onreadystatechange = () => {
    if (request.readyState < XMLHttpRequest.HEADERS_RECEIVED) return;
    if (request.status !== 200) {
      if (request.readyState === XMLHttpRequest.DONE) pane.lost(request.status ? `HTTP ${request.status}` : 'no connection');
      return;
    }
    if (request.readyState === XMLHttpRequest.HEADERS_RECEIVED) {
      pane.opened();
      pane.subscribed(request.getResponseHeader('Push-Position'));
    }
    const end = request.responseText.lastIndexOf('\n') + 1;
    for (const line of request.responseText.slice(read, end).split('\n')) {
      if (line) pane.received(JSON.parse(line)); // an empty line is a heartbeat
    }
    read = end;
    if (request.readyState === XMLHttpRequest.DONE) pane.lost('ended');
    else if (read > MAX_STREAM) pane.connect();
  };
  request.send();
  return () => {
    request.onreadystatechange = null;
    request.abort();
  };
}

const TRANSPORTS = {
  ws: { title: 'WebSocket', how: 'subprotocol push.v1.json', connect: webSocket },
  sse: { title: 'EventSource', how: 'Server-Sent Events', connect: eventSource },
  poll: { title: 'Long-poll', how: 'fetch, one request after the other', connect: longPoll },
  stream: { title: 'XMLHttpRequest', how: 'NDJSON stream, read at readyState 3', connect: xhrStream },
};

// After these codes coming back changes nothing: not allowed, message too large.
function isFinal(code) {
  return code === 1008 || code === 1009 || code === 4403;
}

function delay(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// ---- the page ----

const page = {
  channels: new URLSearchParams(location.search).getAll('channel'),
  newest: 0, // the highest number of a message that the page knows of
  startPosition: null, // the position where the first pane began
};
if (page.channels.length === 0) page.channels.push('news');

// A position is "<epoch>-<number>".
function numberOf(position) {
  return Number(position.slice(position.lastIndexOf('-') + 1));
}

function begin() {
  page.startPosition = null;
  page.start = new Promise((resolve) => { page.started = resolve; });
}

// Asks the server for the number of its newest message. With it the page can tell missed messages from new ones.
// Returns false if there is no server.
async function askNewest() {
  let response;
  try {
    response = await fetch('/stats', { cache: 'no-store' });
  } catch {
    return false;
  }
  try {
    page.newest = (await response.json()).seq;
  } catch {
    // The server has no /stats, so the page uses the numbers that the panes have seen.
  }
  return true;
}

class Pane {
  constructor(transport) {
    this.transport = transport;
    this.position = null;
    this.close = null; // ends the present connection
    this.attempt = 0; // numbers connections, so that a late answer is not taken for one of another
    this.begun = false; // was connected at least once
    this.asked = null; // the `since` of the present connection
    this.failing = false; // the last attempt to connect has failed
    this.retryMs = RETRY_MS;
    this.missedUpTo = 0; // messages up to this number were published while this pane was away
    this.build();
  }

  build() {
    const { title, how } = TRANSPORTS[this.transport];
    this.element = document.querySelector('#pane').content.firstElementChild.cloneNode(true);
    this.element.dataset.transport = this.transport;
    this.find('h2').textContent = title;
    this.find('.how').textContent = how;
    this.list = this.find('.messages');
    this.button = this.find('.break');
    this.button.addEventListener('click', () => (this.broken ? this.reconnect() : this.break()));
    document.querySelector('main').append(this.element);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get broken() {
    return this.button.getAttribute('aria-pressed') === 'true';
  }

  set state(state) {
    this.element.dataset.state = state;
    this.find('.state').textContent = state;
  }

  // The position to go on from, or null: only new messages.
  since() {
    return this.position ?? (this.begun || this.transport === 'poll' ? page.startPosition : null);
  }

  // The same, for a connection that begins now.
  asks() {
    this.asked = this.since();
    return this.asked;
  }

  url() {
    this.asks();
    const query = new URLSearchParams({ transport: this.transport, format: 'json' });
    for (const channel of page.channels) query.append('channel', channel);
    if (this.asked) query.set('since', this.asked);
    return new URL(`${PUSH}?${query}`, location.href).href;
  }

  async connect() {
    this.end();
    const attempt = this.attempt;
    this.state = 'connecting';
    const reachable = !this.begun || (await this.away());
    if (attempt !== this.attempt) return;
    if (reachable) this.close = TRANSPORTS[this.transport].connect(this);
    else this.lost('no connection');
  }

  // Ends the connection and any attempt to connect.
  end() {
    this.attempt++;
    clearTimeout(this.timer);
    this.close?.();
    this.close = null;
  }

  // Marks all messages that were published until now as missed. False: there is no server.
  async away() {
    const reachable = await askNewest();
    this.missedUpTo = page.newest;
    return reachable;
  }

  break() {
    this.end();
    this.pressed(true);
    this.state = 'broken';
    this.note('broken');
  }

  // The pane does not connect before its button is pressed.
  leaveOut(why) {
    this.end();
    this.pressed(true);
    this.state = 'broken';
    this.note(why);
  }

  reconnect() {
    this.pressed(false);
    this.note(this.since() ? `goes on from ${this.since()}` : 'connects');
    this.connect();
  }

  pressed(broken) {
    this.button.setAttribute('aria-pressed', broken);
    this.button.textContent = broken ? 'Reconnect' : 'Break';
    showBreakAll();
  }

  // ---- called by the transport ----

  opened() {
    this.begun = true;
    this.failing = false;
    this.retryMs = RETRY_MS;
    this.state = 'open';
  }

  // The position of the subscription. After a `since` it is not the pane's before the messages in between have come.
  subscribed(position) {
    if (!this.asked && position) this.reached(position);
  }

  waiting(why) {
    this.state = 'connecting';
    this.noteFailure(why || 'connection lost');
    if (this.begun) this.away();
  }

  lost(why, forGood = false) {
    this.end();
    if (forGood) return this.leaveOut(why);
    this.state = 'connecting';
    this.noteFailure(why);
    this.timer = setTimeout(() => this.connect(), this.retryMs * (0.5 + Math.random() / 2));
    this.retryMs = Math.min(this.retryMs * 2, MAX_RETRY_MS);
  }

  received(message) {
    if (this.element.dataset.state !== 'open') this.opened();
    switch (message.type) {
      case 'subscribed': this.subscribed(message.id); break;
      case 'message':
      case 'broadcast':
        if (message.id) this.show(message);
        else this.note(`to this connection alone: ${message.data}`); // push_send
        break;
      case 'gap': this.showGap(message); break;
      case 'close': this.note(message.reason || `closed with ${message.code}`); break;
      case 'error': this.note(message.message ?? message.code); break;
    }
  }

  reached(position) {
    this.position = position;
    this.find('.position').textContent = position;
    page.newest = Math.max(page.newest, numberOf(position));
    page.startPosition ??= position;
    page.started(position);
  }

  // ---- what the page shows ----

  show(message) {
    const recovered = numberOf(message.id) <= this.missedUpTo;
    const tags = [recovered && 'recovered', message.type === 'broadcast' && 'broadcast', message.event, message.base64 && 'base64'];
    const item = node('li', {}, [
      node('div', { className: 'data', textContent: message.data }),
      node('div', { className: 'meta' }, [
        node('code', { textContent: message.id }),
        node('time', { textContent: new Date().toLocaleTimeString() }),
        ...(page.channels.length > 1 && message.channel ? [node('span', { textContent: message.channel })] : []),
        ...tags.filter(Boolean).map((tag) => node('span', { className: 'tag', textContent: tag })),
      ]),
    ]);
    item.dataset.id = message.id;
    item.dataset.channel = message.channel ?? '';
    item.classList.toggle('recovered', recovered);
    item.classList.toggle('broadcast', message.type === 'broadcast');
    this.append(item);
    this.count('count');
    if (recovered) this.count('count-recovered');
    this.reached(message.id);
  }

  showGap({ id }) {
    this.append(node('li', { className: 'gap', textContent: 'Messages are missing here: the history no longer has them.' }));
    if (id) this.reached(id);
  }

  // This is shown once, however many attempts fail.
  noteFailure(why) {
    if (!this.failing) this.note(`${why}; trying again`);
    this.failing = true;
  }

  note(text) {
    this.append(node('li', { className: 'note', textContent: text }));
  }

  count(name) {
    const counter = this.find(`.${name}`);
    counter.textContent = Number(counter.textContent) + 1;
  }

  append(item) {
    this.list.append(item);
    while (this.list.childElementCount > MAX_ITEMS) this.list.firstElementChild.remove();
  }
}

function node(name, properties, children = []) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// ---- controls ----

const channelInput = document.querySelector('#channel');
const textInput = document.querySelector('#text');
const result = document.querySelector('#result');
const breakAll = document.querySelector('#break-all');
const ticker = document.querySelector('#ticker');
const panes = [];

// A tab with all four panes takes three of the browser's six connections, so a third tab could not even load its panes.
// So only one tab connects all panes, as long as it exists. Pages that are not secure have no locks: then each tab acts
// as the only one.
async function isOnlyTab() {
  if (!navigator.locks) return true;
  // This tries several times: when a page is loaded anew, its old lock lives a little longer than the old page. Even
  // a slow browser says in the end whether another tab has the lock.
  for (let n = 0; n < 10; n++) {
    const isMine = await new Promise((resolve) => {
      navigator.locks.request('libpush demo', { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && new Promise(() => {});
      });
    });
    if (isMine) return true;
    await delay(50);
  }
  return false;
}

async function post(path, text) {
  const slow = setTimeout(() => {
    result.textContent = `waiting: perhaps all connections are taken. ${SIX}`;
    result.className = 'error';
  }, SLOW_MS);
  try {
    const response = await fetch(path, { method: 'POST', body: text });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    page.newest = Math.max(page.newest, numberOf(answer.id));
    result.textContent = `published as ${answer.id}`;
    result.className = '';
  } catch (error) {
    result.textContent = `not published: ${error.message}`;
    result.className = 'error';
  } finally {
    clearTimeout(slow);
  }
}

function publishUrl() {
  return `/publish?channel=${encodeURIComponent(channelInput.value)}`;
}

function showCurl() {
  document.querySelector('#curl').textContent = `curl -d hello '${location.origin}${publishUrl()}'`;
}

function showBreakAll() {
  const all = panes.length > 0 && panes.every((pane) => pane.broken);
  breakAll.setAttribute('aria-pressed', all);
  breakAll.textContent = all ? 'Reconnect all' : 'Break all';
}

document.querySelector('#composer').addEventListener('submit', (event) => {
  event.preventDefault();
  post(event.submitter?.id === 'broadcast' ? '/broadcast' : publishUrl(), textInput.value);
  textInput.select();
});

// Another channel is a new subscription: it starts with new messages.
channelInput.addEventListener('change', () => {
  if (!channelInput.value || page.channels.includes(channelInput.value)) return;
  page.channels = [channelInput.value];
  history.replaceState(null, '', `?${new URLSearchParams({ channel: channelInput.value })}`);
  begin();
  for (const pane of panes) {
    pane.position = null;
    pane.begun = false;
    pane.note(`now channel ${channelInput.value}`);
    if (!pane.broken) pane.connect();
  }
});
channelInput.addEventListener('input', showCurl);

breakAll.addEventListener('click', () => {
  const reconnect = panes.every((pane) => pane.broken);
  for (const pane of panes) {
    if (reconnect) pane.reconnect();
    else if (!pane.broken) pane.break();
  }
});

ticker.addEventListener('click', () => {
  const on = ticker.getAttribute('aria-pressed') !== 'true';
  ticker.setAttribute('aria-pressed', on);
  clearInterval(ticker.timer);
  let n = 0;
  if (on) ticker.timer = setInterval(() => post(publishUrl(), `tick ${++n}`), 1000);
});

begin();
channelInput.value = page.channels[0];
showCurl();
for (const transport of Object.keys(TRANSPORTS)) panes.push(new Pane(transport));
panes.find((pane) => pane.transport === 'ws').connect(); // WebSockets don't count among the six
const others = panes.filter((pane) => pane.transport !== 'ws');
const alone = await isOnlyTab();
for (const pane of others) {
  if (pane.broken) continue;
  if (alone) pane.connect();
  else pane.leaveOut(`another tab of this page has this one: ${SIX}`);
}
