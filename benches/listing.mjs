// What the lists of an operator cost the publishers: how long a publish takes while all connections are listed, over how
// long it takes otherwise, and the memory that the hub needs for it. `make bench-listing`; ROUNDS= and SECONDS= change
// how long it takes. It fails if a figure is not reached.
//
// The hub has 19,000 streams, each with a channel of its own, and 5,000 messages a second are published to them in turn,
// by the control API: 200 requests a second with 25 messages each. It keeps none of them, so that its memory shows what
// the lists need. `pushctl connections --all` lists all connections, page by page, again and again with a pause of
// 200 ms; so does `pushctl connections --slow`. The hub runs on CPU 0, and everything else on CPU 1. The publisher has a
// process of its own there, and the others give way to it. A round measures without a list and with each. The next
// round begins with another one.

import assert from 'node:assert/strict';
import { execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { freePort } from '../tests/harness/free.mjs';

const CONNECTIONS = Number(process.env.CONNECTIONS || 19_000);
const BATCH = 25;
const BATCHES_PER_S = 200;
const ROUNDS = Number(process.env.ROUNDS || 5);
const SECONDS = Number(process.env.SECONDS || 10);
// The time between two lists.
const PAUSE_MS = Number(process.env.PAUSE_MS ?? 200);
const KEY = 'a-key-of-some-length';
const LISTS = {
  'pages of 1,000': ['--all', '--limit', '1000'],
  'pages of 100': ['--all', '--limit', '100'],
  'the slow ones': ['--slow', '--limit', '1000'],
};
const WAYS = [null, ...Object.keys(LISTS)];
// The figures to reach: the p99 with a list over that without, and the memory of a page of 1,000 rows on its way, as the
// allocator may keep it.
const MOST_P99 = 1.5;
const MOST_KB = 4096;
const ROOT = fileURLToPath(new URL('..', import.meta.url));

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const at = (list, part) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * part))];

// The process with the clients. It tells how many bytes have come when it is asked.
async function clients(port) {
  setPriority(15);
  let bytes = 0;
  for (let n = 0; n < CONNECTIONS; n++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.write(`GET /push?channel=c${n}&transport=stream HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    socket.on('data', (data) => { bytes += data.length; });
    if (n % 200 === 199 || n === CONNECTIONS - 1) await once(socket, 'data');
  }
  process.on('message', () => process.send(bytes));
  process.send('ready');
}

// The process that publishes. It is told for how long, and tells how long each request took.
function publisher(port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  let sent = 0;
  const publish = () => new Promise((resolve, reject) => {
    const batch = Array.from({ length: BATCH }, () => ({ channel: `c${sent++ % CONNECTIONS}`, data: 'x'.repeat(100) }));
    const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' };
    const began = performance.now();
    const request = http.request({ port, agent, method: 'POST', path: '/v1/publish', headers }, (response) => {
      response.resume().on('end', () => {
        if (response.statusCode === 200) resolve(performance.now() - began);
        else reject(new Error(`${response.statusCode}`));
      });
    });
    request.on('error', reject);
    request.end(JSON.stringify(batch));
  });
  process.on('message', async (seconds) => {
    const answers = [];
    const until = performance.now() + seconds * 1000;
    for (let due = performance.now(); due < until; due += 1000 / BATCHES_PER_S) {
      const wait = due - performance.now();
      if (wait > 0) await pause(wait);
      answers.push(publish());
    }
    process.send(await Promise.all(answers));
  });
  process.send('ready');
}

async function child(role, port) {
  const one = fork(fileURLToPath(import.meta.url), [role, port]);
  const [word] = await once(one, 'message');
  assert.equal(word, 'ready');
  const ask = async (what) => {
    one.send(what);
    return (await once(one, 'message'))[0];
  };
  return { ask, end: () => one.kill() };
}

async function startHub() {
  const [port, control] = [await freePort(), await freePort()];
  const options = [
    `listen=127.0.0.1:${port}`, `control=127.0.0.1:${control}`, `control_key=${KEY}`, 'auth=none', 'heartbeat=10m',
    `max_connections=${CONNECTIONS + 100}`, 'max_per_address=0', 'connect_rate=0', 'connect_rate_per_address=0',
    'history_count=0',
  ];
  const words = ['-c', '0', `${ROOT}target/release/pushd`, ...options.flatMap((option) => ['-o', option])];
  const hub = spawn('taskset', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  hub.stderr.on('data', (data) => { log += data; });
  while (!log.includes(`listening on 127.0.0.1:${control}`)) {
    assert.equal(hub.exitCode, null, log);
    await pause(20);
  }
  return { port, control, process: hub };
}

// The memory of a process in KB: proc(5), /proc/PID/status.
const resident = (pid) => Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+)/m)[1]);

// Lists until it is told to end. Counts the rows that have come.
function list(control, flags) {
  let [goes, rows, lists] = [true, 0, 0];
  const env = { PUSHCTL_KEY: KEY };
  const done = (async () => {
    while (goes) {
      const words = ['-n', '10', `${ROOT}target/release/pushctl`, '-a', `127.0.0.1:${control}`, 'connections', ...flags, '--json'];
      const one = spawn('nice', words, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...env } });
      one.stdout.on('data', (data) => { rows += data.toString('latin1').split('"address"').length - 1; });
      const [code] = await once(one, 'close');
      assert.equal(code, 0);
      lists++;
      // A program that begins again at once would cost the publisher on the same CPU more than the hub.
      await pause(PAUSE_MS);
    }
  })();
  return { end: async () => { goes = false; await done; return { rows, lists }; } };
}

if (process.argv[2] === 'clients') {
  await clients(Number(process.argv[3]));
} else if (process.argv[2] === 'publisher') {
  publisher(Number(process.argv[3]));
} else {
  execFileSync('taskset', ['-cp', '1', String(process.pid)], { stdio: 'ignore' });
  const hub = await startHub();
  const readers = await child('clients', hub.port);
  const writer = await child('publisher', hub.control);
  // This process only reads lists.
  setPriority(18);
  const found = new Map(WAYS.map((way) => [way, []]));
  const listed = new Map(WAYS.map((way) => [way, 0]));
  const grown = new Map(WAYS.map((way) => [way, 0]));
  await writer.ask(3);
  for (let round = 0; round < ROUNDS; round++) {
    for (let step = 0; step < WAYS.length; step++) {
      const way = WAYS[(round + step) % WAYS.length];
      const bytes = await readers.ask(0);
      const before = resident(hub.process.pid);
      let most = before;
      const looks = setInterval(() => { most = Math.max(most, resident(hub.process.pid)); }, 20);
      const lister = way && list(hub.control, LISTS[way]);
      const times = await writer.ask(SECONDS);
      const { rows = 0 } = (await lister?.end()) ?? {};
      clearInterval(looks);
      await pause(300);
      assert.ok((await readers.ask(0)) - bytes > 100 * times.length * BATCH * 0.9, 'the messages do not arrive');
      if (way && way !== 'the slow ones') assert.ok(rows >= CONNECTIONS, `${way}: ${rows} rows`);
      found.get(way).push(times);
      listed.set(way, listed.get(way) + rows);
      grown.set(way, Math.max(grown.get(way), most - before));
    }
  }
  readers.end();
  writer.end();
  hub.process.kill('SIGTERM');
  await once(hub.process, 'exit');

  const p99 = (way) => found.get(way).map((times) => at(times, 0.99));
  const lines = [`${CONNECTIONS} connections, ${BATCH * BATCHES_PER_S} messages a second, ${ROUNDS} rounds of ${SECONDS} s`];
  lines.push(`without a list: p50 ${at(found.get(null).flat(), 0.5).toFixed(2)} ms, p99 ${at(p99(null), 0.5).toFixed(2)} ms a publish; the hub grew by ${grown.get(null)} KB at most`);
  const missed = [];
  for (const way of WAYS.slice(1)) {
    const ratios = p99(way).map((time, round) => time / p99(null)[round]);
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
    const each = Math.round(listed.get(way) / ROUNDS / SECONDS);
    lines.push(`${way}: p99 ${at(p99(way), 0.5).toFixed(2)} ms, ${at(ratios, 0.5).toFixed(2)} of that (${low} to ${high}); ${each} rows a second; the hub grew by ${grown.get(way)} KB at most`);
    if (at(ratios, 0.5) > MOST_P99) missed.push(`${way}: ${at(ratios, 0.5).toFixed(2)} of the p99`);
    if (grown.get(way) > MOST_KB) missed.push(`${way}: ${grown.get(way)} KB`);
  }
  lines.push(missed.length === 0 ? `reached: ${MOST_P99} of the p99, ${MOST_KB} KB` : `NOT REACHED: ${missed.join('; ')}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
  mkdirSync(`${ROOT}target/bench`, { recursive: true });
  writeFileSync(`${ROOT}target/bench/listing.txt`, `${lines.join('\n')}\n`);
  console.log(lines.join('\n'));
}
