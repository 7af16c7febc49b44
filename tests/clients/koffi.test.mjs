// A host in Node: the library through koffi, with a log function in JavaScript. Node runs that function on its own
// thread, and can't do so while that thread is inside push_stop.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from '../harness/host.mjs';

const HOST = fileURLToPath(new URL('../harness/koffi.mjs', import.meta.url));

// It runs in a separate process: a stop that never returns holds up all of Node, also timers and the bounds of tests.
async function host(way) {
  const bound = { timeout: 120_000, killSignal: 'SIGKILL' };
  const { stdout } = await promisify(execFile)(process.execPath, [HOST, way], bound);
  return JSON.parse(stdout);
}

test('koffi: push_stop returns though the log function needs its thread, and a second one ends it', async () => {
  const { stopped, again, third, lines } = await host('sync');
  assert.equal(stopped, 'TIMEOUT');
  assert.equal(again, 'OK');
  assert.equal(third, 'CLOSED');
  assert.ok(lines > 0);
});

test('koffi: push_stop on another thread tells the log everything', async () => {
  const { stopped, again, last } = await host('async');
  assert.equal(stopped, 'OK');
  assert.equal(again, 'CLOSED');
  assert.equal(last, 'stopped');
});
