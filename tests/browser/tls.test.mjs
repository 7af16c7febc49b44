// `make demo-tls` in Chromium: the page over HTTPS, and each transport at pushd over TLS, broken and recovered.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import https from 'node:https';
import { createInterface } from 'node:readline';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { test } from '../harness/host.mjs';
import { freePort } from '../harness/free.mjs';
import { Demo, launch, MS, TRANSPORTS } from './demo.mjs';

const path = (below) => fileURLToPath(new URL(`../../${below}`, import.meta.url));

let demo;
let ended;
let port;
let ca;
let browser;

before(async () => {
  port = await freePort();
  demo = spawn(path('examples-c/demo-tls'), [`${port}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  ended = once(demo, 'exit');
  const lines = createInterface(demo.stdout);
  const [line] = await Promise.race([once(lines, 'line'), ended]);
  assert.match(String(line), new RegExp(`^listening on https://localhost:${port}/ `));
  ca = await readFile(path('target/demo-tls/certificate.pem'));
  // Until pushd is there, too, the browser would complain of it.
  while ((await ask('GET', '/stats')).status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
  // The browser trusts this key as if an authority had signed its certificate.
  const key = new X509Certificate(ca).publicKey.export({ type: 'spki', format: 'der' });
  const hash = createHash('sha256').update(key).digest('base64');
  browser = await launch({ args: [`--ignore-certificate-errors-spki-list=${hash}`] });
});

after(async () => {
  await browser?.close();
  demo?.kill('SIGTERM');
  await ended;
});

// A request to the page's server, as by curl --cacert.
async function ask(method, to, body) {
  const request = https.request(`https://localhost:${port}${to}`, { ca, method });
  request.end(body);
  const [response] = await once(request, 'response');
  return { status: response.statusCode, text: String(Buffer.concat(await response.toArray())) };
}

// Publishes. Returns the entry that panes must show.
async function publish(text) {
  const { status, text: answer } = await ask('POST', '/publish?channel=news', text);
  assert.equal(status, 200);
  return [JSON.parse(answer).id, text];
}

test('a browser that does not know the certificate does not open the page', async () => {
  const strict = await launch();
  try {
    const page = await strict.newPage();
    page.setDefaultTimeout(MS);
    await assert.rejects(page.goto(`https://localhost:${port}/`), /ERR_CERT_AUTHORITY_INVALID/);
  } finally {
    await strict.close();
  }
});

test('over HTTPS and WSS each transport is broken, and goes on where it was', async () => {
  const page = await Demo.open(browser, `https://localhost:${port}/`);
  try {
    const wanted = [await publish('before')];
    const allShow = async () => {
      for (const transport of TRANSPORTS) {
        assert.deepEqual(await page.shown(transport, wanted.at(-1)[0]), wanted, transport);
      }
    };
    await allShow();
    for (const transport of TRANSPORTS) {
      await page.press(transport);
      await page.is(transport, 'broken');
      for (const text of ['missed 1', 'missed 2']) wanted.push(await publish(`${transport}: ${text}`));
      await page.shown(transport === 'ws' ? 'sse' : 'ws', wanted.at(-1)[0]);
      await page.press(transport);
      await page.is(transport, 'open');
      wanted.push(await publish(`${transport}: live`));
      await allShow();
      assert.equal(await page.recovered(transport), 2);
    }
    // The page itself publishes, too.
    await page.publish('from the page');
    await page.pane('ws').locator('li .data', { hasText: 'from the page' }).waitFor();
    assert.deepEqual([page.complaints, page.exceptions], [[], []]);
    const how = await page.pane('ws').locator('.how').textContent();
    assert.equal(how, 'subprotocol push.v1.json', 'the WebSocket is one');
  } finally {
    await page.close();
  }
});
