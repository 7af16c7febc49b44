// What the console costs: the hub's CPU time with the console open over that without it, and the longest task of the
// page. `make bench-console`; ROUNDS= and SECONDS= change how long it takes.
//
// The hub has 10,000 streams, each with a channel of its own, and 5,000 messages a second are published to them in turn,
// by the control API. The hub runs on CPU 0, and everything else on CPU 1. A round measures without the console and with
// each of its views. The next round begins with another one.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { Console, KEY } from '../tests/browser/console.mjs';
import { launch } from '../tests/browser/demo.mjs';
import { freePort } from '../tests/harness/free.mjs';

const CONNECTIONS = 10_000;
const BATCH = 100;
const BATCHES_PER_S = 50;
const ROUNDS = Number(process.env.ROUNDS || 5);
const SECONDS = Number(process.env.SECONDS || 10);
const VIEWS = [null, 'overview', 'connections', 'channels'];
const PROGRAM = fileURLToPath(new URL('../target/release/pushd', import.meta.url));
const OUT = fileURLToPath(new URL('../target/bench', import.meta.url));

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

async function startHub() {
  const [port, control] = [await freePort(), await freePort()];
  const options = [
    `listen=127.0.0.1:${port}`, `control=127.0.0.1:${control}`, `control_key=${KEY}`, 'console=true', 'auth=none',
    `max_connections=${CONNECTIONS + 100}`, 'max_per_address=0', 'connect_rate=0', 'connect_rate_per_address=0', 'heartbeat=10m',
  ];
  const words = ['-c', '0', PROGRAM, ...options.flatMap((option) => ['-o', option])];
  const child = spawn('taskset', words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (data) => { log += data; });
  while (!log.includes(`listening on 127.0.0.1:${control}`)) {
    assert.equal(child.exitCode, null, log);
    await pause(20);
  }
  return { port, control, child, log: () => log };
}

// The CPU time of all threads of a process, in milliseconds: proc(5), /proc/PID/task/TID/schedstat.
function cpuOf(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  const ns = threads.map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]));
  return ns.reduce((sum, each) => sum + each, 0) / 1e6;
}

async function connect(hub) {
  const sockets = [];
  let bytes = 0;
  for (let n = 0; n < CONNECTIONS; n++) {
    const socket = net.connect(hub.port, '127.0.0.1');
    socket.write(`GET /push?channel=c${n}&transport=stream HTTP/1.1\r\nHost: 127.0.0.1:${hub.port}\r\n\r\n`);
    socket.on('data', (data) => { bytes += data.length; });
    sockets.push(socket);
    if (n % 200 === 199) await once(socket, 'data');
  }
  return { sockets, bytes: () => bytes };
}

// Publishes for some seconds. Returns how many messages there were.
async function publish(hub, agent, seconds) {
  const until = Date.now() + seconds * 1000;
  let sent = 0;
  const answered = [];
  for (let due = Date.now(); due < until; due += 1000 / BATCHES_PER_S) {
    await pause(Math.max(0, due - Date.now()));
    const batch = [];
    for (let n = 0; n < BATCH; n++) batch.push({ channel: `c${sent++ % CONNECTIONS}`, data: 'x'.repeat(100) });
    answered.push(new Promise((resolve, reject) => {
      const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' };
      const request = http.request({ port: hub.control, agent, method: 'POST', path: '/v1/publish', headers }, (response) => {
        response.resume().on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`))));
      });
      request.on('error', reject);
      request.end(JSON.stringify(batch));
    }));
  }
  await Promise.all(answered);
  return sent;
}

// The CPU time of a message in microseconds.
async function measure(hub, agent, clients) {
  await publish(hub, agent, 1);
  const [before, bytes] = [cpuOf(hub.child.pid), clients.bytes()];
  const sent = await publish(hub, agent, SECONDS);
  assert.ok(clients.bytes() - bytes > 100 * sent * 0.9, 'the messages do not arrive');
  return ((cpuOf(hub.child.pid) - before) * 1000) / sent;
}

async function longestTask(page) {
  return page.evaluate(() => { const { longest } = window; window.longest = 0; return longest; });
}

execFileSync('taskset', ['-cp', '1', String(process.pid)], { stdio: 'ignore' });
const hub = await startHub();
const clients = await connect(hub);
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const browser = await launch();
const open = [];
const costs = new Map(VIEWS.map((view) => [view, []]));
const tasks = new Map(VIEWS.slice(1).map((view) => [view, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (let at = 0; at < VIEWS.length; at++) {
    const view = VIEWS[(round + at) % VIEWS.length];
    let page = null;
    if (view) {
      page = await Console.open(browser, open, hub);
      await page.view(view);
      await page.page.evaluate(() => {
        window.longest = 0;
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
        }).observe({ type: 'longtask' });
      });
    }
    costs.get(view).push(await measure(hub, agent, clients));
    if (page) {
      tasks.get(view).push(await longestTask(page.page));
      await page.close();
    }
  }
}
await browser.close();
clients.sockets.forEach((socket) => socket.destroy());
agent.destroy();
hub.child.kill('SIGTERM');
await once(hub.child, 'exit');

const lines = [`${CONNECTIONS} connections, ${BATCH * BATCHES_PER_S} messages a second, ${ROUNDS} rounds of ${SECONDS} s`];
lines.push(`without the console: ${median(costs.get(null)).toFixed(1)} us of CPU a message`);
for (const view of VIEWS.slice(1)) {
  const ratios = costs.get(view).map((cost, round) => cost / costs.get(null)[round]);
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
  const longest = Math.max(...tasks.get(view));
  lines.push(`${view}: ${median(ratios).toFixed(2)} of that (${low} to ${high}); longest task of the page ${longest.toFixed(0)} ms`);
}
mkdirSync(OUT, { recursive: true });
writeFileSync(`${OUT}/console.txt`, `${lines.join('\n')}\n`);
console.log(lines.join('\n'));
