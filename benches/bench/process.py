"""The processes of servers. Each is pinned to a CPU, has a log, and ends with the harness."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import paths

SERVER_CPU, LOAD_CPU = 0, 1
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 3
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class ServerError(Exception):
    """A server did not start, or ended too early."""


def pin(cpu):
    """Pins this process. A child calls it before it runs its program. If there is only one CPU, nothing is pinned, and
    the report says so."""
    if cpu in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {cpu})


def child_setup(cpu):
    def run():
        pin(cpu)
        # If the harness is killed, its servers must end as well.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return run


def free_port():
    """A port that is free at this moment, and not one of those that the system gives to clients."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _stat(pid):
    """The fields of /proc/PID/stat from the third on, as proc(5) numbers them. None if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def started_at(pid):
    fields = _stat(pid)
    return fields and fields[19]


def descendants(pid):
    """A process and its descendants, found by the parents in /proc."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _stat(folder.name)
        if fields:
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += parents.get(found[-1], [])
    return found


class Process:
    """A started server. Use as a context manager."""

    def __init__(self, name, command, ports):
        self.name, self.ports = name, ports
        paths.RUN.mkdir(parents=True, exist_ok=True)
        self.log_path = paths.RUN / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=paths.RUN,
                preexec_fn=child_setup(SERVER_CPU),
            )
        try:
            for port in ports:
                self._wait_for(port)
            self.pids = descendants(self._process.pid)
        except ServerError:
            self.stop()
            raise

    def _wait_for(self, port):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"{self.name} ended with {self._process.returncode}: {self.log_end()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                # The server's work for this connection must be over before the measurement.
                time.sleep(0.1)
                return
            except OSError:
                time.sleep(0.02)
        raise ServerError(f"{self.name} does not listen on port {port}: {self.log_end()}")

    def log_end(self):
        text = self.log_path.read_text(errors="replace").strip()
        return text[-300:] or "its log is empty"

    def alive(self):
        return self._process.poll() is None

    def stop(self):
        below = {pid: started_at(pid) for pid in descendants(self._process.pid)[1:]} if self.alive() else {}
        if self.alive():
            self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, start in below.items():
            # A worker may be left if its master was killed. The time of its start shows that the pid is still the same
            # process.
            if start and started_at(pid) == start:
                os.kill(pid, signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
