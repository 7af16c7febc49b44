"""Many subscribers in one process: crowd.py PORT SOURCE COUNT MARK END [SECRET MEMBERS]

It prints "ready" when all are subscribed. Then each must get MARK. The polls are over then; all others must also get END.
It prints how many subscribers got MARK how often: "1: 9500" is right. It uses bare sockets, since no client library has
room for this many.

With SECRET each subscriber is a user with a token, and all but the polls follow who is there. Then they are ready when
each of these knows that there are MEMBERS in its channel.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import resource
import selectors
import socket
import sys
import time

# Connections under way at once: a listener's queue is finite.
WAVE = 256
# Otherwise bind(2) would take one of the ports that are free for every destination (ip(7)).
IP_BIND_ADDRESS_NO_PORT = 24
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
TRANSPORTS = {"ws": UPGRADE, "sse": "", "stream": "", "poll": ""}


def token(secret, user):
    """What lets this user have every channel for an hour."""
    claims = {"sub": user, "exp": int(time.time()) + 3600, "push": {"subscribe": ["*"]}}
    signed = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)
    )
    signature = base64.urlsafe_b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).rstrip(b"=")
    return (signed + b"." + signature).decode()


class Subscriber:
    def __init__(self, address, source, transport, number, secret, members):
        self.transport = transport
        self.known = members and transport != "poll" and f'"count":{members}}}'.encode()
        self.seen = b""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setblocking(False)
        query = f"channel=c{number % 100}&transport={transport}"
        headers = TRANSPORTS[transport]
        if secret:
            query += f"&token={token(secret, f'{source}-{number}')}"
        if self.known:
            query += "&presence=1"
            headers += "Sec-WebSocket-Protocol: push.v1.json\r\n" if transport == "ws" else ""
        self.socket.sendall(f"GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())

    def stands(self):
        """Whether the answer's head is there. A poll has none before there is a message."""
        return self.transport == "poll" or b"\r\n\r\n" in self.seen

    def knows(self):
        """Whether it was told that all members are there."""
        return not self.known or self.known in self.seen

    def done(self, mark, end):
        return (mark if self.transport == "poll" else end) in self.seen

    def read(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError(f"{self.transport} ended after {self.seen!r}")
        self.seen += data


def read_until(selector, subscribers, finished):
    """Reads until `finished` holds for each of them."""
    waiting = {subscriber for subscriber in subscribers if not finished(subscriber)}
    while waiting:
        for key, _ in selector.select():
            subscriber = key.data
            subscriber.read()
            if finished(subscriber):
                waiting.discard(subscriber)
                if subscriber.transport == "poll":
                    # The poll is answered, and the host ends its connection then.
                    selector.unregister(subscriber.socket)


def main():
    port, source, count, mark, end = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(os.fsencode, sys.argv[4:6])
    secret, members = sys.argv[6:] or (None, None)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    selector, subscribers, kinds = selectors.EpollSelector(), [], list(TRANSPORTS)
    for begin in range(0, count, WAVE):
        wave = range(begin, min(begin + WAVE, count))
        arrived = [
            Subscriber(("127.0.0.1", port), source, kinds[n % len(kinds)], n, secret, members) for n in wave
        ]
        for subscriber in arrived:
            selector.register(subscriber.socket, selectors.EVENT_READ, subscriber)
        read_until(selector, arrived, Subscriber.stands)
        subscribers += arrived
    read_until(selector, subscribers, Subscriber.knows)
    print("ready", flush=True)
    read_until(selector, subscribers, lambda subscriber: subscriber.done(mark, end))
    times = collections.Counter(subscriber.seen.count(mark) for subscriber in subscribers)
    print(", ".join(f"{often}: {number}" for often, number in sorted(times.items())))


main()
