"""Starts Debian's nginx with the module, and pushd, in a directory of their own, and ends them."""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

from host import LOOK_SECONDS, PATIENCE, Address, free_port  # noqa: E402

MODULE = ROOT / "target/nginx/ngx_http_push_module.so"
PUSHD = ROOT / "target/stage/bin/pushd"
NGINX = "/usr/sbin/nginx"

CONFIGURATION = """
{load}
{user}
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections {connections}; }}
{main}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format test '$status $body_bytes_sent $bytes_sent {via} $request_method $uri';
    access_log {directory}/access.log test;
    {http}
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} {tls_listen};
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        {server}
    }}
}}
"""


def wait_until(reached, what):
    """Waits until `reached()` returns something true, and returns that."""
    until = time.monotonic() + PATIENCE
    while not (value := reached()):
        assert time.monotonic() < until, what
        time.sleep(LOOK_SECONDS)
    return value


class Pushd:
    """A running pushd, with hosts at `attach` and its control API on a Unix socket."""

    def __init__(self, directory, *options, program=PUSHD):
        self.attach, self.control = f"unix:{directory}/attach.sock", f"{directory}/control.sock"
        self._log = open(directory / "pushd.log", "a+")
        # One before it may have written there, too.
        begins = len(self.log())
        named = (f"attach_listen={self.attach}", "listen=none", f"control=unix:{self.control}", *options)
        words = [word for option in named for word in ("-o", option)]
        # A log on a busy disk takes its time until it is closed.
        seconds = "60" if any(option.startswith("engine=file:") for option in options) else "1"
        self.process = subprocess.Popen([program, "-d", seconds, *words], stderr=self._log)

        def listens():
            assert self.process.poll() is None, self.log()
            return "listening on unix:" + self.control in self.log()[begins:]

        wait_until(listens, "pushd listens")

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def request(self, method, path, body=None):
        """One request of the control API: its status, and its answer."""
        connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.control)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def stats(self):
        return self.request("GET", "/v1/stats")[1]

    def hang(self):
        """Stops all its threads: the signal alone returns before they have stopped, and one of them may still answer."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(with_signal)
        try:
            return wait_or_kill(self.process)
        finally:
            self._log.close()


def wait_or_kill(process):
    """The exit status of a process that has been told to end. One that does not end is killed, which is an error."""
    try:
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


def connection(server):
    """A connection to an address of a server."""
    return socket.create_connection((server.host, server.port), PATIENCE)


def read_until(client, end):
    """Reads until `end` has come. Returns all that has come."""
    got = b""
    while end not in got:
        more = client.recv(65536)
        assert more, got
        got += more
    return got


def read_all(client):
    """Reads up to the end of the connection, in order or by a reset."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            got += more
    return got


class Nginx(Address):
    """nginx under `directory`: `http` and `server` are directives of these blocks."""

    def __init__(self, directory, certificate, key, http="", server="", main="", workers=2, load=(MODULE,),
                 program=NGINX, via="$push_via", tls_listen="ssl http2", connections=4096):  # fmt: skip
        super().__init__("127.0.0.1", free_port())
        self.tls = Address("127.0.0.1", free_port())
        self.directory = directory
        self._values = {
            # A master that is root gives its workers another user, and pushd lets in only its own user.
            "user": "user root;" if os.geteuid() == 0 else "",
            "load": "\n".join(f"load_module {module};" for module in load),
            "directory": directory, "port": self.port, "tls_port": self.tls.port, "certificate": certificate,
            "key": key,
            "http": http, "server": server, "main": main, "workers": workers, "via": via,
            "tls_listen": tls_listen, "connections": connections,
        }  # fmt: skip
        self._program = program
        self.configure()
        self.process = None

    def configure(self, **values):
        """Writes the configuration, with other values than before."""
        self._values.update(values)
        (self.directory / "nginx.conf").write_text(CONFIGURATION.format(**self._values))

    def _command(self, *flags):
        return [self._program, "-p", self.directory, "-e", self.directory / "error.log", "-c", "nginx.conf", *flags]

    def test(self):
        """The output of `nginx -t`, and whether it succeeds."""
        ran = subprocess.run(self._command("-t"), capture_output=True, text=True, timeout=PATIENCE)
        return ran.returncode == 0, ran.stderr

    def start(self):
        self.process = subprocess.Popen(self._command(), stderr=subprocess.DEVNULL)

        def serves():
            assert self.process.poll() is None, self.error_log()
            try:
                connection(self).close()
            except ConnectionRefusedError:
                return False
            return len(self.workers()) == int(self._values["workers"])

        wait_until(serves, "nginx serves")
        return self

    def workers(self):
        """The master's children, from the kernel. This includes those that have to end."""
        pid = self.process.pid
        return {int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def quit(self, with_signal=signal.SIGQUIT):
        """Ends nginx: by SIGQUIT when its workers have served their clients, by SIGTERM at once."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return wait_or_kill(self.process)

    def end(self):
        """Ends nginx. After a SIGTERM it kills workers that have not ended within two seconds, and calls that a defect. So
        they have their time, unless a test has left clients behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self.quit(signal.SIGTERM)

    def error_log(self):
        path = self.directory / "error.log"
        return path.read_text() if path.exists() else ""

    def is_attached(self, times=1):
        """Whether each worker has been welcomed by a hub so often, as it says itself. A hub may welcome a worker that has
        given up waiting for that."""
        said = re.findall(r" (\d+)#\d+: .*push: attached to unix:", self.error_log())
        counts = collections.Counter(map(int, said))
        return all(counts[worker] >= times for worker in self.workers())

    def defects(self):
        """Lines that only a defect of the module, or a test, causes."""
        words = ("[alert]", "[emerg]", "[crit]", "already closed", "count is zero", "left in connection")
        return [line for line in self.error_log().splitlines() if any(word in line for word in words)]

    def access_log(self):
        return (self.directory / "access.log").read_text().splitlines()

    def logged(self, end):
        """Waits for a line of the access log with this end. It is written when a request is over; the client may see
        the end before."""
        wait_until(lambda: any(line.endswith(end) for line in self.access_log()), f"{end} in {self.access_log()}")

    def get(self, path="/", method="GET", body=None, headers=None):
        """One request on a connection of its own: status, headers and body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def publish(self, channel, data, **headers):
        """Publishes at the location /publish. Returns the position."""
        path = self.url("/publish", channel=channel).split(f":{self.port}")[1]
        status, _, body = self.get(path, "POST", data, headers)
        assert status == 200, (status, body)
        return json.loads(body)["id"]

    def talk(self, data, ends=None, closes=False):
        """Sends bytes on a new connection, and returns the answer, up to `ends` or the end."""
        with connection(self) as client:
            client.sendall(data)
            if closes:
                client.shutdown(socket.SHUT_WR)
            got = b""
            while ends is None or ends not in got:
                try:
                    more = client.recv(65536)
                except ConnectionResetError:
                    break
                if not more:
                    break
                got += more
            return got
