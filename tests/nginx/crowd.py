"""Many subscribers in one process. Each keeps a record of its messages:

    crowd.py PORT COUNT CHANNELS DIALECT [CERTIFICATE NAME]

The messages of each channel are `#1;`, `#2;` ..., and every subscriber follows the numbers of its channel. It prints
`ready` when all WebSockets and event streams are subscribed. After `end NUMBERS` on stdin, with JSON of each channel's
last number, it ends when all have got these, and prints its findings as JSON.

DIALECT is `push` or `nchan`. It says how a poll goes on after the last one, and how a client that was cut off comes
back. With a certificate to trust, they speak TLS, and ask for the server of this name. """

import collections
import heapq
import itertools
import json
import os
import re
import select
import socket
import ssl
import sys
import time

# Connections under way at once: a listener's queue is finite.
WAVE = 128
# The pause between a poll's answer and the next poll, and before a client that was refused or cut off tries again.
REST, AGAIN = 1.0, 0.25
# If nothing new comes for this long, the missing messages are lost.
QUIET = 60.0
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MARK = re.compile(rb"#(\d+);")
# The last words of a server that goes away: in a close frame, or in the JSON of an event.
ADVICE = re.compile(rb'retry in (\d+) ms|"retry":(\d+)')
# Of a message, before its mark, as an event or in JSON.
POSITION = re.compile(rb'(?:\bid: ?|"id":")([0-9a-z-]+)')
EVENT_ID = re.compile(rb"\bid: ?([^\r\n]+)\r?\n")
KINDS = ("ws", "sse", "ws", "sse", "poll")


class Subscriber:
    """One client: `due` is the next number it has not seen."""

    def __init__(self, crowd, kind, channel):
        self.crowd, self.kind, self.channel = crowd, kind, channel
        self.due, self.since, self.position = 1, {}, None
        self.socket, self.got, self.answered, self.asked = None, b"", False, False

    @property
    def begins_with_a_look(self):
        """Whether its first poll does not wait, and returns the position for the next one."""
        return self.kind == "poll" and self.crowd.dialect == "push"

    def connect(self):
        self.got, self.answered, self.asked = b"", False, False
        client = self.socket = socket.socket()
        client.setblocking(False)
        try:
            client.connect(("127.0.0.1", self.crowd.port))
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            self.refused()
            return
        self.crowd.watch(self)

    def request(self):
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.since.items())
        query = f"&since={self.position}" if self.position else "&wait=0" if self.begins_with_a_look else ""
        if self.kind == "ws":
            headers += UPGRADE + self.crowd.subprotocol
        elif self.kind == "sse":
            headers += "Accept: text/event-stream\r\n"
        return f"GET /push?channel={self.channel}{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode()

    def writable(self):
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            self.refused(error)
            return
        self.ask()

    def ask(self):
        """Sends the request, over TLS once the handshake is done."""
        try:
            if self.crowd.tls:
                self.shake_hands(self.crowd.tls, self.crowd.name)
            self.socket.send(self.request())
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self.close()
            self.refused()
            return
        else:
            self.asked = True
        self.crowd.reading(self)

    def shake_hands(self, tls, name):
        if not isinstance(self.socket, ssl.SSLSocket):
            self.socket = tls.wrap_socket(self.socket, do_handshake_on_connect=False, server_hostname=name)
        self.socket.do_handshake()

    def readable(self):
        if not self.asked:
            self.ask()
            return
        try:
            data = self.socket.recv(65536)
        except ssl.SSLWantReadError:
            return
        except OSError:
            data = b""
        if not data:
            self.ended()
            return
        self.got += data
        if not self.answered:
            if b"\r\n\r\n" not in self.got:
                return
            head, self.got = self.got.split(b"\r\n\r\n", 1)
            if not self.begins(head.decode("latin-1")):
                return
        if self.kind == "poll":
            self.poll_body()
        else:
            self.take(self.got)

    def begins(self, head):
        """Takes the answer's head. False: it was a refusal."""
        status = int(head.split(" ", 2)[1])
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        if status != {"ws": 101, "sse": 200, "poll": 200}[self.kind]:
            self.close()
            self.crowd.count(f"status {status}")
            self.later(AGAIN)
            return False
        self.answered = True
        if self.kind == "poll":
            self.length = int(headers.get("content-length", 0))
            if self.crowd.dialect == "push":
                self.position = headers["push-position"]
                self.crowd.stands(self)
            else:
                self.since = {"If-Modified-Since": headers.get("last-modified"), "If-None-Match": headers.get("etag")}
        else:
            self.crowd.stands(self)
            if self.position is None and self.crowd.dialect == "push":
                self.position = headers["push-position"]
        return True

    def poll_body(self):
        if len(self.got) < self.length:
            return
        self.take(self.got[: self.length])
        self.close()
        self.crowd.count("polls answered")
        self.later(REST if self.crowd.dialect == "push" else 0)

    def take(self, data):
        """Follows the numbers. It keeps bytes that may be the beginning of the next mark."""
        end = 0
        for mark in MARK.finditer(data):
            self.number(int(mark[1]))
            if self.crowd.dialect == "push" and (positions := POSITION.findall(data, end, mark.start())):
                self.position = positions[-1].decode()
            end = mark.end()
        if self.crowd.dialect == "nchan":
            for event in EVENT_ID.finditer(data):
                self.since = {"Last-Event-ID": event[1].decode()}
        self.got = data[max(end, len(data) - 200) :] if end else data[-400:]

    def number(self, number):
        if number < self.due:
            self.crowd.count("doubled or out of order")
            return
        if number > self.due:
            self.crowd.count("lost", number - self.due)
        self.due = number + 1
        self.crowd.deliveries += 1

    def ended(self):
        """The connection is over, and this side did not end it."""
        if self.kind != "poll" and self.answered and (advice := ADVICE.search(self.got)):
            self.crowd.count("told")
            self.close()
            self.later(int(advice[1] or advice[2]) / 1000)
            return
        if self.kind != "poll" and self.answered:
            self.crowd.count("dropped")
        else:
            # The server had not taken the request yet, or was about to close a connection that it never answered.
            self.crowd.count("unanswered polls" if self.kind == "poll" else "unanswered")
        self.close()
        self.later(AGAIN)

    def refused(self, _=None):
        self.crowd.count("refused")
        self.later(AGAIN)

    def close(self):
        self.crowd.forget(self)
        self.socket.close()
        self.socket = None

    def later(self, seconds):
        self.crowd.later(self, seconds)


class Crowd:
    def __init__(self, port, dialect, certificate=None, name=None):
        self.port, self.dialect, self.name = port, dialect, name
        self.tls = ssl.create_default_context(cafile=certificate) if certificate else None
        # A raw WebSocket has no positions, so one that is cut off could not go on.
        subprotocol = "ws+meta.nchan" if dialect == "nchan" else "push.v1.json" if certificate else None
        self.subprotocol = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        self.epoll, self.subscribers = select.epoll(), {}
        self.times, self.order = [], itertools.count()
        self.counts, self.deliveries = collections.Counter(), 0
        self.standing = set()

    def watch(self, subscriber):
        self.subscribers[subscriber.socket.fileno()] = subscriber
        self.epoll.register(subscriber.socket, select.EPOLLOUT)

    def reading(self, subscriber):
        self.epoll.modify(subscriber.socket, select.EPOLLIN)

    def forget(self, subscriber):
        if self.subscribers.pop(subscriber.socket.fileno(), None) is not None:
            self.epoll.unregister(subscriber.socket)

    def later(self, subscriber, seconds):
        heapq.heappush(self.times, (time.monotonic() + seconds, next(self.order), subscriber))

    def stands(self, subscriber):
        self.standing.add(subscriber)

    def count(self, what, times=1):
        self.counts[what] += times

    def turn(self, most):
        now = time.monotonic()
        while self.times and self.times[0][0] <= now:
            heapq.heappop(self.times)[2].connect()
        if self.times:
            most = min(most, self.times[0][0] - now)
        for fd, events in self.epoll.poll(max(most, 0)):
            if fd == 0:
                return sys.stdin.readline()
            subscriber = self.subscribers.get(fd)
            if subscriber is not None:
                subscriber.writable() if events & select.EPOLLOUT else subscriber.readable()
        return ""


def main():
    port, count, channels, dialect = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    crowd = Crowd(port, dialect, *sys.argv[5:])
    everybody = [Subscriber(crowd, KINDS[n % len(KINDS)], f"c{n % channels}") for n in range(count)]
    streams = [subscriber for subscriber in everybody if subscriber.kind != "poll"]
    for begin in range(0, count, WAVE):
        wave = everybody[begin : begin + WAVE]
        for subscriber in wave:
            subscriber.connect()
        while not crowd.standing.issuperset(s for s in wave if s.kind != "poll" or s.begins_with_a_look):
            crowd.turn(1)
    # Nchan's polls have no position: a poll that has not reached the server by then begins after the first message.
    for _ in range(20 if dialect == "nchan" else 0):
        crowd.turn(0.05)
    print("ready", flush=True)
    crowd.epoll.register(0, select.EPOLLIN)
    while not (line := crowd.turn(1)):
        pass
    crowd.epoll.unregister(0)
    last = json.loads(line.removeprefix("end "))
    quiet, before = time.monotonic(), crowd.deliveries
    waiting = [s for s in everybody if s.due <= last[s.channel]]
    while waiting and time.monotonic() < quiet + QUIET:
        crowd.turn(0.1)
        if crowd.deliveries != before:
            quiet, before = time.monotonic(), crowd.deliveries
            waiting = [s for s in waiting if s.due <= last[s.channel]]
    for subscriber in waiting:
        crowd.count("lost", last[subscriber.channel] + 1 - subscriber.due)
    findings = {"deliveries": crowd.deliveries, "streams": len(streams), **crowd.counts}
    findings["polls under way"] = sum(s.kind == "poll" and s.socket is not None for s in everybody)
    print(json.dumps(findings), flush=True)
    # It ends with its connections open, so that the server's counters can be read meanwhile.
    sys.stdin.readline()
    os._exit(0)


main()
