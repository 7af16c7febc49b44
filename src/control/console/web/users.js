// The users on a channel.

import { kickUser } from './connections.js';
import { confirm, note } from './dialogs.js';
import { button, empty, field, h, heading, name, say, Table, visible } from './elements.js';
import { count } from './figures.js';
import { act, every, get } from './hub.js';

const PAGE = 200;

export function open(main, { signal, parameters }) {
  const channel = h('input', {
    value: parameters.get('channel') ?? '', list: 'known', required: true, autocomplete: 'off', spellcheck: 'false',
  });
  const known = h('datalist', { id: 'known' });
  const told = h('p', { class: 'told', role: 'alert' });
  const found = h('p', { class: 'muted' }, '\u00a0');
  const nothing = h('div');
  const pages = [''];
  let last = '';
  const table = new Table('Users', [
    { title: 'User', show: ({ user }) => name(user), once: true },
    { title: 'Connections', number: true, show: ({ connections }) => count(connections) },
    { title: 'Actions', hidden: true, once: true, show: ({ user }) => [
      h('a', {
        class: 'button small', href: `#/connections?user=${encodeURIComponent(user)}`, 'aria-label': 'Connections of this user',
      }, 'Connections'),
      button('Take channel away', () => revoke(user), { class: 'small' }),
      button('Kick', async () => { if (await kickUser(user)) refresh(); }, { class: 'small', 'aria-label': 'Kick this user' }),
    ] },
  ]);
  const back = button('Back', () => { pages.pop(); refresh(); });
  const more = button('Next page', () => { pages.push(last); refresh(); });
  const form = h(
    'form', { class: 'filters', onsubmit: show },
    field('Channel', channel), known, h('button', { type: 'submit' }, 'Show'),
  );
  main.append(heading('Users', found), form, told, nothing, table.element, h('div', { class: 'pages' }, back, more));

  const refresh = every(3000, signal, async () => {
    const { channels } = await get('channels', { limit: 200 }, signal);
    if (known.childElementCount !== channels.length) {
      known.replaceChildren(...channels.map((of) => h('option', { value: of.channel })));
    }
    const of = parameters.get('channel');
    if (!of) return draw([], 'Which channel?', 'Users are listed by channel. Choose one of those that exist.', channels);
    const { users, count: all, anonymous, more: isMore } = await get('users', { channel: of, after: pages.at(-1), limit: PAGE }, signal);
    last = users.at(-1)?.user ?? '';
    draw(users, 'Nobody with a name', anonymous ? 'All that are on this channel are connected without a user.' : 'Nobody is on this channel now.');
    [back.hidden, more.hidden] = [pages.length < 2, !isMore];
    const others = anonymous ? ` · ${count(anonymous)} without a name` : '';
    return say(found, `${count(all)} ${all === 1 ? 'user' : 'users'} on ${visible(of)}${others}`);
  }, (error) => {
    if (error?.status === 404) draw([], 'No such channel', 'Nobody listens to it, and nothing of it is kept. Show looks again.');
    say(told, error && error.status !== 404 ? error.message : '');
  });

  function show(event) {
    event.preventDefault();
    if (channel.value === parameters.get('channel')) refresh();
    else location.hash = `#/users?channel=${encodeURIComponent(channel.value)}`;
  }

  function draw(users, title, text, choose = []) {
    table.show(users, ({ user }) => user);
    table.element.hidden = users.length === 0;
    nothing.hidden = users.length > 0;
    [back.hidden, more.hidden] = [true, true];
    const key = `${title} ${choose.map((of) => of.channel)}`;
    if (nothing.dataset.key === key) return;
    nothing.dataset.key = key;
    const links = choose.slice(0, 40).map(({ channel: one }) => (
      h('a', { class: 'button small', href: `#/users?channel=${encodeURIComponent(one)}` }, name(one))
    ));
    nothing.replaceChildren(empty(title, text, h('p', { class: 'choice' }, links)));
  }

  async function revoke(user) {
    const of = parameters.get('channel');
    const reason = h('input', { maxlength: '120', autocomplete: 'off' });
    const isDone = await confirm({
      title: 'Take the channel away?', does: 'Take it away', fields: [field('Reason, which the client is told', reason)],
      text: ['The connections of ', name(user), ' lose ', name(of), '. They stay connected.'],
      act: () => act('POST', 'revoke', { user, channel: of, reason: reason.value }),
    });
    if (!isDone) return;
    note('The channel is taken away.');
    refresh();
  }
}
