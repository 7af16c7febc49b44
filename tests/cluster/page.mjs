// A plain EventSource in Chromium for each hub: page.mjs CHANNELS ORIGIN... A line "ready" says that all are open. For
// each line "look" on its input it prints, as JSON, what each of them was told.

import { createInterface } from 'node:readline';
import { launch, MS } from '../browser/demo.mjs';

const [channels, ...origins] = process.argv.slice(2);
const query = new URLSearchParams(channels.split(',').map((channel) => ['channel', channel]));
const browser = await launch();

// A page of the hub's origin: its health check. It has to come from there, as a browser does not let pages from
// elsewhere read from private networks.
async function listen(origin) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${origin}/healthz`);
  await page.evaluate((url) => {
    window.told = [];
    window.openings = 0;
    window.source = new EventSource(url);
    window.source.onopen = () => { window.openings += 1; };
    window.source.onmessage = ({ data }) => {
      const [channel, number] = data.split(' ', 2);
      window.told.push([channel, Number(number)]);
    };
    window.source.addEventListener('push-gap', ({ data }) => window.told.push([JSON.parse(data).channel, null]));
  }, `/push?${query}`);
  await page.waitForFunction(() => window.openings > 0, null, { timeout: MS });
  return page;
}

const pages = await Promise.all(origins.map(listen));
console.log('ready');
for await (const line of createInterface(process.stdin)) {
  if (line === 'end') break;
  const told = await Promise.all(pages.map((page) => page.evaluate(() => (
    { told: window.told, openings: window.openings, state: window.source.readyState }
  ))));
  console.log(JSON.stringify(told));
}
await browser.close();
