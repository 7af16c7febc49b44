"""Clients that nginx relays, as an operator of the hub sees them: by their own address, slow, and closed."""

import contextlib
import json
import signal
import subprocess

import pytest
from servers import PATIENCE, wait_until


@contextlib.contextmanager
def stopped_client(url, *flags):
    """A client of SSE that has its head, and then reads nothing until it is continued."""
    command = ["curl", "--silent", "--insecure", "--no-buffer", "--max-time", str(PATIENCE), *flags, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        try:
            while b"push-open" not in (line := curl.stdout.readline()):
                assert line, "it was refused"
            curl.send_signal(signal.SIGSTOP)
            yield curl
        finally:
            curl.kill()


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_a_slow_relayed_client_is_listed_with_its_address_and_closed(start_pushd, start_nginx, protocol):
    # A client that takes nothing for a whole heartbeat would be closed before.
    pushd = start_pushd("trusted_proxies=unix", "outbox=64MB", "history_count=0", "heartbeat=10m")
    nginx = start_nginx(workers=1)
    big = b"x" * 900_000

    def found(query):
        status, page = pushd.request("GET", f"/v1/connections?{query}")
        assert status == 200, page
        return page["connections"]

    def slow():
        status, _ = pushd.request("POST", "/v1/publish?channel=a", big)
        assert status == 200
        return [one for one in found("address=127.0.0.1&slow=1") if one["waiting"] > len(big)]

    # What it writes about its address itself does not count.
    own = ["-H", "X-Forwarded-For: 192.0.2.9", "-H", "Forwarded: for=192.0.2.9"]
    url = nginx.tls.url(scheme="https", channel="a", transport="sse")
    with stopped_client(url, protocol, *own) as client:
        [row] = wait_until(slow, "it is slow")
        assert (row["address"], row["transport"], row["adopted"]) == ("127.0.0.1", "sse", True), row
        assert found("address=unix") == found("address=192.0.2.9") == []
        status, answer = pushd.request("POST", f"/v1/close?connection={row['id']}&code=4000&reason=slow")
        assert (status, answer) == (200, {}), json.dumps(answer)
        client.send_signal(signal.SIGCONT)
        client.stdout.read()
        wait_until(lambda: found("address=127.0.0.1") == [], "it is gone")
