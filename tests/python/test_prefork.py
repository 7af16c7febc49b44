"""Prefork hosts in C and Python, attached to pushd. tests/python/run runs this."""

import base64
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY, PUSHD, PREFORK = (os.environ[name] for name in ("PUSH_LIBRARY", "PUSHD", "PREFORK_SERVER"))
# How long to wait for something that must come. It is long, as the machine may be busy.
PATIENCE = 120


class WebSocket:
    """A client just large enough for these tests."""

    def __init__(self, url, query, user=""):
        host, port = re.match(r"http://(.*):(\d+)", url).groups()
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.read = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /push?{query} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                            f"Cookie: user={user}\r\n\r\n".encode())
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            line = self.read.readline()
            if not line:
                self.close()
                raise ConnectionError(self.head)
            self.head += line
        if b" 101 " not in self.head:
            self.close()
            raise ConnectionError(self.head)

    def text(self):
        first, length = self.read.read(2)
        if length == 126:
            length, = struct.unpack(">H", self.read.read(2))
        payload = self.read.read(length)
        assert first == 0x81, (first, payload)
        return payload.decode()

    def say(self, text):
        data = text.encode()
        self.socket.sendall(bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data)

    def close(self):
        self.read.close()
        self.socket.close()

    def ended(self):
        try:
            return self.read.read(1) in (b"", b"\x88")
        except OSError:
            return True


class Case(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="push-")
        self.addCleanup(self.directory.cleanup)
        self.attach = f"unix:{self.directory.name}/attach.sock"
        self.pushd = self.start_pushd()

    def spawn(self, *command, **kwargs):
        process = subprocess.Popen(command, text=True, **kwargs)

        def end():
            # It ends them with SIGTERM, or a host's workers would be left.
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()

        self.addCleanup(end)
        return process

    def client(self, *arguments, **named):
        """It waits for a worker that has not found the hub yet, as others have."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = WebSocket(*arguments, **named)
                self.addCleanup(client.close)
                return client
            except ConnectionError:
                self.assertLess(time.monotonic(), deadline)

    def start_pushd(self):
        return self.spawn(PUSHD, "-o", "listen=none", "-o", f"attach_listen={self.attach}", stderr=subprocess.DEVNULL)

    def start_python(self, workers=2):
        host = self.spawn(sys.executable, f"{HERE}/host.py", LIBRARY, self.attach, str(workers), stdout=subprocess.PIPE)
        return host, host.stdout.readline().strip()

    def start_c(self, workers=2):
        host = self.spawn(PREFORK, "-a", self.attach, "-p", "0", "-n", str(workers), stdout=subprocess.PIPE)
        return host, host.stdout.readline().split()[-1].rstrip("/")

    def publish(self, url, data, channel="a"):
        """Returns the position and the worker. It waits for a hub that is starting."""
        deadline = time.monotonic() + PATIENCE
        # An answer that came too late does not say that nothing was done.
        key = os.urandom(16).hex()
        while True:
            try:
                request = urllib.request.Request(f"{url}/publish?channel={channel}&key={key}", data.encode(), method="POST")
                with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                    body = response.read().decode()
                    return tuple(json.loads(body).values()) if body[0] == "{" else tuple(body.split())
            except urllib.error.HTTPError as error:
                self.assertEqual(error.code, 503)
                self.assertLess(time.monotonic(), deadline)

    def attached(self, url):
        """A hub that is not there yet is no error for a host. Waits until both are there."""
        self.publish(url, "there", channel="warm-up")
        return url


class Hosts(Case):
    def check_workers(self, url):
        clients = [self.client(url, "channel=a") for _ in range(20)]
        workers, data = set(), []
        for n in range(100):
            data.append(str(n))
            workers.add(str(self.publish(url, data[-1])[1]))
        for client in clients:
            self.assertEqual([client.text() for _ in data], data)
        return clients, workers

    def test_c_workers_share_a_hub(self):
        host, url = self.start_c()
        clients, workers = self.check_workers(self.attached(url))
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        position, replaced = self.publish(url, "after")
        self.assertNotIn(str(replaced), workers)
        self.assertEqual({client.text() for client in clients}, {"after"})
        host.terminate()
        self.assertEqual(host.wait(PATIENCE), 0)
        # The server is gone, and its clients are still there: another server publishes to them.
        _, url = self.start_python(1)
        self.publish(url, "from another")
        self.assertEqual({client.text() for client in clients}, {"from another"})

    def test_python_workers_share_a_hub(self):
        host, url = self.start_python()
        clients, workers = self.check_workers(self.attached(url))
        for worker in workers:
            os.kill(int(worker), signal.SIGKILL)
        self.publish(url, "after")
        self.assertEqual({client.text() for client in clients}, {"after"})
        host.terminate()
        self.assertEqual(host.wait(PATIENCE), 0)

    def test_clients_are_answered_by_who_is_left(self):
        _, url = self.start_python(1)
        client = self.client(self.attached(url), "channel=a", user="ann")
        client.say("one")
        worker, text = client.text().split(" ", 1)
        self.assertEqual(text, "ann: one")
        os.kill(int(worker), signal.SIGKILL)
        # Its successor has the same name, and gets the events from now on. Events on their way to the dead one are
        # lost.
        deadline = time.monotonic() + PATIENCE
        client.say("two")
        while not select.select([client.socket], [], [], 0.3)[0]:
            self.assertLess(time.monotonic(), deadline)
            client.say("two")
        self.assertNotEqual(client.text().split(" ")[0], worker)

    def test_a_killed_hub_comes_back(self):
        _, url = self.start_c()
        client = self.client(self.attached(url), "channel=a")
        seen, _ = self.publish(url, "before")
        self.assertEqual(client.text(), "before")
        self.pushd.kill()
        self.pushd.wait()
        self.assertTrue(client.ended())
        self.pushd = self.start_pushd()
        self.publish(url, "after")
        client = self.client(url, f"channel=a&since={seen}")
        self.assertIn(b"Push-Gap", client.head)
        self.assertEqual(client.text(), "after")

    def test_without_a_hub_the_server_serves(self):
        _, url = self.start_c()
        self.attached(url)
        self.pushd.kill()
        self.pushd.wait()
        start = time.monotonic()
        for _ in range(100):
            with urllib.request.urlopen(url + "/", timeout=PATIENCE) as response:
                self.assertIn(b"worker", response.read())
        self.assertLess(time.monotonic() - start, PATIENCE)


if __name__ == "__main__":
    unittest.main()
