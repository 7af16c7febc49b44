"""nginx passes the connections for one name on to pushd without ending their TLS, and serves the others itself: the
configuration of docs/tls.md."""

import http.client
import os
import re
import socket

import pytest
from reloads import show
from servers import MODULE, PATIENCE, ROOT, free_port, wait_until

STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"
# The names of docs/tls.md: of pushd, and of any other server.
PUSH, OTHER = "push.example.org", "www.example.org"
# `make test-tls` has 2,000.
CLIENTS = int(os.environ.get("PUSH_CLIENTS", "300"))
# Enough history for those who come back late. The crowd does not answer pings, and shakes hands in one thread.
OPTIONS = ("history_count=1000", "poll_timeout=5s", "heartbeat=10m", "head_timeout=2m")
SITE = """
    location /publish {
        push_publish $push_arg_channel key=$http_push_key;
        add_header X-Worker $pid;
    }
    location / { return 200 "here, $proxy_protocol_addr\\n"; }
"""


@pytest.fixture
def documented():
    """The `stream` block of docs/tls.md, with other ports."""
    blocks = re.findall(r"```nginx\n(stream .*?)```", (ROOT / "docs/tls.md").read_text(), re.DOTALL)
    assert len(blocks) == 1

    def written(port, pushd, nginx):
        text = blocks[0]
        for before, after in (
            ("listen 443;", f"listen 127.0.0.1:{port};"),
            ("127.0.0.1:8443;", f"127.0.0.1:{pushd};"),
            ("127.0.0.1:4443;", f"127.0.0.1:{nginx};"),
        ):
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        return text

    return written


@pytest.fixture
def site(start_pushd, configured, certificate, documented):
    """nginx and pushd as docs/tls.md has them: nginx, pushd, and the common port. More options of pushd, and more
    directives of nginx's main block."""

    def start(*options, main="", **arguments):
        port, secure = free_port(), free_port()
        pushd = start_pushd(
            f"listen=tls:127.0.0.1:{secure}", f"tls_certificate={certificate[0]}", f"tls_key={certificate[1]}",
            "proxy_protocol=true", "trusted_proxies=127.0.0.1", "log_level=debug", *options,
        )  # fmt: skip
        nginx = configured(
            server=SITE, load=(STREAM, MODULE), tls_listen="ssl proxy_protocol", **arguments,
        )  # fmt: skip
        nginx.configure(main=main + documented(port, secure, nginx.tls.port))
        return nginx.start(), pushd, port

    return start


def get(port, name, trust, path):
    """One request over TLS: its status and text. The client asks for this name, or for none."""
    trust.check_hostname = name is not None
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection = http.client.HTTPConnection(name or "localhost", timeout=PATIENCE)
    connection.sock = trust.wrap_socket(plain, server_hostname=name)
    connection.request("GET", path)
    response = connection.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_a_name_goes_to_pushd_and_all_others_to_nginx(site, trust):
    nginx, pushd, port = site()
    position = nginx.publish("a", "kept")
    status, text = get(port, PUSH, trust, "/push?channel=a&last=1&wait=0")
    assert (status, f'"id":"{position}"' in text, '"data":"kept"' in text) == (200, True, True), text
    # nginx told both where the client comes from.
    assert get(port, OTHER, trust, "/") == (200, "here, 127.0.0.1\n")
    assert get(port, None, trust, "/") == (200, "here, 127.0.0.1\n")
    assert pushd.stats()["accepted"] == 1


# Each reload leaves its workers behind, until their clients have gone.
@pytest.mark.timeout(900)
def test_ten_reloads_are_felt_by_nobody(site, certificate):
    nginx, _, port = site(*OPTIONS)
    found = show(nginx, "push", subscribers=CLIENTS, faults=False, tls=(str(port), str(certificate[0]), PUSH))
    print(found)
    felt = ("lost", "doubled or out of order", "dropped", "told", "unanswered")
    assert [found[what] for what in felt] == [0] * len(felt), found
    assert found["deliveries"] == CLIENTS // 10 * found["published"], found
    # These have the first clients.
    assert found["old workers never went"] > 0, found
    wait_until(lambda: len(nginx.workers()) == 2, "the old workers end when their clients have gone")


@pytest.mark.timeout(600)
def test_worker_shutdown_timeout_cuts_them_and_they_lose_nothing(site, certificate):
    nginx, _, port = site(*OPTIONS, main="worker_shutdown_timeout 500ms;\n")
    tls = (str(port), str(certificate[0]), PUSH)
    found = show(nginx, "push", subscribers=100, reloads=3, patience=PATIENCE, faults=False, tls=tls)
    print(found)
    assert found["lost"] == found["doubled or out of order"] == 0, found
    assert found["deliveries"] == 10 * found["published"], found
    # The cut is nginx's: nobody can put last words into TLS that is not theirs.
    assert found["dropped"] >= found["streams"] and found["told"] == 0, found
    assert found["old workers never went"] == 0, found
