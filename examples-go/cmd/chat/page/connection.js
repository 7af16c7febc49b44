// A connection that comes back.

const firstWait = 300, longestWait = 8000;

// Subscribes to channels, with the newest `last` messages first. `on` has these functions: state(name);
// message(object), where `object.late` says that it was missed; live(), when all missed messages have come; refused(),
// when the login may be the reason.
export function connect(channels, last, on) {
  let socket, position, timer, wait = firstWait, over = false, caughtUp = false, again = false;

  function open() {
    clearTimeout(timer);
    caughtUp = false;
    const query = new URLSearchParams(channels.map((channel) => ["channel", channel]));
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
    if (!["message", "broadcast", "gap"].includes(object.type)) return;
    if (object.id) position = object.id;
    on.message({ ...object, late: again && !caughtUp });
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
