"""Hubs that export spans, for the tests of tracing: embedded and as pushd, and what is asked of them."""

import contextlib
import http.client
import json
import socket
import sys

from collector import wait_for
from host import PATIENCE, ROOT
from hub import KEY, Hub

sys.path.insert(0, str(ROOT / "tests/python"))

import push  # noqa: E402

LIBRARY = ROOT / "target/stage/lib/libpush.so"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
# A collector that is late would get the same spans again.
PATIENT = {"trace_timeout": "10m"}
# A trace from outside decides for itself, and nothing else has a span.
ONLY_THEIRS = {"trace_sample": "0"}
ALL = {"trace_sample": "1"}


@contextlib.contextmanager
def embedded(drain_ms=1000, **options):
    server = push.Server(str(LIBRARY), **{"auth": "none", "threads": "2", **PATIENT, **options})
    try:
        yield server
    finally:
        server.stop(drain_ms)


@contextlib.contextmanager
def hub(*options, **arguments):
    running = Hub("auth=none", *options, **arguments)
    try:
        yield running
    finally:
        assert running.stop() == 0, running.log()


def options_of(collector, **options):
    return [f"{name}={value}" for name, value in {"trace": collector.option, **PATIENT, **options}.items()]


def answered(server, collector):
    """Publishes until the collector has answered the server once, and returns the positions. A server that stops gives one
    that has not answered yet a second."""
    positions = []
    # The second request comes when the first one is answered.
    for _ in range(2):
        before = len(collector.spans)
        positions.append(server.publish("a", b"x", trace=SAMPLED))
        wait_for(lambda: len(collector.spans) > before)
    return positions


def control(hub, method, path, body=b"", headers=()):
    """A request with header lines as they are given."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.control_port, timeout=PATIENCE)
    connection.putrequest(method, path)
    for name, value in [("Authorization", f"Bearer {KEY}"), ("Content-Length", str(len(body))), *headers]:
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200, answer
    return json.loads(answer)


def subscribed(port, query):
    """A client of SSE that has the head of the response."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(f"GET /push?{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(65536)
    assert head.startswith(b"HTTP/1.1 200"), head
    return client


def outcomes(hub):
    _, text = hub.request("GET", "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith("push_trace_spans_total{")]
    return {line.split('"')[1]: int(line.rsplit(" ", 1)[1]) for line in lines}
