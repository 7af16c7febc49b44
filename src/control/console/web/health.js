// Whether the hub and its log are well: the log, the hubs that share it, how connections end, and the options in use.

import { empty, h, heading, say, Table, visible } from './elements.js';
import { bytes, count, labelled, quantile, seconds, span } from './figures.js';
import { every, get } from './hub.js';

function facts(title, labels) {
  const figures = labels.map(() => h('dd', {}, '–'));
  const list = h('dl', { class: 'facts inside' }, labels.map((label, index) => h('div', {}, h('dt', {}, label), figures[index])));
  return {
    element: h('section', { class: 'card' }, h('h2', {}, title), list),
    say: (texts) => figures.forEach((figure, index) => say(figure, texts[index])),
  };
}

function valueOf({ value, secret, changed, means }) {
  if (secret) return changed ? 'set, not shown' : 'not set';
  return `${visible(value) || 'empty'}${means ? ` (${visible(means)})` : ''}`;
}

export function open(main, { signal, onmetrics }) {
  const hub = facts('Hub', ['Version', 'Up for', 'Memory', 'Descriptors', 'Last reload', 'Panics', 'Log lines dropped', 'A turn (p99)']);
  const log = facts('Log', ['Can publish', 'Waits to be written', 'Size', 'Not applied yet', 'Connected again', 'Epochs', 'An append', 'Lost of hosts']);
  const alone = empty('This hub shares no log', 'With an engine of Redis or NATS, the hubs that share it stand here.');
  const hubs = new Table('Hubs that share the log', [
    { title: 'Name', show: ({ name }) => visible(name ?? '–') },
    { title: 'Hub', show: ({ hub: id }) => h('code', {}, id), once: true },
    { title: 'State', show: ({ up }) => (up ? 'up' : 'not heard of'), },
    { title: 'Last heartbeat', number: true, show: ({ heard_ms: ms }) => `${span(ms)} ago` },
    { title: 'This one', show: ({ here }) => (here ? 'yes' : '') },
  ]);
  const cluster = h('section', { class: 'card list' }, h('h2', {}, 'Cluster'), alone, hubs.element);
  hubs.element.hidden = true;
  const closed = new Table('Ends of connections', [
    { title: 'Close code', show: ([code]) => code },
    { title: 'Connections', number: true, show: ([, all]) => count(all) },
  ]);
  const open = empty('No connection has ended', 'Polls do not count.');
  const ends = h('section', { class: 'card list' }, h('h2', {}, 'Ends of connections'), open, closed.element);
  const all = h('input', { type: 'checkbox', id: 'all-options' });
  const options = new Table('Options in use', [
    { title: 'Option', show: ({ name }) => h('code', {}, name), once: true },
    { title: 'Value', show: valueOf },
    { title: 'Default', show: ({ default: usual }) => visible(usual) || 'empty' },
    { title: 'Can change', show: ({ live }) => (live ? 'at a reload' : 'at a start') },
  ]);
  const plain = empty('All options have their defaults', 'Choose to see them all.');
  const settings = h(
    'section', { class: 'card list' },
    h('div', { class: 'line1' }, h('h2', {}, 'Options in use'), h(
      'span', { class: 'field check' }, all, h('label', { for: 'all-options' }, 'Also those at their defaults'),
    )),
    plain, options.element,
  );
  const told = h('p', { class: 'told', role: 'alert' });
  const state = h('p', { class: 'muted', role: 'status' }, '\u00a0');
  const pair = (...two) => h('div', { class: 'pair' }, ...two);
  main.append(heading('Health', state), told, pair(hub.element, log.element), pair(cluster, ends), settings);

  let shares = false;
  onmetrics((next, before) => {
    const value = (key) => next.samples.get(key);
    const of = (key, write) => (value(key) === undefined ? '–' : write(value(key)));
    const [appends, took] = [value('push_engine_append_seconds_count'), value('push_engine_append_seconds_sum')];
    // Only a hub that shares its log has this figure. Another one would refuse to list the hubs.
    shares = value('push_engine_lag_entries') !== undefined;
    hub.say([
      labelled(next.samples, 'push_build_info')[0]?.[0] ?? '–',
      span(next.at - value('process_start_time_seconds') * 1000),
      of('process_resident_memory_bytes', bytes),
      `${of('process_open_fds', count)} of ${of('process_max_fds', count)}`,
      value('push_reload_success') ? 'good, or none' : 'failed',
      of('push_panics_total', count), of('push_logs_dropped_total', count),
      before ? seconds(quantile(next, before, 'push_turn_seconds', 0.99)) : '–',
    ]);
    log.say([
      value('push_engine_up') ? 'yes' : 'no', of('push_engine_waiting_bytes', bytes), of('push_engine_log_bytes', bytes),
      of('push_engine_lag_entries', count), of('push_engine_reconnects_total', count), of('push_engine_fences_total', count),
      appends ? `${seconds(took / appends)} on average` : '–', of('push_lost_messages_total', count),
    ]);
    const rows = labelled(next.samples, 'push_closed_total').filter(([, some]) => some).sort((a, b) => b[1] - a[1]);
    closed.show(rows, ([code]) => code);
    [closed.element.hidden, open.hidden] = [!rows.length, rows.length > 0];
    const isWell = value('push_engine_up') && !value('push_draining');
    const away = value('push_draining') && 'The hub goes away: clients are being sent away.';
    say(state, isWell ? 'The hub takes messages and clients.' : away || 'The log can\u2019t be written, so nothing can be published.');
  });

  const refresh = every(5000, signal, async () => {
    const { options: given, channels } = await get('config', {}, signal);
    const ofChannels = channels.flatMap(({ pattern, ...set }) => Object.entries(set).map(([key, value]) => (
      { name: `channel.${visible(pattern)}.${key}`, value, secret: false, changed: true, means: null, default: 'as in general', live: true }
    )));
    const rows = [...given, ...ofChannels].filter(({ changed }) => changed || all.checked);
    options.show(rows, ({ name }) => name);
    [options.element.hidden, plain.hidden] = [!rows.length, rows.length > 0];
    const members = shares ? await get('hubs', {}, signal) : null;
    hubs.show(members?.hubs ?? [], ({ hub: id }) => id, ({ up }) => (up ? '' : 'warned'));
    [hubs.element.hidden, alone.hidden] = [!members, Boolean(members)];
  }, (error) => say(told, error?.message ?? ''));
  all.addEventListener('change', refresh);
}
