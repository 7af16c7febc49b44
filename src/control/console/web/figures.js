// Reads the hub's metrics, and writes figures.

// How often the metrics are read.
export const STEP_MS = 2000;

// The samples of Prometheus' text format: a number for each name with its labels. The labels of the hub have no escapes.
export function parse(text) {
  const samples = new Map();
  for (const line of text.split('\n')) {
    const end = line.lastIndexOf(' ');
    if (end > 0 && line[0] !== '#') samples.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return samples;
}

// The samples of a name with one label, as pairs of the label's value and the number.
export function labelled(samples, name) {
  const found = [];
  for (const [key, value] of samples) {
    if (key.startsWith(`${name}{`)) found.push([key.slice(key.indexOf('"') + 1, key.lastIndexOf('"')), value]);
  }
  return found;
}

// How much a counter has grown in a second. NaN: it began anew.
export function rate(now, before, name) {
  const grown = (now.samples.get(name) ?? 0) - (before.samples.get(name) ?? 0);
  return grown < 0 ? NaN : grown / ((now.at - before.at) / 1000);
}

// A quantile, in seconds, of what a histogram has got between two times. NaN: it has got nothing.
export function quantile(now, before, name, part) {
  const buckets = labelled(now.samples, `${name}_bucket`).map(([bound, count]) => (
    [Number(bound.replace('+Inf', 'Infinity')), count - (before.samples.get(`${name}_bucket{le="${bound}"}`) ?? 0)]
  ));
  const wanted = (buckets.at(-1)?.[1] ?? 0) * part;
  if (!(wanted > 0)) return NaN;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= wanted) return bound === Infinity ? low : low + (bound - low) * ((wanted - below) / (count - below));
    [low, below] = [bound, count];
  }
  return low;
}

// A number of at most four digits, with a unit.
function short(value, base, units) {
  if (!Number.isFinite(value)) return '–';
  let unit = 0;
  while (Math.abs(value) >= base * 0.9995 && unit < units.length - 1) [value, unit] = [value / base, unit + 1];
  const digits = unit === 0 && Number.isInteger(value) ? 0 : Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)}${units[unit]}`;
}

export const count = (value) => (Number.isFinite(value) ? value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, ',') : '–');
export const brief = (value) => (Math.abs(value) < 10_000 ? count(value) : short(value, 1000, ['', 'k', 'M', 'G', 'T']));
export const perSecond = (value) => (value > 0 && value < 10 ? value.toFixed(1) : brief(value));
export const bytes = (value) => short(value, 1024, [' B', ' KB', ' MB', ' GB', ' TB']);

export function seconds(value) {
  if (!Number.isFinite(value)) return '–';
  if (value <= 0) return '0 s';
  if (value < 0.000_999_5) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(value < 0.009_995 ? 2 : value < 0.0995 ? 1 : 0)} ms`;
  return short(value, 1e9, [' s']);
}

// A long time: its two largest units.
export function span(ms) {
  if (!(ms >= 1000)) return ms > 0 ? `${Math.round(ms)} ms` : '0 s';
  const parts = [[86_400_000, 'd'], [3_600_000, 'h'], [60_000, 'min'], [1000, 's']];
  const first = parts.findIndex(([size]) => ms >= size);
  return parts.slice(first, first + 2).map(([size, unit], place) => {
    const value = Math.floor((place ? ms % parts[first][0] : ms) / size);
    return value || !place ? `${value} ${unit}` : '';
  }).join(' ').trim();
}
