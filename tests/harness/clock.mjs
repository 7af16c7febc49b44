// A clock for push.js. Timers of four seconds and more wait until the test lets the time pass. Shorter ones, as those
// before the next attempt, run by themselves. Import this first.

const { setTimeout: later, clearTimeout: never } = globalThis;
const LONG = 4000;
const timers = new Set();
let now = 0;

globalThis.setTimeout = (body, ms, ...rest) => {
  if (!(ms >= LONG)) return later(body, ms, ...rest);
  const timer = { at: now + ms, ms, run: () => body(...rest), unref() {} };
  timers.add(timer);
  clock.set++;
  return timer;
};
globalThis.clearTimeout = (timer) => (timers.delete(timer) ? undefined : never(timer));

export const clock = {
  // How many timers were set so far.
  set: 0,

  // Whether a timer of this length runs.
  has(ms) {
    return [...timers].some((timer) => timer.ms === ms);
  },

  pass(ms) {
    now += ms;
    const due = [...timers].filter((timer) => timer.at <= now).sort((one, other) => one.at - other.at);
    for (const timer of due) if (timers.delete(timer)) timer.run();
  },
};
