// A tail: what is published, as it is published. Only the newest messages are kept in the page.

import { button, empty, field, h, heading, name, say, visible } from './elements.js';
import { brief, bytes, perSecond } from './figures.js';
import { tail } from './hub.js';

const KEPT = 200;
// New rows are made so often, and at most so many at once: of a flood only the newest ones are shown.
const PAUSE_MS = 100;
const AT_ONCE = 40;
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 });

export function open(main, { signal, parameters }) {
  const given = parameters.get('channel');
  const pattern = h('input', { value: given ?? '*', autocomplete: 'off', spellcheck: 'false', required: true });
  const words = h('input', { autocomplete: 'off', spellcheck: 'false', placeholder: 'any text' });
  const told = h('p', { class: 'told', role: 'alert' });
  const state = h('p', { class: 'muted', role: 'status' }, 'Not started');
  const nothing = empty('Nothing yet', 'Messages appear here as they are published.');
  const list = h('ol', { class: 'tail', 'aria-label': 'Messages, the newest first' });
  list.hidden = true;
  const starts = h('button', { type: 'submit', class: 'primary' }, 'Start');
  const holds = button('Pause', () => { isHeld = !isHeld; say(holds, isHeld ? 'Go on' : 'Pause'); });
  const clears = button('Clear', () => { waiting = []; list.replaceChildren(); });
  holds.disabled = true;
  const form = h(
    'form', { class: 'filters', onsubmit: (event) => { event.preventDefault(); if (ends) stop(); else start(); } },
    field('Channel, or a beginning and *', pattern), field('Only with', words), starts, holds, clears,
  );
  main.append(heading('Tail', state), form, told, nothing, list);

  let ends = null;
  let isHeld = false;
  let waiting = [];
  let [seen, lost, inSecond] = [0, 0, 0];

  const tick = setInterval(() => {
    if (!ends) return;
    const missed = lost ? ` · ${brief(lost)} lost, as they were too many` : '';
    say(state, `${perSecond(inSecond)} a second · ${brief(seen)} seen${missed}`);
    inSecond = 0;
  }, 1000);
  signal.addEventListener('abort', () => { clearInterval(tick); stop(); });

  async function start() {
    const own = new AbortController();
    [ends, isHeld, seen, lost, waiting] = [own, false, 0, 0, []];
    say(told, '');
    say(state, 'Connecting');
    say(starts, 'Stop');
    say(holds, 'Pause');
    holds.disabled = false;
    const of = pattern.value;
    const wanted = of.endsWith('*') && of !== given ? { pattern: of } : { channel: of };
    let why = 'The hub has ended the tail.';
    try {
      await tail(wanted, own.signal, (event) => {
        if (event.type === 'open') say(state, 'Waiting for the first message');
        else if (event.type === 'end') why = `The hub has ended the tail: ${event.reason}.`;
        else take(event);
      });
    } catch (error) {
      why = error.message;
    }
    if (own.signal.aborted) return;
    say(told, why);
    stop();
  }

  function stop() {
    ends?.abort();
    ends = null;
    say(starts, 'Start');
    holds.disabled = true;
    if (!signal.aborted) say(state, `Stopped · ${brief(seen)} seen`);
  }

  function take(event) {
    if (event.type === 'lost') {
      lost += event.count;
    } else {
      [seen, inSecond] = [seen + 1, inSecond + 1];
      if (words.value && !`${event.channel} ${event.event} ${event.data}`.includes(words.value)) return;
    }
    if (isHeld) return;
    if (!waiting.length) setTimeout(draw, PAUSE_MS);
    waiting.push(event);
    if (waiting.length > KEPT) waiting.shift();
  }

  function draw() {
    if (!waiting.length || signal.aborted) return;
    const rows = waiting.slice(-AT_ONCE).reverse().map(row);
    waiting = [];
    list.prepend(...rows);
    while (list.childElementCount > KEPT) list.lastChild.remove();
    [list.hidden, nothing.hidden] = [false, true];
  }
}

function row(event) {
  if (event.type === 'lost') return h('li', { class: 'lost' }, `${brief(event.count)} messages were lost to this page: it is too slow for them`);
  const whole = event.data.length > 120 || event.data.includes('\n');
  const text = visible(whole ? event.data.slice(0, 160) : event.data);
  const opens = whole ? button('More', ({ target }) => {
    const item = target.closest('li');
    const isOpen = item.classList.toggle('open');
    say(item.querySelector('pre'), isOpen ? event.data : text);
    say(target, isOpen ? 'Less' : 'More');
  }, { class: 'small' }) : null;
  return h(
    'li', {},
    h('time', {}, clock.format(event.time)),
    event.type === 'broadcast' ? h('span', { class: 'tag strong' }, 'broadcast') : name(event.channel, 'tag strong'),
    event.event ? name(event.event, 'tag') : h('span'),
    h('span', { class: 'size' }, bytes(event.size)),
    h('pre', {}, `${event.base64 ? 'base64: ' : ''}${text}${event.cut ? ' …' : ''}`), opens,
  );
}
