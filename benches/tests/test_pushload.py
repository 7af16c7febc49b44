"""The load generator finds the faults of a server. The server here makes them on purpose.

    python3 -m unittest discover benches/tests        (or: make bench-test)
"""

import json
import os
import socket
import subprocess
import sys
import threading
import unittest
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHES))

from bench import load, paths  # noqa: E402
from bench.load import Load  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Server:
    """Sends each subscriber the chunks of bytes that `deliver` makes of all messages so far."""

    def __init__(self, deliver, messages):
        self.deliver, self.messages = deliver, messages
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.subscribers, self.payloads, self.requests = [], [], 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            self._answer(client)
        except ConnectionError:
            pass  # the load generator ends its connections with a reset

    def _answer(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        while more := client.recv(65536):
            data += more
            while b"\r\n\r\n" in data:
                head, data = data.split(b"\r\n\r\n", 1)
                if head.startswith(b"GET"):
                    self._subscribe(client, head)
                    continue
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                while len(data) < length:
                    data += client.recv(65536)
                payload, data = data[:length], data[length:]
                client.sendall(ANSWER)
                self._publish(payload)

    def _subscribe(self, client, head):
        self.requests += 1
        if b"/poll" in head:
            if client not in self.subscribers:
                self.subscribers.append(client)
            return
        client.sendall(UPGRADE if b"websocket" in head else STREAM)
        self.subscribers.append(client)

    def _publish(self, payload):
        self.payloads.append(payload)
        if len(self.payloads) < self.messages:
            return
        for subscriber in list(self.subscribers):
            for chunk in self.deliver(self.payloads):
                try:
                    subscriber.sendall(chunk)
                except OSError:
                    break


def whole(payloads):
    return list(payloads)


class Deliveries(unittest.TestCase):
    def measure(self, deliver, messages=6, transport="ws", path="/sub", **options):
        server = Server(deliver, messages)
        self.addCleanup(server.listener.close)
        the_load = Load(transport, 5, messages, rate=0, settle_ms=10, deadline_s=20, **options)
        command = [
            str(paths.BIN / "pushload"), "--port", str(server.port), "--path", path, "--publish", "/pub", "--pid",
            str(os.getpid()), "--drain", "300", *the_load.arguments(),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=40)
        self.assertEqual(result.returncode, 0, result.stderr)
        measured = json.loads(result.stdout)
        return measured, load.fault_of(measured, the_load, result.stderr), server

    def test_sound(self):
        measured, fault, _ = self.measure(whole)
        self.assertIsNone(fault)
        self.assertEqual(measured["deliveries"], 30)

    def test_sound_over_sse(self):
        self.assertIsNone(self.measure(whole, transport="sse")[1])

    def test_byte_by_byte(self):
        """A mark that is cut anywhere is found, and none is found twice."""
        _, fault, _ = self.measure(lambda all: [bytes([byte]) for payload in all for byte in payload], size=26)
        self.assertIsNone(fault)

    def test_at_signs_before_the_mark(self):
        """The length of a frame of 64 bytes is an at sign."""
        _, fault, _ = self.measure(lambda all: [b"\x81@" + payload + b"@@" for payload in all])
        self.assertIsNone(fault)

    def test_lost(self):
        self.assertIn("lost", self.measure(lambda all: all[:2] + all[3:])[1])

    def test_last_one_lost(self):
        self.assertIn("lost", self.measure(lambda all: all[:-1])[1])

    def test_doubled(self):
        self.assertIn("doubled", self.measure(lambda all: all + all[-1:])[1])

    def test_doubled_to_cover_a_loss(self):
        """The number of messages is as expected, but they are not the right ones."""
        self.assertIsNotNone(self.measure(lambda all: all[:-1] + all[:1])[1])

    def test_out_of_order(self):
        self.assertIn("out of order", self.measure(lambda all: [all[1], all[0], *all[2:]])[1])

    def test_polls(self):
        """The next request follows each answer, and goes on from the answer's position."""

        def answer(payloads):
            body = b"".join(payloads)
            yield b"HTTP/1.1 200 OK\r\nPush-Position: e-7\r\nContent-Le"
            yield b"ngth: %d\r\n\r\n" % len(body) + body

        _, fault, server = self.measure(answer, transport="poll", path="/poll?channel=c")
        self.assertIsNone(fault)
        self.assertEqual(server.requests, 10)

    def test_refused(self):
        """A port without a listener is not a fast server."""
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        command = [str(paths.BIN / "pushload"), "--port", str(port), "--subscribers", "3", "--messages", "1"]
        measured = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=40).stdout)
        self.assertEqual((measured["open"], measured["failed"]), (0, 3))


if __name__ == "__main__":
    unittest.main()
