// Live push for a page: one WebSocket that comes back by itself and goes on where it was. No dependencies; copy it.
//
//   import { connect } from './push.js';
//   const push = connect('/push', {
//     channels: ['news'],
//     onmessage: ({ channel, data, event, id }) => { … },
//     ongap: ({ channel }) => { … },    // messages are missing and can't be had any more: load the page's state anew
//     onstate: (state, why) => { … },   // 'connecting', 'open', 'closed' for good; why: { code, reason }
//   });
//   push.subscribe('prices');  push.unsubscribe('prices');  push.send('to the server');  push.close();
//
// docs/protocol.md has the rest of the options.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
const QUIET = 30_000; // after which a connection is asked whether it lives; the server's own pings a page can't see
const ANSWER = 10_000;

// Coming back changes nothing: done, a defect of the client, not allowed; the service's own are 3000 to 3999.
function isFinal(code) {
  return [1000, 1002, 1003, 1007, 1008, 1009, 4403].includes(code) || (code >= 3000 && code < 4000);
}

export function connect(url, { channels = [], since, last, token, onmessage, ongap, onstate, onerror } = {}) {
  const wanted = new Set(channels);
  let position = since ?? null;
  let socket = null;
  let isOpen = false;
  let attempt = 0; // numbers them, so that a token that comes late is not taken for another's
  let wait = FIRST_WAIT;
  let timer; // of the next attempt, or of the silence of this one

  async function open() {
    const mine = ++attempt;
    clearTimeout(timer);
    const target = new URL(url, location.href);
    target.protocol = target.protocol.replace('http', 'ws');
    if (token) {
      try {
        const fresh = await token();
        if (mine !== attempt) return;
        if (!fresh) return end({ code: 4403, reason: 'no token' });
        target.searchParams.set('token', fresh);
      } catch (error) {
        if (mine === attempt) retry({ code: 1006, reason: String(error) });
        return;
      }
    }
    const asked = new Set(wanted);
    for (const channel of asked) target.searchParams.append('channel', channel);
    if (position) target.searchParams.set('since', position);
    else if (last) target.searchParams.set('last', last);
    socket = new WebSocket(target, 'push.v1.json');
    socket.onopen = () => {
      listen();
      // What the page has changed its mind about meanwhile.
      for (const channel of wanted) if (!asked.has(channel)) say({ type: 'subscribe', channel });
      for (const channel of asked) if (!wanted.has(channel)) say({ type: 'unsubscribe', channel });
      if (asked.size === 0) opened(); // else `subscribed` says so, after what was missed
    };
    socket.onmessage = ({ data }) => received(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (isFinal(code) && !(code === 4403 && token && isOpen)) end({ code, reason });
      else retry({ code, reason }); // with a new token, where the old one had let us in
    };
  }

  function received(message) {
    listen();
    const { type, id, channel, code } = message;
    // `subscribed` comes after what was missed; a later one says nothing about the other channels.
    if (id) position = type === 'subscribed' ? position ?? id : id;
    switch (type) {
      case 'message': case 'broadcast': return onmessage?.(message);
      case 'gap': return ongap?.(message);
      case 'subscribed': return opened();
      case 'unsubscribed':
        if (!code) return; // as the page wished; else the channel was taken away
        wanted.delete(channel); // falls through
      case 'error': return onerror?.(message);
    }
  }

  function opened() {
    wait = FIRST_WAIT;
    if (!isOpen) become('open');
  }

  function become(state, why) {
    isOpen = state === 'open';
    onstate?.(state, why);
  }

  // A server that goes away says when to come back. Else the wait is longer each time, and by chance.
  function retry(why) {
    stop();
    const advice = /retry in (\d+) ms/.exec(why.reason);
    timer = setTimeout(open, advice ? Number(advice[1]) : wait * (0.5 + Math.random() / 2));
    wait = Math.min(wait * 2, LONGEST_WAIT);
    become('connecting', why);
  }

  // Notices a connection that is dead and does not know it, as after a laptop's sleep.
  function listen() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      say({ type: 'ping' });
      timer = setTimeout(() => retry({ code: 1006, reason: 'no answer' }), ANSWER);
    }, QUIET);
  }

  function say(request) {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify(request));
    return true;
  }

  function stop() {
    attempt++;
    clearTimeout(timer);
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    socket?.close();
    socket = null;
  }

  function end(why) {
    close();
    become('closed', why);
  }

  function close() {
    stop();
    removeEventListener('online', online);
  }

  const online = () => { if (!socket) open(); }; // the browser knows when the network is back
  addEventListener('online', online);
  become('connecting');
  open();

  return {
    get position() { return position; },
    subscribe(channel) { wanted.add(channel); say({ type: 'subscribe', channel }); }, // to what comes from now on
    unsubscribe(channel) { wanted.delete(channel); say({ type: 'unsubscribe', channel }); },
    send: (data) => say({ type: 'message', data }), // to the server. False: not connected, nothing was sent
    renew: async () => say({ type: 'token', token: await token() }), // before it ends; else a reconnect does it
    close, // nothing is told any more
  };
}
