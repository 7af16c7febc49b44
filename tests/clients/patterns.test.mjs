// push.js and patterns: all channels whose names begin so, over each transport, cut and recovered. Nothing may be lost
// or told twice, also of channels that the page has by their names as well.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocketServer } from 'ws';
import { connect } from '../../examples-c/www/push.js';
import { freePort } from '../harness/free.mjs';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Client, isMessage, isState, page, start, startWithTokens, waitFor } from '../harness/pushing.mjs';
import { token } from '../harness/tokens.mjs';

const KEY = 'a-key-of-some-length';
const MANY = ['max_patterns=8', 'history_count=10000'];

// Waits until the client has this many subscriptions, and a request under way if it has no WebSocket. So it notices
// when its connections are cut.
async function stands(host, transport, subscriptions) {
  await waitFor(async () => (
    (await host.stats()).subscriptions === subscriptions && host.box.waiting === (transport === 'ws' ? 0 : 1)
  ));
}

// A server of WebSockets that says what the test wants. `urls` has the channels, patterns and position of each
// handshake, and `asked` the requests.
async function script(onconnection) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const urls = [];
  const asked = [];
  server.on('connection', (socket, { url }) => {
    const { searchParams } = new URL(url, 'http://host');
    urls.push([searchParams.getAll('channel'), searchParams.getAll('pattern'), searchParams.get('since')]);
    const say = (object) => socket.send(JSON.stringify(object));
    const answers = onconnection({ socket, say, time: urls.length });
    socket.on('message', (text) => {
      const { type, channel, pattern, since, ref } = JSON.parse(text);
      if (type === 'ping') return say({ type: 'pong', ref });
      asked.push([type, channel ?? pattern, since]);
      answers(type, channel ?? pattern, (what) => say({ ...what, channel: channel ?? pattern, ref }));
    });
  });
  open.push(async () => {
    for (const socket of server.clients) socket.terminate();
    server.close();
    await once(server, 'close');
  });
  return { box: server.address(), urls, asked };
}

const message = (channel, number, data) => ({ type: 'message', channel, id: `e-${number}`, data });

test('a name is no pattern, and a pattern no name: what is wrong is said at once', () => {
  const url = 'http://127.0.0.1:1/push';
  const refused = (options, says) => assert.throws(() => connect(url, options), { name: 'TypeError', message: says });
  refused({ channels: ['a', 'news.*'] }, /channel news\.\*: no channel's name ends in \*; .*\{ pattern: 'news\.\*' \}/);
  for (const pattern of ['news', '', 'a*b', 'a*b*', '**']) {
    refused({ patterns: [pattern] }, /it has one \*, as its last character/);
  }
  refused({ pattern: 'news.*' }, /the option patterns/);
  assert.throws(() => connect(`${url}?x=1&pattern=news.*`), { name: 'TypeError', message: /the option patterns/ });
  const push = connect(url, { transports: ['stream'] });
  open.push(() => push.close());
  for (const what of ['news.*', { pattern: 'news' }]) {
    assert.throws(() => push.subscribe(what), TypeError);
    assert.throws(() => push.unsubscribe(what), TypeError);
  }
});

for (const transport of ['ws', 'stream', 'poll']) {
  test(`${transport}: all channels that a pattern fits, live and after a break, each message once`, async () => {
    const host = await start(...MANY);
    // Iterables that can be read once are names as well.
    const client = new Client(host, {
      channels: ['news.a'].values(), patterns: ['news.*', 'n*'].values(), transports: [transport],
    });
    assert.deepEqual(await client.until('open'), [['connecting'], ['open']]);
    await stands(host, transport, 3);
    await host.publish('other', 'nobody wants it');
    await host.publish('news.a', '1');
    await host.publish('news.new', '2');
    await host.broadcast('to all');
    await host.publish('nothing', '3');
    assert.deepEqual(await client.until('nothing', '3'), [
      ['news.a', '1'], ['news.new', '2'], ['all', 'to all'], ['nothing', '3'],
    ]);
    await stands(host, transport, 3);
    let last;
    await host.box.cutWhile(async () => {
      await client.until('connecting', 1006);
      for (const channel of ['news.late', 'other', 'news.a', 'news.new']) last = await host.publish(channel, 'missed');
    });
    assert.deepEqual((await client.until('open')).filter(isMessage), [
      ['news.late', 'missed'], ['news.a', 'missed'], ['news.new', 'missed'],
    ]);
    assert.equal(client.push.position, last);
    // Another page goes on from there.
    client.push.close();
    await host.publish('news.b', 'later');
    const next = new Client(host, { patterns: ['news.*'], since: last, transports: [transport] });
    assert.deepEqual(await next.until('open'), [['connecting'], ['news.b', 'later'], ['open']]);
  });

  test(`${transport}: a pattern begins with messages of before`, async () => {
    for (const [where, wanted] of [
      [{ last: 1 }, [['news.b', '2'], ['a', '3'], ['news.a', '4']]],
      [{ since: 'start' }, [['news.a', '1'], ['news.b', '2'], ['a', '3'], ['news.a', '4']]],
    ]) {
      const host = await start(...MANY);
      for (const [channel, text] of [['news.a', '1'], ['news.b', '2'], ['a', '3'], ['news.a', '4'], ['other', '5']]) {
        await host.publish(channel, text);
      }
      const client = new Client(host, { channels: ['a'], patterns: ['news.*'], transports: [transport], ...where });
      assert.deepEqual((await client.until('open')).filter(isMessage), wanted);
      await stands(host, transport, 2);
      await host.publish('news.a', 'live');
      assert.deepEqual((await client.until('news.a', 'live')).filter(isMessage), [['news.a', 'live']]);
    }
  });

  test(`${transport}: what is no longer kept is a gap of the pattern`, async () => {
    const host = await start('max_patterns=8', 'history_count=1');
    const since = await host.publish('x', 'before');
    for (const text of ['1', '2', '3']) await host.publish('news.a', text);
    const client = new Client(host, { patterns: ['news.*'], since, transports: [transport] });
    assert.deepEqual(await client.until('open'), [['connecting'], ['gap', 'news.*'], ['news.a', '3'], ['open']]);
  });

  test(`${transport}: patterns come and go, and a channel beside them is left alone`, async () => {
    const host = await start(...MANY);
    const client = new Client(host, { channels: ['news.a'], transports: [transport] });
    await client.until('open');
    await host.publish('news.b', 'too early');
    client.push.subscribe({ pattern: 'news.*' });
    await stands(host, transport, 2);
    await host.publish('news.b', '1');
    await host.publish('news.a', '2');
    assert.deepEqual(await client.until('news.a', '2'), [['news.b', '1'], ['news.a', '2']]);
    client.push.unsubscribe({ pattern: 'news.*' });
    await stands(host, transport, 1);
    await host.publish('news.b', 'unwanted');
    await host.publish('news.a', '3');
    assert.deepEqual(await client.until('news.a', '3'), [['news.a', '3']]);
    // It has only a pattern, then nothing, then one again.
    client.push.subscribe({ pattern: 'n*' });
    await stands(host, transport, 2);
    client.push.unsubscribe('news.a');
    await stands(host, transport, 1);
    await host.publish('news.a', 'by the pattern');
    await client.until('news.a', 'by the pattern');
    client.push.unsubscribe({ pattern: 'n*' });
    await host.waitForAll({ subscriptions: 0 });
    await host.publish('news.a', 'unwanted');
    client.push.subscribe({ pattern: 'n*' });
    await stands(host, transport, 1);
    await host.publish('news.c', '4');
    assert.deepEqual(await client.until('news.c', '4'), [['news.c', '4']]);
  });

  test(`${transport}: a channel that a pattern has brought goes on when the pattern goes`, async () => {
    const host = await start(...MANY);
    const client = new Client(host, { patterns: ['a.*'], transports: [transport] });
    await client.until('open');
    client.push.subscribe('a.1');
    client.push.subscribe({ pattern: 'a.1*' });
    const wanted = [];
    for (let round = 0; round < 6; round++) {
      for (let n = 0; n < 20; n++) {
        wanted.push(['a.1', `${round}.${n}`]);
        await host.publish('a.1', `${round}.${n}`);
        if (n === 10) {
          if (round % 2) client.push.subscribe({ pattern: 'a.*' });
          else client.push.unsubscribe({ pattern: 'a.*' });
        }
      }
      if (round === 3) host.box.cut();
    }
    assert.deepEqual((await client.until('a.1', '5.19')).filter(isMessage), wanted);
  });

  test(`${transport}: functions for a channel and for patterns get each message once`, async () => {
    const host = await start(...MANY);
    const told = { all: [], channel: [], pattern: [], both: [] };
    const by = (name) => ({ channel = 'all', data }) => told[name].push(`${channel} ${data}`);
    const client = new Client(host, { transports: [transport], onmessage: by('all') });
    client.push.subscribe('news.a', by('channel'));
    client.push.subscribe({ pattern: 'news.*' }, by('pattern'));
    const both = by('both');
    client.push.subscribe('news.b', both);
    client.push.subscribe({ pattern: 'news.b*' }, both);
    await client.until('open');
    await stands(host, transport, 4);
    for (const channel of ['news.a', 'news.b', 'news.bc']) await host.publish(channel, '1');
    await host.broadcast('2');
    await waitFor(() => told.all.length === 4);
    assert.deepEqual(told, {
      all: ['news.a 1', 'news.b 1', 'news.bc 1', 'all 2'], channel: ['news.a 1'],
      pattern: ['news.a 1', 'news.b 1', 'news.bc 1'], both: ['news.b 1', 'news.bc 1'],
    });
    client.push.unsubscribe({ pattern: 'news.*' });
    await stands(host, transport, 3);
    await host.publish('news.a', '3');
    await waitFor(() => told.all.length === 5);
    assert.deepEqual([told.pattern.length, told.channel], [3, ['news.a 1', 'news.a 3']]);
  });

  test(`${transport}: streams that a pattern brings end for the page, and it goes on`, async () => {
    const port = await freePort();
    const host = await start(...MANY, `control=127.0.0.1:${port}`, `control_key=${KEY}`);
    const client = new Client(host, { channels: ['answer.1'], patterns: ['answer.*'], transports: [transport] });
    await client.until('open');
    await stands(host, transport, 2);
    for (const channel of ['answer.1', 'answer.2']) {
      await host.publish(channel, 'text');
      const ended = await fetch(`http://127.0.0.1:${port}/v1/end?channel=${channel}`, {
        method: 'POST', headers: { Authorization: `Bearer ${KEY}` },
      });
      assert.equal(ended.status, 200);
      await client.until('end', channel);
    }
    await host.publish('answer.1', 'anew');
    await host.publish('answer.2', 'anew');
    const told = await client.until('answer.2', 'anew');
    assert.deepEqual(told.filter(isMessage), [['answer.1', 'anew'], ['answer.2', 'anew']]);
    assert.ok(!told.some(([what]) => what === 'closed'), JSON.stringify(told));
  });

  test(`${transport}: a pattern that is not allowed is no harm to the others`, async () => {
    const host = await startWithTokens(...MANY);
    const client = new Client(host, {
      channels: ['me'], patterns: ['news.*'], transports: [transport], token: () => token(['me', 'news.*'], 600),
    });
    await client.until('open');
    for (const pattern of ['secret.*', '*', 'news.a*']) client.push.subscribe({ pattern });
    await client.until('error', 'channel', 'secret.*');
    await client.until('error', 'channel', '*');
    await host.publish('news.a', '1');
    await host.publish('me', '2');
    assert.deepEqual((await client.until('me', '2')).filter(isMessage), [['news.a', '1'], ['me', '2']]);
  });

  test(`${transport}: a hub without room for one more pattern refuses that one alone`, async () => {
    const host = await start(...MANY, 'patterns_total=1');
    const first = new Client(host, { patterns: ['a.*'] });
    await first.until('open');
    const client = new Client(host, { channels: ['c'], patterns: ['a.*'], transports: [transport] });
    await client.until('open');
    client.push.subscribe({ pattern: 'b.*' });
    await client.until('error', 'patterns_total', 'b.*');
    await host.publish('b.1', 'unwanted');
    await host.publish('a.1', '1');
    await host.publish('c', '2');
    assert.deepEqual((await client.until('c', '2')).filter(isMessage), [['a.1', '1'], ['c', '2']]);
  });
}

for (const transports of [undefined, ['stream'], ['poll']]) {
  test(`${transports ?? 'all'}: patterns that are refused from the start are no harm to the others`, async () => {
    const host = await startWithTokens('max_patterns=2', 'history_count=10000');
    const since = await host.publish('news.a', '0');
    for (const text of ['1', '2']) await host.publish('news.a', text);
    const client = new Client(host, {
      channels: ['me'], patterns: ['news.*', 'secret.*'], since, transports, token: () => token(['me', 'news.*'], 600),
    });
    const told = await client.until('open');
    assert.deepEqual(told.filter(isMessage), [['error', 'channel', 'secret.*'], ['news.a', '1'], ['news.a', '2']]);
    // WebSockets failed because of this pattern, and not because of a proxy.
    if (!transports) await waitFor(() => client.push.transport === 'ws');
    await host.publish('news.b', '3');
    await host.publish('me', '4');
    assert.deepEqual((await client.until('me', '4')).filter(isMessage), [['news.b', '3'], ['me', '4']]);
  });
}

for (const transport of ['stream', 'poll']) {
  test(`${transport}: more patterns than a client may have: the last ones are refused`, async () => {
    const host = await start('max_patterns=2');
    const client = new Client(host, { patterns: ['a.*', 'b.*', 'c.*', 'd.*'], transports: [transport] });
    const told = await client.until('open');
    assert.deepEqual(told.filter(isMessage), [['error', 'patterns', 'd.*'], ['error', 'patterns', 'c.*']]);
    await host.publish('c.1', 'unwanted');
    await host.publish('b.1', '1');
    assert.deepEqual((await client.until('b.1', '1')).filter(isMessage), [['b.1', '1']]);
  });

  test(`${transport}: a page that has only a pattern for which there is no room comes back`, async () => {
    const host = await start(...MANY, 'patterns_total=1');
    const first = new Client(host, { patterns: ['a.*'] });
    await first.until('open');
    const client = new Client(host, { patterns: ['b.*'], transports: [transport] });
    await client.until('connecting', 503);
    first.push.close();
    await host.waitForAll({ patterns: 0 });
    await stands(host, transport, 1);
    await host.publish('b.1', '1');
    const told = await client.until('b.1', '1');
    assert.ok(told.every((what) => isState(what) || what[0] === 'b.1'), JSON.stringify(told));
  });
}

test('ws: a pattern that is taken away is told, and what the page has beside it goes on', async () => {
  const port = await freePort();
  const host = await startWithTokens(...MANY, `control=127.0.0.1:${port}`, `control_key=${KEY}`);
  const client = new Client(host, { patterns: ['news.*'], transports: ['ws'], token: () => token(['*'], 600) });
  await client.until('open');
  client.push.subscribe('news.a'); // the pattern brings it
  client.push.subscribe('me');
  await host.waitForAll({ subscriptions: 2 });
  const revoked = await fetch(`http://127.0.0.1:${port}/v1/revoke?user=ada&channel=news.b`, {
    method: 'POST', headers: { Authorization: `Bearer ${KEY}` },
  });
  assert.equal(revoked.status, 200);
  await host.publish('news.a', '1');
  const has = (...what) => client.told.some((told) => String(told) === String(what));
  await waitFor(() => has('unsubscribed', 4403, 'news.*'));
  await host.publish('news.b', 'unwanted');
  await host.publish('news.a', '2');
  await host.publish('me', '3');
  await waitFor(() => has('news.a', '2') && has('me', '3'));
  assert.deepEqual(client.told.map(String).sort(), ['me,3', 'news.a,1', 'news.a,2', 'unsubscribed,4403,news.*']);
});

// Everything happens at once: connections are cut and refused, patterns and channels come and go. Each message of what
// stays comes once, and in the order of its channel.
test('transports that come and go beside patterns that do: nothing is lost or doubled', async () => {
  const host = await start(...MANY);
  const clients = [undefined, ['stream'], ['poll'], ['poll', 'stream', 'ws']].map((transports) => (
    new Client(host, { channels: ['a.1', 'b'], patterns: ['p.*'], transports })
  ));
  for (const client of clients) await client.until('open');
  const wanted = new Map([['a.1', []], ['b', []]]);
  const publish = async (channel, text) => {
    if (!wanted.has(channel)) wanted.set(channel, []);
    wanted.get(channel).push(text);
    await host.publish(channel, text);
  };
  for (let round = 0; round < 8; round++) {
    host.box.upgrade = ['pass', 502, 'close', 'pass'][round % 4];
    if (round % 3 !== 1) host.box.cut();
    page.dispatchEvent(new Event('online'));
    for (let n = 0; n < 10; n++) {
      await publish(['a.1', 'b', `p.${round}`][n % 3], `${round}.${n}`);
      await host.publish(`a.${round + 2}`, 'of a pattern that comes and goes');
      for (const { push } of clients) {
        if (n === 3) push.subscribe({ pattern: 'a.*' });
        if (n === 5) push.subscribe({ pattern: 'p.1*' });
        if (n === 8) push.unsubscribe({ pattern: 'a.*' });
      }
    }
    for (const { push } of clients) push.unsubscribe({ pattern: 'p.1*' });
    const due = [null, null, 'stream', 'ws'][round % 4];
    if (due) await waitFor(() => clients[0].push.transport === due);
  }
  await publish('p.x', 'the last');
  for (const client of clients) {
    const told = await client.until('p.x', 'the last');
    for (const [channel, texts] of wanted) {
      assert.deepEqual(told.filter(([what]) => what === channel).map(([, text]) => text), texts, channel);
    }
    assert.ok(!told.some(([what]) => what === 'gap' || what === 'error'), JSON.stringify(told));
  }
});

test('a host that names the channels: a message that a pattern fits moves no position before its time', async () => {
  const server = await script(({ socket, say, time }) => {
    if (time === 1) {
      // It is not known yet whether the pattern has brought this.
      say(message('news.x', 50, 'given'));
      socket.close(1011);
    } else if (time === 2) {
      for (const number of [50, 51]) say(message('news.x', number, number === 50 ? 'given' : 'new'));
      say({ type: 'subscribed', channel: 'news.x', id: 'e-60' });
    } else say({ type: 'subscribed', channel: 'news.x', id: 'e-90' });
    return (type, name, answer) => {
      if (time === 2 && name === 'news.*') say(message('news.y', 20, 'of y'));
      else if (time === 2) {
        say(message('a', 10, 'of a'));
        socket.close(1011);
      } else if (name === 'news.*') {
        say(message('news.y', 20, 'again'));
        say(message('news.z', 30, 'of z'));
        for (const number of [50, 51]) say(message('news.x', number, 'again'));
        say(message('news.x', 92, 'live'));
        answer({ type: 'subscribed', id: 'e-95' });
      } else {
        say(message('a', 10, 'again'));
        answer({ type: 'subscribed', id: 'e-96' });
      }
    };
  });
  const client = new Client(server, { channels: ['a'], patterns: ['news.*'], since: 'e-1' });
  await client.until('connecting', 1011);
  assert.equal(client.push.position, 'e-1');
  assert.deepEqual((await client.until('connecting', 1011)).filter(isMessage), [
    ['news.x', 'new'], ['news.y', 'of y'], ['a', 'of a'],
  ]);
  assert.equal(client.push.position, 'e-1', 'nothing is sure yet');
  assert.deepEqual((await client.until('open')).filter(isMessage), [
    ['news.z', 'of z'], ['news.x', 'live'],
  ]);
  assert.equal(client.push.position, 'e-96');
  assert.deepEqual(server.urls, [
    [['a'], ['news.*'], 'e-1'], [['a'], ['news.*'], 'e-1'], [['news.x'], [], 'e-1'],
  ]);
  assert.deepEqual(server.asked, [
    ['subscribe', 'news.*', 'e-1'], ['subscribe', 'a', 'e-1'], ['subscribe', 'news.*', 'e-1'],
    ['subscribe', 'a', 'e-1'],
  ]);
});

test('a pattern that is left: what is under way of it is not told, and makes no channel the page\'s own', async () => {
  const server = await script(({ say }) => {
    for (const channel of ['a', 'news.*']) say({ type: 'subscribed', channel, id: 'e-1' });
    return (type, name, answer) => {
      say(message('news.x', 2, 'under way'));
      say(message('a', 3, 'wanted'));
      answer({ type: `${type}d`, id: 'e-3' });
      say(message('a', 4, 'last'));
    };
  });
  const client = new Client(server, { channels: ['a'], patterns: ['news.*'] });
  await client.until('open');
  client.push.unsubscribe({ pattern: 'news.*' });
  assert.deepEqual(await client.until('a', 'last'), [['a', 'wanted'], ['a', 'last']]);
  assert.deepEqual([client.push.position, server.asked], ['e-4', [['unsubscribe', 'news.*', undefined]]]);
});
