// Sets the theme before the page is painted, and looks whether all parts of the page come. It is a plain script: a module
// would come too late, or not at all.

'use strict';

try {
  const theme = localStorage.getItem('push-console-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // The browser keeps nothing for this page. Then the system's theme applies.
}

// A browser tries each part once. If the connection of one is lost, for example since the network of this machine changes,
// none of the modules runs, and the page would stay empty without a word. So it is loaded again. This says so if that does
// not help, or if a part does not come.
{
  const LOADS = 'push-console-loads';
  const [MOST, PAUSE_MS, ANSWER_MS, LATE_MS] = [3, 1000, 10_000, 20_000];
  let [isHere, isBroken, told] = [false, false, null];

  const say = (text) => {
    told = document.getElementById('gone') ?? document.getElementById('told');
    if (told) [told.textContent, told.hidden] = [text, false];
  };
  const late = setTimeout(() => say('This page is still being loaded. If that goes on, reload it.'), LATE_MS);

  // How often it was loaded again. The browser may forbid to keep that.
  const loads = (next) => {
    try {
      if (next !== undefined) sessionStorage.setItem(LOADS, next);
      return Number(sessionStorage.getItem(LOADS));
    } catch {
      return MOST;
    }
  };

  const again = async () => {
    try {
      await fetch('console/icon.svg', { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
    } catch {
      // A page that is loaded while the hub is away would be the browser's own, which does not come back by itself.
      say('The hub can\u2019t be reached. The console tries again by itself.');
      setTimeout(again, PAUSE_MS);
      return;
    }
    const next = loads() + 1;
    if (next <= MOST && loads(next) === next) location.reload();
    else say('A part of this page can\u2019t be loaded. Reload it, or look whether a proxy holds something back.');
  };

  addEventListener('error', ({ target }) => {
    const isPart = target.tagName === 'SCRIPT' || target.rel === 'stylesheet';
    if (!isPart || isHere || isBroken) return;
    isBroken = true;
    clearTimeout(late);
    setTimeout(again, PAUSE_MS);
  }, true);

  // The modules say that they run.
  addEventListener('push-runs', () => {
    isHere = true;
    clearTimeout(late);
    if (loads() > 0) loads(0);
    if (told) [told.textContent, told.hidden] = ['', told.id === 'gone'];
  });
}
