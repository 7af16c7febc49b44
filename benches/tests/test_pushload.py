"""The load generator finds the faults of a server. The server here makes them on purpose.

    python3 -m unittest discover benches/tests        (or: make bench-test)
"""

import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import unittest
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHES))

from bench import load, paths, tls  # noqa: E402
from bench.load import Load  # noqa: E402

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Listening:
    """Accepts connections in a thread, and gives each to `_take`."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            self._take(client)


class Server(Listening):
    """Sends each subscriber the chunks of bytes that `deliver` makes of all messages so far."""

    def __init__(self, deliver, messages):
        self.deliver, self.messages = deliver, messages
        self.subscribers, self.payloads, self.requests = [], [], 0
        super().__init__()

    def _take(self, client):
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
        if b"/other" in head:
            return
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


class Keeping(Server):
    """Keeps all messages, and gives them to each subscriber that comes."""

    def __init__(self, deliver, messages):
        self.has_all = threading.Event()
        super().__init__(deliver, messages)

    def _subscribe(self, client, head):
        # The answer to the last publish goes out before the message is kept.
        self.has_all.wait(20)
        client.sendall(STREAM)
        for chunk in self.deliver(self.payloads):
            client.sendall(chunk)

    def _publish(self, payload):
        self.payloads.append(payload)
        if len(self.payloads) == self.messages:
            self.has_all.set()


class Telling(Server):
    """Says how many have come, each time that one comes, to all that ask for it. It does so byte by byte."""

    def __init__(self, text):
        self.text, self.come, self.lock = text, [], threading.Lock()
        super().__init__(whole, 0)

    def _subscribe(self, client, head):
        client.sendall(STREAM)
        with self.lock:
            self.come.append(client)
            if b"/follow" in head:
                self.subscribers.append(client)
            for byte in self.text(len(self.come)):
                for subscriber in self.subscribers:
                    with contextlib.suppress(OSError):
                        subscriber.sendall(bytes([byte]))


def context(tickets=True):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*tls.certificate())
    if not tickets:
        made.options |= ssl.OP_NO_TICKET
        made.num_tickets = 0
    return made


class Terminator(Listening):
    """TLS in front of a server. Each piece of bytes that the server sends becomes a record. The next connection gets
    the next context of `contexts`, and the last one stays. None closes the connection."""

    def __init__(self, server, *contexts):
        self.server, self.contexts, self.versions = server, list(contexts), []
        super().__init__()

    def _take(self, client):
        chosen = self.contexts.pop(0) if len(self.contexts) > 1 else self.contexts[0]
        if chosen is None:
            client.close()
        else:
            threading.Thread(target=self._serve, args=(client, chosen), daemon=True).start()

    def _serve(self, client, chosen):
        with contextlib.suppress(OSError), chosen.wrap_socket(client, server_side=True) as secure:
            self.versions.append(secure.version())
            with socket.create_connection(("127.0.0.1", self.server.port)) as plain:
                _pump(secure, plain)


def _pump(secure, plain):
    """Passes bytes on in both directions, in one thread: OpenSSL allows one at a time."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        ready = [secure] if secure.pending() else select.select([secure, plain], [], [])[0]
        for source, target in ((secure, plain), (plain, secure)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)


def whole(payloads):
    return list(payloads)


class Deliveries(unittest.TestCase):
    tls = "off"

    def measure(self, deliver, messages=6, transport="ws", path="/sub", **options):
        server = Server(deliver, messages)
        self.addCleanup(server.listener.close)
        the_load = Load(transport, 5, messages, rate=0, settle_ms=10, deadline_s=20, tls=self.tls, **options)
        command = [
            str(paths.BIN / "pushload"), "--port", str(self.port_before(server)), "--publish-port", str(server.port),
            "--path", path, "--publish", "/pub", "--pid", str(os.getpid()), "--drain", "300", *the_load.arguments(),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=40)
        self.assertEqual(result.returncode, 0, result.stderr)
        measured = json.loads(result.stdout)
        return measured, load.fault_of(measured, the_load, result.stderr), server

    def port_before(self, server):
        """Where the subscribers of a server come."""
        return server.port

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


class Comers(unittest.TestCase):
    """What subscribers get because they come."""

    def measure(self, server, the_load, *words):
        self.addCleanup(server.listener.close)
        command = [
            str(paths.BIN / "pushload"), "--port", str(server.port), "--publish", "/pub", "--pid", str(os.getpid()),
            "--drain", "300", *words, *the_load.arguments(),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=40)
        self.assertEqual(result.returncode, 0, result.stderr)
        measured = json.loads(result.stdout)
        return measured, load.fault_of(measured, the_load, result.stderr)

    def kept(self, deliver, transport="sse"):
        the_load = Load(transport, 5, 6, rate=0, settle_ms=10, deadline_s=20, kept=1)
        return self.measure(Keeping(deliver, 6), the_load)

    def test_kept(self):
        measured, fault = self.kept(whole)
        self.assertIsNone(fault)
        self.assertEqual((measured["deliveries"], measured["joined_bytes"]), (30, 6 * 128))
        self.assertGreater(measured["joined_cpu_us"], 0)

    def test_kept_and_lost(self):
        self.assertIn("5 of 30 lost", self.kept(lambda all: all[:-1])[1])
        self.assertIn("lost", self.kept(lambda all: all[1:])[1])

    def test_kept_and_doubled(self):
        self.assertIn("doubled", self.kept(lambda all: all + all[-1:])[1])

    def told(self, text, *words, deadline_s=20):
        server, the_load = Telling(text), Load("sse", 5, settle_ms=10, deadline_s=deadline_s, told='"count":5}')
        return *self.measure(server, the_load, *words), server

    def test_told(self):
        """The text is found in pieces, also behind its own beginning."""
        measured, fault, server = self.told(lambda count: b'{"count"count":%d}\n' % count, "--path", "/follow")
        self.assertIsNone(fault)
        self.assertEqual((measured["untold"], len(server.subscribers)), (0, 5))
        self.assertGreater(measured["joined_bytes"], 0)

    def test_some_are_told(self):
        words = ("--path", "/sub", "--some", "2", "--some-path", "/follow")
        measured, fault, server = self.told(lambda count: b'{"count":%d}' % count, *words)
        self.assertIsNone(fault)
        self.assertEqual((measured["open"], measured["untold"], len(server.subscribers)), (5, 0, 3))

    def test_not_told(self):
        """All numbers but the last come."""
        measured, fault, _ = self.told(lambda count: b'{"count":%d}' % (count % 5), "--path", "/follow", deadline_s=2)
        self.assertIn("not told", fault)
        self.assertEqual(measured["untold"], 5)


class DeliveriesOverTls13(Deliveries):
    """The same faults are found in what comes over TLS."""

    tls, version = "1.3", "TLSv1.3"

    def port_before(self, server):
        front = Terminator(server, context())
        self.addCleanup(front.listener.close)
        self.addCleanup(lambda: self.assertEqual(set(front.versions), {self.version}))
        return front.port

    test_refused = None  # there is nothing of TLS in it


class DeliveriesOverTls12(DeliveriesOverTls13):
    tls, version = "1.2", "TLSv1.2"


class Spoiler:
    """Passes bytes on in front of a server. From `begin` on it changes the last bit of all that the server sends."""

    def __init__(self, port):
        self.behind, self.begin = port, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.behind))
                for ends in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, target, spoils):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if spoils and self.begin.is_set():
                    data = data[:-1] + bytes([data[-1] ^ 1])
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class OverTls(unittest.TestCase):
    """What is measured with TLS only."""

    def run_load(self, the_load, deliver, *contexts, front=lambda port: port):
        server = Server(deliver, 1)
        terminator = Terminator(server, *contexts)
        self.addCleanup(server.listener.close)
        self.addCleanup(terminator.listener.close)
        command = [
            str(paths.BIN / "pushload"), "--port", str(front(terminator.port)), "--publish-port", str(server.port),
            "--pid", str(os.getpid()), "--drain", "300", "--storm-path", "/other", *the_load.arguments(),
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=40)
        if result.returncode:
            return {}, result.stderr
        measured = json.loads(result.stdout)
        return measured, load.fault_of(measured, the_load, result.stderr)

    def shake_hands(self, version, *contexts, deadline_s=20):
        return self.run_load(Load("ws", 6, tls=version, handshakes=1, deadline_s=deadline_s), whole, *contexts)

    def test_full_and_resumed(self):
        for version in ("1.2", "1.3"):
            measured, fault = self.shake_hands(version, context())
            self.assertIsNone(fault)
            self.assertEqual((measured["open"], measured["not_full"], measured["not_resumed"]), (6, 0, 0))
            self.assertGreater(measured["full_cpu_us"], 0)
            self.assertGreater(measured["resumed_cpu_us"], 0)

    def test_not_resumed(self):
        """A server that can't open its own tickets has no figure for resuming."""
        for version in ("1.2", "1.3"):
            _, fault = self.shake_hands(version, *(context() for _ in range(12)))
            self.assertIn("6 did not resume", fault)

    def test_no_tickets(self):
        """With TLS 1.3 a client waits for one. With TLS 1.2 it can't resume."""
        self.assertIn("not done", self.shake_hands("1.3", context(tickets=False), deadline_s=2)[1])
        self.assertIsNotNone(self.shake_hands("1.2", *(context(tickets=False) for _ in range(12)))[1])

    def test_another_version(self):
        old = context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        measured, fault = self.shake_hands("1.3", old)
        self.assertIn("could not subscribe", fault)
        self.assertEqual(measured["open"], 0)

    def test_spoilt(self):
        """A record that was changed ends a connection, and that is a fault."""
        spoilers = []

        def front(port):
            spoilers.append(Spoiler(port))
            return spoilers[0].port

        def deliver(payloads):
            spoilers[0].begin.set()
            return payloads[-1:]

        the_load = Load("ws", 5, 1, rate=0, settle_ms=10, deadline_s=20, tls="1.3")
        _, fault = self.run_load(the_load, deliver, context(), front=front)
        spoilers[0].listener.close()
        self.assertIn("5 subscribers were cut off", fault)

    def storm(self, *contexts, deliver=lambda all: all[-1:]):
        """Three subscribers, and a storm of four: these connect first, then the three, then the four again."""
        the_load = Load("ws", 3, 4, rate=50, settle_ms=10, deadline_s=20, tls="1.3", storm=4)
        return self.run_load(the_load, deliver, *contexts)

    def test_storm(self):
        measured, fault = self.storm(context())
        self.assertIsNone(fault)
        found = [measured[f"storm_{name}"] for name in ("open", "resumed", "failed", "again")]
        self.assertEqual(found, [4, 4, 0, 0])
        self.assertGreaterEqual(measured["storm_deliveries"], 3)
        self.assertEqual(measured["expected"], measured["deliveries"])

    def test_storm_without_tickets(self):
        before = context()
        self.assertIn("only 0 of 4", self.storm(*[before] * 7, context())[1])
        self.assertIn("got a ticket: 0 of 4", self.storm(context(tickets=False))[1])

    def test_storm_that_is_refused_comes_again(self):
        one = context()
        measured, fault = self.storm(*[one] * 7, None, None, one)
        self.assertIsNone(fault)
        self.assertEqual((measured["storm_open"], measured["storm_again"]), (4, 2))

    def test_storm_that_never_comes_back(self):
        one = context()
        self.assertIn("4 of 4 never came back", self.storm(*[one] * 7, None)[1])

    def test_lost_before_and_in_a_storm(self):
        for number in (2, 6, 9):
            _, fault = self.storm(context(), deliver=lambda all: [] if len(all) == number else all[-1:])
            self.assertIn("3 of", fault)
            self.assertIn("lost", fault)

    def test_not_tls(self):
        """A server without TLS is no fast server with TLS."""
        server = Server(whole, 1)
        self.addCleanup(server.listener.close)
        command = [str(paths.BIN / "pushload"), "--port", str(server.port), "--tls", "1.3", "--subscribers", "3"]
        result = subprocess.run([*command, "--deadline", "3"], capture_output=True, text=True, timeout=40)
        self.assertEqual(json.loads(result.stdout)["open"], 0)

    def test_options_that_do_not_fit(self):
        for words in (["--tls", "1.1"], ["--handshakes", "1"], ["--storm", "2", "--slow", "1"],
                      ["--storm", "2", "--rate", "0"], ["--kept", "1", "--messages", "0"],
                      ["--kept", "1", "--transport", "poll"], ["--kept", "1", "--slow", "1"], ["--told", "x" * 65],
                      ["--told", "x", "--storm", "2"], ["--some", "2", "--transport", "poll"]):  # fmt: skip
            command = [str(paths.BIN / "pushload"), "--port", "1", "--subscribers", "9", *words]
            self.assertEqual(subprocess.run(command, capture_output=True, timeout=40).returncode, 2, words)


if __name__ == "__main__":
    unittest.main()
