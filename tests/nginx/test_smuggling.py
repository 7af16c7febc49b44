"""Requests that two servers might read differently: nothing behind a subscriber's request may become one that nginx has not judged."""

import pytest

SITE = """
    location /open { push_subscribe open; }
    location /secret { deny all; push_subscribe secret; }
    location / { return 200 "here\\n"; }
"""
INSIDE = "GET /secret?last=1 HTTP/1.1\r\nHost: h\r\n\r\n"
SUBSCRIBE = "GET /open?last=1&transport=poll"

ATTEMPTS = {
    "a length": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(INSIDE)}\r\n\r\n{INSIDE}",
    "two lengths": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: {len(INSIDE)}\r\n\r\n{INSIDE}",
    "a length in a list": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nContent-Length: 0, {len(INSIDE)}\r\n\r\n{INSIDE}",
    "chunks": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "chunks and a length": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "an unknown coding": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "a blank before the colon": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "a folded line": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "a bare return": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{INSIDE}",
    "bare line feeds": f"{SUBSCRIBE} HTTP/1.1\nHost: h\nContent-Length: {len(INSIDE)}\n\n{INSIDE}",
    "a NUL": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n{INSIDE}",
    "two hosts": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nHost: other\r\n\r\n{INSIDE}",
    "an end of line in the path": f"GET /open%0d%0aContent-Length:{len(INSIDE)}?last=1 HTTP/1.1\r\nHost: h\r\n\r\n{INSIDE}",
    "an absolute target": f"GET http://h/open?last=1 HTTP/1.1\r\nHost: h\r\n\r\n{INSIDE}",
    "pipelined": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\n\r\n{INSIDE}{INSIDE}",
    "an upgrade to something else": f"{SUBSCRIBE} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{INSIDE}",
    "HTTP/0.9": f"GET /open?last=1\r\n{INSIDE}",
}  # fmt: skip


@pytest.fixture
def guarded(pushd, start_nginx):
    nginx = start_nginx(server=SITE)
    for channel in ("open", "secret"):
        assert pushd.request("POST", f"/v1/publish?channel={channel}", f"{channel} words")[0] == 200
    return nginx


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_is_hidden_behind_a_request_gets_no_secret(guarded, attempt):
    got = guarded.talk(ATTEMPTS[attempt].encode(), closes=True)
    assert b"secret words" not in got
    # Read as a request of its own it would have been refused in so many words; on a subscriber's connection it is nothing.
    assert got.count(b"HTTP/1.1 200") <= 1
    if b"HTTP/1.1 200" in got:
        assert b"open words" in got, got


def test_on_a_connection_that_stays_the_grant_stays(pushd, start_nginx):
    nginx = start_nginx(server="location /push { push_subscribe; push_grant open; push_keep_alive on; } " + SITE)
    for channel in ("open", "secret"):
        pushd.request("POST", f"/v1/publish?channel={channel}", f"{channel} words")
    first = "GET /push?channel=open&last=1 HTTP/1.1\r\nHost: h\r\n\r\n"
    for second in ("GET /push?channel=secret&last=1 HTTP/1.1\r\nHost: h\r\n\r\n", INSIDE):
        got = nginx.talk((first + second).encode(), closes=True)
        assert b"open words" in got and b"secret words" not in got
