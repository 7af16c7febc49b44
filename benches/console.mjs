// What the console costs: the hub's CPU time with the console open over that without it, and the longest task of the
// page. `make bench-console`; ROUNDS= and SECONDS= change how long it takes. It fails if a figure is not reached.
//
// The hub has 10,000 streams, each with a channel of its own, and 5,000 messages a second are published to them in turn,
// by the control API. The hub runs on CPU 0. The process with the clients and the publisher has a low priority. What
// drives the page must not have that priority: beside other programs it would get so little time that a login takes
// minutes. The tail is begun, with all channels: the hub sends each message once more for it, and that has no bound here.
//
// A round measures each view, and the next round begins with another one. A view is measured in two steps. First for its
// tasks: the browser has CPU 1 to itself, as an operator's has one, and the clients are on the hub's CPU. The tasks are
// those since the document began, so that loading it and the first rendering of the view are among them. Then for the
// hub's CPU time: the hub has CPU 0 to itself. That time is compared with the mean of the times without a console just
// before and just after, since the machine is now faster and now slower.

import assert from 'node:assert/strict';
import { execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Console, KEY, VIEWS } from '../tests/browser/console.mjs';
import { launch } from '../tests/browser/demo.mjs';
import { freePort } from '../tests/harness/free.mjs';

const CONNECTIONS = 10_000;
const BATCH = 100;
const BATCHES_PER_S = 50;
const ROUNDS = Number(process.env.ROUNDS || 5);
const SECONDS = Number(process.env.SECONDS || 10);
// How long messages go out while a page is opened, and as long again once the view is there.
const LOOK_S = 3;
// The figures to reach.
const MOST_CPU = 1.05;
const MOST_MS = 50;
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

async function connect(port) {
  let bytes = 0;
  for (let n = 0; n < CONNECTIONS; n++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.write(`GET /push?channel=c${n}&transport=stream HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
    socket.on('data', (data) => { bytes += data.length; });
    if (n % 200 === 199) await once(socket, 'data');
  }
  return { bytes: () => bytes };
}

// Publishes for some seconds. Returns how many messages there were.
async function publish(control, agent, seconds) {
  const until = Date.now() + seconds * 1000;
  let sent = 0;
  const answered = [];
  for (let due = Date.now(); due < until; due += 1000 / BATCHES_PER_S) {
    await pause(Math.max(0, due - Date.now()));
    const batch = [];
    for (let n = 0; n < BATCH; n++) batch.push({ channel: `c${sent++ % CONNECTIONS}`, data: 'x'.repeat(100) });
    answered.push(new Promise((resolve, reject) => {
      const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' };
      const request = http.request({ port: control, agent, method: 'POST', path: '/v1/publish', headers }, (response) => {
        response.resume().on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`))));
      });
      request.on('error', reject);
      request.end(JSON.stringify(batch));
    }));
  }
  await Promise.all(answered);
  return sent;
}

// The process with the clients and the publisher. It is told for how many seconds to publish, and answers with the
// messages that were published and the bytes that came.
async function load(port, control) {
  // The page shares its CPU with it. A task of the page is not to be longer for that.
  setPriority(15);
  const clients = await connect(port);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  process.on('message', async (seconds) => {
    const before = clients.bytes();
    const sent = await publish(control, agent, seconds);
    process.send({ sent, bytes: clients.bytes() - before });
  });
  process.on('disconnect', () => process.exit());
  process.send('connected');
}

async function startLoad(hub) {
  const child = fork(fileURLToPath(import.meta.url), ['load', String(hub.port), String(hub.control)]);
  const ended = once(child, 'exit').then(() => [null]);
  const answer = async () => {
    const [answered] = await Promise.race([once(child, 'message'), ended]);
    assert.ok(answered, 'the process with the clients has ended');
    return answered;
  };
  await answer();
  const tell = async (seconds) => {
    const answered = answer();
    child.send(seconds);
    return answered;
  };
  const runOn = (cpu) => execFileSync('taskset', ['-acp', String(cpu), String(child.pid)], { stdio: 'ignore' });
  return { tell, runOn, end: () => child.disconnect() };
}

// The CPU time of a message in microseconds.
async function measure(hub, clients) {
  await clients.tell(1);
  const before = cpuOf(hub.child.pid);
  const { sent, bytes } = await clients.tell(SECONDS);
  assert.ok(bytes > 100 * sent * 0.9, 'the messages do not arrive');
  return ((cpuOf(hub.child.pid) - before) * 1000) / sent;
}

// Runs in the page, before its own scripts.
function watchTasks() {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
  }).observe({ type: 'longtask', buffered: true });
}

if (process.argv[2] === 'load') await load(Number(process.argv[3]), Number(process.argv[4]));
else await run();

// Opens the view while messages go out. Returns its page and the longest task until then, in milliseconds.
async function look(hub, clients, browser, open, view) {
  clients.runOn(0);
  const opening = clients.tell(LOOK_S);
  const page = await Console.open(browser, open, hub, { init: watchTasks });
  await page.view(view);
  if (view === 'tail') {
    await page.page.locator('main form button.primary').click();
    await page.shows('main .muted', 'a second');
  }
  await opening;
  await clients.tell(LOOK_S);
  const longest = await page.page.evaluate(() => window.longest);
  clients.runOn(1);
  return { page, longest };
}

async function run() {
  execFileSync('taskset', ['-cp', '1', String(process.pid)], { stdio: 'ignore' });
  const hub = await startHub();
  const clients = await startLoad(hub);
  const browser = await launch();
  const open = [];
  const found = new Map(VIEWS.map((view) => [view, { ratios: [], tasks: [] }]));
  const without = [];
  for (let round = 0; round < ROUNDS; round++) {
    let before = await measure(hub, clients);
    for (let at = 0; at < VIEWS.length; at++) {
      const view = VIEWS[(round + at) % VIEWS.length];
      const { page, longest } = await look(hub, clients, browser, open, view);
      const cost = await measure(hub, clients);
      await page.close();
      const after = await measure(hub, clients);
      found.get(view).ratios.push(cost / ((before + after) / 2));
      found.get(view).tasks.push(longest);
      without.push(before);
      before = after;
    }
  }
  await browser.close();
  clients.end();
  hub.child.kill('SIGTERM');
  await once(hub.child, 'exit');

  const lines = [`${CONNECTIONS} connections, ${BATCH * BATCHES_PER_S} messages a second, ${ROUNDS} rounds of ${SECONDS} s`];
  lines.push(`without the console: ${median(without).toFixed(1)} us of CPU a message`);
  const missed = [];
  for (const [view, { ratios, tasks }] of found) {
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
    const longest = Math.max(...tasks);
    lines.push(`${view}: ${median(ratios).toFixed(2)} of that (${low} to ${high}); longest task of the page ${longest.toFixed(0)} ms`);
    if (view !== 'tail' && median(ratios) > MOST_CPU) missed.push(`${view}: ${median(ratios).toFixed(3)} of the CPU time`);
    if (longest > MOST_MS) missed.push(`${view}: a task of ${longest.toFixed(0)} ms`);
  }
  lines.push(missed.length === 0 ? `reached: ${MOST_CPU} of the CPU time, ${MOST_MS} ms` : `NOT REACHED: ${missed.join('; ')}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
  mkdirSync(OUT, { recursive: true });
  writeFileSync(`${OUT}/console.txt`, `${lines.join('\n')}\n`);
  console.log(lines.join('\n'));
}
