// The connections of this hub, the slow ones first.

import { confirm, ending, note } from './dialogs.js';
import { button, empty, field, h, heading, name, say, Table, visible } from './elements.js';
import { bytes, count, span } from './figures.js';
import { act, every, get } from './hub.js';

const PAGE = 100;

export function open(main, { signal, parameters }) {
  const input = (key, hint) => h('input', { value: parameters.get(key) ?? '', placeholder: hint, autocomplete: 'off', spellcheck: 'false' });
  const [user, channel, address] = [input('user', 'any user'), input('channel', 'any channel'), input('address', 'any address')];
  const only = h('input', { type: 'checkbox', id: 'only-slow', checked: parameters.get('slow') === '1' });
  const told = h('p', { class: 'told', role: 'alert' });
  const found = h('p', { class: 'muted' }, '\u00a0');
  const nothing = empty('No connection', 'There is none that matches, or nobody is connected to this hub.');
  nothing.hidden = true;
  const table = new Table('Connections', [
    { title: 'Waiting', number: true, show: waiting, sign: ({ waiting, behind_ms, catching_up }) => `${waiting} ${behind_ms} ${catching_up}` },
    { title: 'User', show: ({ user }) => (user === null ? h('span', { class: 'muted' }, '–') : name(user)), sign: ({ user }) => `${user}` },
    { title: 'Address', show: ({ address }) => address ?? '–' },
    { title: 'Transport', show: ({ transport, adopted }) => `${transport}${adopted ? ', handed over' : ''}` },
    { title: 'Connected', number: true, show: ({ connected_ms: ms }) => coarse(ms), sign: ({ connected_ms: ms }) => coarse(ms) },
    { title: 'Channels', wide: true, show: channels, sign: ({ channels, names }) => `${channels} ${names}` },
    { title: 'Connection', number: true, show: ({ id }) => h('code', {}, id), once: true },
    { title: 'Actions', hidden: true, once: true, show: (row, now) => [
      button('Close', () => close(now()), { class: 'small', 'aria-label': `Close connection ${row.id}` }),
      row.user === null ? null : button('Kick user', () => kick(now()), { class: 'small', 'aria-label': `Kick user ${visible(row.user)}` }),
    ].filter(Boolean) },
  ]);
  const pages = [''];
  let next = '';
  const back = button('Back', () => { pages.pop(); refresh(); });
  const more = button('Next page', () => { pages.push(next); refresh(); });
  const form = h(
    'form', { class: 'filters', onsubmit: (event) => { event.preventDefault(); restart(); } },
    field('User', user), field('Channel', channel), field('Address', address),
    h('div', { class: 'field check' }, only, h('label', { for: 'only-slow' }, 'Only slow')),
    h('button', { type: 'submit' }, 'Show'),
  );
  only.addEventListener('change', restart);
  main.append(heading('Connections', found), form, told, nothing, table.element, h('div', { class: 'pages' }, back, more));

  // What was typed counts when it is complete.
  const typed = () => ({ user: user.value, channel: channel.value, address: address.value });
  let filter = typed();

  const refresh = every(3000, signal, async () => {
    const after = pages.at(-1);
    const slow = after ? { connections: [], count: 0 } : await get('connections', { ...filter, slow: 1, limit: PAGE }, signal);
    const all = only.checked ? slow : await get('connections', { ...filter, after, limit: PAGE }, signal);
    const known = new Set(slow.connections.map(({ id }) => id));
    const rows = [...slow.connections, ...all.connections.filter(({ id }) => !known.has(id))];
    table.show(rows, ({ id }) => id, ({ waiting }) => (waiting > 0 ? 'slow' : ''));
    table.element.hidden = rows.length === 0;
    nothing.hidden = rows.length > 0;
    next = all.after ?? '';
    back.hidden = pages.length < 2;
    more.hidden = only.checked || !all.more;
    const behind = slow.count ? ` · ${count(slow.count)} behind` : '';
    say(found, `${count(all.count)} ${all.count === 1 ? 'connection' : 'connections'}${only.checked ? ' behind' : behind}`);
  }, (error) => {
    say(told, error?.message ?? '');
    if (error?.status === 404) table.show([], ({ id }) => id);
  });

  function restart() {
    filter = typed();
    pages.length = 1;
    refresh();
  }

  async function close({ id, user: owner }) {
    const { fields, values } = ending();
    const of = owner === null ? '' : ' of the user ';
    const isDone = await confirm({
      title: 'Close this connection?', does: 'Close it', fields, text: ['Connection ', h('code', {}, id), of, owner === null ? '' : name(owner), '.'],
      act: () => act('POST', 'close', { connection: id, ...values() }),
    });
    if (!isDone) return;
    note(`Connection ${id} is closed.`);
    refresh();
  }

  async function kick({ user: owner }) {
    if (await kickUser(owner)) refresh();
  }
}

// Asks, and closes all connections of a user. Returns whether it was done.
export async function kickUser(user) {
  const { fields, values } = ending();
  let answer;
  const isDone = await confirm({
    title: 'Close all connections of this user?', does: 'Kick the user', fields, text: ['User ', name(user), '. With a log that hubs share, the others do it, too.'],
    act: async () => { answer = await act('POST', 'disconnect', { user, ...values() }); },
  });
  if (isDone) note(`${count(answer.closed)} ${answer.closed === 1 ? 'connection is' : 'connections are'} closed here${answer.others ? '; the other hubs will follow' : ''}.`);
  return isDone;
}

// Most rows stay as they are from one answer to the next.
function coarse(ms) {
  return span(ms < 60_000 ? ms - (ms % 10_000) : ms - (ms % 60_000));
}

function waiting({ waiting: size, behind_ms: ms, catching_up: isNew }) {
  if (!size && !isNew) return h('span', { class: 'muted' }, '–');
  const since = isNew ? `catching up, ${span(ms)}` : span(ms);
  return [h('b', {}, bytes(size)), h('span', { class: 'below' }, since)];
}

function channels({ channels: all, names }) {
  const rest = all - names.length;
  return [...names.map((one) => name(one, 'tag')), rest > 0 ? h('span', { class: 'muted' }, ` and ${count(rest)} more`) : ''];
}
