// Node's clients over both versions of TLS: `ws`, https, fetch, `eventsource`. They trust only the root of the chain that
// the server sends.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { Inbox, test } from '../harness/host.mjs';
import { open, start } from '../harness/opened.mjs';
import { freePort } from '../harness/free.mjs';

const run = promisify(execFile);
const VERSIONS = ['TLSv1.2', 'TLSv1.3'];

let directory;
let ca;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'push-tls-'));
  await run(fileURLToPath(new URL('../harness/certificates', import.meta.url)), [directory]);
  ca = await readFile(join(directory, 'root.pem'));
});
after(() => rm(directory, { recursive: true, force: true }));

// A host whose library listens with TLS at `tls`.
async function secure() {
  const port = await freePort();
  const live = join(directory, 'live');
  const host = await start(
    `listen=tls:127.0.0.1:${port}`, `tls_certificate=${live}/fullchain.pem`, `tls_key=${live}/privkey.pem`,
  );
  host.tls = (query, scheme = 'https') => `${scheme}://localhost:${port}/push?${query}`;
  return host;
}

const only = (version) => ({ ca, minVersion: version, maxVersion: version });

for (const version of VERSIONS) {
  test(`${version}: ws gets what was missed and what comes, and is answered`, async () => {
    const host = await secure();
    const since = await host.publish('a', 'before');
    await host.publish('a', 'missed');
    const socket = new WebSocket(host.tls(`channel=a&since=${since}`, 'wss'), only(version));
    const inbox = new Inbox();
    socket.on('message', (data) => inbox.put(data.toString()));
    await once(socket, 'open');
    open.push(() => socket.terminate());
    assert.equal(socket._socket.getProtocol(), version);
    const large = 'x'.repeat(200_000);
    await host.publish('a', large);
    socket.send('to the host, which sends it back');
    const seen = await inbox.take(3);
    assert.deepEqual(seen.sort(), ['missed', large, 'to the host, which sends it back'].sort());
    const ponged = once(socket, 'pong');
    socket.ping('x');
    assert.equal(String(await ponged), 'x');
    socket.close(4000);
    assert.equal((await once(socket, 'close'))[0], 4000);
  });

  test(`${version}: a session of https resumes`, async () => {
    const host = await secure();
    await host.publish('a', 'kept');
    // It remembers sessions. Each request has a connection of its own.
    const agent = new https.Agent({ ...only(version), keepAlive: false });
    const poll = async () => {
      const request = https.get(host.tls('channel=a&last=1&wait=0'), { agent });
      const [response] = await once(request, 'response');
      const resumed = request.socket.isSessionReused();
      assert.equal(request.socket.getProtocol(), version);
      const { messages } = JSON.parse(Buffer.concat(await response.toArray()));
      assert.deepEqual(messages.map(({ data }) => data), ['kept']);
      return resumed;
    };
    assert.deepEqual([await poll(), await poll(), await poll()], [false, true, true]);
  });

  // Only a process as a whole can be told what its fetch trusts.
  test(`${version}: fetch reads a stream, and eventsource events`, async () => {
    const host = await secure();
    const child = execFile(process.execPath, [
      `--tls-min-${version.toLowerCase().replace('tls', '')}`, `--tls-max-${version.toLowerCase().replace('tls', '')}`,
      fileURLToPath(new URL('../harness/fetching.mjs', import.meta.url)), host.tls('channel=a'),
    ], { env: { ...process.env, NODE_EXTRA_CA_CERTS: join(directory, 'root.pem') } });
    // By then all of its output has come.
    const ended = once(child, 'close');
    let said = '';
    child.stdout.on('data', (data) => { said += data; });
    child.stderr.on('data', (data) => { said += data; });
    await host.waitForAll({ sse: 1, streams: 1 });
    const id = await host.publish('a', 'grüße');
    const [code] = await ended;
    assert.equal(code, 0, said);
    assert.deepEqual(said.trim().split('\n').sort(), [`event ${id} grüße`, `line ${id} grüße`]);
  });
}
