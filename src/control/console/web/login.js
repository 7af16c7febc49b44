// The login. The key goes into the body of one request, and nowhere else.

// hub.js reads it under this name.
const VALUE = 'push-console-page';
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

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  button.disabled = true;
  told.textContent = '';
  try {
    const headers = { 'X-Push-Console': '1' };
    const response = await fetch('console/login', { method: 'POST', headers, body: key.value, credentials: 'same-origin' });
    if (response.ok) {
      const { page } = await response.json();
      told.textContent = await keeps(page);
      if (!told.textContent) {
        key.value = '';
        location.reload();
        return;
      }
    } else {
      told.textContent = await why(response);
    }
  } catch {
    told.textContent = 'The hub can\u2019t be reached. Try again.';
  }
  button.disabled = false;
  key.select();
});

// Keeps what the page sends beside the cookie, and tries whether the browser keeps the cookie. Says so if it does not.
async function keeps(page) {
  const no = 'The browser keeps no session for this page. Allow it cookies and site data.';
  try {
    localStorage.setItem(VALUE, page);
  } catch {
    return no;
  }
  const tried = await fetch('v1/stats', { headers: { 'X-Push-Console': page }, credentials: 'same-origin', cache: 'no-store' });
  if (tried.status === 401) return no;
  return tried.ok ? '' : why(tried);
}

async function why(response) {
  if (response.status === 401) return 'This is not the key.';
  if (response.status === 429) return 'There were too many wrong keys. Try again in some seconds.';
  const { error } = await response.json().catch(() => ({}));
  return error?.message ?? `The hub answers ${response.status}.`;
}
