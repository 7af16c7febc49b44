"""A redis-server as the child of a test."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time

from host import LOOK_SECONDS, PATIENCE


class Redis:
    """A running redis-server at a socket in a folder of its own. It has again after a kill what it has acknowledged."""

    def __init__(self):
        # The path of a Unix socket has at most 107 bytes, so the folder is not the test's.
        self.folder = tempfile.mkdtemp(prefix="push-redis-")
        self.url = f"redis+unix://{self.folder}/redis.sock"
        self._process = None
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", f"{self.folder}/redis.sock", "--dir", self.folder,
             "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < until, "redis-server does not answer"
            time.sleep(LOOK_SECONDS)

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            try:
                client.connect(f"{self.folder}/redis.sock")
                client.sendall(b"PING\r\n")
                # While it reads its file it answers with an error.
                return client.recv(64) == b"+PONG\r\n"
            except OSError:
                return False

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
