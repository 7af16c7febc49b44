// Ends everything that a test has opened after the test. The last one is ended first, so clients before their host.

import { afterEach } from 'node:test';
import { Host } from './host.mjs';
import { Proxy } from './proxy.mjs';

// Functions that each end something.
export const open = [];

afterEach(async () => {
  while (open.length > 0) await open.pop()();
});

export async function start(...options) {
  const host = await Host.start(...options);
  open.push(() => host.stop());
  return host;
}

export async function startProxy(host) {
  const proxy = await Proxy.start(host.port);
  open.push(() => proxy.stop());
  return proxy;
}
