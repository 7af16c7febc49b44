"""A subscriber's request has no body. An empty one in chunks, as some clients and proxies send it, is none."""

import contextlib
import socket
import struct
import subprocess

import pytest
from conftest import SITE
from servers import PATIENCE, connection, read_all, read_until, wait_until
from test_subscribe import HANDSHAKE, masked

# Empty bodies, as nginx reads them: with an extension of the chunk, with trailers.
EMPTY = {
    "plain": b"0\r\n\r\n",
    "more zeros": b"000\r\n\r\n",
    "an extension": b"0;name=value\r\n\r\n",
    "a trailer": b"0\r\nChecksum: none\r\n\r\n",
    "an extension and trailers": b"0;a\r\nChecksum: none\r\nTransfer-Encoding: chunked\r\n\r\n",
}
POLL, SSE, WS = "&last=1&transport=poll", "&last=1&transport=sse", "&last=1&transport=ws"
PING, PONG = masked('{"type":"ping"}'), b'"pong"'


def head(parameters, path="/push", headers=""):
    """A request's head that announces chunks."""
    headers += HANDSHAKE if parameters == WS else "Host: h\r\n"
    return f"GET {path}?channel=a{parameters} HTTP/1.1\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()


def is_rid_of_all(nginx):
    """Only the connection that asks is left."""

    def alone():
        stub = nginx.get("/stub")[2].decode()
        return stub.startswith("Active connections: 1 ") and "Reading: 0 Writing: 1 Waiting: 0" in stub

    wait_until(alone, "nginx has no other connection")


def times_logged(nginx, end, count):
    wait_until(lambda: sum(line.endswith(end) for line in nginx.access_log()) == count, f"{count} times {end}")


@pytest.mark.parametrize("body", EMPTY)
def test_an_empty_body_in_chunks_is_none(nginx, pushd, body):
    nginx.publish("a", "hello")
    for parameters in (POLL, SSE):
        got = nginx.talk(head(parameters) + EMPTY[body], ends=b"hello")
        assert got.startswith(b"HTTP/1.1 200 "), got
    with connection(nginx) as client:
        client.sendall(head(WS) + EMPTY[body] + PING)
        assert read_until(client, PONG).startswith(b"HTTP/1.1 101 ")
        is_rid_of_all(nginx)
    times_logged(nginx, "200 0 0 handover GET /push", 2)
    times_logged(nginx, "101 0 0 handover GET /push", 1)
    assert pushd.stats()["adopted"] == 3


@pytest.mark.parametrize("parameters", [POLL, WS])
def test_wherever_the_request_is_cut(nginx, pushd, parameters):
    """Each request comes in two pieces, and the second one when nginx has had time to read the first. The bytes behind
    the body go to the hub, too."""
    nginx.publish("a", "hello")
    request = head(parameters) + EMPTY["an extension and trailers"] + (PING if parameters == WS else b"")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connection(nginx)) for _ in range(1, len(request))]
        for cut, client in enumerate(clients, 1):
            client.sendall(request[:cut])
        # By now nginx has most likely read all of these. If it has not, that must end well, too.
        for _ in range(20):
            nginx.get("/")
        for cut, client in enumerate(clients, 1):
            client.sendall(request[cut:])
        for cut, client in enumerate(clients, 1):
            assert read_until(client, PONG if parameters == WS else b"hello"), cut
        times_logged(nginx, f"{101 if parameters == WS else 200} 0 0 handover GET /push", len(request) - 1)
        is_rid_of_all(nginx)
    assert pushd.stats()["adopted"] == len(request) - 1


def test_behind_another_request_and_before_another(nginx):
    """nginx answers the first request, and the hub the second one. Then it closes the connection."""
    nginx.publish("a", "hello")
    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    got = nginx.talk(get + head(POLL) + EMPTY["plain"] + get)
    assert got.count(b"here\n") == 1 and got.count(b"HTTP/1.1 200") == 2 and b"hello" in got


def test_the_next_poll_comes_right_behind_the_body(pushd, start_nginx):
    nginx = start_nginx(server="location = /push { push_subscribe; push_grant a; push_keep_alive on; }" + SITE)
    nginx.publish("a", "hello")
    poll = head(POLL) + EMPTY["plain"]
    with connection(nginx) as client:
        client.sendall(poll)
        for _ in range(2):
            read_until(client, b'"hello"')
            client.sendall(poll)
        # All at once, on a connection of its own.
        with connection(nginx) as other:
            other.sendall(poll * 3)
            got = b""
            while got.count(b'"hello"') < 3:
                got += other.recv(65536)
    assert pushd.stats()["adopted"] == 2


@pytest.mark.parametrize("size", [1, 5, 70_000])
def test_a_body_in_chunks_is_refused_before_its_end(nginx, pushd, size):
    """nginx neither waits for the rest nor writes it to a file."""
    for first in (b"%x\r\n%s" % (size, b"x"), b"%x;a=b\r\n%s" % (size, b"x" * size)):
        with connection(nginx) as client:
            client.sendall(head(POLL) + first)
            assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        # Here the head is read alone.
        with connection(nginx) as client:
            client.sendall(head(POLL))
            for _ in range(20):
                nginx.get("/")
            client.sendall(first)
            assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert nginx.error_log().count("push: a subscriber's request must have no body") == 4
    assert "is buffered to a temporary file" not in nginx.error_log()
    is_rid_of_all(nginx)
    assert pushd.stats()["adopted"] == 0


@pytest.mark.parametrize("body", [b"g\r\n\r\n", b"0\r\n\r\r", b"\r\n0\r\n\r\n", b"-1\r\n\r\n"])
def test_chunks_that_are_none_are_refused(nginx, pushd, body):
    assert nginx.talk(head(POLL) + body, closes=True).startswith(b"HTTP/1.1 400 ")
    is_rid_of_all(nginx)
    assert pushd.stats()["adopted"] == 0


def upload(url, body, *flags):
    """A GET by curl, which does not say how long its body is: it sends chunks, or frames on HTTP/2."""
    command = ["curl", "--silent", "--insecure", "--include", "--max-time", str(PATIENCE), "--request", "GET",
               "--upload-file", "-", *flags, url]  # fmt: skip
    return subprocess.run(command, input=body, capture_output=True, timeout=PATIENCE).stdout


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_with_an_empty_body_and_with_one(nginx, pushd, scheme, version):
    """HTTP/2 is spoken with TLS only."""
    nginx.publish("a", "hello")
    url = (nginx.tls if scheme == "https" else nginx).url(scheme=scheme, channel="a", last=1, transport="poll")
    got = upload(url, b"", version)
    assert b" 200" in got and b"hello" in got, got
    nginx.logged(f"{'relay' if scheme == 'https' else 'handover'} GET /push")
    assert pushd.stats()["adopted"] == 1
    for size in (1, 5000):
        got = upload(url, b"x" * size, version)
        assert b" 400" in got and b" 200" not in got, got
    assert pushd.stats()["adopted"] == 1
    is_rid_of_all(nginx)


def test_tls_wherever_the_request_is_cut(nginx, pushd, trust):
    nginx.publish("a", "hello")
    request = head(WS) + EMPTY["a trailer"] + PING
    with contextlib.ExitStack() as stack:
        clients = []
        # From the head's last lines on.
        cuts = range(len(head(WS)) - 10, len(request))
        for _ in cuts:
            plain = connection(nginx.tls)
            clients.append(stack.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1")))
        for cut, client in zip(cuts, clients, strict=True):
            client.sendall(request[:cut])
        for _ in range(20):
            nginx.get("/")
        for cut, client in zip(cuts, clients, strict=True):
            client.sendall(request[cut:])
        for client in clients:
            read_until(client, PONG)
    wait_until(lambda: pushd.stats()["connections"] == 0, "the hub has seen their end")
    is_rid_of_all(nginx)
    wait_until(lambda: sum(" relay GET /push" in line for line in nginx.access_log()) == len(cuts), "all are logged")


def test_a_client_that_never_sends_its_body(pushd, start_nginx):
    site = SITE.replace("push_grant *;", "push_grant *; client_body_timeout 300ms;")
    nginx = start_nginx(server=site)
    for begun in (b"", b"0", b"0\r\n", b"0\r\nX:"):
        with connection(nginx) as client:
            client.sendall(head(POLL) + begun)
            read_all(client)
    times_logged(nginx, "408 0 0 - GET /push", 4)
    is_rid_of_all(nginx)
    assert pushd.stats()["adopted"] == 0


def test_clients_that_leave_before_their_body(nginx, pushd):
    """In order, with a reset, and right behind a complete request."""
    for request in (head(SSE), head(SSE) + b"0\r\n", head(SSE) + EMPTY["plain"]):
        for reset in (False, True):
            clients = [connection(nginx) for _ in range(20)]
            for client in clients:
                client.sendall(request)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
    is_rid_of_all(nginx)
    wait_until(lambda: pushd.stats()["connections"] == 0, "the hub has none either")


def test_a_worker_that_has_to_end_waits_for_a_body(nginx, pushd):
    nginx.publish("a", "hello")
    old = nginx.workers()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connection(nginx)) for _ in range(4)]
        for client in clients:
            client.sendall(head(POLL) + b"0\r\n")
        wait_until(lambda: b"Writing: 5" in nginx.get("/stub")[2], "the heads are read")
        nginx.reload()
        wait_until(lambda: len(nginx.workers() - old) == 2, "there are new workers")
        for client in clients:
            client.sendall(b"\r\n")
            read_until(client, b"hello")
    wait_until(lambda: not nginx.workers() & old, "the old workers have ended")
    times_logged(nginx, "200 0 0 handover GET /push", 4)


REFUSING = """
    location /nobody { push_subscribe $arg_none; }
    location /named { push_subscribe $arg_none; error_page 403 = @named; }
    location @named { return 200 "named\\n"; }
    location /over { push_subscribe $arg_none; error_page 403 = /push?channel=a&last=1; }
    location /copy { internal; return 204; }
    location /mirrored { mirror /copy; push_subscribe a; }
"""


def in_two_pieces(nginx, request, cut):
    with connection(nginx) as client:
        client.sendall(request[:cut])
        if cut < len(request):
            nginx.get("/")
        client.sendall(request[cut:])
        return read_all(client)


@pytest.mark.parametrize("early", [True, False])
def test_what_is_refused_ends_once(pushd, start_nginx, early):
    """nginx goes on with the next request on the connection."""
    nginx = start_nginx(server=REFUSING + SITE)
    nginx.publish("a", "hello")
    rest = EMPTY["plain"] + b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    for path, status, text in (("/nobody", b"403", b"403 Forbidden"), ("/named", b"200", b"named\n"),
                               ("/over", b"200", b"hello"), ("/mirrored", b"200", b"hello")):  # fmt: skip
        begin = head(POLL, path)
        got = in_two_pieces(nginx, begin + rest, len(begin + rest) if early else len(begin) + 2)
        assert got.startswith(b"HTTP/1.1 %s " % status) and text in got and b"here\n" in got, (path, got)
    # Another part of nginx has read this body, and there is one.
    assert nginx.talk(head(POLL, "/mirrored") + b"1\r\nx\r\n0\r\n\r\n", closes=True).startswith(b"HTTP/1.1 400 ")
    is_rid_of_all(nginx)


@pytest.mark.parametrize("early", [True, False])
def test_without_a_hub_each_gets_its_answer(start_pushd, start_nginx, early):
    start_pushd("attach_uids=54321")
    # A worker that the hub has refused too late for its start waits for it, for so long at first. What it has taken for
    # the hub meanwhile ends with the answer.
    nginx = start_nginx(timeout="500ms")
    rest = EMPTY["plain"] + b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    for parameters, status in ((POLL, b"503"), (SSE, b"200"), (WS, b"503")):
        begin = head(parameters, headers="Accept: text/event-stream\r\n" if parameters == SSE else "")
        cut = len(begin + rest) if early else len(begin) + 2

        def answered():
            got = in_two_pieces(nginx, begin + rest, cut)
            return got if b"here\n" in got else None

        got = wait_until(answered, "nginx goes on with the next request")
        assert got.startswith(b"HTTP/1.1 %s " % status), got
    is_rid_of_all(nginx)


def test_a_client_that_asks_first_whether_to_send_its_body(nginx):
    nginx.publish("a", "hello")
    with connection(nginx) as client:
        client.sendall(head(POLL, headers="Expect: 100-continue\r\n"))
        assert read_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(EMPTY["plain"])
        assert read_until(client, b"hello").startswith(b"HTTP/1.1 200 ")
    nginx.logged("handover GET /push")
