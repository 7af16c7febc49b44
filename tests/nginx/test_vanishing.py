"""A client that nginx relays (TLS, HTTP/2), whose network vanishes: no goodbye and no FIN comes. It takes a network
namespace, and so root."""

import contextlib
import os
import subprocess

import pytest
from servers import PATIENCE, free_port, wait_until

NUMBER = os.getpid() % 10_000
NAME, NEAR = f"push-nginx-{NUMBER}", f"px{NUMBER}"
# This network is for measurements between machines (RFC 2544), so no machine has it.
NETWORK = f"198.19.{NUMBER % 250}."


def _ip(arguments):
    try:
        return subprocess.run(["ip", *arguments.split()], stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def elsewhere():
    """The words in front of a command for a machine at the other end of a cable."""
    if not _ip(f"netns add {NAME}"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        for step in (f"link add {NEAR} type veth peer name far netns {NAME}", f"addr add {NETWORK}1/30 dev {NEAR}",
                     f"link set {NEAR} up", f"-n {NAME} addr add {NETWORK}2/30 dev far",
                     f"-n {NAME} link set far up"):  # fmt: skip
            if not _ip(step):
                pytest.skip(f"there can be no pair of virtual cables here: ip {step}")
        yield ["ip", "netns", "exec", NAME]
    finally:
        # Connections that can't end keep the namespace alive for minutes after its name is gone.
        _ip(f"link del {NEAR}")
        _ip(f"netns del {NAME}")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_client_is_gone_soon_after_its_network(start_pushd, start_nginx, elsewhere, version):
    pushd = start_pushd("heartbeat=1s")
    port = free_port()
    nginx = start_nginx(server=f"""
        listen {NETWORK}1:{port} ssl http2;
        send_timeout 3s;
        location /push {{ push_subscribe; push_grant *; }}
    """)
    command = [*elsewhere, "curl", "--silent", "--insecure", "--no-buffer", version, "--max-time", str(10 * PATIENCE),
               "-H", "Accept: text/event-stream", f"https://{NETWORK}1:{port}/push?channel=a"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl, contextlib.ExitStack() as ends:
        ends.callback(curl.kill)
        while "push-open" not in (line := curl.stdout.readline()):
            assert line, "it was ended"
        assert pushd.stats()["sse"] == 1
        assert _ip(f"-n {NAME} addr flush to {NETWORK}2/32")
        wait_until(lambda: pushd.stats()["sse"] == 0, "it is gone")
    assert nginx.get("/push?channel=a&last=1&wait=0")[0] == 200
