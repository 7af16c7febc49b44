// EventSources that are not a browser's own, and can't set the header Last-Event-ID: `event-source-polyfill`, and
// `reconnecting-eventsource`, which goes on where a browser's gives up. Both send `?lastEventId=` when they come back.

import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import polyfill from 'event-source-polyfill';
import reconnecting from 'reconnecting-eventsource';
import { Inbox, test } from '../harness/host.mjs';
import { Middlebox } from '../harness/middlebox.mjs';
import { open, start } from '../harness/opened.mjs';

const ReconnectingEventSource = reconnecting.default ?? reconnecting;

const kinds = {
  'event-source-polyfill': {
    make: (url) => new polyfill.EventSourcePolyfill(url),
    away: (response) => response.destroy(),
  },
  'reconnecting-eventsource': {
    make: (url) => new ReconnectingEventSource(url, { eventSourceClass: EventSource, max_retry_time: 100 }),
    away: (response) => response.writeHead(502).end(), // after this an EventSource never comes back
  },
};

for (const [name, { make, away }] of Object.entries(kinds)) {
  for (const query of ['channel=a', 'channel=a&since=POSITION', 'channel=a&format=json']) {
    test(`${name}, ${query}: published before, during and after a cut, all arrive once and in order`, async () => {
      const host = await start('retry=100ms');
      const box = await Middlebox.start(host.port);
      open.push(() => box.stop());
      const position = await host.publish('a', 'old');
      const source = make(`http://127.0.0.1:${box.port}/push?${query.replace('POSITION', position)}`);
      open.push(() => source.close());
      const events = new Inbox();
      const text = (data) => (query.includes('json') ? JSON.parse(data).data : data);
      source.addEventListener('message', (event) => events.put(text(event.data)));
      const opened = new Inbox();
      source.addEventListener('push-open', () => opened.put(true));
      await opened.next();
      await host.publish('a', 'before');
      assert.equal(await events.next(), 'before');
      const tried = new Inbox();
      box.instead = (request, response) => {
        tried.put(request.url);
        away(response);
        return true;
      };
      box.cut();
      await host.publish('a', 'during');
      await tried.next();
      box.instead = () => false;
      await opened.next();
      await host.publish('a', 'after');
      assert.deepEqual(await events.take(2), ['during', 'after']);
    });
  }
}
