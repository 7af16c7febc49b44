"""Edge cases of the directives, and of nginx's requests to a module."""

import contextlib
import json
import socket
import ssl

import pytest
from servers import PATIENCE, free_port, read_all, read_until, wait_until

def test_a_request_left_without_a_channel_does_not_name_its_own(pushd, start_nginx):
    """push_subscribe's values are the channels, and not those of the URL, even if all values are empty and push_grant
    would allow it."""
    nginx = start_nginx(server="""
        location /live { push_subscribe $arg_room; push_grant a; }
        location /publish { push_publish $push_arg_channel; }
    """)
    nginx.publish("a", "hello")
    assert nginx.get("/live?channel=a&last=1")[0] == 403
    assert b"hello" in nginx.get("/live?room=a&last=1")[2]


@pytest.mark.parametrize(
    "line", ["GET http://h?last=1 HTTP/1.1", "GET http://h HTTP/1.1", "GET http://h/?last=1 HTTP/1.0"]
)
def test_a_url_in_absolute_form(pushd, start_nginx, line):
    nginx = start_nginx(server="""
        location = / { push_subscribe a; push_parameters last=1; }
        location /publish { push_publish $push_arg_channel; }
    """)
    nginx.publish("a", "hello")
    assert b"hello" in nginx.talk(f"{line}\r\nHost: h\r\nConnection: close\r\n\r\n".encode(), ends=b"hello")


def test_the_host_of_a_url_in_absolute_form_counts(pushd, start_nginx):
    """It counts in place of the Host line, so a page may subscribe if it is of that origin."""
    nginx = start_nginx(server="location = /live { push_subscribe a; }")

    def status(target, host, origin):
        lines = f"Host: {host}\r\nOrigin: http://{origin}\r\nAccept: text/event-stream\r\nConnection: close\r\n"
        request = f"GET {target}/live HTTP/1.1\r\n{lines}\r\n"
        return int(nginx.talk(request.encode(), ends=b"\r\n\r\n").split()[1])

    for target, host, origin, expected in [
        ("", "page.test", "page.test", 200),
        ("", "page.test", "other.test", 403),
        ("http://page.test", "other.test", "page.test", 200),
        ("http://page.test", "other.test", "other.test", 403),
        ("http://page.test:81", "other.test", "page.test:81", 200),
        ("http://page.test:81", "other.test", "page.test", 403),
        ("http://[::1]:81", "other.test", "[::1]:81", 200),
    ]:
        assert status(target, host, origin) == expected, (target, host, origin)


def test_the_address_that_nginx_found_is_the_one_that_the_hub_counts(start_pushd, start_nginx):
    """A proxy gives the client's address in front of the connection, and leaves the headers to the client."""
    pushd = start_pushd("max_per_address=1", "trusted_proxies=127.0.0.1")
    port = free_port()
    nginx = start_nginx(server=f"""
        listen 127.0.0.1:{port} proxy_protocol;
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        location /live {{ push_subscribe a; }}
    """)

    def subscribed(number):
        client = socket.create_connection((nginx.host, port), PATIENCE)
        headers = f"Host: h\r\nX-Forwarded-For: 198.51.100.{number}\r\nConnection: close\r\n"
        request = f"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\nGET /live?transport=sse HTTP/1.1\r\n{headers}\r\n"
        client.sendall(request.encode())
        return client

    with subscribed(1) as first:
        read_until(first, b"push-open")
        for number in range(2, 4):
            with subscribed(number) as other:
                assert b"push-open" not in read_all(other)
    assert pushd.stats()["refused"] == 2


def test_publishing_and_counters_in_subrequests(pushd, start_nginx, tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!--#include virtual="/counters" --> and <!--#include virtual="/counters" -->.')
    nginx = start_nginx(server="""
        location = /copy { internal; push_publish a; }
        location = /mirrored { mirror /copy; push_publish b; }
        location = /counters { internal; push_status; }
        location = /page { ssi on; ssi_types *; default_type text/html; alias %s; }
        location = /guarded { auth_request /counters; push_subscribe a; }
        location = /plain { push_subscribe $arg_channel; }
    """ % page)

    def newest(channel):
        messages = json.loads(nginx.get(f"/plain?channel={channel}&last=1")[2])["messages"]
        return messages[0]["data"] if messages else None

    for body in ("hello", "x" * 20_000, ""):
        assert nginx.get("/mirrored", "POST", body)[0] == 200
        for channel in "ab":
            wait_until(lambda: newest(channel) == body, f"{body[:8]} in {channel}")
    text = nginx.get("/page")[2].decode()
    assert text.count('"published":6') == 2 and text.endswith("."), text
    assert b"messages" in nginx.get("/guarded?last=1")[2]


def test_an_event_source_at_the_limit_of_connections_comes_back(pushd, configured, trust):
    """A relayed client needs two connections. If only one is left, the client is told to come back, and not refused.
    With one of the two limits there is only one left."""
    nginx = configured(expected=2, workers=1, connections=20, server="location /live { push_subscribe a; }")
    told = 0
    for connections in (20, 21):
        nginx.configure(connections=connections)
        nginx.start()
        with contextlib.ExitStack() as clients:
            opened = True
            while opened:
                try:
                    plain = socket.create_connection((nginx.tls.host, nginx.tls.port), PATIENCE)
                    client = clients.enter_context(trust.wrap_socket(plain, server_hostname=nginx.tls.host))
                    client.sendall(b"GET /live?transport=sse HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
                    got = client.recv(65536)
                    while b"push-" not in got and b" 500 " not in got:
                        more = client.recv(65536)
                        assert more, got
                        got += more
                except (ConnectionError, ssl.SSLError):
                    break
                assert got.startswith(b"HTTP/1.1 200 "), got
                opened = b"push-close" not in got
                told += not opened
        nginx.quit()
    assert told == 1
