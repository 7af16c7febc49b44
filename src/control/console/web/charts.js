// Charts of the last minutes. Each has a title, the newest figure, and what it was at the place that is pointed at.

import { h, say, svg } from './elements.js';
import { STEP_MS } from './figures.js';

// How much of the past a chart shows.
const SPAN_MS = 300_000;
// The spans that are shown, as many figures of them: a page that was just opened shows a short one.
const SPANS = [30, 60, SPAN_MS / STEP_MS];
const [WIDTH, HEIGHT] = [600, 120];

// The next round number, for the top of an axis.
function round(value, base) {
  if (!(value > 0)) return 1;
  const unit = base === 1024 ? 1024 ** Math.floor(Math.log2(value) / 10) : 1;
  const size = unit * 10 ** Math.floor(Math.log10(value / unit));
  return [1, 2, 2.5, 5, 10].map((step) => step * size).find((step) => step >= value * 0.999_999);
}

export class Chart {
  #lines;
  #series;
  #write;
  #paths;
  #cursor = svg('line', { class: 'cursor', y1: 0, y2: HEIGHT, hidden: true });
  #top = h('span');
  #middle = h('span');
  #figure = h('b', { class: 'figure' }, '–');
  #note = h('span', { class: 'note' });
  #plot;
  #at = null;
  #least;
  #base;
  #points = SPANS[0];
  #from = h('span');

  // `lines` are [label, class]; the first one has an area below it. `write` makes a text of a figure. The axis never
  // ends below `least`.
  constructor(title, lines, write, { least = 1, base = 10 } = {}) {
    this.#lines = lines;
    this.#write = write;
    [this.#least, this.#base] = [least, base];
    this.#series = lines.map(() => []);
    this.#paths = lines.map(([, kind]) => svg('path', { class: `line ${kind}` }));
    this.area = svg('path', { class: `area ${lines[0][1]}` });
    const grid = [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) => svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y, y2: y }));
    const drawing = svg(
      'svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      grid, this.area, this.#paths, this.#cursor,
    );
    this.#plot = h('div', { class: 'plot', role: 'img', 'aria-label': `${title}: nothing yet` }, drawing);
    this.#plot.addEventListener('pointermove', (event) => this.#point(event));
    this.#plot.addEventListener('pointerleave', () => this.#point(null));
    const legend = lines.length < 2 ? null : h(
      'span', { class: 'legend' }, lines.map(([label, kind]) => h('span', { class: `key ${kind}` }, label)),
    );
    this.title = title;
    say(this.#note, '\u00a0');
    this.element = h(
      'section', { class: 'card chart' },
      h('div', { class: 'line1' }, h('h2', {}, title), legend), h('div', { class: 'line2' }, this.#figure, this.#note),
      h('div', { class: 'axes' }, this.#plot, h('div', { class: 'y', 'aria-hidden': 'true' }, this.#top, this.#middle, h('span', {}, '0'))),
      h('div', { class: 'x', 'aria-hidden': 'true' }, this.#from, h('span', {}, 'now')),
    );
  }

  // Adds a figure of each line. NaN: there is none, and the line has a gap.
  add(figures, note) {
    this.#series.forEach((series, index) => {
      series.push(figures[index]);
      if (series.length > SPANS.at(-1) + 1) series.shift();
    });
    this.newest = note;
    this.draw();
  }

  draw() {
    const all = this.#series.flat().filter(Number.isFinite);
    const top = round(Math.max(this.#least, ...all), this.#base);
    const points = SPANS.find((some) => this.#series[0].length <= some + 1) ?? SPANS.at(-1);
    this.#points = points;
    say(this.#from, `${(points * STEP_MS) / 60_000} min ago`);
    say(this.#top, this.#write(top));
    say(this.#middle, this.#write(top / 2));
    const x = (index, length) => WIDTH - ((length - 1 - index) / points) * WIDTH;
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 4);
    this.#series.forEach((series, index) => {
      let d = '';
      let area = '';
      let from = -1;
      series.forEach((value, at) => {
        const isFigure = Number.isFinite(value);
        const place = isFigure ? `${x(at, series.length).toFixed(1)} ${y(value).toFixed(1)}` : '';
        if (isFigure) d += from < 0 ? `M${place}` : `L${place}`;
        if (isFigure && from < 0) [from, area] = [at, `${area}M${x(at, series.length).toFixed(1)} ${HEIGHT}L${place}`];
        else if (isFigure) area += `L${place}`;
        const ends = from >= 0 && (!isFigure || at === series.length - 1);
        if (!ends) return;
        area += `V${HEIGHT}Z`;
        from = -1;
      });
      this.#paths[index].setAttribute('d', d);
      if (index === 0) this.area.setAttribute('d', area);
    });
    this.#say();
  }

  #point(event) {
    const box = this.#plot.getBoundingClientRect();
    const back = event ? Math.round(((box.right - event.clientX) / box.width) * this.#points) : -1;
    const length = this.#series[0].length;
    this.#at = back >= 0 && back < length ? back : null;
    this.#cursor.toggleAttribute('hidden', this.#at === null);
    const place = WIDTH - ((this.#at ?? 0) / this.#points) * WIDTH;
    this.#cursor.setAttribute('x1', place);
    this.#cursor.setAttribute('x2', place);
    this.#say();
  }

  // Writes the newest figures, or those that are pointed at.
  #say() {
    const figures = this.#series.map((series) => series.at(-1 - (this.#at ?? 0)));
    say(this.#figure, this.#write(figures[0]));
    const others = this.#lines.slice(1).map(([label], index) => `${label} ${this.#write(figures[index + 1])}`);
    const ago = this.#at ? `${Math.round((this.#at * STEP_MS) / 1000)} s ago` : this.newest;
    say(this.#note, [...others, ago].filter(Boolean).join(' · ') || '\u00a0');
    const newest = this.#series.map((series) => series.at(-1));
    const words = this.#lines.map(([label], index) => `${label} ${this.#write(newest[index])}`);
    const best = Math.max(0, ...this.#series[0].filter(Number.isFinite));
    this.#plot.setAttribute('aria-label', `${this.title}: ${words.join(', ')}; at most ${this.#write(best)} in the last 5 minutes`);
  }
}
