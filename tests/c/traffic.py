"""Clients that speak raw bytes, of every transport, good and bad. A host serves them under valgrind."""

import os
import re
import socket
import struct
from contextlib import suppress

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE_S = 120  # under valgrind a host is fifty times slower


class Client:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.data = b""

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def get(self, path, *lines, method="GET", body=b""):
        head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines]
        if body or method == "POST":
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return self

    def fill(self):
        """Reads once. False: the end."""
        try:
            got = self.socket.recv(65536)
        except ConnectionResetError:
            got = b""
        self.data += got
        return bool(got)

    def past(self, pattern):
        """Reads until the pattern matches, and drops everything up to its end. Returns the match."""
        pattern = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.S)
        while not (match := pattern.search(self.data)):
            if not self.fill():
                raise AssertionError(f"the end came before {pattern.pattern!r}; before it: {self.data[-300:]!r}")
        self.data = self.data[match.end():]
        return match

    def to_end(self):
        while self.fill():
            pass
        return self.data

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class WebSocket(Client):
    """A WebSocket client (RFC 6455), which may also misbehave."""

    def __init__(self, port, query, *lines):
        super().__init__(port)
        self.get(f"/push?{query}", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 f"Sec-WebSocket-Key: {KEY}", *lines)
        self.past(r"HTTP/1\.1 101 .*?\r\n\r\n")

    def frame(self, opcode, payload=b"", first=0x80):
        length = len(payload)
        if length < 126:
            size = struct.pack("!B", 0x80 | length)
        elif length < 65536:
            size = struct.pack("!BH", 0x80 | 126, length)
        else:
            size = struct.pack("!BQ", 0x80 | 127, length)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.send(bytes([first | opcode]) + size + mask + masked)

    def next(self):
        """The next frame's opcode and payload, or None at the end. Answers pings, and passes over them."""
        while True:
            if len(self.data) >= 2:
                length, at = self.data[1] & 127, 2
                if length == 126 and len(self.data) >= 4:
                    length, at = struct.unpack("!H", self.data[2:4])[0], 4
                elif length == 127 and len(self.data) >= 10:
                    length, at = struct.unpack("!Q", self.data[2:10])[0], 10
                if (self.data[1] & 127) < 126 or at > 2:
                    if len(self.data) >= at + length:
                        opcode, payload = self.data[0] & 15, self.data[at:at + length]
                        self.data = self.data[at + length:]
                        if opcode != PING:
                            return opcode, payload
                        with suppress(OSError):  # the host may have ended the connection since
                            self.frame(PONG, payload)
                        continue
            if not self.fill():
                return None

    def expect(self, payload):
        """Reads frames until one has this payload."""
        while (frame := self.next()) is not None:
            if frame[1] == payload:
                return
        raise AssertionError(f"the end came before {payload[:60]!r}")

    def expect_part(self, pattern):
        """Reads frames until the pattern is in one."""
        while (frame := self.next()) is not None:
            if re.search(pattern, frame[1]):
                return
        raise AssertionError(f"the end came before {pattern!r}")

    def close_code(self):
        while (frame := self.next()) is not None:
            if frame[0] == CLOSE:
                return struct.unpack("!H", frame[1][:2])[0] if len(frame[1]) >= 2 else 1005
        raise AssertionError("the end came without a close frame")


def subscribe_all(port, channel):
    """A subscriber of every kind. Each has got its answer."""
    ws = WebSocket(port, f"channel={channel}")
    json = WebSocket(port, f"channel={channel}", "Sec-WebSocket-Protocol: push.v1.json")
    json.expect_part(rb'"type":"subscribed"')
    sse = Client(port).get(f"/push?channel={channel}", "Accept: text/event-stream")
    sse.past(r"200 OK.*?retry: ")
    stream = Client(port).get(f"/push?channel={channel}&channel=other", "Accept: application/x-ndjson")
    stream.past(r"200 OK.*?\r\n\r\n")
    poll = Client(port).get(f"/push?channel={channel}")
    return ws, json, sse, stream, poll


def misbehave(port, alive=()):
    """Clients that send nonsense, half a request, or too much, or go without a goodbye. Meanwhile the WebSockets in
    `alive` show that they are there: this may take longer than they may leave a ping without an answer."""
    def go_on():
        for other in alive:
            other.frame(PONG)

    garbage = ["\x16\x03\x01\x02 hello\r\n\r\n", "GET /push?channel=c HTTP/1.1\nHost: h\n\n", "\r\n\r\n\r\n",
               "GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
               "GET /push?channel=c&since=nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n",
               "GET /push?channel=c&channel=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
               "GET /push?channel=" + "c" * 70000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
               "GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: x\r\n\r\n"]
    for text in garbage:
        go_on()
        client = Client(port)
        try:
            client.send(text)
            client.socket.shutdown(socket.SHUT_WR)
            client.to_end()
        except OSError:
            pass
        client.close()
    Client(port).close()
    Client(port).reset()
    half = Client(port)
    half.send("GET /push?chan")
    half.reset()
    for frame in (b"\x81\x05hello", b"\xf1\x80\0\0\0\0", b"\x89\xfe\x00\xff\0\0\0\0",
                  b"\x82\xff" + b"\x7f" * 8 + b"\0\0\0\0", b"\x81\x82\0\0\0\0\xff\xff",
                  b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b"):
        go_on()
        client = WebSocket(port, "channel=c")
        client.send(frame)
        client.close_code()
        client.close()
    for way in ("close", "reset"):
        go_on()
        client = WebSocket(port, "channel=c")
        client.frame(TEXT, b"half a message", first=0)
        getattr(client, way)()
        client = WebSocket(port, "channel=c")
        client.send(b"\x82\xff\0\0")
        getattr(client, way)()

