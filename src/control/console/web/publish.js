// Publishes one message.

import { confirm } from './dialogs.js';
import { empty, field, h, heading, name, say } from './elements.js';
import { bytes, count } from './figures.js';
import { act, get } from './hub.js';

const KEPT = 10;

export function open(main, { signal, parameters }) {
  const line = (set = {}) => h('input', { autocomplete: 'off', spellcheck: 'false', ...set });
  const channel = line({ value: parameters.get('channel') ?? '', list: 'known', required: true });
  const known = h('datalist', { id: 'known' });
  const user = line({ placeholder: 'none' });
  const [event, key] = [line({ placeholder: 'none' }), line({ placeholder: 'none' })];
  const data = h('textarea', { rows: '8', spellcheck: 'false' });
  const all = h('input', { type: 'checkbox', id: 'broadcast' });
  const size = h('span', { class: 'muted' }, '0 B');
  const told = h('p', { class: 'told', role: 'alert' });
  const nothing = empty('Nothing was published here', 'The last messages of this page stand here, with their positions.');
  const list = h('ol', { class: 'published', 'aria-label': 'Published from this page' });
  const go = h('button', { type: 'submit', class: 'primary' }, 'Publish');
  const encoder = new TextEncoder();
  data.addEventListener('input', () => say(size, bytes(encoder.encode(data.value).length)));
  // A message goes to one of the three.
  const choose = () => {
    user.disabled = all.checked;
    channel.disabled = all.checked || user.value !== '';
  };
  all.addEventListener('change', choose);
  user.addEventListener('input', choose);
  data.addEventListener('keydown', (pressed) => {
    if (pressed.key === 'Enter' && (pressed.ctrlKey || pressed.metaKey)) form.requestSubmit();
  });
  const form = h(
    'form', { class: 'card publish', onsubmit: submit },
    field('Channel', channel), known, field('User, in place of a channel', user),
    h('div', { class: 'field check whole' }, all, h('label', { for: 'broadcast' }, 'To everybody, on no channel')),
    field('Event', event), field('Key, so that it is published once', key), field('Data', data, 'whole'),
    told, h('div', { class: 'ends' }, size, h('span', { class: 'muted' }, 'Ctrl+Enter publishes'), go),
  );
  main.append(heading('Publish'), h('div', { class: 'pair' }, form, h('section', { class: 'card' }, h('h2', {}, 'Published from this page'), nothing, list)));
  get('channels', { limit: 200 }, signal).then(
    ({ channels }) => known.replaceChildren(...channels.map((of) => h('option', { value: of.channel }))), () => {},
  );

  async function submit(submitted) {
    submitted.preventDefault();
    say(told, '');
    const set = { event: event.value, key: key.value };
    const toAll = all.checked;
    const to = toAll ? {} : user.value ? { user: user.value } : { channel: channel.value };
    // The text goes as it is: without a type it is text.
    const send = () => act('POST', toAll ? 'broadcast' : 'publish', { ...to, ...set }, data.value);
    go.disabled = true;
    try {
      let answer;
      if (toAll) {
        const isSure = await confirm({
          title: 'Publish to everybody?', text: 'Each client of each hub gets it, whatever its channels are.', does: 'Publish', danger: false,
          act: async () => { answer = await send(); },
        });
        if (!isSure) return;
      } else {
        answer = await send();
      }
      nothing.hidden = true;
      const reached = toAll ? 'everybody' : `${count(answer.subscribers)} ${answer.subscribers === 1 ? 'subscriber' : 'subscribers'}`;
      list.prepend(h(
        'li', {}, toAll ? h('span', { class: 'tag strong' }, 'broadcast') : name(to.user ?? to.channel, 'tag strong'),
        h('span', {}, `${to.user ? 'a user, ' : ''}to ${reached}`), h('code', { class: 'muted' }, answer.id),
      ));
      if (list.childElementCount > KEPT) list.lastChild.remove();
    } catch (error) {
      say(told, error.message);
    } finally {
      go.disabled = false;
    }
  }
}
