// The console, as an operator sees it: the login, each view, what can be done there, and what must not happen.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { freePort } from '../harness/free.mjs';
import { Host, test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Proxy } from '../harness/proxy.mjs';
import { Console, Hub, KEY, VIEWS } from './console.mjs';
import { launch } from './demo.mjs';

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
// Markup, control characters, a change of direction, quotes, and as many bytes of emoji as a name may have.
const HOSTILE = ['<b onclick=x>&amp;</b>', '<img src=x onerror="document.title=1">', 'a\u202eb\u0007\u001b[31m', '"\'`${x}', '\u{1f600}'.repeat(63)];
// A name has no control characters: the hub refuses them.
const NAMES = HOSTILE.map((text) => text.replace(/[\u0000-\u001f]/g, ''));

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

async function start(...options) {
  const hub = await Hub.start(...options);
  open.push(() => hub.stop());
  return hub;
}

async function subscribe(hub, user, ...channels) {
  const socket = await hub.subscribe(user, ...channels);
  open.push(() => socket.terminate());
  return socket;
}

// The option of a hub that shares its log with others, at a Redis of this test.
async function sharedLog() {
  const [port, folder] = [await freePort(), await mkdtemp(join(tmpdir(), 'push-console-'))];
  const redis = spawn('redis-server', ['--port', `${port}`, '--save', '', '--dir', folder], { stdio: 'ignore' });
  open.push(async () => {
    redis.kill('SIGKILL');
    await rm(folder, { recursive: true });
  });
  return `engine=redis://127.0.0.1:${port}`;
}

const visit = (hub, options) => Console.open(browser, open, hub, options);

// Confirms the dialog that is open.
async function confirm(page, does) {
  await page.locator('dialog button', { hasText: does }).click();
  await page.locator('dialog').waitFor({ state: 'detached' });
}

test('a login takes the key, says if it is wrong, and leaves no trace of it', async () => {
  const hub = await start();
  const console = await visit(hub, { login: false });
  const { page } = console;
  await page.fill('#key', 'another-key-0123');
  await page.click('#login button');
  await console.shows('#told', 'This is not the key.');
  await console.login();
  await console.shows('#state', 'live');
  const kept = await page.evaluate(() => JSON.stringify([location.href, document.cookie, { ...localStorage }, { ...sessionStorage }, history.length]));
  assert.ok(!kept.includes(KEY) && !kept.includes('push_console'), kept);
  const [cookie] = await console.context.cookies();
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], [`push_console_${hub.control}`, true, 'Strict', '/']);
  assert.ok(!cookie.value.includes(KEY));
  await page.reload();
  await console.shows('#state', 'live');
  // A second page of the same browser has the session, too, and loses it with the first one.
  const other = await console.context.newPage();
  await other.goto(`${console.origin}/console#/tail`);
  await other.locator('main[data-view="tail"] h1').waitFor();
  await page.click('#logout');
  await console.shows('#told', 'You are logged out.');
  await other.locator('#told', { hasText: 'Your session is over.' }).waitFor();
  await page.goBack().catch(() => {});
  assert.equal(await page.locator('#views').count(), 0, 'nothing of the console is shown from a cache');
  await hub.logs(/warning: control API: refused with 401 unauthorized: console: the key is not/);
});

test('the overview shows rates, latency, the slowest clients and refusals', async () => {
  const hub = await start('outbox=64MB');
  for (const user of ['ada', 'bob']) await subscribe(hub, user, 'prices');
  const lazy = await hub.subscribeLazily('eve', 'prices');
  open.push(() => lazy.destroy());
  const console = await visit(hub);
  // What waits for her is within her bound, however long this takes.
  for (let count = 0; count < 24; count++) await hub.publish('prices', 'x'.repeat(1_000_000));
  const timer = setInterval(() => hub.publish('prices', 'x'.repeat(4000)).catch(() => {}), 50);
  open.push(() => clearInterval(timer));
  const card = (title) => console.page.locator('.chart').filter({ has: console.page.locator('h2', { hasText: title }) });
  for (const [title, figure] of [['Published', /^[1-9]/], ['Delivered', /^[1-9]/], ['Sent', /^[1-9].* [KM]B$/], ['Latency', /[µm]?s$/], ['Waiting for slow clients', / MB$/]]) {
    await card(title).locator('.figure', { hasText: figure }).waitFor();
    assert.notEqual(await card(title).locator('path.line').first().getAttribute('d'), '', title);
    assert.match(await card(title).locator('.plot').getAttribute('aria-label'), new RegExp(`^${title}: .*at most .*[0-9]`));
  }
  await card('Connections').locator('.note', { hasText: '2 WebSocket · 1 SSE' }).waitFor();
  await console.row('eve', 'MB').waitFor();
  await fetch(`http://127.0.0.1:${hub.port}/push?channel=a`);
  await console.row('unauthorized', '1').waitFor();
  // Charts have no hole, and begin nowhere anew, while other views are shown.
  const drawn = (await card('Published').locator('path.line').getAttribute('d')).length;
  await console.view('hosts');
  await console.view('overview');
  await console.page.waitForFunction((before) => document.querySelector('path.line').getAttribute('d').length > before, drawn);
});

test('slow connections come first, and connections and users are closed after a question', async () => {
  const hub = await start('outbox=64MB');
  const [ada, bob, other] = [await subscribe(hub, 'ada', 'a', 'b'), await subscribe(hub, 'bob', 'a'), await subscribe(hub, 'bob', 'b')];
  const lazy = await hub.subscribeLazily('eve', 'prices');
  open.push(() => lazy.destroy());
  for (let count = 0; count < 24; count++) await hub.publish('prices', 'x'.repeat(1_000_000));
  const console = await visit(hub);
  const { page } = console;
  await console.view('connections');
  await console.row('bob').nth(1).waitFor();
  await console.shows('main .heading', '4 connections · 1 behind');
  const first = await page.locator('main tbody tr').first().textContent();
  assert.match(first, /MB.*eve.*127\.0\.0\.1.*sse.*prices/);
  assert.equal(await page.locator('main tbody tr.slow').count(), 1);
  // A question can be answered with no.
  await console.row('ada').locator('button', { hasText: 'Close' }).click();
  await page.locator('dialog button', { hasText: 'Cancel' }).click();
  await page.locator('dialog').waitFor({ state: 'detached' });
  await console.row('ada').locator('button', { hasText: 'Close' }).click();
  await page.getByLabel('Reason').fill('made room');
  await confirm(page, 'Close it');
  assert.deepEqual(await ada.closed, [4000, 'made room']);
  await console.row('ada').waitFor({ state: 'detached' });
  await console.row('bob').first().locator('button', { hasText: 'Kick user' }).click();
  await page.getByLabel('Close code').selectOption('4403');
  await confirm(page, 'Kick the user');
  assert.deepEqual([(await bob.closed)[0], (await other.closed)[0]], [4403, 4403]);
  await console.shows('#toasts', '2 connections are closed');
  // Filters.
  await page.getByRole('textbox', { name: 'User' }).fill('nobody');
  await page.locator('main button', { hasText: 'Show' }).click();
  await console.shows('main .empty:visible', 'No connection');
  await page.getByLabel('Address').fill('not an address');
  await page.locator('main button', { hasText: 'Show' }).click();
  await console.shows('main .told', 'address must be an IPv4 or IPv6 address, or unix');
});

test('channels are listed, sorted, measured, looked into and cleared', async () => {
  const hub = await start();
  await subscribe(hub, 'ada', 'quiet');
  await hub.publish('kept', 'hello', 'greeting');
  const console = await visit(hub);
  const { page } = console;
  await console.view('channels');
  await console.row('quiet').waitFor();
  assert.match(await page.locator('main tbody tr').first().textContent(), /^quiet/);
  await page.locator('th button', { hasText: 'Kept' }).click();
  assert.match(await page.locator('main tbody tr').first().textContent(), /^kept/);
  assert.equal(await page.locator('th[aria-sort]').textContent(), 'Kept');
  await console.row('kept').locator('button', { hasText: 'Messages' }).click();
  await console.shows('dialog', /greeting.*hello/s);
  await page.locator('dialog button', { hasText: 'Close' }).click();
  const timer = setInterval(() => hub.publish('busy', 'x').catch(() => {}), 20);
  open.push(() => clearInterval(timer));
  await console.measures('busy', '/s');
  assert.match(await page.locator('main tbody tr').first().textContent(), /^busy/);
  await console.row('kept').locator('button', { hasText: 'Clear' }).click();
  await confirm(page, 'Delete');
  await console.row('kept').waitFor({ state: 'detached' });
  await page.getByLabel('Names that begin with').fill('nothing');
  await page.locator('main button', { hasText: 'Show' }).click();
  await console.shows('main .empty:visible', 'No channel');
});

test('users of a channel are listed, lose it, and are kicked', async () => {
  const hub = await start();
  const [ada, bob] = [await subscribe(hub, 'ada', 'a', 'b'), await subscribe(hub, 'bob', 'a')];
  const console = await visit(hub);
  const { page } = console;
  await console.view('users');
  await page.locator('.choice a', { hasText: /^a$/ }).click();
  await console.row('bob', '1').waitFor();
  await console.shows('main .heading', '2 users on a');
  await console.row('ada').locator('button', { hasText: 'Take channel away' }).click();
  await confirm(page, 'Take it away');
  await console.row('ada').waitFor({ state: 'detached' });
  const message = once(ada, 'message');
  await hub.publish('b', 'still there');
  assert.equal(String((await message)[0]), 'still there');
  await console.row('bob').locator('button', { hasText: 'Kick' }).click();
  await confirm(page, 'Kick the user');
  assert.equal((await bob.closed)[0], 4000);
  await console.view('users?channel=none');
  await console.shows('main .empty:visible', 'No such channel');
});

test('hosts are listed while they are attached', async () => {
  const path = join(tmpdir(), `push-console-${process.pid}.sock`);
  open.push(() => rm(path, { force: true }));
  const hub = await start(`attach_listen=unix:${path}`);
  const console = await visit(hub);
  await console.view('hosts');
  await console.shows('main .empty:visible', 'No other process is attached');
  // Where the hub is late, the host would warn of that.
  const host = await Host.start(`attach=unix:${path}`, `attach_name=${NAMES[0]}`, 'auth=none', 'log_level=error');
  open.push(() => host.stop());
  await console.row(NAMES[0], String(host.process.pid)).waitFor();
  assert.equal(await console.page.locator('main b[onclick]').count(), 0);
});

test('health shows the hub, its log, how connections end, and the options without secrets', async () => {
  const hub = await start('history_count=7', 'channel.news.*.history_count=9');
  const socket = await subscribe(hub, 'ada', 'a');
  socket.close(1000);
  await socket.closed;
  const console = await visit(hub);
  const { page } = console;
  await console.view('health');
  await console.shows('main .heading', 'The hub takes messages and clients.');
  await console.row('1000', '1').waitFor();
  await console.row('history_count', '7').first().waitFor();
  await console.row('channel.news.*.history_count', '9').waitFor();
  await console.row('control_key', 'set, not shown').waitFor();
  await console.shows('main .empty:visible', 'This hub shares no log');
  await page.getByLabel('Also those at their defaults').check();
  await console.row('poll_timeout').waitFor();
  assert.doesNotMatch(hub.log, /refused with 404/, 'what looks is no refusal');
});

test('hubs that share a log are listed, and what they do together is shown', async () => {
  const engine = await sharedLog();
  const late = 'engine_timeout=30s';
  const [hub, other] = [await start(engine, late, 'hub_name=one.example:1'), await start(engine, late, 'hub_name=two.example:2')];
  await hub.until('/v1/hubs', ({ hubs }) => hubs.filter(({ up }) => up).length === 2);
  await subscribe(other, 'ada', 'shared');
  await hub.until('/v1/channels', ({ channels }) => channels.length === 1);
  const console = await visit(hub);
  const { page } = console;
  await console.view('health');
  await console.row('up', 'yes').waitFor();
  await console.row('up', 'ago').nth(1).waitFor();
  assert.equal(await console.row('up', 'ago').count(), 2);
  await console.row('one.example:1', 'yes').waitFor();
  await console.row('two.example:2').waitFor();
  await console.view('channels');
  await console.row('shared', '1').waitFor();
  await console.view('users?channel=shared');
  await console.row('ada').locator('button', { hasText: 'Kick' }).click();
  await confirm(page, 'Kick the user');
  await console.shows('#toasts', '0 connections are closed here; the other hubs will follow.');
  await console.row('ada').waitFor({ state: 'detached' });
  // A connection that has ended meanwhile may be at the other hub, for all that this one knows.
  const bob = await subscribe(hub, 'bob', 'shared');
  await console.view('connections');
  await console.row('bob').locator('button', { hasText: 'Close' }).click();
  bob.close();
  await hub.until('/v1/connections', ({ count }) => count === 0);
  await page.locator('dialog button', { hasText: 'Close it' }).click();
  await console.shows('dialog', 'no such connection at this hub; it has ended, or another hub of the log has it');
});

test('a tail shows what is published, and can be held, filtered and ended', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await console.view('tail');
  await page.locator('main button', { hasText: 'Start' }).click();
  await console.shows('main .heading', 'Waiting for the first message');
  const items = page.locator('ol.tail li');
  for (const text of HOSTILE) await hub.publish('news', text, 'tick');
  await items.nth(HOSTILE.length - 1).waitFor();
  assert.equal(await items.last().locator('pre').textContent(), HOSTILE[0]);
  assert.match(await items.nth(2).locator('pre').textContent(), /^a\\u202eb\\u0007\\u001b\[31m$/);
  assert.equal(await page.locator('ol.tail :is(b, img)').count(), 0);
  await hub.publish('news', `${'long '.repeat(100)}end`);
  const long = items.filter({ hasText: 'long long' });
  await long.locator('button', { hasText: 'More' }).click();
  await long.locator('pre', { hasText: /end$/ }).waitFor();
  await page.locator('main button', { hasText: 'Pause' }).click();
  await hub.publish('news', 'not shown');
  await console.shows('main .heading', '7 seen');
  await page.locator('main button', { hasText: 'Go on' }).click();
  await page.getByLabel('Only with').fill('wanted');
  await hub.publish('news', 'of no use');
  await hub.publish('news', 'wanted');
  await items.locator('pre', { hasText: /^wanted$/ }).waitFor();
  assert.equal(await items.locator('pre', { hasText: /not shown|of no use/ }).count(), 0);
  await hub.ask('POST', '/v1/broadcast', 'wanted by all');
  await items.filter({ hasText: 'wanted by all' }).locator('.tag', { hasText: 'broadcast' }).waitFor();
  await page.locator('main button', { hasText: 'Stop' }).click();
  await console.shows('main .heading', 'Stopped · 10 seen');
  await page.getByLabel('Channel, or').fill('');
  await page.locator('main button', { hasText: 'Start' }).click();
  assert.equal(await page.getByLabel('Channel, or').evaluate((input) => input.validity.valueMissing), true);
});

test('the beginning and the end of a stream are shown in the tail and among the messages', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  const mark = (word, channel) => hub.ask('POST', `/v1/${word}?channel=${channel}`);
  await console.view('tail');
  await page.locator('main button', { hasText: 'Start' }).click();
  await console.shows('main .heading', 'Waiting for the first message');
  const items = page.locator('ol.tail li');
  await mark('begin', 'answer');
  await hub.publish('answer', 'The stream ends');
  await mark('end', 'answer');
  await items.nth(2).waitFor();
  assert.deepEqual(await items.locator('pre').allTextContents(), ['The stream ends', 'The stream ends', 'The stream begins']);
  assert.deepEqual(await items.locator('pre.boundary').allTextContents(), ['The stream ends', 'The stream begins']);
  assert.deepEqual(await items.locator('.size').allTextContents(), ['', '15 B', '']);
  // The tail goes on, and a mark has no text but its own.
  await page.getByLabel('Only with').fill('undefined');
  await mark('begin', 'answer');
  await hub.publish('answer', 'not undefined');
  await items.locator('pre', { hasText: /^not undefined$/ }).waitFor();
  assert.equal(await items.locator('pre.boundary').count(), 2);
  await mark('begin', 'whole');
  await hub.publish('whole', 'hello');
  await mark('end', 'whole');
  await console.view('channels');
  await console.row('whole').locator('button', { hasText: 'Messages' }).click();
  await console.shows('dialog', /The stream begins.*hello.*The stream ends/s);
  assert.equal(await page.locator('dialog pre.boundary').count(), 2);
});

test('messages are published to a channel, and to everybody after a question', async () => {
  const hub = await start();
  const [ada, bob] = [await subscribe(hub, 'ada', 'news'), await subscribe(hub, 'bob', 'other')];
  const console = await visit(hub);
  const { page } = console;
  await console.view('publish');
  await page.getByLabel('Channel', { exact: true }).fill('news');
  await page.getByLabel('Data').fill('h\u00e4llo <b>');
  const message = once(ada, 'message');
  await page.getByLabel('Data').press('Control+Enter');
  assert.equal(String((await message)[0]), 'h\u00e4llo <b>');
  await console.shows('ol.published', 'to 1 subscriber');
  await page.getByLabel('To everybody').check();
  const messages = [ada, bob].map((socket) => once(socket, 'message'));
  await page.locator('main button.primary').click();
  await confirm(page, 'Publish');
  for (const [data] of await Promise.all(messages)) assert.equal(String(data), 'h\u00e4llo <b>');
  await console.shows('ol.published', 'to everybody');
  await page.getByLabel('To everybody').uncheck();
  await page.getByLabel('Event').fill('x'.repeat(300));
  await page.locator('main button.primary').click();
  await console.shows('main .told', /event/);
});

test('messages are published to a user, in place of a channel', async () => {
  const hub = await start('user_channel=true');
  const [ada, bob] = [await subscribe(hub, 'ada', 'news'), await subscribe(hub, 'bob', 'news')];
  const console = await visit(hub);
  const { page } = console;
  await console.view('publish');
  const [channel, user] = [page.getByLabel('Channel', { exact: true }), page.getByLabel('User, in place')];
  const [all, go] = [page.getByLabel('To everybody'), page.locator('main button.primary')];
  await channel.fill('news');
  await user.fill('ada');
  assert.equal(await channel.isDisabled(), true);
  await page.getByLabel('Data').fill('for you');
  const [own, others] = [once(ada, 'message'), once(bob, 'message')];
  await go.click();
  assert.equal(String((await own)[0]), 'for you');
  await page.locator('ol.published li', { hasText: 'ada' }).filter({ hasText: 'a user, to 1 subscriber' }).waitFor();
  await all.check();
  assert.deepEqual([await channel.isDisabled(), await user.isDisabled()], [true, true]);
  await all.uncheck();
  assert.equal(await channel.isDisabled(), true, 'the user is still named');
  await user.fill('');
  await page.getByLabel('Data').fill('for all of the channel');
  await go.click();
  await console.shows('ol.published', 'to 2 subscribers');
  assert.equal(String((await others)[0]), 'for all of the channel', 'the first that bob gets');
});

test('publishing to a user of a hub whose users have no channels is refused with the reason', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await console.view('publish');
  await page.getByLabel('User, in place').fill('ada');
  await page.locator('main button.primary').click();
  await console.shows('main .told', /user_channel/);
});

test('names are text in every view, whatever they contain', async () => {
  const hub = await start();
  for (const text of NAMES) {
    await subscribe(hub, text, text, 'all');
    await hub.publish(text, 'x');
  }
  const console = await visit(hub);
  const { page } = console;
  const shown = NAMES.map((text) => text.replace('\u202e', '\\u202e'));
  for (const view of ['connections', 'channels', 'users?channel=all']) {
    await console.view(view);
    for (const text of shown) await page.locator('main bdi.name').getByText(text, { exact: true }).first().waitFor();
    assert.equal(await page.locator('main :is(b[onclick], img)').count(), 0, view);
    const isWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    assert.ok(!isWide, `${view} is not wider than the window`);
  }
  // The links lead to the right ones.
  await console.view('channels');
  for (const [index, text] of NAMES.entries()) {
    await console.view('channels');
    await console.row(shown[index]).locator('a', { hasText: 'Users' }).click();
    await console.shows('main .heading', `1 user on ${shown[index]}`);
    await console.row(shown[index]).locator('a', { hasText: 'Connections' }).click();
    await console.shows('main .heading', '1 connection');
    assert.equal(await page.getByRole('textbox', { name: 'User' }).inputValue(), text);
  }
  assert.match(await page.title(), /^Connections/);
});

test('while the hub is gone the console says so, and it goes on by itself', async () => {
  const hub = await start();
  const proxy = await Proxy.start(hub.control);
  open.push(() => proxy.stop());
  const console = await visit(hub, { at: proxy.port });
  const { page } = console;
  await console.view('connections');
  await console.shows('#state', 'live');
  const { upstream } = proxy;
  proxy.upstream = 1;
  proxy.cut();
  await console.shows('#gone', 'The hub can\u2019t be reached.');
  await console.shows('#state', 'gone');
  proxy.upstream = upstream;
  await page.locator('#gone').waitFor({ state: 'hidden' });
  await console.shows('#state', 'live');
  await subscribe(hub, 'ada', 'a');
  await console.row('ada').waitFor();
  // Sessions end with the hub: after a restart the console asks for the key.
  await hub.stop();
  await console.shows('#gone', 'The hub can\u2019t be reached.');
  await hub.run();
  await console.shows('#told', 'Your session is over. Log in again.');
  await console.login();
  await console.shows('#state', 'live');
});

test('a page of another origin can neither read, act nor frame, though the browser has the session', async () => {
  const hub = await start();
  const ada = await subscribe(hub, 'ada', 'a');
  const console = await visit(hub);
  const evil = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>evil</title>'));
  evil.listen(0, '127.0.0.1');
  await once(evil, 'listening');
  open.push(() => { evil.closeAllConnections(); evil.close(); });
  const page = await console.context.newPage();
  await page.goto(`http://127.0.0.1:${evil.address().port}/`);
  const results = await page.evaluate(async (hub) => {
    const results = {};
    const attempt = async (name, work) => { results[name] = await work().catch((error) => error.name); };
    const all = { credentials: 'include' };
    await attempt('read', async () => (await fetch(`${hub}/v1/config`, all)).text());
    await attempt('own', async () => (await fetch(`${hub}/v1/config`, { ...all, headers: { 'X-Push-Console': '1' } })).text());
    await attempt('act', async () => (await fetch(`${hub}/v1/disconnect?all=1`, { ...all, method: 'POST', mode: 'no-cors' })).type);
    await attempt('tail', () => new Promise((resolve, reject) => {
      const source = new EventSource(`${hub}/v1/tail?pattern=*`, { withCredentials: true });
      source.onmessage = ({ data }) => resolve(data);
      source.onerror = () => { source.close(); reject(new TypeError()); };
    }));
    await attempt('socket', () => new Promise((resolve, reject) => {
      const socket = new WebSocket(`${hub.replace('http', 'ws')}/v1/tail?pattern=*`);
      socket.onopen = () => resolve('open');
      socket.onerror = () => reject(new TypeError());
    }));
    await attempt('script', () => new Promise((resolve, reject) => {
      const script = document.createElement('script');
      [script.src, script.onload, script.onerror] = [`${hub}/console/app.js`, () => resolve('runs'), () => reject(new TypeError())];
      document.head.append(script);
    }));
    const frame = document.createElement('iframe');
    frame.src = `${hub}/console`;
    document.body.append(frame);
    await new Promise((resolve) => { frame.onload = resolve; });
    const form = document.createElement('form');
    [form.method, form.action, form.target] = ['post', `${hub}/v1/disconnect?all=1`, 'elsewhere'];
    document.body.append(form);
    form.submit();
    return results;
  }, `http://127.0.0.1:${hub.control}`);
  const no = 'TypeError';
  assert.deepEqual(results, { read: no, own: no, act: no, tail: no, socket: no, script: no });
  const frame = page.frames().find((one) => one !== page.mainFrame());
  assert.match(frame.url(), /^chrome-error:/, 'it is not framed');
  const opened = console.context.pages().find((one) => one !== page && one !== console.page) ?? await console.context.waitForEvent('page');
  await opened.waitForLoadState();
  assert.match(await opened.content(), /must come from the console|Bearer/);
  // Nobody was disconnected, and the console itself goes on.
  const message = once(ada, 'message');
  await hub.publish('a', 'still there');
  assert.equal(String((await message)[0]), 'still there');
  assert.equal((await hub.ask('GET', '/v1/stats')).connections, 1);
  await console.view('connections');
  await console.row('ada').waitFor();
  console.addresses = console.addresses.filter((address) => address.startsWith(console.origin));
});

test('everything can be done with the keyboard alone', async () => {
  const hub = await start();
  const ada = await subscribe(hub, 'ada', 'a');
  const console = await visit(hub, { login: false });
  const { page } = console;
  const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.id);
  const tabTo = async (text) => {
    for (let count = 0; await focused() !== text; count++) {
      assert.ok(count < 60, `${text} is not reached`);
      await page.keyboard.press('Tab');
    }
  };
  await page.locator('#key:focus').waitFor();
  await page.keyboard.type(KEY);
  await page.keyboard.press('Enter');
  // The login page has an h1, too.
  await page.locator('#views a').first().waitFor();
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the content');
  assert.ok(await page.locator('#skip').evaluate((element) => element.getBoundingClientRect().top >= 0), 'it is seen');
  // Each view is reached, and something is done in those where something can be done.
  for (const view of VIEWS) {
    await tabTo(view[0].toUpperCase() + view.slice(1));
    await page.keyboard.press('Enter');
    await page.locator(`main[data-view="${view}"] h1`).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main', view);
  }
  const tabToField = async (label) => {
    const is = () => page.evaluate((text) => document.activeElement.labels?.[0]?.textContent === text, label);
    for (let count = 0; !(await is()); count++) {
      assert.ok(count < 60, `${label} is not reached`);
      await page.keyboard.press('Tab');
    }
  };
  await tabToField('Channel');
  await page.keyboard.type('a');
  await tabToField('Data');
  await page.keyboard.type('by keyboard');
  const message = once(ada, 'message');
  await page.keyboard.press('Control+Enter');
  assert.equal(String((await message)[0]), 'by keyboard');
  await tabTo('Tail');
  await page.keyboard.press('Enter');
  await tabTo('Start');
  await page.keyboard.press('Enter');
  await console.shows('main .heading', 'Waiting for the first message');
  await tabTo('Connections');
  await page.keyboard.press('Enter');
  await console.row('ada').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await tabTo('Close');
  // The list is read again and again, and the focus stays.
  const reads = console.addresses.filter((address) => address.includes('/v1/connections')).length;
  await page.waitForResponse((response) => response.url().includes('/v1/connections'));
  await page.waitForResponse((response) => response.url().includes('slow=1'));
  assert.ok(console.addresses.filter((address) => address.includes('/v1/connections')).length > reads);
  assert.equal(await focused(), 'Close');
  await page.keyboard.press('Enter');
  await page.locator('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('dialog').waitFor({ state: 'detached' });
  assert.equal(await focused(), 'Close');
  await page.keyboard.press('Enter');
  await page.locator('dialog').waitFor();
  await tabTo('Close it');
  await page.keyboard.press('Enter');
  assert.equal((await ada.closed)[0], 4000);
});

test('the theme follows the system until it is chosen, and the choice stays', async () => {
  const hub = await start();
  const console = await visit(hub, { colorScheme: 'dark' });
  const { page } = console;
  const isDark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor === 'rgb(13, 17, 23)');
  assert.ok(await isDark());
  await page.emulateMedia({ colorScheme: 'light' });
  assert.ok(!(await isDark()));
  await page.click('#theme');
  await page.click('#theme');
  await console.shows('#theme', 'Dark');
  assert.ok(await isDark());
  await page.reload();
  await console.shows('#theme', 'Dark');
  assert.ok(await isDark());
});

// Checks that axe finds nothing in a page, and that the page is not wider than the window.
async function checker(page) {
  await page.evaluate(await readFile(axe, 'utf8'));
  return async (what) => {
    const { violations } = await page.evaluate(async () => window.axe.run(document, { resultTypes: ['violations'] }));
    const told = violations.map(({ id, nodes }) => [id, nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`)]);
    assert.deepEqual(told, [], what);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wide, 0, `${what} is as wide as the window`);
  };
}

for (const [colorScheme, width] of [['light', 1280], ['dark', 1280], ['light', 360], ['dark', 360]]) {
  test(`axe finds nothing in any view, ${colorScheme}, ${width} pixels wide, and nothing is cut off`, async () => {
    const hub = await start('outbox=64MB', 'history_count=20');
    for (const user of ['ada', 'bob', ...NAMES]) await subscribe(hub, user, 'news', user);
    const lazy = await hub.subscribeLazily('eve', 'prices');
    open.push(() => lazy.destroy());
    for (let count = 0; count < 24; count++) await hub.publish('prices', 'x'.repeat(1_000_000), 'tick');
    const console = await visit(hub, { colorScheme, width, height: width < 500 ? 740 : 800, login: false });
    const { page } = console;
    await (await checker(page))('login');
    await console.login();
    const check = await checker(page);
    for (const view of VIEWS) {
      await console.view(view === 'users' ? 'users?channel=news' : view);
      if (view === 'tail') {
        await page.locator('main button', { hasText: 'Start' }).click();
        await console.shows('main .heading', 'Waiting');
        await hub.ask('POST', '/v1/begin?channel=news');
        for (const text of HOSTILE) await hub.publish('news', text, 'tick');
        await page.locator('ol.tail li').nth(HOSTILE.length).waitFor();
      }
      if (['connections', 'channels', 'users', 'health'].includes(view)) await page.locator('main tbody tr').first().waitFor();
      if (view === 'overview') await console.row('eve').waitFor();
      await check(view);
    }
    await console.view('users');
    await page.locator('.choice a').first().waitFor();
    await check('users without a channel');
    await console.view('connections');
    await console.row('ada').locator('button', { hasText: 'Close' }).click();
    await page.locator('dialog').waitFor();
    await check('a question');
  });

  test(`axe finds nothing in what comes and goes, ${colorScheme}, ${width} pixels wide`, async () => {
    const [engine, path] = [await sharedLog(), join(tmpdir(), `push-console-axe-${process.pid}.sock`)];
    open.push(() => rm(path, { force: true }));
    const hub = await start(engine, 'engine_timeout=30s', `attach_listen=unix:${path}`, 'history_count=20');
    await start(engine, 'engine_timeout=30s');
    const host = await Host.start(`attach=unix:${path}`, `attach_name=${NAMES[0]}`, 'auth=none', 'log_level=error');
    open.push(() => host.stop());
    await hub.until('/v1/hubs', ({ hubs }) => hubs.filter(({ up }) => up).length === 2);
    await hub.ask('POST', '/v1/begin?channel=kept');
    for (const text of HOSTILE) await hub.publish('kept', text, 'tick');
    const proxy = await Proxy.start(hub.control);
    open.push(() => proxy.stop());
    const console = await visit(hub, { at: proxy.port, colorScheme, width, height: width < 500 ? 740 : 800 });
    const { page } = console;
    const check = await checker(page);
    await console.view('hosts');
    await console.row(NAMES[0]).waitFor();
    await check('hosts with one');
    await console.view('health');
    await console.row('up', 'yes').waitFor();
    await check('health with a cluster');
    await console.view('channels');
    await console.row('kept').locator('button', { hasText: 'Messages' }).click();
    await page.locator('dialog .boundary').waitFor();
    await check('messages of a channel');
    await page.locator('dialog button', { hasText: 'Close' }).click();
    // Notes stay until they were looked at.
    await page.evaluate(() => {
      const { setTimeout } = window;
      window.setTimeout = (work, ms, ...more) => (ms === 6000 ? 0 : setTimeout(work, ms, ...more));
    });
    await page.route('**/v1/channels/kept/messages*', (route) => route.fulfill({ status: 503, body: '{"error":{"code":"busy","message":"not now"}}' }));
    await console.row('kept').locator('button', { hasText: 'Messages' }).click();
    await page.locator('.toast.bad', { hasText: 'not now' }).waitFor();
    await console.row('kept').locator('button', { hasText: 'Clear' }).click();
    await confirm(page, 'Delete');
    await page.locator('.toast.done').waitFor();
    assert.equal(await page.locator('.toast').count(), 2);
    await check('notes');
    proxy.upstream = 1;
    proxy.cut();
    await console.shows('#gone', 'The hub can\u2019t be reached.');
    await console.shows('#state', 'gone');
    await check('a hub that is gone');
  });
}
