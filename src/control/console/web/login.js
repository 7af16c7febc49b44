// The login. The key goes into the body of one request, and nowhere else.

// hub.js reads it under this name.
const VALUE = 'push-console-page';
// How long an answer may take. The hub holds those to wrong keys back for five seconds.
const ANSWER_MS = 15_000;
// How often something is asked if its connection is lost, and the pause before the next time.
const [TRIES, PAUSE_MS] = [3, 300];
const form = document.getElementById('login');
const key = document.getElementById('key');
const told = document.getElementById('told');
const button = form.querySelector('button');

document.getElementById('hub').textContent = location.host;
try {
  told.textContent = sessionStorage.getItem('push-console-told') ?? '';
  sessionStorage.removeItem('push-console-told');
} catch {
  // Then it is not said why the session is over.
}

dispatchEvent(new Event('push-runs'));

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  button.disabled = true;
  told.textContent = '';
  try {
    const answer = await ask('console/login', '1', { method: 'POST', body: key.value });
    if (answer.ok) {
      told.textContent = await keeps(answer.body.page);
      if (!told.textContent) {
        key.value = '';
        location.reload();
        return;
      }
    } else {
      told.textContent = why(answer);
    }
  } catch (error) {
    told.textContent = error.name === 'TimeoutError' ? 'The hub does not answer. Try again.' : 'The hub can\u2019t be reached. Try again.';
  }
  button.disabled = false;
  key.select();
});

// Asks, and reads the whole answer. If its connection is lost, asks again: the session of an answer that was lost is used
// by nobody.
async function ask(path, value, set) {
  for (let left = TRIES - 1; ; left--) {
    try {
      const response = await fetch(path, {
        ...set, headers: { 'X-Push-Console': value }, credentials: 'same-origin', cache: 'no-store',
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const text = await response.text();
      return { ok: response.ok, status: response.status, body: read(text) };
    } catch (error) {
      if (error.name === 'TimeoutError' || left === 0) throw error;
      await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
    }
  }
}

// A proxy may answer with something else than JSON.
function read(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

// Keeps what the page sends beside the cookie, and tries whether the browser keeps the cookie. Says so if it does not.
async function keeps(page) {
  const no = 'The browser keeps no session for this page. Allow it cookies and site data.';
  try {
    localStorage.setItem(VALUE, page);
  } catch {
    return no;
  }
  const tried = await ask('v1/stats', page);
  if (tried.status === 401) return no;
  return tried.ok ? '' : why(tried);
}

function why({ status, body }) {
  if (status === 401) return 'This is not the key.';
  if (status === 429) return 'There were too many wrong keys. Try again in some seconds.';
  return body.error?.message ?? `The hub answers ${status}.`;
}
