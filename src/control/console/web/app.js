// The frame of the console: which view is shown, the theme, and whether the hub is there.

import { note } from './dialogs.js';
import { say, h } from './elements.js';
import * as figures from './figures.js';
import { every, leave, logout, metrics, Refused, watch } from './hub.js';
import * as channels from './channels.js';
import { STEP_MS } from './charts.js';
import * as connections from './connections.js';
import * as health from './health.js';
import * as hosts from './hosts.js';
import * as overview from './overview.js';
import * as publish from './publish.js';
import * as tail from './tail.js';
import * as users from './users.js';

const VIEWS = { overview, connections, channels, users, hosts, health, tail, publish };
const TITLES = {
  overview: 'Overview', connections: 'Connections', channels: 'Channels', users: 'Users', hosts: 'Hosts',
  health: 'Health', tail: 'Tail', publish: 'Publish',
};

const byId = (id) => document.getElementById(id);
const main = byId('main');
const links = Object.entries(TITLES).map(([view, title]) => h('a', { href: `#/${view}`, 'data-view': view }, title));
byId('views').append(...links);
say(byId('hub'), location.host);

// The metrics, for the charts and for the view that is shown.
let first = null;
let newest = null;
let told = () => {};

every(STEP_MS, new AbortController().signal, async () => {
  const [before, next] = [newest, { samples: figures.parse(await metrics()), at: Date.now() }];
  // After a restart, or if the page slept, the rates would be wrong.
  const goesOn = before && next.at - before.at < 10 * STEP_MS
    && before.samples.get('process_start_time_seconds') === next.samples.get('process_start_time_seconds');
  newest = next;
  first ??= next;
  overview.take(next, goesOn ? before : null);
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

function open() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const view = Object.hasOwn(VIEWS, path) ? path : 'overview';
  ends.abort();
  ends = new AbortController();
  told = () => {};
  for (const link of links) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  links.find((link) => link.dataset.view === view).scrollIntoView({ block: 'nearest', inline: 'nearest' });
  document.title = `${TITLES[view]} · ${location.host} · libpush console`;
  main.replaceChildren();
  main.dataset.view = view;
  scrollTo(0, 0);
  const onmetrics = (call) => {
    told = call;
    if (newest) call(newest, null, first);
  };
  VIEWS[view].open(main, { signal: ends.signal, onmetrics, parameters: new URLSearchParams(query ?? '') });
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
open();
