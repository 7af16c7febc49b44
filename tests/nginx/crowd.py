"""Many subscribers in one process, each with its own account of what came: crowd.py PORT COUNT CHANNELS DIALECT

Messages are the text `#1;`, `#2;` ... of each channel, and every subscriber follows the numbers of its own. A line
`ready` is printed when all WebSockets and event streams stand; `end NUMBERS` on stdin, JSON of each channel's last
number, lets it finish when all have those, and its findings come as JSON.

DIALECT is `push` or `nchan`: how a poll goes on where the last one ended, and how who was cut off comes back.
"""

import collections
import heapq
import itertools
import json
import os
import re
import select
import socket
import sys
import time

# Connections under way at once: a listener's queue is finite.
WAVE = 128
# Between a poll's answer and the next; and before somebody who was refused or cut off tries again.
REST, AGAIN = 1.0, 0.25
# Without anything new for so long, what is missing is lost.
QUIET = 60.0
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MARK = re.compile(rb"#(\d+);")
EVENT_ID = re.compile(rb"\bid: ?([^\r\n]+)\r?\n")
KINDS = ("ws", "sse", "ws", "sse", "poll")


class Subscriber:
    """One client: `due` is the next number it has not seen."""

    def __init__(self, crowd, kind, channel):
        self.crowd, self.kind, self.channel = crowd, kind, channel
        self.due, self.since, self.position = 1, {}, None
        self.socket, self.got, self.answered = None, b"", False

    @property
    def begins_with_a_look(self):
        """Whether its first poll does not wait, and says from where the next one goes on."""
        return self.kind == "poll" and self.crowd.dialect == "push"

    def connect(self):
        self.got, self.answered = b"", False
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
            headers += UPGRADE + ("Sec-WebSocket-Protocol: ws+meta.nchan\r\n" if self.crowd.dialect == "nchan" else "")
        elif self.kind == "sse":
            headers += "Accept: text/event-stream\r\n"
        return f"GET /push?channel={self.channel}{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode()

    def writable(self):
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            self.refused(error)
            return
        try:
            self.socket.send(self.request())
        except OSError:
            self.close()
            self.refused()
            return
        self.crowd.reading(self)

    def readable(self):
        try:
            data = self.socket.recv(65536)
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
        """Follows the numbers; keeps what may be the beginning of the next mark."""
        end = 0
        for mark in MARK.finditer(data):
            self.number(int(mark[1]))
            end = mark.end()
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
        """The connection is over, and nobody of this side ended it."""
        if self.kind != "poll" and self.answered:
            self.crowd.count("dropped")
        else:
            # The server had not yet taken the request, or was a moment from closing what it never answered.
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
    def __init__(self, port, dialect):
        self.port, self.dialect = port, dialect
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
    crowd = Crowd(port, dialect)
    everybody = [Subscriber(crowd, KINDS[n % len(KINDS)], f"c{n % channels}") for n in range(count)]
    streams = [subscriber for subscriber in everybody if subscriber.kind != "poll"]
    for begin in range(0, count, WAVE):
        wave = everybody[begin : begin + WAVE]
        for subscriber in wave:
            subscriber.connect()
        while not crowd.standing.issuperset(s for s in wave if s.kind != "poll" or s.begins_with_a_look):
            crowd.turn(1)
    # Nchan's polls can't say it: one that has not come to the server by then begins after the first message.
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
    # Ends with the connections as they are: the server's account can be read meanwhile.
    sys.stdin.readline()
    os._exit(0)


main()
