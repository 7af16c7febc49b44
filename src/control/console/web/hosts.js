// The hosts that are attached, and what waits for them.

import { empty, h, heading, name, say, Table } from './elements.js';
import { bytes, count, span } from './figures.js';
import { every, get } from './hub.js';

const none = () => h('span', { class: 'muted' }, '\u2013');
const waits = ({ events, requests, unsent, unanswered }) => events + requests + unsent + unanswered;

export function open(main, { signal }) {
  const told = h('p', { class: 'told', role: 'alert' });
  const found = h('p', { class: 'muted' }, '\u00a0');
  const nothing = empty('No other process is attached', 'Hosts attach at the socket of the option attach_listen. The process that the hub is in is none of them.');
  nothing.hidden = true;
  const table = new Table('Hosts', [
    { title: 'Host', show: ({ name: own }) => name(own), once: true },
    { title: 'Process', number: true, show: ({ process }) => String(process) },
    { title: 'User id', number: true, show: ({ user }) => String(user) },
    { title: 'Attached for', number: true, show: ({ attached_ms: ms }) => span(ms) },
    { title: 'Handed over', number: true, show: ({ adopted }) => count(adopted) },
    { title: 'Events', number: true, show: ({ events, takes_events: takes }) => (!takes ? 'not wanted' : events ? `${count(events)} wait` : none()), sign: (row) => `${row.takes_events} ${row.events}` },
    { title: 'Messages', number: true, show: ({ requests, request_bytes: size, unanswered }) => (requests + unanswered ? `${count(requests + unanswered)} wait, ${bytes(size)}` : none()), sign: (row) => `${row.requests} ${row.unanswered} ${row.request_bytes}` },
    { title: 'Unsent', number: true, show: ({ unsent }) => (unsent ? bytes(unsent) : none()), sign: ({ unsent }) => String(unsent) },
    { title: 'Behind', number: true, show: ({ behind_ms: ms }) => (ms ? span(ms) : none()), sign: ({ behind_ms: ms }) => String(ms) },
    { title: 'Protocol', number: true, show: ({ version }) => String(version) },
  ]);
  main.append(heading('Hosts', found), told, nothing, table.element);
  every(3000, signal, async () => {
    const { hosts } = await get('hosts', {}, signal);
    hosts.sort((a, b) => b.behind_ms - a.behind_ms || waits(b) - waits(a));
    table.show(hosts, ({ host }) => host, ({ behind_ms: ms }) => (ms > 1000 ? 'slow' : ''));
    table.element.hidden = hosts.length === 0;
    nothing.hidden = hosts.length > 0;
    say(found, `${count(hosts.length)} attached to this hub`);
  }, (error) => say(told, error?.message ?? ''));
}
