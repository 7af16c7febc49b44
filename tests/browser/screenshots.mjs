// Draws the pictures of docs/console: `node tests/browser/screenshots.mjs`, after `make examples` and an install of the
// tests' packages. They are made small with pngquant.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { Host } from '../harness/host.mjs';
import { Console, Hub } from './console.mjs';
import { launch } from './demo.mjs';

const USERS = ['ada', 'alan', 'barbara', 'dennis', 'edsger', 'frances', 'grace', 'hedy', 'john', 'katherine', 'margaret', 'radia'];
const CHANNELS = ['prices.eur', 'prices.usd', 'news', 'chat.general', 'chat.support', 'orders', 'alerts'];
const folder = fileURLToPath(new URL('../../docs/console', import.meta.url));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const pick = (list) => list[Math.floor(Math.random() * list.length)];

mkdirSync(folder, { recursive: true });
const socket = join(tmpdir(), `push-pictures-${process.pid}.sock`);
const hub = await Hub.start('outbox=64MB', 'slow_policy=latest', `attach_listen=unix:${socket}`, 'history_count=200', 'channel.prices.*.history_count=10');
const hosts = [];
for (const name of ['web-1', 'web-2']) hosts.push(await Host.start(`attach=unix:${socket}`, `attach_name=${name}`, 'auth=none'));
const clients = [];
for (let count = 0; count < 100; count++) clients.push(await hub.subscribe(pick(USERS), pick(CHANNELS), 'news'));
for (let count = 0; count < 24; count++) {
  const socket = new WebSocket(`${hosts[count % 3 ? 0 : 1].url('/push', 'ws')}?channel=${pick(CHANNELS)}&channel=news`);
  await once(socket, 'open');
  clients.push(socket);
}
const lazy = await hub.subscribeLazily('hedy', 'chat.support', 'prices.usd');

let round = 0;
const publish = async () => {
  round++;
  const price = () => (100 + 5 * Math.sin(round / 40) + Math.random()).toFixed(2);
  const some = [['prices.eur', JSON.stringify({ bid: price(), ask: price() }), 'tick'], ['prices.usd', JSON.stringify({ bid: price(), ask: price() }), 'tick']];
  if (round % 3 === 0) some.push(['chat.general', JSON.stringify({ from: pick(USERS), text: 'Good morning' }), 'said']);
  if (round % 7 === 0) some.push(['orders', JSON.stringify({ order: 4000 + round, state: pick(['paid', 'packed', 'sent']) }), 'changed']);
  if (round % 20 === 0) some.push(['news', 'The build is green']);
  if (round % 4 === 0) some.push(['chat.support', JSON.stringify({ picture: 'x'.repeat(120_000) }), 'attached']);
  const burst = Math.round(2 + 2 * Math.sin(round / 30) + Math.random());
  for (let count = 0; count < burst; count++) some.push([pick(CHANNELS.slice(0, 5)), JSON.stringify({ n: round }), 'tick']);
  await Promise.all(some.map((one) => hub.publish(...one)));
};
// Some clients have gone, and some were turned away, in the time of the page.
async function comeAndGo() {
  for (const code of [1000, 1000, 1000, 1000, 1000, 1000, 1001, 1001, 1001]) (await hub.subscribe(pick(USERS), 'news')).close(code);
  await hub.subscribe('mallory', 'news');
  await hub.ask('POST', '/v1/disconnect?user=mallory&code=4403');
  for (const query of ['channel=news&token=x', 'channel=news&token=y', 'channel=news', 'channel=news&last=0']) await fetch(`http://127.0.0.1:${hub.port}/push?${query}`);
}
const timer = setInterval(() => publish().catch(() => {}), 100);
const browser = await launch();
const open = [];

const place = (name) => join(folder, `${name}.png`);
const draw = async (console, name, clip) => {
  // No button is drawn as if the mouse were above it.
  await console.page.mouse.move(0, 0);
  await console.page.screenshot({ path: place(name), clip });
};
const shrink = (name) => execFileSync('pngquant', ['--force', '--speed', '1', '--quality', '70-95', '--strip', '--output', place(name), place(name)]);

async function picture(console, name, clip) {
  await draw(console, name, clip);
  shrink(name);
}

const visit = (options) => Console.open(browser, open, hub, options);
const light = await visit({ colorScheme: 'light', login: false });
await picture(light, 'login', { x: 400, y: 160, width: 480, height: 480 });
await light.login();
const dark = await visit({ colorScheme: 'dark' });
const phone = await visit({ colorScheme: 'dark', width: 360, height: 740 });
// The pages have counted once before.
await pause(4000);
await comeAndGo();
// The charts are full when the first figure has reached the left edge.
async function isFull({ page }) {
  await page.waitForFunction(() => {
    const from = document.querySelector('.x span').textContent;
    const first = document.querySelector('path.line').getAttribute('d').match(/M([\d.]+)/)?.[1];
    return from === '2 min ago' && Number(first) < 25;
  }, null, { timeout: 180_000, polling: 250 });
}
const overviews = [[light, 'overview-light'], [dark, 'overview'], [phone, 'phone-overview']];
await Promise.all(overviews.map(async ([console, name]) => {
  await isFull(console);
  await draw(console, name);
}));
for (const [, name] of overviews) shrink(name);
await light.view('connections');
await light.row('hedy', 'MB').first().waitFor();
await picture(light, 'connections');
await light.row('hedy', 'MB').first().locator('button', { hasText: 'Close' }).click();
await light.page.getByLabel('Reason').fill('slow');
await picture(light, 'close');
await light.page.locator('dialog button', { hasText: 'Cancel' }).click();
await light.view('channels');
await light.page.locator('button', { hasText: 'Measure' }).click();
await light.row('prices.usd', '/s').waitFor();
await pause(7000);
await picture(light, 'channels');
await dark.view('users?channel=news');
await dark.row('ada').waitFor();
await picture(dark, 'users');
for (let count = 0; count < 2; count++) await hub.until('/v1/hosts', (answer) => answer.hosts.length === 2);
await dark.view('hosts');
await dark.row('web-1').waitFor();
await picture(dark, 'hosts');
await light.view('health');
await light.row('outbox').waitFor();
await picture(light, 'health');
await dark.view('tail');
await dark.page.locator('main button', { hasText: 'Start' }).click();
await pause(4000);
await picture(dark, 'tail');
await light.view('publish');
await light.page.getByLabel('Channel', { exact: true }).fill('alerts');
await light.page.getByLabel('Event').fill('warning');
await light.page.getByLabel('Data').fill('{"text": "Maintenance at noon"}');
await light.page.locator('main button.primary').click();
await light.shows('ol.published', 'subscribers');
await picture(light, 'publish');
await phone.view('connections');
await phone.row('hedy', 'MB').first().waitFor();
await picture(phone, 'phone-connections');

clearInterval(timer);
while (open.length) await open.pop()();
await browser.close();
lazy.destroy();
for (const client of clients) client.terminate();
for (const host of hosts) {
  host.process.kill('SIGTERM');
  await host.ended;
}
hub.process.kill('SIGTERM');
await once(hub.process, 'exit');
rmSync(socket, { force: true });
