// push.js and what a server says: answers that overtake each other, channels that the host gives and takes.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Client, isMessage, isState, page, start, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { token } from '../harness/tokens.mjs';

// A server that says what the test wants. `serve` gets each connection: a function that says something, the URL's
// parameters, and the socket. `asked` has the requests.
async function scripted(serve) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const asked = [];
  server.on('connection', (socket, { url }) => {
    const say = (object) => socket.send(JSON.stringify(object));
    socket.on('message', (text) => asked.push({ ...JSON.parse(text), say }));
    serve(say, new URL(url, 'http://host').searchParams, socket);
  });
  const cut = () => {
    for (const socket of server.clients) socket.terminate();
  };
  open.push(async () => {
    cut();
    server.close();
    await once(server, 'close');
  });
  return { box: server.address(), asked, cut };
}

test('an answer that waits for the disk is overtaken, and each request gets its own', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'push-'));
  open.push(() => rm(directory, { recursive: true }));
  const host = await start('client_publish=true', `engine=file:${join(directory, 'log')}`, 'engine_sync=always');
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  for (let round = 0; round < 5; round++) {
    const first = client.push.publish('news', `${round}`);
    client.push.subscribe('');
    client.push.subscribe(`sport ${round}`);
    const second = client.push.publish('news', `${round}!`);
    const ids = await Promise.all([first, second]);
    const [before, after] = ids.map((id) => Number(/-(\d+)$/.exec(id)[1]));
    assert.equal(after, before + 1);
    await client.until('error', 'channel', '');
    await client.until('news', `${round}!`);
  }
});

test('answers in any order', async () => {
  const host = await scripted((say) => say({ type: 'subscribed', channel: 'news', id: 'e-1' }));
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  const [first, second, third] = ['1', '2', '3'].map((text) => client.push.publish('news', text));
  client.push.subscribe('sport');
  client.push.subscribe('secret');
  client.push.unsubscribe('sport');
  await waitFor(() => host.asked.length === 6);
  const refs = host.asked.map(({ ref }) => ref);
  assert.equal(new Set(refs).size, 6);
  const [{ say }] = host.asked;
  say({ type: 'error', code: 'channel', message: 'no', channel: 'secret', ref: refs[4] });
  say({ type: 'error', code: 'timeout', message: 'who knows', channel: 'news', ref: refs[1] });
  say({ type: 'unsubscribed', channel: 'sport', ref: refs[5] });
  say({ type: 'published', channel: 'news', id: 'e-7', ref: refs[2] });
  say({ type: 'subscribed', channel: 'sport', id: 'e-2', ref: refs[3] });
  say({ type: 'published', channel: 'news', id: 'e-6', ref: refs[0] });
  await assert.rejects(second, { code: 'timeout' });
  assert.deepEqual(await Promise.all([first, third]), ['e-6', 'e-7']);
  assert.deepEqual(client.told, [['error', 'channel', 'secret']]);
  // An error without a number is about something that has no answer.
  say({ type: 'error', code: 'base64', message: 'no' });
  await client.until('error', 'base64');
});

// Answers requests as the server does.
function answers(say, socket) {
  socket.on('message', (text) => {
    const { type, channel, ref } = JSON.parse(text);
    const kind = { ping: 'pong', subscribe: 'subscribed', unsubscribe: 'unsubscribed' }[type];
    say({ type: kind, channel, id: type === 'subscribe' ? 'e-9' : undefined, ref });
  });
}

test('ws: a channel that the host gives unasked is the page\'s, until the page leaves it', async () => {
  const urls = [];
  const host = await scripted((say, parameters, socket) => {
    urls.push(parameters.getAll('channel'));
    answers(say, socket);
    say({ type: 'message', channel: 'given', id: 'e-1', data: 'missed' });
    // It ignores the channels of the URL.
    say({ type: 'subscribed', channel: 'given', id: 'e-2' });
  });
  const client = new Client(host, { channels: ['news'] });
  assert.deepEqual(await client.until('open'), [['connecting'], ['given', 'missed'], ['open']]);
  const asked = (type) => host.asked.filter((request) => request.type === type).map(({ channel }) => channel);
  assert.deepEqual(asked('subscribe'), ['news']);
  client.push.subscribe('sport');
  await waitFor(() => asked('subscribe').length === 2);
  await waitFor(() => client.push.position === 'e-9');
  host.asked[0].say({ type: 'message', channel: 'given', id: 'e-10', data: 'live' });
  await client.until('given', 'live');
  // Beside those that the host gives, each channel is asked for, from where it is.
  host.asked.length = 0;
  host.cut();
  await client.until('open');
  assert.deepEqual(urls[1], ['given']);
  assert.deepEqual(asked('subscribe').sort(), ['news', 'sport']);
  assert.ok(host.asked.every(({ type, since }) => type !== 'subscribe' || since === 'e-10'));
  // The host gives it again, and the page does not want it any more.
  client.push.unsubscribe('given');
  await waitFor(() => asked('unsubscribe').length === 1);
  host.cut();
  const told = await client.until('open');
  await waitFor(() => asked('unsubscribe').length === 2);
  assert.deepEqual([asked('unsubscribe'), urls[2]], [['given', 'given'], []]);
  assert.ok(told.every(isState), JSON.stringify(told));
});

test('ws: a host that gives channels has the server ignore those of the URL: they are asked for again', async () => {
  const host = await scripted((say) => say({ type: 'subscribed', channel: 'given', id: 'e-2' }));
  const client = new Client(host, { channels: ['news', 'secret'], since: 'e-1' });
  await waitFor(() => host.asked.length === 1);
  const [{ type, say, ref }] = host.asked;
  assert.equal(type, 'ping');
  say({ type: 'pong', ref });
  await waitFor(() => host.asked.length === 3);
  const [news, secret] = host.asked.slice(1);
  for (const { type, since } of [news, secret]) assert.deepEqual([type, since], ['subscribe', 'e-1']);
  assert.equal(client.push.position, 'e-1', 'it is good for all channels');
  say({ type: 'message', channel: 'news', id: 'e-2', data: 'missed' });
  say({ type: 'subscribed', channel: 'news', id: 'e-2', ref: news.ref });
  say({ type: 'error', code: 'channel', message: 'no', channel: 'secret', ref: secret.ref });
  const told = await client.until('open');
  assert.deepEqual(told, [['connecting'], ['news', 'missed'], ['error', 'channel', 'secret'], ['open']]);
});

test('ws: a page that names a channel of the host itself gets the others, too', async () => {
  const host = await scripted((say, parameters, socket) => {
    answers(say, socket);
    say({ type: 'subscribed', channel: 'given', id: 'e-2' });
  });
  const client = new Client(host, { channels: ['given', 'news'], since: 'e-1' });
  await client.until('open');
  const news = ({ type, channel, since }) => type === 'subscribe' && channel === 'news' && since === 'e-1';
  assert.ok(host.asked.some(news), JSON.stringify(host.asked));
});

test('ws: the messages of a channel that the host gives do not move the position of the others', async () => {
  let count = 0;
  const host = await scripted((say, parameters, socket) => {
    answers(say, socket);
    say({ type: 'message', channel: 'given', id: 'e-50', data: 'x' });
    if (count++ === 0) socket.close(1011, 'before it has confirmed anything');
    else say({ type: 'subscribed', channel: 'given', id: 'e-60' });
  });
  const client = new Client(host, { channels: ['news'], since: 'e-1' });
  await client.until('connecting', 1011);
  assert.equal(client.push.position, 'e-1');
  await client.until('open');
  const { since } = host.asked.find(({ type, channel }) => type === 'subscribe' && channel === 'news');
  assert.equal(since, 'e-1');
});

test('ws: a channel that the host gives and that is quiet keeps the page when its own has ended', async () => {
  let serve = (say) => {
    say({ type: 'end', channel: 'news', id: 'e-1' });
    say({ type: 'subscribed', channel: 'news', id: 'e-2' });
    say({ type: 'subscribed', channel: 'quiet', id: 'e-2' });
  };
  const host = await scripted((say, parameters, socket) => {
    answers(say, socket);
    serve(say);
  });
  const client = new Client(host, { channels: ['news'], since: 'start' });
  assert.deepEqual(await client.until('open'), [['connecting'], ['end', 'news'], ['open']]);
  await waitFor(() => host.asked.length === 2); // it leaves the one, and asks whether there are others
  host.asked[0].say({ type: 'message', channel: 'quiet', id: 'e-3', data: 'x' });
  await client.until('quiet', 'x');
  // The last end comes, and the connection is cut before the server has confirmed anything.
  host.asked.length = 0;
  serve = () => {};
  host.cut();
  await client.until('connecting', 1006);
  serve = (say) => say({ type: 'end', channel: 'quiet', id: 'e-4' });
  await client.until('end', 'quiet');
  assert.equal(client.push.transport, null, 'nothing is confirmed yet');
  host.cut();
  serve = (say) => say({ type: 'subscribed', channel: 'quiet', id: 'e-4' });
  await client.until('closed', 1000);
  assert.equal(await client.push.ended, true);
});

for (const transport of ['stream', 'poll']) {
  test(`${transport}: a channel that the host gives unasked is the page's`, async () => {
    const host = await start();
    const position = await host.publish('news', '1');
    const urls = [];
    host.box.instead = ({ url }, response) => {
      urls.push(new URL(url, 'http://host').searchParams.getAll('channel'));
      if (urls.length > 1) return false;
      const messages = [{ type: 'message', channel: 'given', id: position, data: 'missed' }];
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ position, messages }));
      return true;
    };
    const client = new Client(host, { channels: ['news'], transports: [transport] });
    assert.deepEqual(await client.until('open'), [['connecting'], ['given', 'missed'], ['open']]);
    await waitFor(() => host.box.waiting === 1);
    assert.deepEqual(urls.at(-1), ['news', 'given']);
    await host.publish('given', 'live');
    await client.until('given', 'live');
  });
}

test('all channels are taken away before they are confirmed: it is open all the same', async () => {
  const host = await scripted((say) => {
    for (const channel of ['a', 'b']) say({ type: 'unsubscribed', channel, code: 4403, reason: 'no' });
  });
  const client = new Client(host, { channels: ['a', 'b'] });
  const told = await client.until('open');
  assert.deepEqual(told, [['connecting'], ['unsubscribed', 4403, 'a'], ['unsubscribed', 4403, 'b'], ['open']]);
  client.push.subscribe('c');
  await waitFor(() => host.asked.length === 1);
});

test('closed with 4403 before it was open: token() is asked again', async () => {
  let count = 0;
  const host = await scripted((say, parameters, socket) => {
    if (count++ === 0) return socket.close(4403, 'grant expired');
    say({ type: 'subscribed', channel: 'news', id: parameters.get('token') });
  });
  const tokens = ['old', 'new'];
  const client = new Client(host, { channels: ['news'], token: () => tokens.shift() ?? null });
  assert.deepEqual(await client.until('open'), [['connecting'], ['connecting', 4403], ['open']]);
  assert.equal(client.push.position, 'new');
});

test('of two looks for a WebSocket at once, one goes on', async () => {
  const host = await startWithTokens();
  host.box.upgrade = 502;
  const waiting = [];
  let slow = false;
  const client = new Client(host, {
    channels: ['news'],
    token: () => (slow ? new Promise((resolve) => waiting.push(resolve)) : token(['news'], 600)),
  });
  await client.until('open');
  slow = true;
  host.box.upgrade = 'hang';
  for (const looks of [1, 2]) {
    page.dispatchEvent(new Event('online'));
    await waitFor(() => waiting.length === looks);
  }
  for (const resolve of waiting) resolve(token(['news'], 600));
  await waitFor(() => host.box.trials > 0);
  client.push.close();
  await waitFor(() => host.box.trials === 0);
  assert.equal(host.box.count('upgrade'), 3);
});

// ---- more channels than a URL has room for ----

const many = Array.from({ length: 300 }, (_, n) => `channel-${n}-${'x'.repeat(60)}`);

test('ws: more channels than a URL has room for; each gets what it missed, once and in order', async () => {
  const host = await start('max_channels=1000');
  const before = await host.publish(many[299], 'before');
  for (const channel of [many[299], many[0]]) await host.publish(channel, 'at first');
  const client = new Client(host, { channels: many, since: before, transports: ['ws'] });
  for (let round = 0; round < 3; round++) {
    const told = (await client.until('open')).filter(isMessage);
    const text = round === 0 ? 'at first' : 'missed';
    const wanted = [[many[0], text], [many[299], text], ...(round === 0 ? [] : [[many[299], 'too']])];
    assert.deepEqual(told.sort(), wanted.sort());
    await waitFor(async () => (await host.stats()).subscriptions === 300);
    await host.publish(many[298], 'live');
    await client.until(many[298], 'live');
    await host.box.cutWhile(async () => {
      await client.until('connecting', 1006);
      for (const channel of [many[299], many[0]]) await host.publish(channel, 'missed');
      await host.publish(many[299], 'too');
    });
  }
});

test('ws: the newest of each channel come first, also of those for which the URL has no room', async () => {
  const host = await start('max_channels=1000');
  for (const channel of [many[0], many[299]]) {
    for (const text of ['1', '2', '3']) await host.publish(channel, text);
  }
  const client = new Client(host, { channels: many, last: 2, transports: ['ws'] });
  assert.deepEqual((await client.until('open')).filter(isMessage), [
    [many[0], '2'], [many[0], '3'], [many[299], '2'], [many[299], '3'],
  ]);
});

test('ws: lost while channels still catch up, each goes on where it was', async () => {
  const sinces = [];
  const host = await scripted((say, parameters) => {
    sinces.push(parameters.get('since'));
    for (const channel of parameters.getAll('channel')) say({ type: 'subscribed', channel, id: 'e-9' });
  });
  const client = new Client(host, { channels: many, since: 'e-5' });
  // A few at a time, so that what waits for the client stays within the server's bound.
  const late = () => host.asked.filter(({ type }) => type === 'subscribe');
  const isOf = (channel) => (request) => request.channel === channel;
  await waitFor(() => late().length === 8);
  const [first, second] = late();
  assert.deepEqual([first.since, second.since], ['e-5', 'e-5']);
  first.say({ type: 'message', channel: first.channel, id: 'e-6', data: 'the sixth' });
  await client.until(first.channel, 'the sixth');
  assert.equal(client.push.position, 'e-5', 'it is good for all channels');
  host.asked.length = 0;
  host.cut();
  await waitFor(() => late().length === 8);
  assert.deepEqual(sinces, ['e-5', 'e-9']);
  assert.equal(host.asked.find(isOf(first.channel)).since, 'e-6');
  assert.equal(host.asked.find(isOf(second.channel)).since, 'e-5');
  assert.ok(client.told.every(([what]) => what !== 'open'), 'something is still missing');
  let count = 0;
  await waitFor(() => {
    for (const { say, channel, ref } of late().slice(count)) {
      count++;
      say({ type: 'subscribed', channel, id: 'e-9', ref });
    }
    return client.told.some(([what]) => what === 'open');
  });
  assert.ok(late().some(isOf(many[299])));
  assert.equal(client.push.position, 'e-9');
});

test('a WebSocket is lost while a channel catches up, and the stream follows: a gap', async () => {
  const host = await start();
  const [before, after] = [await host.publish('news', 'before'), await host.publish('news', 'missed')];
  const first = await scripted((say) => say({ type: 'subscribed', channel: 'given', id: after }));
  host.box.upstream = first.box.port;
  const client = new Client(host, { channels: ['news'], since: before });
  await waitFor(() => first.asked.length === 1);
  first.asked[0].say({ type: 'pong', ref: first.asked[0].ref });
  await waitFor(() => first.asked.length === 2);
  host.box.upgrade = 502;
  host.box.upstream = host.port;
  first.cut();
  assert.deepEqual((await client.until('gap', 'news')).filter(isMessage), [['gap', 'news']]);
  await waitFor(() => client.push.transport === 'stream');
  assert.equal(client.push.position, after);
});

test('an outage gives up no channel of a page with more than a URL has room for', async () => {
  const host = await start('max_channels=1000');
  host.box.upgrade = 502;
  let polls = 0;
  host.box.instead = (request, response) => {
    polls++;
    response.writeHead(502).end();
    return true;
  };
  const client = new Client(host, { channels: many });
  await waitFor(() => polls > 0);
  host.box.upgrade = 'pass';
  const told = await client.until('open');
  assert.ok(told.every(isState), JSON.stringify(told.filter(isMessage).slice(0, 2)));
  assert.equal(client.push.transport, 'ws');
  await waitFor(async () => (await host.stats()).subscriptions === 300);
});

for (const transport of ['stream', 'poll']) {
  test(`${transport}: channels for which the URL has no room are refused, and the others go on`, async () => {
    const host = await start('max_channels=1000');
    const client = new Client(host, { channels: many, transports: [transport] });
    const told = await client.until('open');
    const refused = told.filter(([, code]) => code === 'uri_too_long').map(([, , channel]) => channel);
    assert.ok(refused.length > 100 && refused.includes(many[299]) && !refused.includes(many[0]), `${refused.length}`);
    await waitFor(() => host.box.waiting === 1);
    client.push.subscribe(`late-${'x'.repeat(60)}`);
    await client.until('error', 'uri_too_long', `late-${'x'.repeat(60)}`);
    await host.publish(many[0], 'hello');
    await client.until(many[0], 'hello');
  });
}

test('a message that the host has refused, or has not answered, is rejected with the reason', async () => {
  const host = await scripted((say) => say({ type: 'subscribed', channel: 'news', id: 'e-1' }));
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  const [refused, unanswered, published] = ['1', '2', '3'].map((text) => client.push.publish('news', text));
  await waitFor(() => host.asked.length === 3);
  const [first, second, third] = host.asked;
  const about = (code, ref) => ({ type: 'error', code, message: `it is ${code}`, channel: 'news', ref });
  second.say(about('unanswered', second.ref));
  first.say({ ...about('refused', first.ref), status: 429 });
  third.say({ type: 'published', channel: 'news', id: 'e-2', ref: third.ref });
  await assert.rejects(refused, { code: 'refused', status: 429, message: 'it is refused' });
  await assert.rejects(unanswered, (error) => error.code === 'unanswered' && !('status' in error));
  assert.equal(await published, 'e-2');
  assert.deepEqual(client.told, [], 'the page is told by the promise alone');
});

test('a call gets its answer: text, bytes or a refusal, in any order', async () => {
  const host = await scripted((say) => say({ type: 'subscribed', channel: 'news', id: 'e-1' }));
  const client = new Client(host, { channels: ['news'] });
  await client.until('open');
  const [text, bytes, refused, lost] = ['1', new Uint8Array([0, 255]), '3', '4'].map((data) => client.push.call(data));
  await waitFor(() => host.asked.filter(({ type }) => type === 'call').length === 4);
  const [first, second, third] = host.asked.filter(({ type }) => type === 'call');
  assert.deepEqual([first.data, second.data, second.base64], ['1', 'AP8=', true]);
  third.say({ type: 'error', code: 'refused', status: 403, message: 'not you', ref: third.ref });
  second.say({ type: 'answer', data: 'AQI=', base64: true, ref: second.ref });
  first.say({ type: 'answer', data: '{"sum":3}', ref: first.ref });
  assert.equal(await text, '{"sum":3}');
  assert.deepEqual(await bytes, new Uint8Array([1, 2]));
  await assert.rejects(refused, { code: 'refused', status: 403, message: 'not you' });
  host.cut();
  await assert.rejects(lost, { code: 'lost' });
});

test('a call without somebody who answers is refused', async () => {
  const host = await start();
  const client = new Client(host, { channels: ['news'] });
  await assert.rejects(client.push.call('too early'), { code: 'not_connected' });
  await client.until('open');
  await assert.rejects(client.push.call('x'), { code: 'unsupported' });
  const polling = new Client(host, { channels: ['news'], transports: ['poll'] });
  await polling.until('open');
  await assert.rejects(polling.push.call('x'), { code: 'transport' });
});
