// The overview: what the hub does now, and did in the last minutes.

import { Chart } from './charts.js';
import { afterFrame, empty, h, heading, name, say, Table } from './elements.js';
import * as figures from './figures.js';
import { every, get } from './hub.js';

const SENT = 'push_publish_latency_seconds';

// They stay while other views are shown, and so do their figures.
const charts = {
  published: new Chart('Published', [['a second', 'c1']], figures.perSecond, { least: 5 }),
  delivered: new Chart('Delivered', [['a second', 'c2']], figures.perSecond, { least: 5 }),
  sent: new Chart('Sent', [['a second', 'c3']], figures.bytes, { least: 1024, base: 1024 }),
  latency: new Chart('Latency', [['p50', 'c1'], ['p99', 'c4']], figures.seconds, { least: 0.0005 }),
  connections: new Chart('Connections', [['open', 'c2']], figures.count, { least: 5 }),
  waiting: new Chart('Waiting for slow clients', [['bytes', 'c4']], figures.bytes, { least: 1024, base: 1024 }),
};

// Takes the metrics of a moment, and those before them if the time between can be measured. The page reads them all the
// time, so that the charts have no holes.
export function take(next, before) {
  const value = (key) => next.samples.get(key) ?? 0;
  const of = (kind) => value(`push_connections{transport="${kind}"}`);
  const kinds = [['websocket', 'WebSocket'], ['sse', 'SSE'], ['stream', 'stream'], ['poll', 'poll'], ['none', 'other']];
  const shown = kinds.filter(([kind]) => of(kind)).map(([kind, label]) => `${figures.brief(of(kind))} ${label}`);
  charts.connections.add([kinds.reduce((sum, [kind]) => sum + of(kind), 0)], shown.join(' · '));
  const slow = value('push_outboxes');
  charts.waiting.add([value('push_outbox_bytes')], slow ? `${figures.count(slow)} behind` : 'nobody is behind');
  const rate = (key) => (before ? figures.rate(next, before, key) : NaN);
  charts.published.add([rate('push_published_total')], 'messages a second');
  charts.delivered.add([rate('push_deliveries_total')], 'messages a second');
  charts.sent.add([rate('push_bytes_sent_total')], 'a second');
  const [p50, p99] = [0.5, 0.99].map((part) => (before ? figures.quantile(next, before, SENT, part) : NaN));
  charts.latency.add([p50, p99], Number.isNaN(p50) ? 'no messages' : 'publish to socket');
}

export function open(main, { signal, onmetrics }) {
  const facts = ['Version', 'Up for', 'CPU', 'Memory', 'Descriptors', 'Channels', 'Kept', 'Hosts'].map((label) => {
    const figure = h('dd', {}, '–');
    return { label, figure, element: h('div', {}, h('dt', {}, label), figure) };
  });
  const slow = new Table('The slowest clients', [
    { title: 'User', show: ({ user }) => (user === null ? h('span', { class: 'muted' }, '–') : name(user)), sign: ({ user }) => `${user}` },
    { title: 'Address', show: ({ address }) => address ?? '–' },
    { title: 'Waiting', number: true, show: ({ waiting }) => figures.bytes(waiting) },
    { title: 'Behind', number: true, show: ({ behind_ms: ms }) => figures.span(ms) },
  ]);
  const calm = empty('Nobody is behind', 'Each client takes its messages as fast as they come.');
  const failed = h('p', { class: 'told', role: 'alert' });
  const slowest = h(
    'section', { class: 'card list' },
    h('div', { class: 'line1' }, h('h2', {}, 'Slowest clients'), h('a', { href: '#/connections?slow=1' }, 'all')),
    failed, calm, slow.element,
  );
  const refused = new Table('Refusals in this page\u2019s time', [
    { title: 'Reason', show: ([reason]) => reason.replaceAll('_', ' ') },
    { title: 'Since it was opened', number: true, show: ([, grown]) => figures.count(grown) },
    { title: 'In all', number: true, show: ([, , all]) => figures.count(all) },
  ]);
  calm.hidden = true;
  const none = empty('Nothing was refused', 'No client, control request or host was turned away since this page was opened.');
  none.hidden = true;
  const refusals = h('section', { class: 'card list' }, h('div', { class: 'line1' }, h('h2', {}, 'Refusals')), none, refused.element);
  const place = h('div', { class: 'charts' });
  main.append(
    heading('Overview'), h('dl', { class: 'facts' }, facts.map(({ element }) => element)), place,
    h('div', { class: 'pair' }, slowest, refusals),
  );
  // They are the most to draw, so that is a task of its own.
  const stop = afterFrame(() => place.append(...Object.values(charts).map((chart) => chart.element)));
  signal.addEventListener('abort', stop);
  const toggle = (list, instead, isEmpty) => {
    list.element.hidden = isEmpty;
    instead.hidden = !isEmpty;
  };
  onmetrics((next, before, first) => {
    const value = (key) => next.samples.get(key);
    const cpu = before ? figures.rate(next, before, 'process_cpu_seconds_total') * 100 : NaN;
    const texts = [
      figures.labelled(next.samples, 'push_build_info')[0]?.[0] ?? '–',
      figures.span(next.at - value('process_start_time_seconds') * 1000),
      Number.isFinite(cpu) ? `${cpu.toFixed(cpu < 10 ? 1 : 0)} %` : '–',
      figures.bytes(value('process_resident_memory_bytes')),
      figures.count(value('process_open_fds')),
      figures.count(value('push_channels')),
      figures.bytes(value('push_history_bytes')),
      figures.count(value('push_hosts')),
    ];
    facts.forEach(({ figure }, index) => say(figure, texts[index]));
    const rows = figures.labelled(next.samples, 'push_refusals_total').map(([reason, all]) => (
      [reason, all - (first.samples.get(`push_refusals_total{reason="${reason}"}`) ?? 0), all]
    )).filter(([, grown]) => grown > 0).sort((a, b) => b[1] - a[1]).slice(0, 5);
    refused.show(rows, ([reason]) => reason);
    toggle(refused, none, rows.length === 0);
  });
  every(3000, signal, async () => {
    const { connections } = await get('connections', { slow: 1, limit: 5 }, signal);
    slow.show(connections, ({ id }) => id);
    toggle(slow, calm, connections.length === 0);
  }, (error) => say(failed, error?.message ?? ''));
}
