"""Hubs: processes of pushd on ports that they keep, killed and started again."""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import time

from host import PATIENCE, ROOT, free_port

PUSHD = ROOT / "target/release/pushd"
KEY = "0123456789abcdef0123456789abcdef"


class Hub:
    """A pushd. `host` is where it listens; `prefix` is a command that runs it."""

    def __init__(self, name, folder, engine, *options, host="127.0.0.1", prefix=(), environment=None):
        self.name, self.host, self.control_host = name, host, host
        self.port, self.control_port = free_port(), free_port()
        options = (
            f"listen={host}:{self.port}", f"control={host}:{self.control_port}", f"control_key={KEY}", "auth=none",
            f"engine={engine}", *options,
        )  # fmt: skip
        self._command = [*prefix, PUSHD, "-d", "0", *(word for option in options for word in ("-o", option))]
        self._environment = {**os.environ, **(environment or {})}
        self._log = pathlib.Path(folder) / f"{name}.log"
        self._process = None
        self.start()

    def start(self):
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env=self._environment
            )

    def url(self, path="/push"):
        return f"http://{self.host}:{self.port}{path}"

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        """Ends it in order. True if it ended well."""
        if self._process.poll() is not None:
            return False
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def health(self):
        """The status of its health check. None: it does not answer."""
        connection = http.client.HTTPConnection(self.control_host, self.control_port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def newest(self, channel):
        """The number of the newest message of a channel that the hub has read. 0: it does not say."""
        connection = http.client.HTTPConnection(self.control_host, self.control_port, timeout=PATIENCE)
        try:
            connection.request("GET", f"/v1/channels/{channel}", headers={"Authorization": f"Bearer {KEY}"})
            response = connection.getresponse()
            position = json.loads(response.read())["id"] if response.status == 200 else None
            return int(position.rsplit("-", 1)[1]) if position else 0
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def wait_until(self, is_healthy=True):
        deadline = time.monotonic() + PATIENCE
        while (self.health() == 200) != is_healthy:
            assert self._process.poll() is None, f"{self.name} has ended: {self.log()[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name} is not {is_healthy}: {self.log()[-2000:]}"
            time.sleep(0.02)

    def log(self):
        return self._log.read_text(errors="replace")
