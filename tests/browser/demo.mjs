// The demo page in Chromium, as its user has it: panes, buttons, what stands in the lists.

import { chromium } from 'playwright-core';

export const TRANSPORTS = ['ws', 'sse', 'poll', 'stream'];

// Without these it looks for servers of its makers at every start.
const QUIET = [
  '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync',
];
// For what must come: long, as the machine may be busy.
export const MS = 120_000;

// With a profile of its own, empty at first and gone at the end.
export function launch(options) {
  return chromium.launch({ executablePath: '/usr/bin/chromium', chromiumSandbox: false, args: QUIET, ...options });
}

export class Demo {
  // What the console says that is not information, and what scripts throw.
  complaints = [];
  exceptions = [];

  static async open(browser, url) {
    const demo = new Demo();
    // Storage, cache and connections of its own.
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

  // What a pane shows, as [position, payload], gaps as 'gap'; waits until the message at `last` is there.
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
