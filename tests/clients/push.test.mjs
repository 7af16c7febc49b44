// push.js outside of a browser: which transport it takes behind which proxy, and how it handles refusals. Nothing may
// be lost, doubled or out of order, whatever is cut or changed on the way.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { connect } from '../../examples-c/www/push.js';
import { clock } from '../harness/clock.mjs';
import { Host, test } from '../harness/host.mjs';
import { Middlebox } from '../harness/middlebox.mjs';
import { open } from '../harness/opened.mjs';
import { Client, isMessage, isState, page, start, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { soon, token } from '../harness/tokens.mjs';

// Waits until the client is subscribed to this many channels, over this transport. A fallback has a request under way
// then. So it notices when its connections are cut; between two requests it would not.
async function stands(host, transport, channels) {
  await waitFor(async () => {
    const { subscriptions } = await host.stats();
    return subscriptions === channels && host.box.waiting === (transport === 'ws' ? 0 : 1);
  });
}

for (const refusal of [400, 502, 'close']) {
  test(`WebSockets that are refused with ${refusal}: it goes on over the stream`, async () => {
    const host = await start();
    host.box.upgrade = refusal;
    const client = new Client(host, { channels: ['news', 'sport'] });
    assert.equal(client.push.transport, null);
    const failed = ['connecting', 1006];
    assert.deepEqual(await client.until('open'), [['connecting'], failed, failed, ['open']]);
    assert.deepEqual(host.box.seen, ['upgrade', 'upgrade', 'poll', 'stream']);
    assert.equal(client.push.transport, 'stream');
    for (let round = 0; round < 2; round++) {
      await host.publish('news', `before ${round}`);
      await client.until('news', `before ${round}`);
      await host.box.cutWhile(async () => {
        await host.publish('sport', `missed ${round}`);
        await host.broadcast(`missed by all ${round}`);
      });
      const told = await client.until('open');
      assert.deepEqual(told, [
        ['connecting', 1006], ['sport', `missed ${round}`], ['all', `missed by all ${round}`], ['open'],
      ]);
    }
    assert.equal(host.box.count('upgrade'), 2, 'what succeeded is tried first');
  });
}

test('what is told first is told when connect has returned', async () => {
  const host = await start();
  const told = [];
  const options = { channels: ['a'], onstate: (state) => told.push([state, push.transport]) };
  const push = connect(`http://127.0.0.1:${host.box.port}/push`, options);
  open.push(() => push.close());
  assert.deepEqual(told, [], 'not yet');
  push.subscribe('b');
  await waitFor(() => told.length === 2);
  assert.deepEqual(told, [['connecting', null], ['open', 'ws']]);
  // A page that closes it at once gets no calls.
  connect(`http://127.0.0.1:${host.box.port}/push`, { onstate: (state) => told.push(state) }).close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(told.length, 2);
});

test('a proxy that drops Upgrade: the handshake is refused at once, and it goes on over the stream', async () => {
  const host = await start();
  host.box.upgrade = 'drop';
  const client = new Client(host, { channels: ['news'] });
  const failed = ['connecting', 1006];
  assert.deepEqual(await client.until('open'), [['connecting'], failed, failed, ['open']]);
  assert.deepEqual(host.box.answered, [400, 400]);
  assert.equal(client.push.transport, 'stream');
  await host.publish('news', 'hello');
  await client.until('news', 'hello');
});

test('a proxy that holds responses back: it goes on with polls', async () => {
  const host = await start();
  host.box.upgrade = 502;
  host.box.buffers = true;
  const client = new Client(host, { channels: ['news', 'sport'], transports: ['stream', 'poll'] });
  // The time for the first byte of the stream passes.
  await waitFor(() => host.box.count('stream') === 1 && clock.has(4000));
  clock.pass(4000);
  const told = await client.until('open');
  assert.deepEqual(told, [['connecting'], ['connecting', 1006], ['open']]);
  assert.equal(client.push.transport, 'poll');
  for (const text of ['1', '2', '3']) {
    await host.publish('news', text);
    assert.deepEqual(await client.until('news', text), [['news', text]]);
  }
  await stands(host, 'poll', 2);
  await host.box.cutWhile(() => host.publish('sport', 'missed'));
  assert.deepEqual(await client.until('open'), [['connecting', 1006], ['sport', 'missed'], ['open']]);
  assert.equal(host.box.count('stream'), 1);
});

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: lost before the first message, and where it begins`, async () => {
    const host = await start();
    const only = { channels: ['news'], transports: [transport] };
    const first = new Client(host, only);
    await first.until('open');
    host.box.cut();
    const ids = [];
    for (const text of ['a', 'b', 'c']) ids.push(await host.publish('news', text));
    assert.deepEqual((await first.until('news', 'c')).filter(isMessage), [['news', 'a'], ['news', 'b'], ['news', 'c']]);
    const last = new Client(host, { ...only, last: 2 });
    assert.deepEqual(await last.until('open'), [['connecting'], ['news', 'b'], ['news', 'c'], ['open']]);
    assert.equal(last.push.position, ids[2]);
    const since = new Client(host, { ...only, since: ids[0] });
    assert.deepEqual(await since.until('open'), [['connecting'], ['news', 'b'], ['news', 'c'], ['open']]);
  });

  test(`${transport}: a channel begins when it is subscribed to, and nobody else notices`, async () => {
    const host = await start();
    const client = new Client(host, { channels: ['a'], transports: [transport] });
    await client.until('open');
    await host.publish('late', 'too early');
    client.push.subscribe('late');
    client.push.subscribe('later');
    await waitFor(async () => (await host.stats()).subscriptions === 3);
    await host.publish('a', '1');
    await host.publish('late', '2');
    await host.publish('later', '3');
    assert.deepEqual(await client.until('later', '3'), [['a', '1'], ['late', '2'], ['later', '3']]);
    // These are the channels with which it comes back. A channel that is new begins then.
    client.push.unsubscribe('a');
    await stands(host, transport, 2);
    host.box.cut();
    await client.until('connecting', 1006);
    await host.publish('fresh', 'too early');
    client.push.subscribe('fresh');
    for (const channel of ['a', 'late', 'later']) await host.publish(channel, 'missed');
    await client.until('late', 'missed');
    await client.until('later', 'missed');
    await waitFor(async () => (await host.stats()).subscriptions === 3);
    await host.publish('fresh', 'in time');
    const told = await client.until('fresh', 'in time');
    assert.deepEqual(told.filter(isMessage), [['fresh', 'in time']]);
    // It has no channel at all, and then one again.
    for (const channel of ['late', 'later', 'fresh']) client.push.unsubscribe(channel);
    await waitFor(async () => (await host.stats()).subscriptions === 0);
    await host.publish('late', 'nobody wants it');
    client.push.subscribe('late');
    await waitFor(async () => (await host.stats()).subscriptions === 1);
    await host.publish('late', 'again');
    assert.deepEqual(await client.until('late', 'again'), [['late', 'again']]);
  });

  test(`${transport}: what a page does while it is told of a message`, async () => {
    const host = await start();
    let client;
    const told = [];
    const thrown = [];
    const uncaught = (error) => thrown.push(error.message);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', uncaught);
    open.push(() => {
      process.removeListener('uncaughtException', uncaught);
      for (const other of others) process.on('uncaughtException', other);
    });
    const ids = [];
    for (let n = 0; n < 8; n++) ids.push(await host.publish('a', String(n)));
    client = new Client(host, {
      channels: ['a'], since: ids[0], transports: [transport],
      onmessage: ({ data }) => {
        told.push(data);
        if (data === '2') client.push.subscribe('b');
        if (data === '4') throw new Error('of the page');
        if (data === '6') client.push.close();
      },
    });
    await waitFor(() => told.includes('6') && thrown.length > 0);
    await waitFor(async () => (await host.stats()).connections === 0);
    assert.deepEqual([told, thrown], [['1', '2', '3', '4', '5', '6'], ['of the page']]);
    assert.equal(client.push.position, ids[6]);
  });

  test(`${transport}: a server that goes away says when to come back`, async () => {
    const first = await Host.start('retry=100ms');
    const box = await Middlebox.start(first.port);
    open.push(() => box.stop());
    const reasons = [];
    const client = new Client({ box }, {
      channels: ['news'], transports: [transport],
      onstate: (state, why) => reasons.push([state, why?.code, why?.retry]),
    });
    await waitFor(() => client.push.transport);
    await stands({ box, stats: () => first.stats() }, transport, 1);
    await first.stop();
    const next = await Host.start('retry=100ms');
    open.push(() => next.stop());
    box.upstream = next.port;
    await waitFor(() => reasons.at(-1)[0] === 'open' && reasons.length > 2);
    const [state, code, retry] = reasons[2];
    assert.deepEqual([state, code], ['connecting', 1001]);
    assert.ok(retry >= 100 && retry <= 200, `${retry}`);
    await next.publish('news', 'in the new life');
    await client.until('news', 'in the new life');
  });
}

// Everything happens at once: connections are cut and refused, and channels change. Each message of the channels that
// stay comes once and in order.
test('transports that come and go: nothing is lost, doubled or out of order', async () => {
  const host = await start('history_count=10000');
  const clients = [undefined, ['stream'], ['poll'], ['poll', 'stream', 'ws']].map((transports) => (
    new Client(host, { channels: ['a', 'b'], transports })
  ));
  for (const client of clients) await client.until('open');
  const wanted = [];
  for (let round = 0; round < 8; round++) {
    host.box.upgrade = ['pass', 502, 'close', 'pass'][round % 4];
    if (round % 3 !== 1) host.box.cut();
    page.dispatchEvent(new Event('online'));
    for (let n = 0; n < 10; n++) {
      const channel = n % 3 ? 'a' : 'b';
      wanted.push([channel, `${round}.${n}`]);
      await host.publish(channel, `${round}.${n}`);
      await host.publish(`c${round}`, 'of a channel that comes and goes');
      for (const { push } of clients) {
        if (n === 3) push.subscribe(`c${round}`);
        if (n === 8) push.unsubscribe(`c${round}`);
      }
    }
    const due = [null, null, 'stream', 'ws'][round % 4];
    if (due) await waitFor(() => clients[0].push.transport === due);
  }
  await host.publish('a', 'the last');
  wanted.push(['a', 'the last']);
  for (const client of clients) {
    const told = await client.until('a', 'the last');
    assert.deepEqual(told.filter(([what]) => what === 'a' || what === 'b'), wanted);
    assert.ok(!told.some(([what]) => what === 'gap' || what === 'error'), JSON.stringify(told));
  }
});

test('the network is another one: a WebSocket is tried again, and the stream goes on until there is one', async () => {
  const host = await start();
  host.box.upgrade = 502;
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  // There is still no WebSocket.
  page.dispatchEvent(new Event('online'));
  await waitFor(() => host.box.count('upgrade') === 3);
  await host.publish('news', '1');
  await client.until('news', '1');
  assert.equal(client.push.transport, 'stream');
  host.box.upgrade = 'pass';
  page.dispatchEvent(new Event('online'));
  await waitFor(() => client.push.transport === 'ws');
  await host.publish('news', '2');
  // It was open all the time. After a change of the transport it says so again.
  assert.deepEqual(await client.until('news', '2'), [['open'], ['news', '2']]);
});

// ---- requests ----

test('publish: a promise of the position, or why it was not done', async () => {
  const host = await start('client_publish=true', 'max_message=10');
  const client = new Client(host, { channels: ['news'] });
  await assert.rejects(client.push.publish('news', 'early'), { code: 'not_connected' });
  await client.until('open');
  const ids = await Promise.all(['1', '2', '3'].map((text) => client.push.publish('news', text)));
  assert.equal(new Set(ids).size, 3);
  assert.deepEqual(await client.until('news', '3'), [['news', '1'], ['news', '2'], ['news', '3']]);
  assert.equal(client.push.position, ids[2]);
  // Between other answers, each request gets its own answer.
  const [twice, refused, again] = [
    client.push.publish('news', 'once', { event: 'e', key: 'k' }),
    client.push.publish('news', 'longer than ten'),
    client.push.publish('news', 'once', { key: 'k' }),
  ];
  client.push.subscribe('');
  client.push.subscribe('sport');
  await assert.rejects(refused, { code: 'too_large' });
  assert.equal(await twice, await again);
  const told = await client.until('error', 'channel', '');
  await client.push.publish('sport', new Uint8Array([0, 255]));
  told.push(...(await client.until('sport', 'AP8=')));
  assert.deepEqual(told.filter(isMessage).sort(), [['error', 'channel', ''], ['news', 'once'], ['sport', 'AP8=']]);
  assert.throws(() => client.push.send(5), TypeError);
  const left = client.push.publish('news', 'left');
  client.push.close();
  await assert.rejects(left, { code: 'lost' });
});

// With the real server its threads decide which message comes first. This server sends them in a fixed order.
test('an answer to publish is no position, and after unsubscribe nothing is told', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const urls = [];
  server.on('connection', (socket, { url }) => {
    urls.push(url);
    const say = (object) => socket.send(JSON.stringify(object));
    for (const channel of ['news', 'sport']) say({ type: 'subscribed', channel, id: 'e-1' });
    socket.on('message', (text) => {
      const { type, channel, ref } = JSON.parse(text);
      if (type === 'publish') say({ type: 'published', channel, id: 'e-9', ref });
      if (type !== 'unsubscribe') return;
      say({ type: 'message', channel, id: 'e-2', data: 'under way' });
      say({ type: 'gap', channel, id: 'e-3' });
      say({ type: 'unsubscribed', channel, ref });
      say({ type: 'message', channel: 'news', id: 'e-4', data: 'wanted' });
    });
  });
  const client = new Client({ box: server.address() }, { channels: ['news', 'sport'] });
  open.push(async () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  });
  await client.until('open');
  assert.equal(await client.push.publish('news', 'x'), 'e-9');
  assert.equal(client.push.position, 'e-1');
  for (const socket of server.clients) socket.terminate();
  await client.until('open');
  assert.equal(new URL(urls[1], 'http://host').searchParams.get('since'), 'e-1');
  client.push.unsubscribe('sport');
  assert.deepEqual(await client.until('news', 'wanted'), [['news', 'wanted']]);
  assert.equal(client.push.position, 'e-4');
});

test('a gap without an id leads to nothing: the newest messages are asked for again', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const urls = [];
  server.on('connection', (socket, { url }) => {
    urls.push(new URL(url, 'http://host').searchParams);
    const say = (object) => socket.send(JSON.stringify(object));
    say({ type: 'gap', channel: 'news' });
    if (urls.length === 1) return socket.close(1001);
    say({ type: 'gap', channel: 'sport', id: 'e-3' });
    say({ type: 'message', channel: 'news', id: 'e-4', data: 'kept' });
    for (const channel of ['news', 'sport']) say({ type: 'subscribed', channel, id: 'e-4' });
  });
  const client = new Client({ box: server.address() }, { channels: ['news', 'sport'], last: 10 });
  open.push(async () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  });
  assert.deepEqual((await client.until('news', 'kept')).filter(isMessage),
    [['gap', 'news'], ['gap', 'news'], ['gap', 'sport'], ['news', 'kept']]);
  assert.deepEqual(urls.map((query) => [query.get('last'), query.get('since')]), [['10', null], ['10', null]]);
  assert.equal(client.push.position, 'e-4');
});

for (const transport of ['stream', 'poll']) {
  test(`${transport}: what needs a WebSocket says so`, async () => {
    const host = await start('client_publish=true');
    const client = new Client(host, { channels: ['news'], transports: [transport] });
    assert.equal(client.push.send('early'), false);
    await client.until('open');
    assert.equal(client.push.send('x'), false);
    assert.deepEqual(await client.until('error', 'transport'), [['error', 'transport']]);
    const message = `publish needs a WebSocket; in use is: ${transport}`;
    await assert.rejects(client.push.publish('news', 'x'), { code: 'transport', message });
  });
}

test('a transport that does not exist', () => {
  for (const transports of [[], ['sse'], ['ws', 'xhr']]) {
    assert.throws(() => connect('http://127.0.0.1:1/push', { transports }), TypeError);
  }
});

// ---- refusals ----

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: a channel that is not allowed is no harm to the others`, async () => {
    const host = await startWithTokens();
    const client = new Client(host, {
      channels: ['news'], transports: [transport], token: () => token(['news', 'sport', 'late'], 600),
    });
    await client.until('open');
    for (const channel of ['sport', 'secret', 'late']) client.push.subscribe(channel);
    assert.deepEqual(await client.until('error', 'channel', 'secret'), [['error', 'channel', 'secret']]);
    await stands(host, transport, 3);
    // The host knows of a channel a moment before the client does. The client comes back with the channels that it
    // knows.
    await host.publish('late', 'begun');
    await client.until('late', 'begun');
    await stands(host, transport, 3);
    await host.box.cutWhile(async () => {
      await client.until('connecting', 1006);
      await host.publish('news', '1');
      await host.publish('late', '2');
    });
    assert.deepEqual((await client.until('open')).filter(isMessage), [['news', '1'], ['late', '2']]);
  });
}

test('a token that ends: the next one goes on, and when there is none it is over; renew is in time', async () => {
  const host = await startWithTokens();
  await soon((seconds) => Promise.all(['stream', 'poll'].map((transport) => tokensEnd(host, transport, seconds))));
});

// A client has a token that is too old, and two that end soon. Beside it another one renews its own.
async function tokensEnd(host, transport, seconds) {
  const start = (...ages) => new Client(host, {
    channels: ['news'], transports: [transport],
    token: async () => (ages.length > 0 ? token(['news'], ages.shift()) : null),
  });
  const text = `over ${transport}`;
  const count = ({ told }, ...what) => told.filter((call) => what.every((part, at) => call[at] === part)).length;
  const renewed = start(seconds, 600);
  assert.deepEqual(await renewed.until('open'), [['connecting'], ['open']]);
  assert.equal(await renewed.push.renew(), true);
  const client = start(-60, seconds, seconds);
  const isOver = (of) => count(of, 'closed') > 0;
  for (let opens = 1; ; opens++) {
    await waitFor(() => count(client, 'open') >= opens || isOver(client));
    if (isOver(client)) break;
    await host.publish('news', text);
  }
  const ended = transport === 'poll' ? 403 : 4403;
  assert.deepEqual(client.told.filter(isState), [
    ['connecting'], ['connecting', 401], ['open'], ['connecting', ended], ['open'], ['connecting', ended], ['closed', 4403],
  ]);
  assert.equal(count(client, 'news', text), 2);
  await waitFor(() => count(renewed, 'news', text) === 2 || isOver(renewed));
  assert.ok(renewed.told.every(([what]) => what === 'news'), JSON.stringify(renewed.told));
}

for (const transport of ['stream', 'poll']) {
  for (const [status, body] of [[400], [403], [404], [413, 'not JSON']]) {
    test(`${transport}: refused with ${status}, it is over`, async () => {
      const host = await start();
      const text = body ?? '{"error":{"code":"x","message":"so it is"}}';
      host.box.instead = (_, response) => response.writeHead(status).end(text);
      const whys = [];
      const client = new Client(host, {
        channels: ['news'], transports: [transport], onstate: (...what) => whys.push(what),
      });
      await waitFor(() => whys.length === 2);
      const [state, { code, reason }] = whys[1];
      assert.deepEqual([state, code, reason], ['closed', status, body ? 'HTTP 413' : 'so it is']);
      assert.equal(client.push.transport, null);
    });
  }

  test(`${transport}: without a token() to ask, it is over with 401`, async () => {
    const host = await startWithTokens();
    const client = new Client(host, { channels: ['news'], transports: [transport] });
    assert.deepEqual(await client.until('closed', 401), [['connecting'], ['closed', 401]]);
  });

  test(`${transport}: refused for now, it comes back when it is advised to`, async () => {
    const host = await start();
    const at = [];
    const refuse = (incoming, response) => {
      at.push(performance.now());
      return at.length <= 2 && response.writeHead(at.length === 1 ? 503 : 429, { 'Retry-After': '1' }).end('{}');
    };
    host.box.instead = refuse;
    const client = new Client(host, { channels: ['news'], transports: [transport] });
    // An event of the network makes it no earlier.
    await client.until('connecting', 503);
    page.dispatchEvent(new Event('online'));
    assert.deepEqual(await client.until('open'), [['connecting', 429], ['open']]);
    assert.ok(at[1] - at[0] > 990 && at[2] - at[1] > 990, `${at}`);
  });

  test(`${transport}: what is not the server's answer is not taken for it`, async () => {
    const host = await start();
    let left = 3;
    const html = { 'Content-Type': 'text/html' };
    host.box.instead = (_, response) => left-- > 0 && response.writeHead(200, html).end('<p>Log in!');
    const client = new Client(host, { channels: ['news'], transports: [transport] });
    assert.deepEqual(await client.until('open'), [['connecting'], ...Array(3).fill(['connecting', 1006]), ['open']]);
  });
}

for (const transports of [undefined, ['stream'], ['poll']]) {
  test(`${transports ?? 'all'}: channels that are not allowed from the start are no harm to the others`, async () => {
    const host = await startWithTokens();
    const first = await host.publish('news', '0');
    for (const [channel, text] of [['sport', '1'], ['news', '2'], ['sport', '3']]) await host.publish(channel, text);
    const client = new Client(host, {
      channels: ['news', 'secret', 'sport', 'other'], since: first, transports,
      token: () => token(['news', 'sport'], 600),
    });
    const told = await client.until('open');
    assert.deepEqual(told.filter(isMessage), [
      ['error', 'channel', 'secret'], ['error', 'channel', 'other'], ['sport', '1'], ['news', '2'], ['sport', '3'],
    ]);
    // WebSockets failed because of these channels, and not because of a proxy.
    if (!transports) await waitFor(() => client.push.transport === 'ws');
    await host.publish('sport', '4');
    assert.deepEqual((await client.until('sport', '4')).filter(isMessage), [['sport', '4']]);
  });

  test(`${transports ?? 'all'}: if no channel is allowed, it is over`, async () => {
    const host = await startWithTokens();
    const client = new Client(host, { channels: ['x', 'y'], transports, token: () => token(['news'], 600) });
    const told = await client.until('closed', 403);
    assert.ok(told.every(([what]) => what !== 'error'), JSON.stringify(told));
  });
}
