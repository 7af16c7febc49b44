// A connection that comes back.

const firstWait = 300, longestWait = 8000;

// Subscribes to a channel, with the newest `last` messages first. `on` has these functions: state(name);
// message(object), where `object.late` says that it was missed; who(names), also null where there are too many to name
// them, and the number; live(), when all missed messages have come; refused(), when the login may be the reason.
export function connect(channel, last, on) {
  let socket, position, timer, wait = firstWait, over = false, caughtUp = false, again = false;
  let names = new Set(); // of those who are there

  function open() {
    clearTimeout(timer);
    caughtUp = false;
    const query = new URLSearchParams({ channel, presence: 1 });
    if (position) query.set("since", position);
    else query.set("last", last);
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/push?${query}`, "push.v1.json");
    socket.onmessage = ({ data }) => receive(JSON.parse(data));
    socket.onclose = ({ code }) => closed(code);
  }

  function receive(object) {
    if (object.type === "subscribed") {
      position = object.id;
      // This comes for each channel, after all missed messages.
      if (!caughtUp) {
        caughtUp = true;
        wait = firstWait;
        on.state("open");
        on.live();
      }
      return;
    }
    if (["presence", "join", "leave"].includes(object.type)) return meet(object);
    if (!["message", "broadcast", "gap"].includes(object.type)) return;
    if (object.id) position = object.id;
    on.message({ ...object, late: again && !caughtUp });
  }

  // Who is there comes first, and then who comes and goes. Of many users only the number is told.
  function meet({ type, user, users, count }) {
    if (type === "presence") names = users && new Set(users.map(({ user }) => user));
    else if (type === "join") names?.add(user);
    else names?.delete(user);
    on.who(names && [...names].sort(), count);
  }

  function closed(code) {
    if (over) return;
    if (caughtUp) again = true;
    caughtUp = false;
    on.state("lost");
    if (code === 4403 || code === 1006) on.refused(); // a handshake that is refused looks like a lost connection
    timer = setTimeout(open, wait * (0.7 + 0.6 * Math.random()));
    wait = Math.min(wait * 2, longestWait);
  }

  // The browser knows when the network is back.
  const hurry = () => { if (!over && socket.readyState === WebSocket.CLOSED) open(); };
  addEventListener("online", hurry);
  on.state("connecting");
  open();
  return {
    // Sends now if it can. If not, `live` sends it later.
    say(what) {
      if (caughtUp && socket.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ type: "message", data: JSON.stringify(what) }));
      }
    },
    end() {
      over = true;
      clearTimeout(timer);
      removeEventListener("online", hurry);
      socket.close();
    },
  };
}
