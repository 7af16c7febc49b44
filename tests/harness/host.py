"""Starts a C host as a user would, publishes to it, and ends it."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "target/examples-c"
# The time between two looks at the host's counters. The test's own time bounds the wait.
LOOK_SECONDS = 0.01
# How long to wait for something that must come. It is long, as the machine may be busy.
PATIENCE = 120


class Address:
    """The address of a listener."""

    # What its clients trust, if it speaks TLS: an ssl.SSLContext.
    trust = None

    def __init__(self, host, port):
        self.host, self.port = host, port

    def url(self, path="/push", scheme="http", **parameters):
        """A URL at this address. A list makes a parameter that comes several times; None leaves it out."""
        query = urllib.parse.urlencode({k: v for k, v in parameters.items() if v is not None}, doseq=True)
        return f"{scheme}://{self.host}:{self.port}{path}" + (f"?{query}" if query else "")


class Secure(Address):
    """The address of a listener with TLS. `version` is the only one that its clients speak, or None."""

    def __init__(self, port, certificates, version=None):
        super().__init__("localhost", port)
        self.trust = ssl.create_default_context(cafile=f"{certificates}/root.pem")
        if version is not None:
            self.trust.minimum_version = self.trust.maximum_version = version

    def url(self, path="/push", scheme="http", **parameters):
        return super().url(path, scheme + "s", **parameters)


def with_tls(certificates):
    """A port, and the options of a listener with TLS there. It has what tests/harness/certificates has made."""
    port = free_port()
    live = f"{certificates}/live"
    return port, (f"listen=tls:127.0.0.1:{port}", f"tls_certificate={live}/fullchain.pem", f"tls_key={live}/privkey.pem")


class Host(Address):
    """A running legacy-server: `options` are options of the library, `flags` its own.

    `own_listener`: the library listens, too, at the address `own`. Another `program` gets `arguments`.
    """

    def __init__(self, *options, flags=(), own_listener=False, program="legacy-server", arguments=None):
        if own_listener:
            self.own = Address("127.0.0.1", free_port())
            options += (f"listen={self.own.host}:{self.own.port}",)
        if arguments is None:
            arguments = ["-p", "0", *flags, *(word for option in options for word in ("-o", option))]
        # If the test makes the host write to stderr, each line must match this regular expression.
        self.may_say = None
        # This is a file and not a pipe, so the host goes on even if nothing reads it.
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [EXAMPLES / program, *arguments], stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        line = self._process.stdout.readline()
        address = re.match(r"listening on http://([0-9.]+):(\d+)/", line)
        if not address:
            code = self._process.wait()
            raise RuntimeError(f"{program} ended with {code}: {self.stderr()}")
        super().__init__(address[1], int(address[2]))
        self._local = threading.local()

    @property
    def pid(self):
        return self._process.pid

    def publish(self, channel, data, **parameters):
        """Publishes over HTTP, as from a script. Returns the message's position."""
        return self._post(self.url("/publish", channel=channel, **parameters), data)

    def broadcast(self, data, **parameters):
        return self._post(self.url("/broadcast", **parameters), data)

    def stats(self):
        return self._request("GET", self.url("/stats"))

    def wait_for(self, **wanted):
        """Waits until the host's counters and gauges are at least these."""
        while True:
            stats = self.stats()
            if all(stats[name] >= least for name, least in wanted.items()):
                return stats
            time.sleep(LOOK_SECONDS)

    def wait_until(self, **wanted):
        """Waits until the host's counters and gauges have these values. A client may get a message before it is
        counted. """
        while any((stats := self.stats())[name] != value for name, value in wanted.items()):
            time.sleep(LOOK_SECONDS)
        return stats

    def terminate(self, with_signal=signal.SIGTERM):
        self._process.send_signal(with_signal)

    def wait(self):
        return self._process.wait(timeout=PATIENCE)

    def stop(self):
        """Ends the host, whatever it is doing. Returns its exit code."""
        if self._process.poll() is None:
            self.terminate()
        try:
            return self.wait()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()

    def stderr(self):
        self._stderr.seek(0)
        return self._stderr.read()

    def _post(self, url, data):
        return self._request("POST", url, data.encode() if isinstance(data, str) else data)["id"]

    def _request(self, method, url, body=None):
        """One request over this thread's connection. If the host has closed it, a new one is made."""
        path = url.split(f":{self.port}", 1)[1]
        for last in (False, True):
            if getattr(self._local, "connection", None) is None:
                self._local.connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
            try:
                self._local.connection.request(method, path, body)
                response = self._local.connection.getresponse()
                text = response.read()
                break
            except (ConnectionError, http.client.HTTPException):
                self._local.connection = None
                # Only a request that changes nothing may be sent twice.
                if last or method != "GET":
                    raise
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {text!r}")
        return json.loads(text)


@contextlib.contextmanager
def running(*options, **arguments):
    """A host for the length of a `with`. It must end well, and without output that the test does not allow."""
    host = Host(*options, **arguments)
    try:
        yield host
    except BaseException:
        host.stop()
        print(host.stderr())
        raise
    code = host.stop()
    said = [line for line in host.stderr().splitlines() if not (host.may_say and re.search(host.may_say, line))]
    assert (code, said) == (0, [])


class Publishers:
    """Threads that publish to channels, each message once, until they are told to stop."""

    def __init__(self, host, channels, threads=4, most=20_000):
        self._host, self._channels, self._most = host, channels, most
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._published = []
        self._failure = None
        # None goes on before each has published: otherwise some might begin when the others are done.
        self._all_publish = threading.Barrier(threads)
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def finish(self):
        """Ends them. Returns all messages as (position, channel, data), in the order of the positions."""
        self.__exit__()
        if self._failure:
            raise self._failure
        return sorted(self._published, key=lambda message: number(message[0]))

    def _run(self, thread):
        mine = []
        try:
            for count in range(self._most // len(self._threads)):
                if count > 0 and self._stop.is_set():
                    break
                channel, data = self._channels[count % len(self._channels)], f"thread {thread} message {count}"
                mine.append((self._host.publish(channel, data), channel, data))
                if count == 0:
                    self._all_publish.wait(PATIENCE)
        except Exception as failure:
            self._failure = failure
            self._all_publish.abort()
        with self._lock:
            self._published += mine


def number(position):
    """The number of a position."""
    return int(position.rsplit("-", 1)[1])
