// The code of a page in TypeScript. types.test.mjs compiles it, and nothing runs it.

import {
  connect, type Members, type Message, type Push, type State, type Transport,
} from '../../examples-c/www/push.js';

const seen: Message[] = [];
const push: Push = connect(new URL('/push', location.href), {
  channels: new Set(['news']),
  patterns: ['chat.*'],
  since: null,
  last: 3,
  client: true,
  transports: ['ws', 'poll'],
  token: async () => (await fetch('/token')).text(),
  presence: ['news'],
  onpresence: ({ channel, users, count, off }) => {
    if (off) return console.log(channel, 'off');
    for (const [user, info] of users ?? []) console.log(user.length, info?.length, count.toFixed());
  },
  onjoin: ({ channel, user, info, count }) => console.log(channel, user, info?.length, count),
  onleave: ({ channel, user, count }) => console.log(channel, user, count),
  onmessage: (message) => {
    seen.push(message);
    const { channel = 'all', data, base64 } = message;
    console.log(channel, base64 ? atob(data) : data);
  },
  ongap: ({ channel, id }) => console.log(channel, id),
  onbegin: ({ channel, id }) => console.log(channel.length, id?.length),
  onend: ({ channel }) => console.log(channel.length),
  onstate: (state: string, why?: { code: number; reason: string }) => console.log(state, why?.code, why?.reason.length),
  onerror: ({ code, message, reason, channel }) => console.log(code, message ?? reason, channel),
});
push.subscribe('prices');
push.unsubscribe('prices');
push.subscribe({ pattern: 'room.*' }, ({ channel, data }) => console.log(channel, data));
push.unsubscribe({ pattern: 'room.*' });
push.subscribe('room.1', null, { presence: true });
push.subscribe('room.1', ({ data }) => console.log(data), { presence: false });
const members: Members | null = push.presence('room.1');
const names: string[] = [...(members?.users?.keys() ?? [])];
const sent: boolean = push.send(new Uint8Array(3));
const answer: Promise<string | Uint8Array> = push.call('question');
const position: Promise<string> = push.publish('news', 'text', { event: 'e', key: 'k', echo: false });
const transport: Transport | null = push.transport;
const since: string | null = push.position;
const id: string | null = push.client;
const ended: Promise<boolean> = push.ended;
connect('/push');
connect('/push', { onstate: (state, why) => console.log(state.length, why?.code) });
connect('/push', { onstate: (state: State) => console.log(state === 'closed') });
connect('/push', { onstate() {} });
connect('/push', { presence: true });
push.close();
export { answer, ended, id, names, position, sent, since, transport };

// @ts-expect-error there is no such transport
connect('/push', { transports: ['sse'] });
// @ts-expect-error it is a UUID, or true
connect('/push', { client: 7 });
// @ts-expect-error it is true, false, or names
connect('/push', { presence: 1 });
// @ts-expect-error nobody has to be known
connect('/push', { onpresence: ({ users }) => console.log(users.size) });
// @ts-expect-error a leave has no info
connect('/push', { onleave: ({ info }) => console.log(info) });
// @ts-expect-error a misspelt option
connect('/push', { chanels: [] });
// @ts-expect-error it is { pattern }
push.subscribe({ patterns: 'room.*' });
// @ts-expect-error neither text nor bytes
push.send(5);
// @ts-expect-error it is a promise
push.publish('news', 'text').length;
// @ts-expect-error there is no such state
connect('/push', { onstate: (state) => state === 'shut' });
// @ts-expect-error nothing has to be wrong
connect('/push', { onstate: (state, why) => console.log(state, why.code) });
// @ts-expect-error it can only be read
push.position = '0-0';
