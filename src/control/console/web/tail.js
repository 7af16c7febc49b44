// A tail: what is published, as it is published. Only the newest messages are kept in the page.

import { boundary, button, empty, field, h, heading, name, say, visible } from './elements.js';
import { brief, bytes, perSecond } from './figures.js';
import { Gone, tail } from './hub.js';

const KEPT = 200;
// New rows are made so often, and at most so many at once: of a flood only the newest ones are shown.
const PAUSE_MS = 100;
const AT_ONCE = 40;
// A tail ends so long after nobody looks at the page.
const HIDDEN_MS = 60_000;
// How soon it begins again if the hub is gone.
const AGAIN_MS = 2000;
const clock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3,
});

export function open(main, { signal, parameters }) {
  const given = parameters.get('channel');
  const pattern = h('input', { value: given ?? '*', autocomplete: 'off', spellcheck: 'false', required: true });
  const words = h('input', { autocomplete: 'off', spellcheck: 'false', placeholder: 'any text' });
  const told = h('p', { class: 'told', role: 'alert' });
  const state = h('p', { class: 'muted' }, 'Not started');
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
  let wanted = {};
  let waiting = [];
  let [seen, lost, inSecond] = [0, 0, 0];
  // It was ended without having been told to, and begins again.
  let rests = false;
  // Nothing has come yet, and the state says what is waited for.
  let isQuiet = true;
  let [hides, retries] = [0, 0];

  const tick = setInterval(() => {
    if (!ends || rests || isQuiet) return;
    const missed = lost ? ` · ${brief(lost)} lost, as they were too many` : '';
    say(state, `${perSecond(inSecond)} a second · ${brief(seen)} seen${missed}`);
    inSecond = 0;
  }, 1000);
  signal.addEventListener('abort', () => { clearInterval(tick); stop(); });
  document.addEventListener('visibilitychange', look, { signal });

  function look() {
    clearTimeout(hides);
    if (!ends) return;
    if (document.hidden) hides = setTimeout(() => rest('Stopped while nobody looked'), HIDDEN_MS);
    else if (rests) follow();
  }

  // Ends the tail until the page is seen, or the hub is there. What comes meanwhile is missing in the list.
  function rest(why) {
    ends.abort();
    rests = true;
    say(state, `${why} · ${brief(seen)} seen`);
    draw();
    if (list.childElementCount && list.firstChild.textContent !== why) list.prepend(h('li', { class: 'lost' }, why));
  }

  function restUntilBack() {
    rest('The hub was gone');
    if (!document.hidden) retries = setTimeout(follow, AGAIN_MS);
  }

  function start() {
    [isHeld, seen, lost, waiting] = [false, 0, 0, []];
    say(starts, 'Stop');
    say(holds, 'Pause');
    holds.disabled = false;
    const of = pattern.value;
    wanted = of.endsWith('*') && of !== given ? { pattern: of } : { channel: of };
    ends = new AbortController();
    follow();
  }

  async function follow() {
    clearTimeout(retries);
    if (!ends) return;
    const own = new AbortController();
    [ends, rests, isQuiet] = [own, false, true];
    say(told, '');
    say(state, 'Connecting');
    let [why, isGone] = ['The hub has ended the tail.', false];
    try {
      await tail(wanted, own.signal, (event) => {
        if (event.type === 'open') say(state, 'Waiting for the first message');
        else if (event.type !== 'end') take(event);
        else [why, isGone] = [`The hub has ended the tail: ${event.reason}.`, event.reason.startsWith('the hub ends')];
      });
    } catch (error) {
      isGone = error instanceof Gone;
      why = error.message;
    }
    if (own.signal.aborted) return;
    if (isGone) {
      restUntilBack();
    } else {
      say(told, why);
      stop();
    }
  }

  function stop() {
    clearTimeout(hides);
    clearTimeout(retries);
    ends?.abort();
    [ends, rests] = [null, false];
    say(starts, 'Start');
    holds.disabled = true;
    if (!signal.aborted) say(state, `Stopped · ${brief(seen)} seen`);
  }

  function take(event) {
    isQuiet = false;
    if (event.type === 'lost') {
      lost += event.count;
    } else {
      [seen, inSecond] = [seen + 1, inSecond + 1];
      // A broadcast has no channel, and not each message an event.
      const texts = [event.channel, event.event, event.data ?? event.mark].filter(Boolean);
      if (words.value && !texts.join(' ').includes(words.value)) return;
    }
    if (isHeld) return;
    if (!waiting.length) setTimeout(draw, PAUSE_MS);
    waiting.push(event);
    if (waiting.length > KEPT) waiting.shift();
  }

  function draw() {
    if (!waiting.length || signal.aborted) return;
    const newest = waiting.slice(-AT_ONCE).reverse();
    waiting = [];
    list.prepend(...newest.map(row));
    while (list.childElementCount > KEPT) list.lastChild.remove();
    [list.hidden, nothing.hidden] = [false, true];
  }
}

function row(event) {
  if (event.type === 'lost') return h('li', { class: 'lost' }, `${brief(event.count)} messages were lost to this page: it is too slow for them`);
  if (event.type === 'mark') return line(event, boundary(event.mark));
  const whole = event.data.length > 120 || event.data.includes('\n');
  const text = visible(whole ? event.data.slice(0, 160) : event.data);
  const opens = whole ? button('More', ({ target }) => {
    const item = target.closest('li');
    const isOpen = item.classList.toggle('open');
    say(item.querySelector('pre'), isOpen ? visible(event.data, true) : text);
    say(target, isOpen ? 'Less' : 'More');
  }, { class: 'small' }) : null;
  return line(event, h('pre', {}, `${event.base64 ? 'base64: ' : ''}${text}${event.cut ? ' …' : ''}`), opens);
}

// A row with what stands before the content: the time, the channel, the event and the size, if it has these.
function line(event, ...content) {
  return h(
    'li', {},
    h('time', {}, clock.format(event.time)),
    event.type === 'broadcast' ? h('span', { class: 'tag strong' }, 'broadcast') : name(event.channel, 'tag strong'),
    event.event ? name(event.event, 'tag') : h('span'),
    h('span', { class: 'size' }, event.size === undefined ? '' : bytes(event.size)), ...content,
  );
}
