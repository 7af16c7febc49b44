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

const watchers = new Set();
let isThere = null;

// Calls a function whenever the hub goes, or is there again.
export function watch(told) {
  watchers.add(told);
}

function note(there) {
  if (isThere === there) return;
  isThere = there;
  for (const told of watchers) told(there);
}

async function send(method, path, { body, signal, headers } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method, body, signal, credentials: 'same-origin', cache: 'no-store', headers: { ...headers, 'X-Push-Console': '1' },
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    note(false);
    throw new Gone('The hub can\u2019t be reached.');
  }
  note(true);
  if (response.ok) return response;
  if (response.status === 401) leave('Your session is over. Log in again.');
  const { error } = await response.json().catch(() => ({}));
  throw new Refused(response.status, error?.code, error?.message ?? `the hub answers ${response.status}`);
}

// Shows the login page.
export function leave(told) {
  try {
    if (told) sessionStorage.setItem('push-console-told', told);
  } catch {
    // Then the page does not say why.
  }
  location.reload();
}

// The parameters of a request, without those that are empty.
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

export async function get(path, parameters = {}, signal) {
  return (await send('GET', `v1/${path}${query(parameters)}`, { signal })).json();
}

export async function act(method, path, parameters = {}, body, headers) {
  const response = await send(method, `v1/${path}${query(parameters)}`, { body, headers });
  return response.status === 204 ? {} : response.json();
}

export async function metrics(signal) {
  return (await send('GET', 'metrics', { signal })).text();
}

export function logout() {
  return send('POST', 'console/logout');
}

// Calls `told` with each event of a tail until it ends, or `signal` says so.
export async function tail(parameters, signal, told) {
  const response = await send('GET', `v1/tail${query(parameters)}`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      throw new Gone('The connection to the hub was lost.');
    });
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) if (event.startsWith('data: ')) told(JSON.parse(event.slice(6)));
  }
}

// Calls `work` now and then again and again, each time so long after it was done. It pauses while nobody looks at the
// page. After an error of the hub it goes on.
export function every(ms, signal, work, failed = () => {}) {
  let timer;
  let runs = false;
  const run = async () => {
    clearTimeout(timer);
    if (runs || signal.aborted || document.hidden) return;
    runs = true;
    try {
      await work(signal);
      failed(null);
    } catch (error) {
      if (signal.aborted) return;
      failed(error);
    } finally {
      runs = false;
    }
    if (!signal.aborted) timer = setTimeout(run, ms);
  };
  document.addEventListener('visibilitychange', run, { signal });
  signal.addEventListener('abort', () => clearTimeout(timer));
  run();
  return run;
}
