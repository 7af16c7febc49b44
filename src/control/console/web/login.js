// The login. The key goes into the body of one request, and nowhere else.

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
      key.value = '';
      location.reload();
      return;
    }
    told.textContent = await why(response);
  } catch {
    told.textContent = 'The hub can\u2019t be reached. Try again.';
  }
  button.disabled = false;
  key.select();
});

async function why(response) {
  if (response.status === 401) return 'This is not the key.';
  if (response.status === 429) return 'There were too many wrong keys. Try again in some seconds.';
  const { error } = await response.json().catch(() => ({}));
  return error?.message ?? `The hub answers ${response.status}.`;
}
