"""Three hubs that share a log, with thousands of SSE subscribers. One hub is killed, and its clients go to the others."""

import json
import resource
import selectors
import socket
import subprocess
import time

from . import paths
from .cluster import PATIENCE_S, Redis, sharing, wait_for
from .process import SERVER_CPU, child_setup, free_port

CLIENTS, QUICK_CLIENTS = 15_000, 3_000
BEFORE, MISSED, AFTER = 5, 5, 5  # messages
# A hub that waits for the log asks again after this time, with a read and a check (src/engine/redis/tail.rs).
WAIT_S, CALLS_A_WAIT = 1, 2
PUSHD = paths.ROOT / "target/release/pushd"


class Hub:
    """A pushd with a listener, and its control API at a Unix socket."""

    def __init__(self, redis, number):
        self.port, self._control = free_port(), redis.folder / f"control-{number}"
        options = sharing(redis.socket, f"listen=127.0.0.1:{self.port}", f"control=unix:{self._control}", "auth=none")
        words = [word for option in options for word in ("-o", option)]
        self._process = subprocess.Popen([PUSHD, *words], stderr=subprocess.DEVNULL, preexec_fn=child_setup(SERVER_CPU))
        wait_for(lambda: self._control.exists() and self.ask("GET", "/healthz").endswith("ok\n"), "a hub is healthy")

    def ask(self, method, path, body=""):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(str(self._control))
            client.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
                f"{body}".encode()
            )
            got = b""
            while data := client.recv(65536):
                got += data
        return got.decode()

    def publish(self, text):
        answer = self.ask("POST", "/v1/publish?channel=bench", text)
        if " 200 " not in answer.split("\r\n", 1)[0]:
            raise RuntimeError(f"publish: {answer[:200]}")

    def subscribers(self):
        return json.loads(self.ask("GET", "/v1/stats").split("\r\n\r\n", 1)[1])["sse"]

    def kill(self):
        self._process.kill()
        self._process.wait()


class Client:
    """An SSE subscriber. It goes on at another hub from the last id that it saw."""

    def __init__(self, selector):
        self._selector, self._rest = selector, b""
        self.seen, self.gaps, self.id, self.socket = [], 0, "", None

    def connect(self, port):
        self._rest, self.live = b"", False
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        last = f"Last-Event-ID: {self.id}\r\n" if self.id else ""
        self.socket.sendall(
            f"GET /push?channel=bench HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{last}\r\n".encode()
        )
        self.socket.setblocking(False)
        self._selector.register(self.socket, selectors.EVENT_READ, self)

    def leave(self):
        self._selector.unregister(self.socket)
        self.socket.close()

    def read(self):
        """False: the hub has ended the connection."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except ConnectionError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"id: "):
                self.id, self.live = line[4:].decode().strip(), True
            elif line.startswith(b"event: push-gap"):
                self.gaps += 1
            elif line.startswith(b"data: m"):
                self.seen.append(int(line[7:]))
        return bool(data)


def _follow(selector, until, what, moved=lambda client: None):
    """Reads until all have come so far. `moved` gets the clients whose hub has gone."""
    ends = time.monotonic() + PATIENCE_S
    while not until():
        if time.monotonic() > ends:
            raise RuntimeError(f"never: {what}")
        for key, _ in selector.select(0.1):
            if not key.data.read():
                key.data.leave()
                moved(key.data)


def measure(server, quick):
    count = QUICK_CLIENTS if quick else CLIENTS
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    hubs, selector = [], selectors.DefaultSelector()
    clients = [Client(selector) for _ in range(count)]
    try:
        with Redis(cpu=SERVER_CPU) as redis:
            hubs.extend(Hub(redis, number) for number in range(3))
            return {**_show(redis, hubs, clients, selector), "fault": None}
    except (RuntimeError, OSError, TimeoutError, subprocess.SubprocessError) as error:
        return {"fault": str(error)[:300]}
    finally:
        for client in clients:
            if client.socket:
                client.socket.close()
        for hub in hubs:
            hub.kill()


def _show(redis, hubs, clients, selector):
    numbers = iter(range(BEFORE + MISSED + AFTER))

    def publish(messages):
        for _ in range(messages):
            hubs[0].publish(f"m{next(numbers)}")

    def all_have(messages):
        return lambda: all(len(client.seen) >= messages for client in clients)

    for at, client in enumerate(clients):
        client.connect(hubs[at % 3].port)
    _follow(selector, lambda: all(client.live for client in clients), "all are subscribed")
    publish(BEFORE)
    _follow(selector, all_have(BEFORE), "all have the first messages")

    hubs[2].kill()
    publish(MISSED)
    killed_at, moved = time.monotonic(), []
    entries, before = int(redis.ask("XLEN", "{push}:log")), redis.calls()

    def move(client):
        moved.append(client)
        client.connect(hubs[len(moved) % 2].port)

    # Nothing is published meanwhile, so that what is asked of Redis is for the clients that come.
    _follow(selector, all_have(BEFORE + MISSED), "all have what they missed", move)
    back_s = time.monotonic() - killed_at
    after, more = redis.calls(), int(redis.ask("XLEN", "{push}:log")) - entries
    asked = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    asked = {name: asked.get(name, 0) for name in ("evalsha", "xread", "xrange", "ping")}
    # Both hubs ask that much in this time, whoever comes. A sign of life is an append, and a read and a check of each.
    anyway = 2 * CALLS_A_WAIT * (int(back_s / WAIT_S) + 1) + (1 + 2 * CALLS_A_WAIT) * more
    publish(AFTER)
    _follow(selector, all_have(BEFORE + MISSED + AFTER), "all have the last messages", move)
    want = list(range(BEFORE + MISSED + AFTER))
    return {
        "cluster_moved": len(moved), "cluster_back_s": back_s,
        "cluster_wrong": sum(client.seen != want or client.gaps > 0 for client in clients),
        "cluster_requests": max(0, sum(asked.values()) - anyway), "asked": asked, "signs_of_life": more,
    }
