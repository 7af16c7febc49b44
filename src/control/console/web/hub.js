// Asks the hub. If it can't be reached, all that ask wait, and go on by themselves when it is back.

// An answer that is an error.
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// The hub can't be reached.
export class Gone extends Error {}

// How long an answer may take, and how long a tail may be silent: the hub writes something each 15 seconds.
const ANSWER_MS = 10_000;
const SILENT_MS = 40_000;
// Answers that stay the same until something else is asked.
const WRONG = [400, 404, 413, 414, 431];
// Whoever comes back to the login so soon would only go around in a circle.
const AGAIN_MS = 10_000;
// Where the login page has put what it got beside the cookie. Pages of other ports can't read it.
const VALUE = 'push-console-page';
// When a page was left because of a refusal.
const LEFT = 'push-console-left';
const LOADED = Date.now();

const watchers = new Set();
let isThere = null;
let leaving = false;

// Calls a function whenever the hub goes, or is there again. Its argument is false, true, or why the page can't go on.
export function watch(told) {
  watchers.add(told);
}

function note(there) {
  // A page that stays in spite of a refusal asks nothing more. Answers that are on their way change nothing.
  if (isThere === there || typeof isThere === 'string') return;
  isThere = there;
  for (const told of watchers) told(there);
}

// What the browser has kept. It may forbid to ask.
function stored(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function gone() {
  note(false);
  return new Gone('The hub can\u2019t be reached.');
}

// A signal that comes with another one, or when nothing was heard for so long. `heard` begins the time anew.
function bounded(signal, ms) {
  const ends = new AbortController();
  let timer;
  const end = () => { clearTimeout(timer); ends.abort(); };
  const heard = () => { clearTimeout(timer); timer = setTimeout(end, ms); };
  signal?.addEventListener('abort', end, { signal: ends.signal });
  heard();
  if (signal?.aborted) end();
  return { signal: ends.signal, heard, done: end };
}

// Asks, and reads the answer with `read`. Both have to be done in time.
async function send(method, path, { body, signal, headers, limit } = {}, read = () => null) {
  if (leaving) throw new Gone('The page is being left.');
  const time = limit ?? bounded(signal, ANSWER_MS);
  const value = stored('localStorage', VALUE);
  try {
    const response = await fetch(path, {
      method, body, signal: time.signal, credentials: 'same-origin', cache: 'no-store',
      headers: { ...headers, 'X-Push-Console': value ?? '1' },
    });
    // A proxy in front says so if the hub does not answer it.
    if (response.status === 502 || response.status === 504) throw gone();
    note(true);
    if (response.ok) {
      sessionStorage.removeItem(LEFT);
      return await read(response);
    }
    const { error } = await response.json().catch(() => ({}));
    const isOver = response.status === 401 || error?.code === 'origin';
    // Another page may have logged in meanwhile. Then the next request is one of its session.
    if (isOver && value === stored('localStorage', VALUE)) leave('Your session is over. Log in again.', error?.message ?? `${response.status}`);
    throw new Refused(response.status, error?.code, error?.message ?? `the hub answers ${response.status}`);
  } catch (error) {
    if (error instanceof Refused || error instanceof Gone || signal?.aborted) throw error;
    throw gone();
  } finally {
    if (!limit) time.done();
  }
}

// Shows the login page, once. `why` is the hub's answer that made it so. If it was the same a moment ago, and no request
// has succeeded since, the next page would be left as well: then this one stays, and says why.
export async function leave(told, why) {
  if (leaving) return;
  leaving = true;
  if (why && LOADED - Number(stored('sessionStorage', LEFT)) < AGAIN_MS) {
    note(`The hub refuses what this page asks, though it has a session: ${why}. Does a proxy change the requests?`);
    return;
  }
  try {
    sessionStorage.setItem(LEFT, Date.now());
    sessionStorage.setItem('push-console-told', told);
    localStorage.removeItem(VALUE);
  } catch {
    // Then the page does not say why.
  }
  // The cookie of a session that this page can't use would bring this page again.
  const signal = AbortSignal.timeout(ANSWER_MS);
  await fetch('console/logout', { method: 'POST', headers: { 'X-Push-Console': '1' }, signal }).catch(() => {});
  location.reload();
}

// The parameters of a request, without those that are empty.
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

export async function get(path, parameters = {}, signal) {
  return send('GET', `v1/${path}${query(parameters)}`, { signal }, (response) => response.json());
}

export async function act(method, path, parameters = {}, body, headers) {
  const read = (response) => (response.status === 204 ? {} : response.json());
  return send(method, `v1/${path}${query(parameters)}`, { body, headers }, read);
}

export async function metrics(signal) {
  return send('GET', 'metrics', { signal }, (response) => response.text());
}

export function logout() {
  return send('POST', 'console/logout');
}

// Calls `told` with each event of a tail until it ends, or `signal` says so.
export async function tail(parameters, signal, told) {
  const limit = bounded(signal, SILENT_MS);
  try {
    const response = await send('GET', `v1/tail${query(parameters)}`, { signal, limit }, (answer) => answer);
    await events(response, signal, limit, told);
  } finally {
    limit.done();
  }
}

async function events(response, signal, limit, told) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      throw new Gone('The connection to the hub was lost.');
    });
    if (done) return;
    limit.heard();
    const whole = (rest + value).split('\n\n');
    rest = whole.pop();
    for (const event of whole) if (event.startsWith('data: ')) told(JSON.parse(event.slice(6)));
  }
}

// Calls `work` now and then again and again, each time so long after it was done. It pauses while nobody looks at the
// page. It ends when the hub says that what is asked is wrong, or not there: otherwise each time would be one more
// refusal. The function that is returned begins anew, for something else. After any other error it goes on by itself.
export function every(ms, signal, work, failed = () => {}) {
  let timer;
  let [runs, again, rests] = [false, false, false];
  const run = async () => {
    clearTimeout(timer);
    if (runs || rests || leaving || signal.aborted || document.hidden) return;
    runs = true;
    try {
      await work(signal);
      failed(null);
    } catch (error) {
      if (signal.aborted || leaving) return;
      rests = WRONG.includes(error.status);
      failed(error);
    } finally {
      runs = false;
    }
    if (again) now();
    else if (!signal.aborted) timer = setTimeout(run, ms);
  };
  const now = () => {
    [again, rests] = [runs, false];
    run();
  };
  document.addEventListener('visibilitychange', run, { signal });
  signal.addEventListener('abort', () => clearTimeout(timer));
  run();
  return now;
}
