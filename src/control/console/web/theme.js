// Sets the theme before the page is painted. It is a plain script: a module would come too late.

'use strict';

try {
  const theme = localStorage.getItem('push-console-theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // The browser keeps nothing for this page. Then the system's theme applies.
}
