// Subscribes with fetch and with `eventsource`, prints the first message that each gets, and ends: fetching.mjs URL

import { EventSource } from 'eventsource';

const url = process.argv[2];

async function line() {
  const response = await fetch(url, { headers: { Accept: 'application/x-ndjson' } });
  let text = '';
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    text += part;
    const whole = text.split('\n').slice(0, -1).find((one) => one !== '');
    if (whole) return `line ${JSON.parse(whole).id} ${JSON.parse(whole).data}`;
  }
  throw new Error('the stream has ended');
}

function event() {
  const source = new EventSource(url);
  return new Promise((resolve) => {
    source.addEventListener('message', ({ lastEventId, data }) => resolve(`event ${lastEventId} ${data}`));
  });
}

for (const told of await Promise.all([line(), event()])) console.log(told);
process.exit(0);
