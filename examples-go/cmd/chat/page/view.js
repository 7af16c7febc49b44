// The visible part of the page. Everything that a user wrote is inserted as text, never as markup.

const $ = (id) => document.getElementById(id);
const messages = $("messages"), text = $("text");
const groupedFor = 5 * 60 * 1000;
let lastSaid, markedLate;

export function door() {
  $("house").hidden = true;
  $("door").hidden = false;
  $("name").focus();
}

export function house(me, rooms, enter) {
  $("door").hidden = true;
  $("house").hidden = false;
  $("me").textContent = me;
  $("rooms").replaceChildren(...rooms.map((room) => {
    const button = element("button", "", room);
    button.onclick = () => enter(room);
    const item = element("li");
    item.append(button);
    return item;
  }));
}

export function room(name) {
  $("title").textContent = name;
  document.title = `${name} · Chat`;
  for (const button of $("rooms").querySelectorAll("button")) {
    button.toggleAttribute("aria-current", button.textContent === name);
  }
  messages.replaceChildren();
  lastSaid = markedLate = undefined;
  who([], 0);
  text.focus();
}

export function state(name) {
  $("state").className = name;
  $("state").textContent = { connecting: "connecting …", open: "connected", lost: "trying again …" }[name];
  $("lost").hidden = name !== "lost";
  if (name === "lost") markedLate = undefined;
}

// Who is there. Without the names there are only the number, and too many for a list.
export function who(names, count) {
  $("count").textContent = count || "";
  $("people").replaceChildren(...(names ?? []).map((name) => {
    const item = element("li");
    item.append(face(name), element("span", "name", name));
    return item;
  }));
}

// A message. An own message is shown at once, and once more when it has come back.
export function said({ id, from, text: what, at }, mine, late, isWaiting) {
  const known = mine && messages.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (known) return known.classList.remove("waiting");
  if (late && !markedLate) markedLate = mark("While you were away");
  const item = element("li", `message${mine ? " mine" : ""}${isWaiting ? " waiting" : ""}`);
  item.dataset.id = id;
  item.dataset.from = from;
  if (lastSaid?.from !== from || at - lastSaid.at > groupedFor) {
    item.classList.add("first");
    const line = element("div", "who");
    const time = element("time", "", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = new Date(at).toISOString();
    line.append(element("b", "", from), time);
    item.append(face(from), line);
  }
  item.append(element("div", "what", what));
  lastSaid = { from, at };
  add(item, mine);
}

export function refuse(id, why) {
  const item = messages.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (!item) return;
  item.classList.remove("waiting");
  item.classList.add("refused");
  item.title = why;
  mark(`Not sent: ${why}.`, "gap");
}

export function mark(line, kind = "") {
  lastSaid = undefined;
  const item = element("li", `mark ${kind}`, line);
  add(item);
  return item;
}

export function onSay(say) {
  const send = () => {
    const what = text.value.trim();
    if (!what) return;
    text.value = "";
    fit();
    say(what);
  };
  const fit = () => {
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
  };
  text.oninput = fit;
  text.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  $("say").onsubmit = (event) => {
    event.preventDefault();
    send();
    text.focus();
  };
}

export function onLogin(login) {
  $("login").onsubmit = async (event) => {
    event.preventDefault();
    $("login-error").textContent = (await login($("name").value)) ?? "";
  };
}

export function onLogout(logout) {
  $("logout").onclick = logout;
}

// Adds a line. A view that was at the end stays at the end.
function add(item, always) {
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
  messages.append(item);
  if (atEnd || always) messages.scrollTop = messages.scrollHeight;
}

function face(name) {
  const item = element("span", "face", name.split(" ").map((word) => [...word][0]).slice(0, 2).join("").toUpperCase());
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  item.style.setProperty("--hue", hue);
  item.setAttribute("aria-hidden", "true");
  return item;
}

function element(tag, kind = "", content = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind.trim();
  if (content) made.textContent = content;
  return made;
}
