// The page needs no library: a plain EventSource comes back by itself, and stays away when all is there. The channel of
// the answer is in the page's address, so a reload finds it again.

const [ask, stop, state, text] = ['ask', 'stop', 'state', 'text'].map((id) => document.getElementById(id));
let source = null;

function show(channel) {
  source?.close();
  text.textContent = '';
  state.textContent = 'connecting';
  stop.disabled = false;
  source = new EventSource(`/push?since=start&channel=${encodeURIComponent(channel)}`);
  source.onmessage = ({ data }) => text.append(data);
  source.onopen = () => { state.textContent = 'writing'; };
  source.onerror = () => { if (!stop.disabled) state.textContent = 'connecting'; };
  source.addEventListener('push-begin', () => { text.textContent = ''; });
  source.addEventListener('push-gap', () => { text.textContent = '[the beginning is no longer kept] '; });
  source.addEventListener('push-end', () => {
    source.close(); // without this it comes back once more, and is told to stay away
    state.textContent = 'complete';
    stop.disabled = true;
  });
}

ask.onclick = async () => {
  const response = await fetch('/ask', { method: 'POST' });
  const answer = await response.text();
  if (response.ok) location.hash = answer;
  else state.textContent = answer;
};
stop.onclick = () => fetch(`/stop?channel=${location.hash.slice(1)}`, { method: 'POST' });
window.onhashchange = () => show(location.hash.slice(1));
if (location.hash) show(location.hash.slice(1));
