// A clock for push.js. Timers of four seconds and more wait until the test lets the time pass: on a busy machine an answer
// may take longer than push.js waits for it. Shorter ones run by themselves, and so do the pauses before the next attempt,
// which are random, so no whole numbers. Import this first.

const { setTimeout: later, clearTimeout: never } = globalThis;
const LONG = 4000;
// The harness looks at what it waits for as often as this, in milliseconds. That is no wait of push.js.
const LOOK = 10;
const timers = new Set();
let now = 0;

globalThis.setTimeout = (body, ms, ...rest) => {
  if (!(ms >= LONG) || !Number.isInteger(ms)) return later((...given) => { clock.waited += ms > LOOK ? ms : 0; body(...given); }, ms, ...rest);
  const timer = { at: now + ms, ms, run: () => body(...rest), unref() {} };
  timers.add(timer);
  clock.set++;
  return timer;
};
globalThis.clearTimeout = (timer) => (timers.delete(timer) ? undefined : never(timer));

export const clock = {
  // How many timers were set so far.
  set: 0,
  // How many milliseconds were waited for by the shorter timers so far, one after the other.
  waited: 0,

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
