// A host behind Express with `compression` and `http-proxy-middleware`, as in many Node services. A middleware that
// compresses an event stream collects it first: then nothing arrives, not even the head.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import compression from 'compression';
import { EventSource } from 'eventsource';
import express from 'express';
import { createProxyMiddleware } from 'http-proxy-middleware';
import { Inbox, test } from '../harness/host.mjs';
import { open, start } from '../harness/opened.mjs';

// Starts a server that compresses everything it may. Returns its port.
async function startExpress(port) {
  const app = express();
  app.use(compression({ threshold: 0, filter: () => true }));
  app.get('/own', (request, response) => response.type('text').send('compress me '.repeat(100)));
  app.use(createProxyMiddleware({ target: `http://127.0.0.1:${port}` }));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(async () => {
    server.close();
    server.closeAllConnections();
  });
  return server.address().port;
}

test('events arrive at once, though all else is compressed', async () => {
  const host = await start();
  const port = await startExpress(host.port);
  const own = await fetch(`http://127.0.0.1:${port}/own`);
  assert.equal(own.headers.get('Content-Encoding'), 'gzip');
  await own.text();
  const source = new EventSource(`http://127.0.0.1:${port}/push?channel=a`);
  open.push(() => source.close());
  const events = new Inbox();
  source.addEventListener('push-open', (event) => events.put(event.type));
  source.addEventListener('message', (event) => events.put(event.data));
  assert.equal(await events.next(), 'push-open');
  for (const data of ['one', 'two']) {
    await host.publish('a', data);
    assert.equal(await events.next(), data);
  }
});

test('a line of the stream arrives at once', async () => {
  const host = await start();
  const port = await startExpress(host.port);
  const abort = new AbortController();
  open.push(() => abort.abort());
  const response = await fetch(`http://127.0.0.1:${port}/push?channel=a&transport=stream`, { signal: abort.signal });
  assert.equal(response.headers.get('Cache-Control'), 'no-store, no-transform');
  const lines = response.body.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  let text = '';
  const upTo = async (what) => {
    while (!text.includes(what)) text += (await lines.next()).value;
  };
  await upTo('\n');
  for (const data of ['one', 'two']) {
    await host.publish('a', data);
    await upTo(`"data":"${data}"}\n`);
  }
});
