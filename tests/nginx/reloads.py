"""Subscribers and publishers go on while nginx is reloaded, loses a worker, and is stopped and started again.

Used by test_reloads.py, and with Nchan in place of the module by `make bench`.
"""

import collections
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from servers import PATIENCE, wait_until

CROWD = pathlib.Path(__file__).with_name("crowd.py")
CHANNELS = 10
# When a server is being replaced, a publisher tries again with the same key.
RETRY_SECONDS = 0.05


class Publishers:
    """One thread for each channel. It numbers its messages, and sends each over a new connection, so that any worker
    gets it."""

    def __init__(self, port, rate):
        self._port, self._pause, self._stop = port, CHANNELS / rate, threading.Event()
        self.last, self.retries, self.workers = {}, 0, collections.Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(f"c{n}",), daemon=True) for n in range(CHANNELS)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def finish(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.last

    def have_met(self, generation):
        """Whether any of these workers has taken a message."""
        with self._lock:
            return any(str(worker) in self.workers for worker in generation)

    def wait_for(self, generation, patience):
        """Waits until one of these workers has taken a message, for so many seconds at most."""
        end = time.monotonic() + patience
        while not self.have_met(generation) and time.monotonic() < end:
            time.sleep(0.01)

    def _run(self, channel):
        number, due = 0, time.monotonic()
        while not self._stop.is_set():
            number += 1
            given_up = time.monotonic() + PATIENCE
            while not (worker := self._publish(channel, number)):
                assert time.monotonic() < given_up, f"message {number} can't be published to {channel}"
                with self._lock:
                    self.retries += 1
                time.sleep(RETRY_SECONDS)
            with self._lock:
                self.last[channel] = number
                self.workers[worker] += 1
            # Messages that could not be sent while the server was away are not sent later: the rate stays the same.
            due = max(due + self._pause, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _publish(self, channel, number):
        """Returns the worker that took it, or None if that is not known."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            headers = {"Push-Key": str(number), "Connection": "close"}
            connection.request("POST", f"/publish?channel={channel}", f"#{number};", headers)
            response = connection.getresponse()
            response.read()
            return response.headers.get("X-Worker") if response.status // 100 == 2 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def show(nginx, dialect, subscribers=2000, rate=100, reloads=10, every=1.5, patience=0, faults=True, tls=()):
    """Runs against a started nginx. Returns the clients' findings, and how long old workers stayed. `patience`: how
    many seconds longer than `every` a reload waits for them. `faults`: after the reloads a worker is killed, and nginx
    is stopped and started again. `tls`: the port, certificate and name of clients that speak TLS."""
    port, *trusted = tls or (nginx.port,)
    crowd = subprocess.Popen(
        [sys.executable, CROWD, str(port), str(subscribers), str(CHANNELS), dialect, *trusted],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    publishers = Publishers(nginx.port, rate)
    try:
        assert crowd.stdout.readline() == "ready\n", "the clients stand"
        publishers.start()
        time.sleep(1)
        generations, ends = [nginx.workers()], []
        for _ in range(reloads):
            publishers.wait_for(generations[-1], patience)
            ends.append(_reload(nginx, every, patience))
            generations.append(nginx.workers().difference(*generations))
        if faults:
            _end_and_begin(nginx)
            generations.append(nginx.workers().difference(*generations))
        publishers.wait_for(generations[-1], patience)
        last = publishers.finish()
        crowd.stdin.write(f"end {json.dumps(last)}\n")
        crowd.stdin.flush()
        findings = json.loads(crowd.stdout.readline())
        known = ("deliveries", "streams", "lost", "doubled or out of order", "dropped", "told", "unanswered",
                 "polls answered")  # fmt: skip
        return {
            **dict.fromkeys(known, 0), **findings,
            "published": sum(last.values()), "retried": publishers.retries, "workers": len(publishers.workers),
            "idle generations": sum(not publishers.have_met(generation) for generation in generations),
            "old workers stayed": [end for end in ends if end is not None],
            "old workers never went": sum(end is None for end in ends),
        }  # fmt: skip
    finally:
        publishers.finish()
        crowd.kill()
        crowd.wait()
        crowd.stdin.close()
        crowd.stdout.close()


def _end_and_begin(nginx):
    victim = max(nginx.workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in nginx.workers(), "a killed worker is replaced")
    time.sleep(1)
    nginx.quit(signal.SIGTERM)
    time.sleep(0.5)
    nginx.start()
    time.sleep(1.5)


def _reload(nginx, every, patience):
    """Reloads, and returns after how many seconds the old workers were gone. None: they were not when the next reload
    came."""
    begin, old = time.monotonic(), nginx.workers()
    nginx.reload()
    gone = None
    while time.monotonic() < begin + every + (patience if gone is None else 0):
        if gone is None and not old & nginx.workers():
            gone = time.monotonic() - begin
        time.sleep(0.01)
    return gone
