// push.js outside of a browser, behind a middlebox, and a record of its calls. It has the clock of a test.

import './clock.mjs';
import WebSocket from 'ws';
import { connect as ours } from '../../examples-c/www/push.js';
import { Middlebox } from './middlebox.mjs';
import { open, start as startHost } from './opened.mjs';
import { listenerWithTokens } from './tokens.mjs';

globalThis.WebSocket = WebSocket; // Node has one of its own since version 22

// A page has events of the network, and Node has not.
export const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);

export async function start(...options) {
  const host = await startHost('retry=100ms', ...options);
  host.box = await Middlebox.start(host.port);
  open.push(() => host.box.stop());
  return host;
}

export async function startWithTokens(...more) {
  const { port, options } = await listenerWithTokens();
  const host = await start(...options, ...more);
  host.box.upstream = port;
  return host;
}

export const isState = ([what]) => ['connecting', 'open', 'closed'].includes(what);
export const isMessage = (told) => !isState(told);

// A client's calls, one after the other, as a page gets them.
export class Client {
  told = [];
  #waiting = () => {};

  constructor(host, options, connect = ours) {
    const tell = (...what) => {
      this.told.push(what.filter((part) => part !== undefined));
      this.#waiting();
    };
    this.push = connect(`http://127.0.0.1:${host.box.port}/push`, {
      onmessage: ({ channel, data, id }) => tell(channel ?? (id ? 'all' : 'me'), data),
      ongap: ({ channel }) => tell('gap', channel),
      onbegin: ({ channel }) => tell('begin', channel),
      onend: ({ channel }) => tell('end', channel),
      onerror: ({ type, code, channel }) => tell(type, code, channel),
      onstate: (state, why) => tell(state, why?.code),
      ...options,
    });
    open.push(() => this.push.close());
  }

  // Waits for this call, and returns all calls until it.
  async until(...last) {
    const wanted = JSON.stringify(last);
    for (;;) {
      const at = this.told.findIndex((what) => JSON.stringify(what) === wanted);
      if (at >= 0) return this.told.splice(0, at + 1);
      await new Promise((resolve) => { this.#waiting = resolve; });
    }
  }
}

export async function waitFor(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
