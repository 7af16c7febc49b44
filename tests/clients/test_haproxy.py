"""HAProxy in front: its own check finds the server up, and it passes subscribers on."""

import contextlib
import socket
import subprocess
import time

import pytest
from host import LOOK_SECONDS, PATIENCE, free_port
from subscribers import over_sse, take

CONFIGURATION = """
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    timeout check 60s
listen front
    bind 127.0.0.1:{front}
    {check}
    http-request set-header Host push.example.org
    server push 127.0.0.1:{server} check inter 50ms fall 1000
listen stats
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
"""


@contextlib.contextmanager
def haproxy(directory, server, check):
    """Runs HAProxy in front of a port. Yields its own port, and a function for the state of the server."""
    front, stats = free_port(), free_port()
    path = directory / "haproxy.cfg"
    path.write_text(CONFIGURATION.format(front=front, stats=stats, server=server, check=check))
    process = subprocess.Popen(["haproxy", "-db", "-f", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield front, lambda: state(stats)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def state(port):
    """UP or DOWN, with the reason, once HAProxy has checked."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"GET /;csv HTTP/1.0\r\n\r\n")
        lines = client.makefile().read().splitlines()
        fields = next((line.split(",") for line in lines if line.startswith("front,push,")), None)
        names = next(line.lstrip("# ").split(",") for line in lines if line.startswith("# pxname"))
        row = dict(zip(names, fields))
        if row["check_status"] not in ("", "INI") and not row["check_status"].startswith("* "):
            return row["status"].split(" ")[0], row["check_code"]
    return None, None


def until(read, wanted):
    begun = time.monotonic()
    while (found := read()) != wanted:
        assert time.monotonic() < begun + PATIENCE, found
        time.sleep(LOOK_SECONDS)


@pytest.mark.parametrize("check", [
    "option httpchk GET /healthz", "option httpchk HEAD /healthz", "option httpchk /healthz",
    "option httpchk\n    http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host push.example.org",
])  # fmt: skip
def test_the_check_finds_it_well_and_subscribers_come_through(start, tmp_path, check):
    host = start("allowed_hosts=push.example.org", own_listener=True)
    with haproxy(tmp_path, host.own.port, check) as (front, state):
        until(state, ("UP", "200"))
        host.port, port = front, host.port
        with over_sse(host, channel="a") as messages:
            host.port = port
            host.wait_for(sse=1)
            host.publish("a", "through HAProxy")
            assert [message["data"] for message in take(messages, 1)] == ["through HAProxy"]
        host.port = port


def test_its_check_without_a_path_asks_for_what_is_not_there(start, tmp_path):
    host = start(own_listener=True)
    host.may_say = "^libpush: refused with 404"
    with haproxy(tmp_path, host.own.port, "option httpchk") as (_, state):
        until(state, ("DOWN", "404"))
