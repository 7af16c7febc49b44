// One WebSocket for the room on the page (subprotocol push.v1.json). It comes back by itself, from the position that it
// had reached. Missed messages are marked. A message that could not be sent yet is sent again under the same id.
import { connect } from "./connection.js";
import * as view from "./view.js";

let me, room, link;
const waiting = new Map(); // id: own messages that have not come back, in order

async function begin() {
  const answer = await fetch("me");
  if (!answer.ok) return view.door();
  const known = await answer.json();
  me = known.name;
  view.house(me, known.rooms, enter);
  const wanted = decodeURIComponent(location.hash.slice(1));
  enter(known.rooms.includes(wanted) ? wanted : known.rooms[0]);
}

function enter(name) {
  link?.end();
  waiting.clear();
  room = name;
  history.replaceState(null, "", "#" + encodeURIComponent(room));
  view.room(room);
  link = connect(`room.${room}`, 50, {
    state: view.state,
    message: received,
    who: view.who,
    refused: async () => {
      const answer = await fetch("me").catch(() => undefined); // no answer: the network is the reason
      if (answer?.status === 401) leave();
    },
    live: () => waiting.forEach((text, id) => link.say({ id, text })),
  });
}

// A message comes from the room, or for this client alone.
function received({ type, channel, event, data, late }) {
  if (type === "gap") {
    if (channel) view.mark("Some messages are gone.", "gap");
    return;
  }
  const content = JSON.parse(data);
  if (!channel) {
    waiting.delete(content.refused);
    return view.refuse(content.refused, content.why);
  }
  if (event === "said") {
    waiting.delete(content.id);
    view.said(content, content.from === me, late);
  }
}

view.onSay((text) => {
  const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`; // only secure pages have the first
  waiting.set(id, text);
  view.said({ id, from: me, text, at: Date.now() }, true, false, true);
  link.say({ id, text });
});

view.onLogin(async (name) => {
  const answer = await fetch("login", { method: "POST", body: new URLSearchParams({ name }) });
  if (!answer.ok) return (await answer.text()).trim();
  await begin();
});

async function leave() {
  link?.end();
  link = undefined;
  view.door();
}

view.onLogout(async () => {
  await fetch("logout", { method: "POST" });
  await leave();
});

begin();
