// The demo page in Chromium, as a user sees it: panes, buttons, and the texts in the lists.

import { chromium } from 'playwright-core';

export const TRANSPORTS = ['ws', 'sse', 'poll', 'stream'];

// Without these Chromium contacts servers of its makers at every start.
const QUIET = [
  '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync',
];
// How long to wait for something that must come. It is long, as the machine may be busy.
export const MS = 120_000;

// The browser has a new profile, which is removed at the end. `args` are more flags.
export function launch({ args = [], ...options } = {}) {
  return chromium.launch({
    executablePath: '/usr/bin/chromium', chromiumSandbox: false, args: [...QUIET, ...args], timeout: MS, ...options,
  });
}

export class Demo {
  // Lines of the console that are not information, and errors that scripts throw.
  complaints = [];
  exceptions = [];

  static async open(browser, url) {
    const demo = new Demo();
    // The page has its own storage, cache and connections.
    demo.context = await browser.newContext({ viewport: { width: 1440, height: 860 } });
    demo.page = await demo.context.newPage();
    demo.page.setDefaultTimeout(MS);
    demo.page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) demo.complaints.push(message.text());
    });
    demo.page.on('pageerror', (error) => demo.exceptions.push(error.stack));
    await demo.page.goto(url);
    await demo.allAre('open');
    return demo;
  }

  close() {
    return this.context.close();
  }

  pane(transport) {
    return this.page.locator(`section[data-transport="${transport}"]`);
  }

  // Presses the pane's button, which breaks or reconnects.
  press(transport) {
    return this.pane(transport).locator('button.break').click();
  }

  is(transport, state) {
    return this.page.locator(`section[data-transport="${transport}"][data-state="${state}"]`).waitFor();
  }

  async allAre(state) {
    for (const transport of TRANSPORTS) await this.is(transport, state);
  }

  // The entries of a pane, as [position, payload], gaps as 'gap'. It waits until the message at `last` is there.
  async shown(transport, last) {
    const pane = this.pane(transport);
    if (last) await pane.locator(`li[data-id="${last}"]`).first().waitFor();
    return pane.locator('ol.messages > li:not(.note)').evaluateAll((items) => items.map((item) => (
      item.classList.contains('gap') ? 'gap' : [item.dataset.id, item.querySelector('.data').textContent]
    )));
  }

  // How many messages a pane marks as recovered.
  recovered(transport) {
    return this.pane(transport).locator('li.recovered').count();
  }

  async publish(text, button = '#publish') {
    await this.page.fill('#text', text);
    await this.page.click(button);
  }
}
