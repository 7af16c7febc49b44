"""Requests that two servers might read differently: nothing behind a subscriber's request may become one that nginx has
not judged."""

import pytest
from servers import Address, free_port, wait_until

# What nginx lets through is narrower than the grant behind it, so whatever gets past nginx is answered with the secret.
GUARDED = """
    location /open { push_subscribe; push_grant *; }
    location /secret { deny all; push_subscribe; push_grant *; }
    location /allowed { push_subscribe; push_grant *; }
    location /push { push_subscribe; push_grant *; push_keep_alive on; }
    location / { return 200 "here\\n"; }
"""
# The same in front of the hub's own listener. Its clients need no grant.
PROXIED = """
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_request_buffering {buffering};
    # A client has said all before it reads: what the hub answers is passed on whenever nginx sees that.
    proxy_ignore_client_abort on;
    location /open {{ if ($arg_channel = secret) {{ return 403; }} proxy_pass http://hub/push; }}
    location /push {{ deny all; proxy_pass http://hub; }}
    location /allowed {{ proxy_pass http://hub/push; }}
"""
WORDS = ("open", "secret")


def request(path, channel):
    return f"GET {path}?channel={channel}&last=1&transport=poll HTTP/1.1\r\nHost: h\r\n"


def attempts(inside):
    """Heads for /open, each with a request behind or within it."""
    head, length = request("/open", "open"), len(inside)
    return {
        "a length": f"{head}Content-Length: {length}\r\n\r\n{inside}",
        "two lengths": f"{head}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inside}",
        "a length in a list": f"{head}Content-Length: 0, {length}\r\n\r\n{inside}",
        "a length with a sign": f"{head}Content-Length: +{length}\r\n\r\n{inside}",
        "no length": f"{head}Content-Length: 0\r\n\r\n{inside}",
        "a chunk": f"{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inside}\r\n0\r\n\r\n",
        "chunks": f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}",
        "chunks and a length": f"{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}",
        "an unknown coding": f"{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inside}",
        "a blank before the colon": f"{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inside}",
        "a folded line": f"{head}X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}",
        "a bare return": f"{head}X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inside}",
        "bare line feeds": f"{head}Content-Length: {length}\r\n\r\n".replace("\r", "") + inside,
        "a NUL": f"{head}X: \0\r\n\r\n{inside}",
        "two hosts": f"{head}Host: other\r\n\r\n{inside}",
        "an end of line in the path": f"{request(f'/open%0d%0aContent-Length:{length}', 'open')}\r\n{inside}",
        "an end of line in the query": f"{request('/open', f'open%0d%0aContent-Length:{length}')}\r\n{inside}",
        "an absolute target": f"{request('http://h/open', 'open')}\r\n{inside}",
        "pipelined": f"{head}\r\n{inside}{inside}",
        "an upgrade to something else": f"{head}Connection: Upgrade, HTTP2-Settings\r\n"
                                        f"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{inside}",
        "an upgrade that is not one": f"{head}Connection: Upgrade\r\nUpgrade: websocket\r\n"
                                      f"Sec-WebSocket-Version: 777\r\n\r\n{inside}",
        "HTTP/0.9": f"GET /open?channel=open&last=1\r\n{inside}",
    }  # fmt: skip


# The way to the secret as nginx would know it, and as the hub would.
INSIDES = {path: request(path, "secret") + "\r\n" for path in ("/secret", "/push")}
ATTEMPTS = list(attempts(""))
# The body of these ends before what is hidden behind it, so they are served. The others are refused as a whole.
SERVED, REFUSED = ("chunks", "no length"), ("a length", "a chunk", "chunks and a length", "an unknown coding")


def publish_words(pushd):
    for channel in WORDS:
        assert pushd.request("POST", f"/v1/publish?channel={channel}", f"{channel} words")[0] == 200


@pytest.fixture
def guarded(pushd, start_nginx):
    publish_words(pushd)
    # The hub's path, where nginx asks for no more than anywhere, is open in the control below only.
    return start_nginx(server=GUARDED.replace("location /push {", "location /push { deny all;"))


@pytest.mark.parametrize("inside", INSIDES)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_hidden_behind_a_request_gets_no_secret(guarded, attempt, inside):
    got = guarded.talk(attempts(INSIDES[inside])[attempt].encode(), closes=True)
    assert b"secret words" not in got
    assert got.count(b"HTTP/1.1 200") <= 1
    if b"HTTP/1.1 200" in got:
        assert b"open words" in got, got
    assert attempt not in SERVED or b"open words" in got, got
    assert attempt not in REFUSED or (b"open words" not in got and got.count(b"HTTP/1.1 ") == 1), got


def test_the_secret_is_there_for_whoever_gets_past_nginx(pushd, start_nginx):
    publish_words(pushd)
    nginx = start_nginx(server=GUARDED)
    assert b"403 Forbidden" in nginx.talk(INSIDES["/secret"].encode(), closes=True)
    assert b"secret words" in nginx.talk(f"{request('/allowed', 'secret')}\r\n".encode(), closes=True)
    # If the hub does read the bytes behind a request, it answers them, too.
    got = nginx.talk(f"{request('/push', 'open')}\r\n{INSIDES['/push']}".encode(), closes=True)
    assert b"open words" in got and b"secret words" in got


def test_on_a_connection_that_stays_the_grant_stays(pushd, start_nginx):
    nginx = start_nginx(server="location /push { push_subscribe; push_grant open; push_keep_alive on; }")
    publish_words(pushd)
    for second in INSIDES.values():
        got = nginx.talk(f"{request('/push', 'open')}\r\n{second}".encode(), closes=True)
        assert b"open words" in got and b"secret words" not in got


@pytest.fixture
def start_proxy(start_pushd, start_nginx):
    """pushd with a listener, and nginx in front with connections that it keeps."""

    def start(buffering="on"):
        hub = Address("127.0.0.1", free_port())
        pushd = start_pushd(f"listen={hub.host}:{hub.port}", "threads=1", "allowed_hosts=hub")
        publish_words(pushd)
        upstream = f"upstream hub {{ server {hub.host}:{hub.port}; keepalive 1; }}"
        return pushd, start_nginx(
            attached=False, via="-", http=upstream, server=PROXIED.format(buffering=buffering), workers=1
        )

    return start


@pytest.mark.parametrize("buffering", ["on", "off"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_hidden_gets_no_secret_through_a_proxy(start_proxy, attempt, buffering):
    pushd, nginx = start_proxy(buffering)
    got = nginx.talk(attempts(INSIDES["/push"])[attempt].encode(), closes=True)
    assert b"secret words" not in got
    served = got.count(b"open words")
    # An extra answer would go to the next client on the connection that nginx keeps.
    for _ in range(3):
        status, _, body = nginx.get("/open?channel=open&last=1&transport=poll")
        assert status == 200 and b"open words" in body, body
        served += 1
    # The hub has answered nothing else.
    wait_until(lambda: pushd.stats()["deliveries"] >= served, "all are counted")
    assert pushd.stats()["deliveries"] == served


def test_the_proxy_lets_through_what_it_does_not_deny_on_a_connection_that_it_keeps(start_proxy):
    pushd, nginx = start_proxy()
    assert nginx.get("/push?channel=secret&last=1&transport=poll")[0] == 403
    assert nginx.get("/open?channel=secret&last=1&transport=poll")[0] == 403
    for channel in WORDS:
        status, _, body = nginx.get(f"/allowed?channel={channel}&last=1&transport=poll")
        assert status == 200 and f"{channel} words".encode() in body
    assert pushd.stats()["accepted"] == 1
