// The frame of the console: which view is shown, the theme, and whether the hub is there.

import { note } from './dialogs.js';
import { afterFrame, button, empty, h, heading, say } from './elements.js';
import * as figures from './figures.js';
import { every, leave, logout, metrics, Refused, watch } from './hub.js';

// Each view runs when it is first opened: all of them in one task would hold up the page. console.html has the browser
// fetch them before, so that they are there if the hub is not.
const VIEWS = {
  overview: () => import('./overview.js').then(draws),
  connections: () => import('./connections.js'),
  channels: () => import('./channels.js'),
  users: () => import('./users.js'),
  hosts: () => import('./hosts.js'),
  health: () => import('./health.js'),
  tail: () => import('./tail.js'),
  publish: () => import('./publish.js'),
};
const TITLES = {
  overview: 'Overview', connections: 'Connections', channels: 'Channels', users: 'Users', hosts: 'Hosts',
  health: 'Health', tail: 'Tail', publish: 'Publish',
};

const { STEP_MS } = figures;
// How many metrics are kept for charts that are not there yet.
const MOMENTS = 150;

const byId = (id) => document.getElementById(id);
const main = byId('main');
const links = Object.entries(TITLES).map(([view, title]) => h('a', { href: `#/${view}`, 'data-view': view }, title));
byId('views').append(...links);
say(byId('hub'), location.host);

// The metrics, for the charts and for the view that is shown. The charts get those from before they are there.
let first = null;
let newest = null;
let told = () => {};
let early = [];
let chart = (...moment) => { early = [...early, moment].slice(-MOMENTS); };

function draws(overview) {
  for (const moment of early) overview.take(...moment);
  [early, chart] = [[], overview.take];
  return overview;
}

every(STEP_MS, new AbortController().signal, async () => {
  const [before, next] = [newest, { samples: figures.parse(await metrics()), at: Date.now() }];
  // After a restart, or if the page slept, the rates would be wrong.
  const goesOn = before && next.at - before.at < 10 * STEP_MS
    && before.samples.get('process_start_time_seconds') === next.samples.get('process_start_time_seconds');
  newest = next;
  first ??= next;
  chart(next, goesOn ? before : null);
  told(next, goesOn ? before : null, first);
  const isUp = next.samples.get('push_engine_up') !== 0;
  const isLeaving = next.samples.get('push_draining') === 1;
  state(isLeaving ? ['warns', 'goes away'] : isUp ? ['good', 'live'] : ['bad', 'log fails']);
}, (error) => { if (error instanceof Refused) state(['bad', `answers ${error.status}`]); });

function state([kind, word]) {
  byId('state').className = `state ${kind}`;
  say(byId('state').querySelector('.word'), word);
}

watch((isThere) => {
  const gone = byId('gone');
  const isBack = isThere === true;
  gone.hidden = isBack;
  const why = isThere || 'The hub can\u2019t be reached. What is shown is what it was. The console tries again by itself.';
  say(gone, isBack ? '' : why);
  if (!isBack) state(['bad', isThere ? 'refused' : 'gone']);
});

let ends = new AbortController();

// Opens the view that the address names. Whatever needs to know where things are is done while there is no view: then the
// browser has little to look at.
function open() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const view = Object.hasOwn(VIEWS, path) ? path : 'overview';
  ends.abort();
  ends = new AbortController();
  told = () => {};
  document.title = `${TITLES[view]} · ${location.host} · libpush console`;
  main.replaceChildren();
  main.dataset.view = view;
  let current;
  for (const link of links) {
    if (link.dataset.view === view) (current = link).setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  current.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  scrollTo(0, 0);
  const { signal } = ends;
  const parameters = new URLSearchParams(query ?? '');
  VIEWS[view]().then((module) => show(module, signal, parameters), () => fails(view, signal));
}

// A view is a task of its own, behind the frame without it.
function show(module, signal, parameters) {
  if (signal.aborted) return;
  const onmetrics = (call) => {
    told = call;
    if (newest) call(newest, null, first);
  };
  const stop = afterFrame(() => module.open(main, { signal, onmetrics, parameters }));
  signal.addEventListener('abort', stop);
}

// A browser asks for a module once, whatever comes of it.
function fails(view, signal) {
  if (signal.aborted) return;
  main.replaceChildren(heading(TITLES[view]), empty(
    'This view could not be loaded', 'Its connection was lost, or the session is over.', button('Reload the page', () => location.reload()),
  ));
}

addEventListener('hashchange', () => {
  open();
  main.focus({ preventScroll: true });
});

byId('skip').addEventListener('click', () => main.focus());

byId('logout').addEventListener('click', async () => {
  try {
    await logout();
    leave('You are logged out.');
  } catch (error) {
    // The session is still there.
    note(`You are still logged in. ${error.message}`, 'bad');
  }
});

const themes = ['system', 'light', 'dark'];

function theme(next) {
  const root = document.documentElement;
  let now = root.dataset.theme ?? 'system';
  if (next) {
    now = themes[(themes.indexOf(now) + 1) % themes.length];
    if (now === 'system') delete root.dataset.theme;
    else root.dataset.theme = now;
    try {
      localStorage.setItem('push-console-theme', now);
    } catch {
      // Then it lasts as long as the page.
    }
  }
  const names = { system: 'System', light: 'Light', dark: 'Dark' };
  say(byId('theme'), names[now]);
  byId('theme').setAttribute('aria-label', `Theme: ${names[now]}`);
  byId('theme').title = `Theme: ${names[now]}`;
}

byId('theme').addEventListener('click', () => theme(true));
theme(false);
dispatchEvent(new Event('push-runs'));
// The frame is shown first.
afterFrame(() => { if (!main.dataset.view) open(); });
// The charts have no holes, so they are there soon, whatever is shown first.
const rests = window.requestIdleCallback ?? setTimeout;
rests(() => VIEWS.overview().catch(() => {}));
