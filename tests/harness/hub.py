"""Runs a pushd, and watches its memory, descriptors and threads from outside."""

import http.client
import json
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
import urllib.parse

from host import PATIENCE, ROOT, free_port

PUSHD = ROOT / "target/release/pushd"
KEY = "0123456789abcdef0123456789abcdef"
# How long it may take to come up, or to end.
PATIENCE_SECONDS = PATIENCE


class Usage:
    """The resources that a process uses at a moment."""

    def __init__(self, pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        self.rss_kb = int(fields["VmRSS"].split()[0])
        self.threads = int(fields["Threads"])
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        times = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        self.cpu_seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


class Hub:
    """A running pushd with a listener and a control API on free ports of loopback."""

    def __init__(self, *options, program=PUSHD, descriptors=None, environment=None, ports=None):
        self.port, self.control_port = ports or (free_port(), free_port())
        options = (
            f"listen=127.0.0.1:{self.port}", f"control=127.0.0.1:{self.control_port}", f"control_key={KEY}", *options
        )
        self._log = tempfile.TemporaryFile("w+")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = (descriptors or hard, hard)
        self._process = subprocess.Popen(
            [program, *(word for option in options for word in ("-o", option))],
            stdout=subprocess.DEVNULL, stderr=self._log, env={**os.environ, **(environment or {})},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit),
        )  # fmt: skip
        self._connection = None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.request("GET", "/healthz")
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"pushd did not start: {self.log()}") from None
                time.sleep(0.05)

    @property
    def pid(self):
        return self._process.pid

    def usage(self):
        return Usage(self.pid)

    def stats(self):
        return json.loads(self.request("GET", "/v1/stats")[1])

    def publish(self, channel, data, **parameters):
        """The status, and the position if it is 200."""
        query = urllib.parse.urlencode({"channel": channel, **parameters})
        status, body = self.request("POST", f"/v1/publish?{query}", data)
        return status, json.loads(body)["id"] if status == 200 else None

    def request(self, method, path, body=None):
        """One request over a kept connection. If it was closed, a new one is made."""
        for last in (False, True):
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=PATIENCE_SECONDS)
            try:
                self._connection.request(method, path, body, {"Authorization": f"Bearer {KEY}"})
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                self._connection = None
                if last:
                    raise

    def wait_for(self, condition, seconds=PATIENCE_SECONDS):
        """Waits until the condition holds for the counters. Returns them, or raises an error that has them."""
        deadline = time.monotonic() + seconds
        while not condition(stats := self.stats()):
            if time.monotonic() > deadline:
                raise AssertionError(f"it did not come to that: {stats}")
            time.sleep(0.05)
        return stats

    def limit_descriptors(self, soft):
        """Sets its limit of descriptors. None: as many as the hard limit allows."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft or hard, hard))

    def send_signal(self, number):
        self._process.send_signal(number)

    def alive(self):
        return self._process.poll() is None

    def stop(self):
        """Ends it. Returns its exit code."""
        if self.alive():
            self.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=PATIENCE_SECONDS)
        finally:
            if self.alive():
                self._process.kill()
                self._process.wait()
            if self._connection:
                self._connection.close()

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
