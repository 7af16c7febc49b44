// The console behind proxies, with a hub that hangs, with very many channels, and with browsers that keep nothing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before } from 'node:test';
import { test } from '../harness/host.mjs';
import { open } from '../harness/opened.mjs';
import { Console, Hub, KEY } from './console.mjs';
import { launch } from './demo.mjs';

let browser;

before(async () => { browser = await launch(); });
after(() => browser?.close());

async function start(...options) {
  const hub = await Hub.start(...options);
  open.push(() => {
    hub.process.kill('SIGCONT');
    return hub.stop();
  });
  return hub;
}

const visit = (hub, options) => Console.open(browser, open, hub, options);
const show = (page) => page.locator('main button', { hasText: 'Show' }).click();

// Waits until the page has asked for its metrics so many times, one each two seconds.
async function beats(page, count) {
  for (let beat = 0; beat < count; beat++) await page.waitForResponse((response) => response.url().endsWith('/metrics'));
}

// What the browser does when somebody changes to another tab, or comes back.
function hide(page, isHidden) {
  return page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, isHidden);
}

test('behind a proxy that passes its own credentials on, the console works as without', async () => {
  const hub = await start();
  for (const line of ['Basic b3BlcmF0b3I6eA==', 'Bearer another-token-0123456789']) {
    const console = await visit(hub, { extraHTTPHeaders: { Authorization: line } });
    await console.shows('#state', 'live');
    await console.view('connections');
    await console.shows('main .empty:visible', 'No connection');
  }
  assert.doesNotMatch(hub.log, /refused with 401/);
});

test('a session that is refused again and again does not make the page reload for ever', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await console.shows('#state', 'live');
  let loads = 0;
  page.on('request', (request) => { loads += Number(request.isNavigationRequest()); });
  await page.route('**/console/logout', (route) => route.fulfill({ status: 200, body: '{}' }));
  await page.route(/\/(v1\/.*|metrics)$/, (route) => route.fulfill({ status: 401, body: '{"error":{"code":"x","message":"a proxy says no"}}' }));
  await console.shows('#gone', 'a proxy says no');
  await console.shows('#state', 'refused');
  assert.equal(loads, 1, 'it was loaded once more');
});

test('a page without the value of its login asks for the key', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await page.evaluate(() => localStorage.clear());
  await console.shows('#told', 'Your session is over.');
  assert.deepEqual(await console.context.cookies(), []);
  await console.login();
  await console.shows('#state', 'live');
});

test('a hub that hangs is shown as gone, and nothing is said before it has answered', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await console.shows('#state', 'live');
  hub.process.kill('SIGSTOP');
  await console.shows('#state', 'gone');
  await console.shows('#gone', 'The hub can\u2019t be reached.');
  await console.view('hosts');
  await console.view('overview');
  assert.equal(await page.locator('main .empty').filter({ hasText: 'Nobody is behind' }).isVisible(), false);
  hub.process.kill('SIGCONT');
  await console.shows('#state', 'live');
  await console.shows('main .empty:visible', 'Nobody is behind');
  // A proxy in front answers in place of a hub that does not.
  for (const status of [502, 504]) {
    await page.route('**/metrics', (route) => route.fulfill({ status, body: '<h1>Bad Gateway</h1>' }));
    await console.shows('#state', 'gone');
    await page.unroute('**/metrics');
    await console.shows('#state', 'live');
  }
  await page.route('**/metrics', (route) => route.fulfill({ status: 500, body: '' }));
  await console.shows('#state', 'answers 500');
});

test('more channels than can be listed are said to be so, and busy ones are shown in any case', async () => {
  const hub = await start();
  const messages = Array.from({ length: 1100 }, (_, number) => ({ channel: `room${number}`, data: 'x' }));
  await hub.ask('POST', '/v1/publish', JSON.stringify(messages));
  const { channels } = await hub.ask('GET', '/v1/channels?limit=1000');
  const known = new Set(channels.map(({ channel }) => channel));
  const { channel: unlisted } = messages.find(({ channel }) => !known.has(channel));
  const console = await visit(hub);
  const { page } = console;
  // How many rows come in one task: many would hold up the page.
  await page.evaluate(() => {
    window.most = 0;
    const rows = (records) => records.flatMap(({ addedNodes }) => [...addedNodes]).filter(({ tagName }) => tagName === 'TR').length;
    new MutationObserver((records) => { window.most = Math.max(window.most, rows(records)); }).observe(document.body, { childList: true, subtree: true });
  });
  await console.view('channels');
  await console.shows('main .heading', '1,000 of more, in no order: narrow by prefix, 100 shown');
  await page.waitForFunction(() => document.querySelectorAll('main tbody tr').length === 100);
  assert.ok(await page.evaluate(() => window.most) <= 25);
  const timer = setInterval(() => hub.publish(unlisted, 'x').catch(() => {}), 20);
  open.push(() => clearInterval(timer));
  await console.measures(unlisted, '/s');
  assert.match(await page.locator('main tbody tr').first().textContent(), new RegExp(`^${unlisted}not listed`));
});

test('a tail ends while nobody looks, and begins again by itself', async () => {
  const hub = await start();
  const console = await visit(hub);
  const { page } = console;
  await page.clock.install();
  await console.view('tail');
  await page.locator('main button', { hasText: 'Start' }).click();
  await console.shows('main .heading', 'Waiting');
  const item = (hasText) => page.locator('ol.tail li').filter({ hasText }).waitFor();
  await hub.publish('a', 'first');
  await item('first');
  await hide(page, true);
  // A tail that is silent for so long would be taken for lost. The page's time also passes by itself: a slow machine has
  // the rest of the minute after which the tail stops.
  for (const text of ['second', 'next']) {
    await page.clock.fastForward(21_000);
    await hub.publish('a', text);
    await item(text);
  }
  await page.clock.fastForward(19_000);
  await console.shows('main .heading', 'Stopped while nobody looked');
  await hub.publish('a', 'unseen');
  await hide(page, false);
  await console.shows('main .heading', 'Waiting');
  await hub.publish('a', 'third');
  await item('third');
  await item('Stopped while nobody looked');
  assert.equal(await page.locator('ol.tail li').filter({ hasText: 'unseen' }).count(), 0);
  // The hub hangs: nothing comes, not even the sign of life.
  hub.process.kill('SIGSTOP');
  await page.clock.fastForward(41_000);
  await item('The hub was gone');
  hub.process.kill('SIGCONT');
  await page.clock.fastForward(3000);
  await console.shows('main .heading', 'Waiting');
  await hub.publish('a', 'fourth');
  await item('fourth');
});

test('filters count when they are complete, and what is wrong is asked once', async () => {
  const hub = await start();
  const ada = await hub.subscribe('ada', 'a');
  open.push(() => ada.terminate());
  const console = await visit(hub);
  const { page } = console;
  await console.view('connections');
  await console.row('ada').waitFor();
  await page.getByLabel('Address').fill('127.0');
  await beats(page, 3);
  assert.ok(!console.addresses.some((address) => address.includes('127.0&') || address.endsWith('address=127.0')));
  assert.equal(await console.row('ada').count(), 1);
  await show(page);
  await console.shows('main .told', 'address must be an IPv4');
  const asked = () => console.addresses.filter((address) => address.includes('/v1/connections')).length;
  const before = asked();
  await beats(page, 4);
  assert.equal(asked(), before);
  await page.getByLabel('Address').fill('127.0.0.1');
  await show(page);
  await console.row('ada').waitFor();
  await console.view('users?channel=later');
  await console.shows('main .empty:visible', 'No such channel');
  await hub.publish('later', 'x');
  await show(page);
  await console.shows('main .empty:visible', 'Nobody with a name');
  // A click while an answer is on its way is not lost.
  await console.view('connections');
  await console.row('ada').waitFor();
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await page.route('**/v1/connections**', async (route) => { await held; await route.continue(); });
  await page.waitForRequest((request) => request.url().includes('/v1/connections'));
  await page.getByRole('textbox', { name: 'User' }).fill('nobody');
  await show(page);
  release();
  await page.waitForRequest((request) => request.url().includes('user=nobody'));
});

test('characters that can\u2019t be seen are shown, and no name becomes a step in a path', async () => {
  const hub = await start();
  await hub.publish('soft\u00adtag\u{e0041}fill\u3164', 'x');
  await hub.publish('..', 'x');
  await hub.subscribe('ada', 'a').then((socket) => open.push(() => socket.terminate()));
  const console = await visit(hub);
  const { page } = console;
  await console.view('channels');
  await page.locator('bdi.name').getByText('soft\\u00adtag\\u{e0041}fill\\u3164', { exact: true }).waitFor();
  await console.row('..').locator('button', { hasText: 'Messages' }).click();
  await console.shows('#toasts', 'A browser can\u2019t ask for a channel named ..');
  await console.row('..').locator('button', { hasText: 'Clear' }).click();
  await page.locator('dialog button', { hasText: 'Delete' }).click();
  await console.shows('dialog .told', 'A browser can\u2019t ask');
  await page.keyboard.press('Escape');
  await console.view('tail');
  await page.locator('main button', { hasText: 'Start' }).click();
  await console.shows('main .heading', 'Waiting');
  await hub.publish('a', `${'x'.repeat(200)}\nb\u202ec\u0007`);
  await page.locator('ol.tail button', { hasText: 'More' }).click();
  await page.locator('ol.tail pre', { hasText: 'x\nb\\u202ec\\u0007' }).waitFor();
});

test('the focus stays in a row that moves, and figures that change are not read out', async () => {
  const hub = await start();
  const ada = await hub.subscribe('ada', 'high');
  open.push(() => ada.terminate());
  await hub.publish('low', 'x');
  const console = await visit(hub);
  const { page } = console;
  await console.view('channels');
  await console.row('high').waitFor();
  await console.row('low').locator('button', { hasText: 'Clear' }).focus();
  for (const user of ['bob', 'eve']) {
    const socket = await hub.subscribe(user, 'low');
    open.push(() => socket.terminate());
  }
  await page.locator('main tbody tr').first().filter({ hasText: 'low' }).waitFor();
  assert.match(await page.evaluate(() => document.activeElement.closest('tr')?.textContent ?? ''), /^low.*Clear$/);
  for (const view of ['connections', 'channels', 'users', 'hosts', 'tail']) {
    await console.view(view);
    assert.equal(await page.locator('main [role=status]').count(), 0, view);
  }
});

test('a login whose answer is lost is asked again, and one whose answer does not come is told', async () => {
  const hub = await start();
  const console = await visit(hub, { login: false });
  const { page } = console;
  let left = 2;
  await page.route('**/console/login', (route) => (left-- > 0 ? route.abort('connectionreset') : route.continue()));
  await page.route('**/v1/stats', (route) => (left-- > -2 ? route.abort('connectionreset') : route.continue()));
  await console.login();
  await console.shows('#state', 'live');
  await page.click('#logout');
  await console.shows('#told', 'You are logged out.');
  await page.unrouteAll();
  hub.process.kill('SIGSTOP');
  await page.fill('#key', KEY);
  await page.press('#key', 'Enter');
  await console.shows('#told', 'The hub does not answer. Try again.');
  hub.process.kill('SIGCONT');
  await console.login();
  await console.shows('#state', 'live');
});

test('a page of which a part is lost is loaded again, and says so if that does not help', async () => {
  const hub = await start();
  const console = await visit(hub, { login: false });
  const { page } = console;
  let loads = 0;
  page.on('request', (request) => { loads += Number(request.isNavigationRequest()); });
  const loses = (route) => (loads > 1 ? route.continue() : route.abort('connectionreset'));
  await page.route('**/console/hub.js', loses);
  await console.login();
  await console.shows('#state', 'live');
  assert.equal(loads, 2, 'the page of the login, and once more');
  for (const part of ['app.js', 'elements.js']) {
    const pattern = `**/console/${part}`;
    await page.route(pattern, (route) => route.abort());
    loads = 0;
    await page.reload();
    await console.shows('#gone', 'A part of this page can\u2019t be loaded.');
    assert.equal(loads, 4, part);
    await page.unroute(pattern);
    await page.reload();
    await console.shows('#state', 'live');
    assert.equal(await page.locator('#gone').isVisible(), false);
  }
  // A view is no part without which there is no page.
  await page.route('**/console/tail.js', (route) => route.abort());
  await page.reload();
  await console.shows('#state', 'live');
  await console.view('tail');
  await console.shows('main .empty', 'This view could not be loaded');
  await page.unroute('**/console/tail.js');
  await page.locator('main button', { hasText: 'Reload the page' }).click();
  await page.locator('main button', { hasText: 'Start' }).waitFor();
});

test('a logout that fails and a browser that keeps no session are told', async () => {
  const hub = await start();
  const console = await visit(hub, { login: false });
  const { page } = console;
  const drop = async (route) => {
    const response = await route.fetch();
    await console.context.clearCookies();
    await route.fulfill({ response, headers: { 'content-type': 'application/json' } });
  };
  await page.route('**/console/login', drop);
  await page.fill('#key', KEY);
  await page.press('#key', 'Enter');
  await console.shows('#told', 'The browser keeps no session for this page.');
  await page.unroute('**/console/login');
  await console.login();
  await page.route('**/console/logout', (route) => route.fulfill({ status: 500, body: '{"error":{"code":"x","message":"no room"}}' }));
  await page.click('#logout');
  await console.shows('#toasts', 'You are still logged in. no room');
  await hub.logs(/info: console: a login with the key \(address 127\.0\.0\.1\)/);
});

// Browsers send a cookie to all ports of a host.
test('a server at another port gets the cookie, and can do nothing with it', async () => {
  const { createServer } = await import('node:http');
  const hub = await start();
  const console = await visit(hub);
  let cookie;
  const other = createServer((request, response) => {
    cookie = request.headers.cookie;
    response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>other</title>');
  });
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  open.push(() => { other.closeAllConnections(); other.close(); });
  const page = await console.context.newPage();
  await page.goto(`http://127.0.0.1:${other.address().port}/`);
  assert.match(cookie, /^push_console_/);
  assert.deepEqual(await page.evaluate(() => ({ ...localStorage })), {});
  for (const value of ['1', cookie.split('=')[1]]) {
    const answer = await fetch(hub.url('/v1/stats'), { headers: { Cookie: cookie, 'X-Push-Console': value } });
    assert.equal(answer.status, 403);
  }
  await page.close();
});
