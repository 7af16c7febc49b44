// The channels: who listens, what is kept, what was lost; and on request who is busiest.

import { confirm, note, show } from './dialogs.js';
import { boundary, button, empty, field, h, heading, name, say, Table, visible } from './elements.js';
import { brief, bytes, count, perSecond } from './figures.js';
import { act, every, get, tail } from './hub.js';

const SHOWN = 100;
const MEASURED_MS = 5000;
const ORDERS = {
  channel: (a, b) => (a.channel < b.channel ? -1 : 1),
  subscribers: (a, b) => (b.subscribers ?? -1) - (a.subscribers ?? -1),
  messages: (a, b) => (b.messages ?? -1) - (a.messages ?? -1),
  bytes: (a, b) => (b.bytes ?? -1) - (a.bytes ?? -1),
  lost: (a, b) => lost(b) - lost(a),
  busy: (a, b) => (b.busy?.messages ?? 0) - (a.busy?.messages ?? 0),
};

// Of a channel that is not listed nothing is known but its rate.
const lost = (channel) => (channel.slow_closed ?? 0) + (channel.dropped ?? 0) + (channel.replaced ?? 0);
// Browsers take these names for steps in a path, however they are written.
const path = (channel) => {
  if (channel === '.' || channel === '..') throw new Error(`A browser can\u2019t ask for a channel named ${channel}. pushctl can.`);
  return `channels/${encodeURIComponent(channel)}`;
};

export function open(main, { signal, parameters }) {
  const prefix = h('input', {
    value: parameters.get('prefix') ?? '', placeholder: 'all', autocomplete: 'off', spellcheck: 'false',
  });
  // What was typed counts when it is complete.
  let begins = prefix.value;
  const told = h('p', { class: 'told', role: 'alert' });
  const found = h('p', { class: 'muted' }, '\u00a0');
  const nothing = empty('No channel', 'A channel exists while somebody listens to it, or while a message of it is kept.');
  nothing.hidden = true;
  let [order, listed, more] = ['subscribers', [], false];
  let busy = new Map();
  const table = new Table('Channels', [
    { title: 'Channel', sort: 'channel', show: ({ channel }) => name(channel), once: true },
    { title: 'Subscribers', number: true, sort: 'subscribers', show: subscribers, sign: (row) => String(row.subscribers) },
    { title: 'Busy', number: true, sort: 'busy', show: rate, sign: ({ busy: of }) => `${of?.messages} ${of?.bytes}` },
    { title: 'Kept', number: true, sort: 'messages', show: ({ messages: kept }) => count(kept) },
    { title: 'Size', number: true, sort: 'bytes', show: (row) => bytes(row.bytes) },
    {
      title: 'Lost', number: true, sort: 'lost', show: losses,
      sign: (row) => `${row.slow_closed} ${row.dropped} ${row.replaced}`,
    },
    { title: 'Actions', hidden: true, once: true, show: (row) => {
      const of = encodeURIComponent(row.channel);
      return [
        h('a', { class: 'button small', href: `#/users?channel=${of}`, 'aria-label': 'Users on this channel' }, 'Users'),
        h('a', { class: 'button small', href: `#/tail?channel=${of}`, 'aria-label': 'Tail of this channel' }, 'Tail'),
        button('Messages', () => messages(row.channel), { class: 'small', 'aria-label': 'Messages that are kept of this channel' }),
        button('Clear', () => clear(row.channel), { class: 'small', 'aria-label': 'Clear what is kept of this channel' }),
      ];
    } },
  ], (by) => { order = by; draw(); });
  const measures = button('Measure who is busiest', measure);
  const form = h(
    'form', { class: 'filters', onsubmit: (event) => { event.preventDefault(); take(); refresh(); } },
    field('Names that begin with', prefix), h('button', { type: 'submit' }, 'Show'), measures,
  );
  main.append(heading('Channels', found), form, told, nothing, table.element);

  function take() {
    if (begins === prefix.value) return;
    // What was measured is of other names.
    [begins, busy] = [prefix.value, new Map()];
  }

  // The hub lists a thousand channels at most, in no order. Busy ones stand here in any case.
  function draw() {
    const known = new Set(listed.map(({ channel }) => channel));
    const others = [...busy.keys()].filter((channel) => more && !known.has(channel)).map((channel) => ({ channel }));
    const rows = [...listed, ...others].map((row) => ({ ...row, busy: busy.get(row.channel) }));
    rows.sort(ORDERS[order]);
    table.sorted(order, order === 'channel' ? 'ascending' : 'descending');
    table.show(rows.slice(0, SHOWN), ({ channel }) => channel, (row) => (lost(row) > 0 ? 'warned' : ''));
    table.element.hidden = rows.length === 0;
    nothing.hidden = rows.length > 0;
    const shown = rows.length > SHOWN ? `, ${SHOWN} shown` : '';
    const all = `${count(rows.length)} ${rows.length === 1 ? 'channel' : 'channels'}`;
    say(found, `${more ? `${count(listed.length)} of more, in no order: narrow by prefix` : all}${shown}`);
  }

  const refresh = every(3000, signal, async () => {
    ({ channels: listed, more } = await get('channels', { prefix: begins }, signal));
    draw();
  }, (error) => say(told, error?.message ?? ''));

  // Looks on for some seconds. The hub counts no rates for each channel: that would cost something at each publish.
  async function measure() {
    measures.disabled = true;
    take();
    const [seen, ends] = [new Map(), new AbortController()];
    signal.addEventListener('abort', () => ends.abort());
    let missed = 0;
    const began = performance.now();
    const left = () => Math.ceil((MEASURED_MS - (performance.now() - began)) / 1000);
    const tick = setInterval(() => say(measures, `Measuring … ${left()} s`), 250);
    const timer = setTimeout(() => ends.abort(), MEASURED_MS);
    try {
      await tail({ pattern: `${begins}*` }, ends.signal, ({ type, channel, size, count: some }) => {
        if (type === 'lost') missed += some;
        if (type !== 'message') return;
        const of = seen.get(channel) ?? { messages: 0, bytes: 0 };
        seen.set(channel, { messages: of.messages + 1, bytes: of.bytes + size });
      });
    } catch (error) {
      if (!ends.signal.aborted) note(error.message, 'bad');
    }
    clearInterval(tick);
    clearTimeout(timer);
    if (signal.aborted) return;
    const seconds = (performance.now() - began) / 1000;
    busy = new Map([...seen].map(([key, of]) => [key, { messages: of.messages / seconds, bytes: of.bytes / seconds }]));
    const were = seen.size === 1 ? 'channel was' : 'channels were';
    const low = `${brief(missed)} messages were too many to be measured. The shares are right, the rates are too low.`;
    if (missed) note(low, 'bad');
    else note(`${count(seen.size)} ${were} busy in ${seconds.toFixed(0)} seconds.`);
    order = 'busy';
    draw();
    say(measures, 'Measure again');
    measures.disabled = false;
  }

  async function clear(channel) {
    const isDone = await confirm({
      title: 'Delete what is kept?', does: 'Delete',
      text: ['Messages of ', name(channel), ' that are kept for clients that come back. They will see a gap.'],
      act: async () => act('DELETE', path(channel)),
    });
    if (!isDone) return;
    note('What was kept is deleted.');
    refresh();
  }

  async function messages(channel) {
    try {
      const { messages: kept } = await get(`${path(channel)}/messages`, { last: 20 }, signal);
      const items = kept.map((message) => h(
        'li', {}, h('code', { class: 'muted' }, message.id),
        message.event ? h('span', { class: 'tag' }, visible(message.event)) : '', content(message),
      ));
      const none = empty('Nothing is kept', 'See the options of history.');
      show(['Newest messages of ', name(channel)], items.length ? h('ol', { class: 'messages' }, items) : none);
    } catch (error) {
      note(error.message, 'bad');
    }
  }
}

// What is kept of a channel at one position.
function content({ type, data, base64 }) {
  if (type === 'begin' || type === 'end') return boundary(type);
  return h('pre', {}, type === 'gap' ? 'a gap: earlier ones are gone' : `${base64 ? 'base64: ' : ''}${visible(data)}`);
}

function subscribers({ channel, subscribers: all }) {
  if (all === undefined) return h('span', { class: 'muted' }, 'not listed');
  const href = `#/connections?channel=${encodeURIComponent(channel)}`;
  return h('a', { href, 'aria-label': `${count(all)}, show their connections` }, count(all));
}

function rate({ busy }) {
  if (!busy) return h('span', { class: 'muted' }, '–');
  return [h('b', {}, `${perSecond(busy.messages)} /s`), h('span', { class: 'below' }, `${bytes(busy.bytes)}/s`)];
}

function losses(row) {
  if (!lost(row)) return h('span', { class: 'muted' }, '–');
  const parts = [[row.slow_closed, 'closed'], [row.dropped, 'dropped'], [row.replaced, 'replaced']];
  return parts.filter(([some]) => some).map(([some, word]) => h('span', { class: 'below' }, `${brief(some)} ${word}`));
}
