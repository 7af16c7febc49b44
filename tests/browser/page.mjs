// A page with only push.js, and a record of its calls.

import assert from 'node:assert/strict';
import { MS } from './demo.mjs';

export class Page {
  // Opens at `host.proxy`, or at `host.direct`. The function that ends it is put on `open`. `tokens` are functions. They
  // are called one after the other, each time a token is needed; after the last one there is no token. With `clock` the
  // test can make the page's time pass. `late` are times in milliseconds for which push.js waits for an answer. A busy
  // machine may need longer, so here they take a minute more.
  static async connect(browser, open, host, options, { tokens, clock = false, late = [4000] } = {}) {
    const client = new Page();
    const context = await browser.newContext();
    client.context = context;
    client.page = await context.newPage();
    client.page.setDefaultTimeout(MS);
    if (clock) await client.page.clock.install();
    await client.page.addInitScript((late) => {
      const { setTimeout } = window;
      window.setTimeout = (body, ms, ...rest) => setTimeout(body, late.includes(ms) ? ms + 60_000 : ms, ...rest);
    }, late);
    const exceptions = [];
    client.page.on('pageerror', (error) => exceptions.push(error.stack));
    open.push(async () => {
      await context.close();
      assert.deepEqual(exceptions, []);
    });
    if (tokens) await client.page.exposeFunction('nextToken', () => tokens.shift()?.() ?? null);
    client.load = async () => {
      await client.page.goto(`http://127.0.0.1:${host.proxy.port}/style.css`); // the origin, without the demo
      await client.#connect(options, tokens !== undefined, host.direct ?? '/push');
    };
    await client.load(); // again: the page is loaded anew
    return client;
  }

  #connect(...what) {
    return this.page.evaluate(async ([options, hasTokens, url]) => {
      const { connect } = await import('/push.js');
      window.told = [];
      const tell = (...what) => window.told.push(what.filter((part) => part !== undefined));
      window.push = connect(url, {
        ...options,
        token: hasTokens ? () => window.nextToken() : undefined,
        onmessage: ({ channel, data }) => tell(channel ?? 'all', data),
        ongap: ({ channel }) => tell('gap', channel),
        onerror: ({ type, code }) => tell(type, code),
        onstate: (state, why) => tell(state, why?.code),
        onpresence: ({ channel, off }) => tell('presence', channel, off),
        onjoin: ({ channel, user, info }) => tell('join', channel, user, info),
        onleave: ({ channel, user }) => tell('leave', channel, user),
      });
    }, what);
  }

  // Waits until the page knows that these users are in the channel.
  knows(channel, ...users) {
    const isKnown = ([channel, wanted]) => {
      const members = window.push.presence(channel);
      return members?.users && [...members.users.keys()].sort().join() === wanted;
    };
    return this.page.waitForFunction(isKnown, [channel, users.sort().join()], { timeout: MS, polling: 10 });
  }

  // Waits for this call, and returns all calls until it.
  async until(...last) {
    const told = await this.page.waitForFunction((last) => {
      const at = window.told.findIndex((what) => JSON.stringify(what) === last);
      return at >= 0 && window.told.splice(0, at + 1);
    }, JSON.stringify(last), { timeout: MS, polling: 10 });
    return told.jsonValue();
  }

  // Waits until it is over, and returns all calls until then.
  async end() {
    const isOver = () => window.told.some(([what]) => what === 'closed') && window.told.splice(0);
    const told = await this.page.waitForFunction(isOver, null, { timeout: MS, polling: 10 });
    return told.jsonValue();
  }

  do(method, ...words) {
    return this.page.evaluate(([method, words]) => window.push[method](...words), [method, words]);
  }

  transport() {
    return this.page.evaluate(() => window.push.transport);
  }

  // Waits for this transport. Where a stream has been taken for held back, since the machine is busy, all are tried anew.
  async comesTo(transport, proxy) {
    for (;;) {
      const now = await this.transport();
      if (now === transport) return;
      if (now === 'poll' && transport === 'stream') {
        proxy.cut();
        await this.page.evaluate("dispatchEvent(new Event('online'))");
        while ((await this.transport()) === 'poll') await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  // How many of these calls were not taken yet.
  count(...what) {
    return this.page.evaluate((what) => (
      window.told.filter((told) => JSON.stringify(told) === what).length
    ), JSON.stringify(what));
  }

  // Lets at most this much of the page's time pass, until the condition holds. Then it waits for data that is still on
  // its way, since that does not follow the page's clock.
  async passing(ms, condition) {
    for (let passed = 0; !(await condition()); passed += 500) {
      if (passed < ms) await this.page.clock.runFor(500);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  // Lets the time pass at once, as when the computer slept.
  leap(ms) {
    return this.page.clock.fastForward(ms);
  }
}
