// A host in Node, by koffi: it starts a server with a log function in JavaScript, stops it, and prints the result.
// `node koffi.mjs sync|async`

import koffi from 'koffi';
import { fileURLToPath } from 'node:url';

const STAGED = fileURLToPath(new URL('../../target/stage/lib/libpush.so', import.meta.url));
const library = koffi.load(process.env.LIBPUSH ?? STAGED);
koffi.proto('void log_fn(void *user_data, int32_t level, const char *line)');
const config_new = library.func('void *push_config_new()');
const config_set = library.func(
  'int push_config_set(void *config, const char *name, const char *value, void *err, size_t len)',
);
const config_free = library.func('void push_config_free(void *config)');
const on_log = library.func('void push_config_on_log(void *config, log_fn *function, void *user_data, void *free)');
const start = library.func('int push_start(void *config, _Out_ void **out, void *err, size_t len)');
const push_stop = library.func('int push_stop(void *server, uint32_t drain_ms)');

const NAMES = { 0: 'OK', '-7': 'TIMEOUT', '-6': 'CLOSED' };
const lines = [];
const log = koffi.register((_data, _level, line) => { lines.push(line); }, koffi.pointer('log_fn'));

const config = config_new();
const handle = [null];
config_set(config, 'listen', '127.0.0.1:0', null, 0);
on_log(config, log, null, null);
const started = start(config, handle, null, 0);
config_free(config);
if (started !== 0) throw new Error(`push_start: ${started}`);

const stop = (ms) => push_stop(handle[0], ms);
const stop_elsewhere = (ms) => new Promise((resolve, reject) => {
  push_stop.async(handle[0], ms, (error, status) => (error ? reject(error) : resolve(status)));
});
const turn_of_the_loop = () => new Promise((resolve) => { setTimeout(resolve, 10); });

// The thread of the log function may come late: after a stop it calls no function any more.
while (lines.length === 0) await turn_of_the_loop();
const said = {};
if (process.argv[2] === 'sync') {
  said.stopped = stop(100);
  do {
    await turn_of_the_loop();
    said.again = stop(0);
  } while (NAMES[said.again] === 'TIMEOUT');
  said.third = stop(0);
} else {
  // The log function can run while this waits.
  said.stopped = await stop_elsewhere(60_000);
  said.again = stop(0);
}
koffi.unregister(log);
const named = Object.fromEntries(Object.entries(said).map(([when, status]) => [when, NAMES[status] ?? status]));
console.log(JSON.stringify({ ...named, lines: lines.length, last: lines.at(-1) }));
