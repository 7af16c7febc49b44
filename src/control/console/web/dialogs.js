// Dialogs and short notes.

import { button, field, h } from './elements.js';

// Asks before something is done. `fields` are elements of the form, made by `field`. The result is whether it was
// confirmed and done: `act` is called while the dialog is still open, and an error is shown there.
export function confirm({ title, text, fields = [], does, act, danger = true }) {
  return new Promise((resolve) => {
    const told = h('p', { class: 'told', role: 'alert' });
    const go = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, does);
    let isDone = false;
    const form = h(
      'form', { method: 'dialog' },
      h('h2', { id: 'dialog-title' }, title), h('div', { class: 'text' }, text), ...fields, told,
      h('div', { class: 'ends' }, button('Cancel', () => dialog.close()), go),
    );
    const dialog = h('dialog', { 'aria-labelledby': 'dialog-title' }, form);
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        await act();
        isDone = true;
        dialog.close();
      } catch (error) {
        told.textContent = error.message;
        go.disabled = false;
      }
    });
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(isDone);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Shows something until it is closed.
export function show(title, ...content) {
  const dialog = h(
    'dialog', { 'aria-labelledby': 'dialog-title', class: 'large' },
    h('div', { class: 'heading' }, h('h2', { id: 'dialog-title' }, title), button('Close', () => dialog.close())), content,
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

// Says what was done, for some seconds.
export function note(text, kind = 'done') {
  const toast = h('p', { class: `toast ${kind}` }, text);
  const toasts = document.getElementById('toasts');
  toasts.append(toast);
  if (toasts.childElementCount > 3) toasts.firstChild.remove();
  setTimeout(() => toast.remove(), 6000);
}

// The fields with which connections are ended. `values` reads them.
export function ending() {
  const code = h('select', {}, h('option', { value: '4000' }, '4000: it comes back'), h('option', { value: '4403' }, '4403: it stays away'));
  const reason = h('input', { maxlength: '120', value: 'closed by the operator', autocomplete: 'off' });
  return {
    fields: [field('Close code', code), field('Reason, which the client is told', reason)],
    values: () => ({ code: code.value, reason: reason.value }),
  };
}
