// The page of answer.c. The channel of the answer is in the page's address, so a reload finds it again.

import { connect } from './push.js';

const [ask, stop, state, text] = ['ask', 'stop', 'state', 'text'].map((id) => document.getElementById(id));
let push = null;

function show(channel) {
  push?.close();
  text.textContent = '';
  stop.disabled = true;
  let complete = false; // then the connection does not matter any more
  push = connect('/push', {
    channels: [channel],
    since: 'start', // all of the answer, whenever this page comes
    onbegin() {
      complete = false;
      text.textContent = '';
    },
    onmessage({ data }) { text.append(data); },
    ongap() { text.textContent = '[the beginning is no longer kept] '; },
    onend() {
      complete = true;
      state.textContent = 'complete';
      stop.disabled = true;
    },
    onstate(now) {
      if (complete) return;
      stop.disabled = now !== 'open';
      if (now !== 'closed') state.textContent = now === 'open' ? 'writing' : 'connecting';
    },
  });
}

ask.onclick = async () => {
  const response = await fetch('/ask', { method: 'POST' });
  if (!response.ok) {
    state.textContent = `the server answers ${response.status}`;
    return;
  }
  location.hash = (await response.json()).channel;
};
stop.onclick = () => push.send(`stop ${location.hash.slice(1)}`);
window.onhashchange = () => show(location.hash.slice(1));
if (location.hash) show(location.hash.slice(1));
