"""Faults of a hub or its host that come without malice: `tests/abuse/run faults`, which is `make test-faults`.

Nothing here depends on timing: each step waits patiently for the effect of the one before.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import signal
import socket
import struct
import tempfile
import time

from clients import PATIENCE_SECONDS, UPGRADE, read_until, subscriber
from host import Host, free_port
from hub import Hub

# The dynamic loader expands $LIB to the directory where Debian has the library.
FAKETIME = "/usr/$LIB/faketime/libfaketimeMT.so.1"
# The payload of a close frame.
EXPIRED = struct.pack("!H", 4403)


def descriptors(report):
    """The hub has no descriptors left. Its clients are still served, and new ones when there are descriptors again."""
    # This client does not answer pings.
    with Hub("threads=1", "heartbeat=10m") as hub:
        served = subscriber(hub.port, "channel=a")
        hub.stats()  # the control connection is there
        hub.limit_descriptors(hub.usage().descriptors)
        waiting = [socket.create_connection(("127.0.0.1", hub.port), PATIENCE_SECONDS) for _ in range(50)]
        for client in waiting:
            client.sendall(f"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "accept:" not in hub.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        refused = "accept:" in hub.log()
        began = hub.usage().cpu_seconds
        time.sleep(3)  # the time over which CPU is measured, not a deadline
        spent = hub.usage().cpu_seconds - began
        status, _ = hub.publish("a", b"meanwhile")
        read_until(served, b"meanwhile")
        accepted = hub.stats()["accepted"]
        hub.limit_descriptors(None)
        for client in waiting:
            read_until(client, b"HTTP/1.1 101 ")
        report.check("no descriptors left", refused and status == 200 and accepted == 1 and spent < 0.5,
                     f"all 50 are served when there are descriptors again; {spent:.2f} s of CPU in 3 s meanwhile; "
                     f"{hub.log().count('accept:')} log lines")


def clock(report):
    """The system's clock is set a day ahead, two days back, and right again."""
    secret, now = "0123456789abcdef0123456789abcdef", int(time.time())
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "time"
        file.write_text("+0")
        environment = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
                       "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        options = ("threads=1", "auth=jwt", f"jwt_secret={secret}", "heartbeat=200ms", "ping_timeout=1h",
                   "history_age=1h")
        with Hub(*options, environment=environment) as hub:
            first = hub.publish("a", b"first")[1]

            def connect(hours):
                return subscriber(hub.port, f"channel=a&since={first}&token={token(secret, now + hours * 3600)}")

            short, long = connect(1), connect(100)
            for offset in ("+1d", "-2d", "+0"):
                file.write_text(offset)
                if offset == "+1d":
                    # Wait until the token has expired, before the clock goes back.
                    read_until(short, EXPIRED)
                hub.publish("a", f"at {offset}".encode())
                read_until(long, f"at {offset}".encode())
            kept = read_until(connect(100), b"at +0").count(b'"at ')
            report.check("a clock that is set", kept == 3,
                         "messages go on at each time; a token of one hour ends with 4403 at a day ahead; "
                         f"history does not age by the system's clock: {kept} of 3 messages are there")


def token(secret, expires):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"exp": expires, "push": {"subscribe": ["*"]}}
    signed = part(b'{"alg":"HS256"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(secret.encode(), signed, hashlib.sha256).digest())).decode()


def killed(report):
    """The hub is killed, and another one starts in its place."""
    options = ("threads=1",)
    hub = Hub(*options)
    try:
        client = subscriber(hub.port, "channel=a")
        last = hub.publish("a", b"before")[1]
        read_until(client, b'"before"')
        hub.send_signal(signal.SIGKILL)
        read_until(client)
        hub.stop()
        hub = Hub(*options, ports=(hub.port, hub.control_port))
        check_return(report, "the hub", hub.port, last, lambda: hub.publish("a", b"after"))
    finally:
        hub.stop()


def host_killed(report):
    """A server with the library is killed and started again."""
    # No client gets this port while the host is away.
    arguments = ["-p", str(free_port())]
    host = Host(arguments=arguments)
    try:
        client = subscriber(host.port, "channel=a")
        last = host.publish("a", "before")
        read_until(client, b'"before"')
        host.terminate(signal.SIGKILL)
        read_until(client)
        host.stop()
        host = Host(arguments=arguments)
        check_return(report, "the host", host.port, last, lambda: host.publish("a", "after"))
    finally:
        host.stop()


def check_return(report, who, port, last, publish):
    """Checks that clients come back by their position, are told of a gap, and then get new messages."""
    clients = {"WebSocket": subscriber(port, f"channel=a&since={last}")}
    clients["SSE"] = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    clients["SSE"].sendall(
        f"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n".encode()
    )
    gaps = {"WebSocket": b'"type":"gap"', "SSE": b"event: push-gap"}
    seen = {name: read_until(client, gaps[name]) for name, client in clients.items()}
    publish()
    for name, client in clients.items():
        seen[name] += read_until(client, b"after")
    holds = all(text.index(gaps[name]) < text.index(b"after") and b"before" not in text for name, text in seen.items())
    report.check(f"{who} killed and started again", holds,
                 "its clients' connections end; the clients come back by their position, are told of a gap, "
                 "and get new messages")


SCENARIOS = {"descriptors": descriptors, "clock": clock, "killed": killed, "host_killed": host_killed}
