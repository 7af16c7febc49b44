// Makes elements. Text from the hub only ever becomes text nodes and attributes, never markup.

const SVG = 'http://www.w3.org/2000/svg';
// A frame that has not come by then does not come.
const NO_FRAME_MS = 250;

// Characters that can't be seen, or that change the order of others, as an escape that can be seen. With `lines`, line
// feeds and tabs stay.
export const visible = (text, lines = false) => String(text).replace(
  lines ? /[^\P{Cc}\n\t]|[\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu
    : /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu,
  (char) => escaped(char.codePointAt(0).toString(16)),
);

const escaped = (digits) => (digits.length > 4 ? `\\u{${digits}}` : `\\u${digits.padStart(4, '0')}`);

// An element. `set` has attributes; `class`; and functions for events, by their names with `on`.
export function h(name, set = {}, ...children) {
  return fill(document.createElement(name), set, children);
}

export function svg(name, set = {}, ...children) {
  return fill(document.createElementNS(SVG, name), set, children);
}

function fill(element, set, children) {
  for (const [name, value] of Object.entries(set)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Sets the text only if it is another one, so that selections and screen readers are left alone.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A name of a channel or a user: on one line, whole in its title.
export function name(text, extra = '') {
  const shown = visible(text);
  return h('bdi', { class: `name clip ${extra}`, title: shown }, shown);
}

// The beginning or the end of a stream, in place of a message's data.
export function boundary(mark) {
  return h('pre', { class: 'boundary' }, mark === 'begin' ? 'The stream begins' : 'The stream ends');
}

export function button(text, onclick, set = {}) {
  return h('button', { type: 'button', onclick, ...set }, text);
}

// Calls `work` in a task of its own when the next frame is drawn. A page that nobody looks at has no frames: then soon.
// The function that is returned takes it back.
export function afterFrame(work) {
  let timer;
  const frame = requestAnimationFrame(() => {
    clearTimeout(timer);
    timer = setTimeout(work);
  });
  timer = setTimeout(() => {
    cancelAnimationFrame(frame);
    work();
  }, NO_FRAME_MS);
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
}

let fields = 0;

// A field with its label.
export function field(label, input, extra = '') {
  input.id ||= `field-${++fields}`;
  return h('div', { class: `field ${extra}` }, h('label', { for: input.id }, label), input);
}

// What stands in place of a list that has nothing.
export function empty(title, text, ...more) {
  return h('div', { class: 'empty' }, h('p', { class: 'title' }, title), h('p', { class: 'muted' }, text), ...more);
}

export function heading(title, ...more) {
  return h('div', { class: 'heading' }, h('h1', {}, title), ...more);
}

// So many rows are made at once. With more the page would not answer for a while: the others follow, some with each frame.
const MADE = 10;

// A table whose rows stay the same elements as long as their keys do. Each column has `title`, and `show`, which
// returns a text or a node; `number` for figures; `sort` for the name by which it can be sorted.
export class Table {
  #rows = new Map();
  #columns;
  #body = h('tbody', { role: 'rowgroup' });
  #onsort;
  #heads = new Map();
  #stop = () => {};

  constructor(caption, columns, onsort) {
    this.#columns = columns;
    this.#onsort = onsort;
    const heads = columns.map((column) => this.#head(column));
    this.element = h('div', { class: 'table', role: 'region', 'aria-label': caption, tabindex: '0' }, h(
      'table', { role: 'table' },
      h('caption', { class: 'hidden' }, caption),
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), this.#body,
    ));
  }

  #head({ title, number, sort, hidden }) {
    const content = hidden ? h('span', { class: 'hidden' }, title)
      : sort ? button(title, () => this.#onsort(sort), { class: 'sort' }) : title;
    const head = h('th', { scope: 'col', role: 'columnheader', class: number ? 'number' : '' }, content);
    if (sort) this.#heads.set(sort, head);
    return head;
  }

  // Marks the column by which the rows are sorted.
  sorted(by, order = 'descending') {
    for (const [sort, head] of this.#heads) {
      if (sort === by) head.setAttribute('aria-sort', order);
      else head.removeAttribute('aria-sort');
    }
  }

  // Shows these items, in their order. `mark` gives the class of a row.
  show(items, key, mark = () => '') {
    this.#stop();
    let made = 0;
    const wanted = new Set(items.map(key));
    for (const [known, row] of this.#rows) {
      if (!wanted.has(known)) {
        row.element.remove();
        this.#rows.delete(known);
      }
    }
    // An element loses the focus when its row is moved.
    const focused = document.activeElement;
    let place = this.#body.firstChild;
    for (const item of items) {
      if (!this.#rows.has(key(item)) && ++made > MADE) {
        this.#stop = afterFrame(() => this.show(items, key, mark));
        break;
      }
      const row = this.#row(key(item));
      // The functions of its buttons use what is newest.
      row.item = item;
      const marked = mark(item);
      if (row.element.className !== marked) row.element.className = marked;
      this.#columns.forEach((column, index) => this.#cell(row, column, index));
      if (row.element === place) place = place.nextSibling;
      else this.#body.insertBefore(row.element, place);
    }
    if (focused !== document.activeElement && this.#body.contains(focused)) focused.focus({ preventScroll: true });
  }

  #row(key) {
    if (!this.#rows.has(key)) {
      const cells = this.#columns.map(({ title, number, hidden, wide }) => h('td', {
        role: 'cell', class: [number && 'number', hidden && 'acts', wide && 'wide'].filter(Boolean).join(' '),
        'data-title': hidden ? null : title,
      }));
      this.#rows.set(key, { element: h('tr', { role: 'row' }, cells), cells, shown: [] });
    }
    return this.#rows.get(key);
  }

  #cell(row, { show, once, sign }, index) {
    const now = once ? 'once' : sign ? sign(row.item) : show(row.item);
    if (row.shown[index] === now && typeof now !== 'object') return;
    row.shown[index] = now;
    const content = once || sign ? show(row.item, () => row.item) : now;
    row.cells[index].replaceChildren(...[content].flat());
  }
}
