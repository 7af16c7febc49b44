"""Subscribing through nginx: it hands over on plain HTTP/1, relays on TLS and HTTP/2, and decides who may subscribe."""

import base64
import functools
import json
import socket
import subprocess
import time

import httpx
import pytest
import secure_websocket
import subscribers
from servers import PATIENCE, connection, free_port, read_until, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_in_ten_seconds

# A busy machine may need longer.
connect = functools.partial(connect_in_ten_seconds, open_timeout=PATIENCE)
HANDSHAKE = (
    "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nSec-WebSocket-Protocol: push.v1.json\r\n"
)


def masked(text):
    """A client's frame, under a mask of zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


def curl(url, *flags, until=None):
    """curl's output of a response, up to its end or up to this text."""
    command = ["curl", "--silent", "--insecure", "--no-buffer", "--include", "--max-time", str(PATIENCE), *flags, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as ran:
        shown = b""
        while (until is None or until not in shown) and (part := ran.stdout.read1()):
            shown += part
        ran.kill()
    return shown.decode()


@pytest.mark.parametrize("transport", subscribers.TRANSPORTS)
def test_plain_over_each_transport(nginx, pushd, transport):
    since = nginx.publish("news", "before")
    with subscribers.TRANSPORTS[transport](nginx, channel="news", since=since) as messages:
        for text in ("one", "two", "three"):
            nginx.publish("news", text)
            assert next(messages)["data"] == text
    stats = pushd.stats()
    assert stats["adopted"] == (1 if transport in ("ws", "sse", "stream") else 3)
    # The log has the request's own status, and no bytes sent by nginx.
    nginx.logged(f"{101 if transport == 'ws' else 200} 0 0 handover GET /push")


def test_nginx_is_rid_of_a_connection_that_was_handed_over(nginx, pushd):
    with subscribers.over_sse(nginx, channel="a"), subscribers.over_ws(nginx, channel="a"):
        wait_until(lambda: pushd.stats()["connections"] == 2, "both are there")
        # This is for this request. A worker may have its copies of the others for a moment.
        wait_until(lambda: (stub := nginx.get("/stub")[2].decode()).startswith("Active connections: 1 ")
                   and "Reading: 0 Writing: 1 Waiting: 0" in stub, "the others are gone")


@pytest.mark.parametrize("transport", ["sse", "stream", "poll"])
def test_tls_http_1(nginx, trust, transport):
    since = nginx.publish("news", "before")
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        url = nginx.tls.url(scheme="https", channel="news", transport=transport, since=since)
        if transport == "poll":
            # The answer begins when there is a message.
            nginx.publish("news", "hello")
        with client.stream("GET", url) as response:
            assert response.status_code == 200
            if transport != "poll":
                nginx.publish("news", "hello")
            text = ""
            for part in response.iter_text():
                text += part
                if "hello" in text:
                    break
        assert "hello" in text
        if transport == "poll":
            # nginx keeps its own connection for the next.
            answer = client.get(url).json()
            assert answer["messages"][0]["data"] == "hello"
    nginx.logged("relay GET /push")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_of_several_transports_the_last_one_counts(nginx, scheme):
    at = nginx if scheme == "http" else nginx.tls
    url = at.url(scheme=scheme, channel="news") + "&transport=ws&transport=%73se"
    lines = [part for line in HANDSHAKE.split("\r\n") if line for part in ("-H", line)]
    shown = curl(url, "--http1.1", *lines, until=b"push-open")
    assert " 200 " in shown and "push-open" in shown and "text/event-stream" in shown, shown


def test_tls_websocket_with_a_dialogue(nginx, pushd, trust):
    url = nginx.tls.url(scheme="wss", channel="news")
    options = {"subprotocols": ["push.v1.json"], "proxy": None, "compression": None}
    with secure_websocket.connect(url, ssl=trust, **options) as client:
        assert json.loads(client.recv())["type"] == "subscribed"
        nginx.publish("news", "hello")
        assert json.loads(client.recv())["data"] == "hello"
        client.send('{"type":"ping"}')
        assert json.loads(client.recv())["type"] == "pong"
        wait_until(lambda: pushd.stats()["websockets"] == 1, "it is counted")
    wait_until(lambda: pushd.stats()["connections"] == 0, "its end is seen")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_compression_is_passed_on(start_pushd, start_nginx, trust, scheme):
    start_pushd("compression=true")
    nginx = start_nginx()
    at, begin, options = nginx, connect, {}
    if scheme == "wss":
        at, begin, options = nginx.tls, secure_websocket.connect, {"ssl": trust}
    with begin(at.url(scheme=scheme, channel="news"), proxy=None, compression="deflate", **options) as client:
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        nginx.publish("news", "hello " * 1000)
        assert client.recv() == "hello " * 1000


def test_tls_websocket_that_speaks_before_it_is_answered(nginx, trust):
    with connection(nginx.tls) as plain:
        with trust.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            head = f"GET /push?channel=a HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()
            client.sendall(head + masked('{"type":"ping"}'))
            read_until(client, b'"pong"')


@pytest.mark.parametrize("scheme", ["https", "h2c"])
def test_http_2(pushd, start_nginx, scheme):
    nginx = start_nginx()
    if scheme == "h2c":
        nginx.configure(server="listen 127.0.0.1:%d http2; %s" % (plain := free_port(), _site()))
        nginx.reload()
        url, flag = f"http://127.0.0.1:{plain}/push?channel=a&last=1&transport=", "--http2-prior-knowledge"
        wait_until(lambda: curl(url.split("/push")[0], flag), "the new configuration serves")
    else:
        url, flag = nginx.tls.url("/push?channel=a&last=1&transport=", scheme="https"), "--http2"
    nginx.publish("a", "hello")
    poll = curl(url + "poll", flag)
    assert poll.startswith("HTTP/2 200") and '"data":"hello"' in poll
    for transport in ("sse", "stream"):
        stream = curl(url + transport, flag, until=b"hello")
        assert stream.startswith("HTTP/2 200") and "hello" in stream, stream
    # Errors come whole from the hub.
    bad = curl(url.replace("channel=a", "chanel=a") + "poll", flag)
    assert bad.startswith("HTTP/2 400") and '"code":"channel"' in bad, bad


def _site():
    from conftest import SITE

    return SITE


def test_http_1_0(nginx):
    nginx.publish("a", "hello")
    got = nginx.talk(b"GET /push?channel=a&last=1&transport=sse HTTP/1.0\r\n\r\n", ends=b"hello")
    head, body = got.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head and b"data: hello" in body


def test_behind_other_requests_of_the_same_connection(nginx):
    nginx.publish("a", "hello")
    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    got = nginx.talk(get + get + b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\n\r\n", ends=b'"hello"')
    assert got.count(b"here\n") == 2 and got.count(b"HTTP/1.1 200") == 3


def test_a_frame_in_one_packet_with_the_handshake(nginx):
    head = f"GET /push?channel=a HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()
    assert b'{"type":"pong"}' in nginx.talk(head + masked('{"type":"ping"}'), ends=b'"pong"')


def test_a_large_head_in_several_packets(nginx):
    nginx.publish("a", "hello")
    with connection(nginx) as client:
        head = f"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\nCookie: c={'x' * 6000}\r\n\r\n".encode()
        for begin in range(0, len(head), 500):
            client.sendall(head[begin : begin + 500])
            time.sleep(0.005)
        read_until(client, b"hello")


AUTHORIZED = """
    location = /who {
        internal;
        # This stands for the application: it looks at the session, and names the user.
        if ($cookie_session = "") { return 401; }
        if ($cookie_session = "banned") { return 403; }
        add_header X-User $cookie_session;
        return 204;
    }
    location /private {
        auth_request /who;
        auth_request_set $user $upstream_http_x_user$sent_http_x_user;
        push_subscribe "user-$cookie_session" lobby;
        push_user $cookie_session;
    }
    location /denied { deny all; push_subscribe a; }
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_auth_request_decides(pushd, start_nginx, trust, scheme):
    nginx = start_nginx(server=AUTHORIZED + _site())
    at = nginx if scheme == "http" else nginx.tls
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        url = at.url("/private", scheme=scheme, transport="sse")
        assert client.get(url).status_code == 401
        assert client.get(url, headers={"Cookie": "session=banned"}).status_code == 403
        assert client.get(at.url("/denied", scheme=scheme)).status_code == 403
        assert pushd.stats()["adopted"] == 0
        # The client's own channels do not count: the location names the channels.
        url += "&channel=secret&cha%6enel=secret"
        with client.stream("GET", url, headers={"Cookie": "session=ann"}) as response:
            assert response.status_code == 200
            nginx.publish("secret", "not for ann")
            nginx.publish("user-bob", "not for ann")
            nginx.publish("user-ann", "for ann")
            nginx.publish("lobby", "for all")
            text, parts = "", response.iter_text()
            while "for all" not in text:
                text += next(parts)
            assert "not for ann" not in text and "data: for ann" in text
            # The hub knows the user.
            assert pushd.request("POST", "/v1/disconnect?user=ann")[0] == 200
            text += "".join(parts)
        assert "event: push-close" in text and "4403" in text


INFORMED = """
    location /who { push_subscribe room; push_user $push_arg_name; push_info $push_arg_info; }
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_followers_are_told_what_the_location_says_of_a_user(start_pushd, start_nginx, trust, scheme):
    start_pushd("channel.*.presence=true")
    nginx = start_nginx(server=INFORMED)
    at = nginx if scheme == "http" else nginx.tls
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:

        def got(**parameters):
            response = client.get(at.url("/who", scheme=scheme, transport="poll", presence=1, **parameters))
            return response.status_code if response.status_code != 200 else response.json()["messages"]

        for name, info in (("ada", '{"name": "Ada ü"}'), ("bob", None), ("cy", ""), ("dora", "i" * 1024)):
            (told,) = got(name=name, info=info)
            assert (told["type"], told["channel"]) == ("presence", "room")
            own = {"user": name, "info": info} if info else {"user": name}
            # Those before may be there for a moment more.
            assert own in told["users"], (name, told)
        # It is about a user, and this client has none.
        (told,) = got(info="nobody", wait=0)
        assert all(member.get("info") != "nobody" for member in told["users"])
        for number, (info, says) in enumerate((
            ("i" * 1025, "info: 1025 bytes; at most 1024 are allowed"), ("a\nb", "info: control characters are not allowed"),
            ("\0", None),
        )):
            assert got(name="eve", info=info) == 400, number
            wait_until(lambda says=says: says is None or says in nginx.error_log(), says)


MAPPED = """
    map $arg_city $city_channel { default ""; oslo weather-oslo; rome weather-rome; }
"""
MAPPED_SITE = """
    location /weather { push_subscribe $city_channel; push_parameters last=1&transport=poll; }
    location ~ (?s)^/room/(.*)$ { push_subscribe "room-$1"; }
    location /own { push_subscribe; push_grant "mine-*" $arg_more; }
"""


def _shows(nginx, channel, data, path):
    """Publishes to a channel. The answer to a poll at this path has the message."""
    nginx.publish(channel, data)
    status, _, body = nginx.get(path)
    assert (status, json.loads(body)["messages"][0]["data"]) == (200, data), path


def test_channels_from_a_map(pushd, start_nginx):
    nginx = start_nginx(http=MAPPED, server=MAPPED_SITE + _site())
    _shows(nginx, "weather-oslo", "snow", "/weather?city=oslo&last=0&transport=sse")
    # No channel does not mean every channel.
    assert nginx.get("/weather?city=atlantis")[0] == 403


def test_names_that_clients_choose_are_names_and_not_patterns(pushd, start_nginx):
    nginx = start_nginx(http=MAPPED, server=MAPPED_SITE + _site())
    _shows(nginx, "room-a b&channel=c#%+", "odd", "/room/a%20b&channel=c%23%25+?last=1")
    assert nginx.get("/room/*?last=1")[0] == 403
    assert nginx.get("/room/%2a?last=1")[0] == 403
    # The end of a line would end the request's line.
    assert nginx.get("/room/a%0dX:%20y?last=1")[0] == 400
    assert nginx.get("/room/a%0d%0aX:%20y?last=1")[0] == 400
    # nginx logs mistakes of clients as info, so that they wake no operator.
    told = [line for line in nginx.error_log().splitlines() if "not handed over" in line]
    assert len(told) == 2 and all("[info]" in line for line in told), told


def test_a_variable_is_never_a_pattern(pushd, start_nginx):
    """No text of a client or an application in a variable makes a pattern, wherever the configuration has the
    variable."""
    site = """
        location /rooms { push_subscribe; push_grant "room-$push_arg_room"; }
        location /team { push_subscribe; push_grant "$push_arg_team*"; }
        location /level { push_subscribe; push_grant "team-$arg_team*"; }
        location /brace { push_subscribe; push_grant "team-${push_arg_team}*"; }
        location /two { push_subscribe; push_grant "$push_arg_of-$push_arg_team*"; }
        location /apart { push_subscribe; push_grant "team-$arg_team.*"; }
        location /star { push_subscribe; push_grant a*b; }
        location /both { push_subscribe "room-$push_arg_room" news; push_grant more.*; }
    """
    nginx = start_nginx(server=site + _site())
    for channel in ("room-board", "team-7.a", "other"):
        nginx.publish(channel, "secret")
    for asked, channel in (
        ("/rooms?room=*", "room-board"), ("/rooms?room=%2A", "room-board"), ("/rooms?room=b*", "room-board"),
        ("/team?team=", "other"), ("/team?", "other"), ("/team?team=*", "other"), ("/team?team=t*", "team-7.a"),
    ):  # fmt: skip
        assert nginx.get(f"{asked}&channel={channel}&last=1")[0] == 403, (asked, channel)
    assert nginx.get("/both?room=*&last=1")[0] == 403
    assert nginx.get("/both?room=board&last=1")[0] == 200
    assert nginx.get("/rooms?room=board&channel=room-board&last=1")[0] == 200
    assert nginx.get("/team?team=team-7.&channel=team-7.a&last=1")[0] == 200
    assert nginx.get("/team?team=team-7.&channel=other&last=1")[0] == 403
    # An empty variable does not open all names below the text before it either.
    for path in ("/level", "/brace", "/two"):
        for without in ("?", "?team=&", "?of=team&"):
            assert nginx.get(f"{path}{without}of=team&channel=team-7.a&last=1")[0] == 403, (path, without)
        assert nginx.get(f"{path}?of=team&team=7&channel=team-7.a&last=1")[0] == 200, path
        assert nginx.get(f"{path}?of=team&team=8&channel=team-7.a&last=1")[0] == 403, path
    assert 'push_grant "team-$arg_team*" is "team-*": the variable before its asterisk is empty' in nginx.error_log()
    assert nginx.get("/apart?team=7&channel=team-7.a&last=1")[0] == 200
    assert nginx.get("/apart?channel=team-7.a&last=1")[0] == 403
    # An asterisk within a name is a letter like any other.
    nginx.publish("a*b", "hello")
    assert nginx.get("/star?channel=a*b&last=1")[0] == 200
    assert nginx.get("/star?channel=axb&last=1")[0] == 403
    # A client may not name a pattern, or publish to it, either.
    assert nginx.get("/push?channel=room-*&last=1")[0] == 400
    assert nginx.get("/publish?channel=room-*", "POST", b"x")[0] == 400
    assert 'push_grant "room-$push_arg_room" is "room-b*": only an asterisk of the' in nginx.error_log()


def test_a_grant_bounds_what_clients_name_themselves(pushd, start_nginx):
    nginx = start_nginx(http=MAPPED, server=MAPPED_SITE + _site())
    nginx.publish("mine-1", "hello")
    assert nginx.get("/own?channel=mine-1&last=1")[0] == 200
    assert nginx.get("/own?channel=others&last=1")[0] == 403
    with connect(nginx.url("/own", scheme="ws", channel="mine-1"), subprotocols=["push.v1.json"], proxy=None) as client:
        assert json.loads(client.recv())["type"] == "subscribed"
        client.send('{"type":"subscribe","channel":"others"}')
        assert json.loads(client.recv())["type"] == "error"
        client.send('{"type":"publish","channel":"mine-1","data":"x"}')
        assert json.loads(client.recv())["type"] == "error"


FORGERIES = {
    "Push-Grant": "*", "X-Push-Grant": "*", "X-Accel-Redirect": "/push", "Authorization": "Bearer e30.e30.e30",
    "Cookie": "push_token=e30.e30.e30", "X-Push-User": "root",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_grant_can_not_be_forged(pushd, start_nginx, trust, scheme):
    """The grant goes beside the connection, not in it: no text of a client is a grant."""
    nginx = start_nginx(http=MAPPED, server=MAPPED_SITE + _site())
    at = nginx if scheme == "http" else nginx.tls
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        url = at.url("/own", scheme=scheme, channel="others", last=1, token="e30.e30.e30", grant="*")
        assert client.get(url, headers=FORGERIES).status_code == 403
    assert pushd.request("GET", "/v1/channels/others")[0] == 404
    # The only way in is through nginx.
    assert "listening on 127" not in pushd.log()


def test_expiry_and_permission_to_publish(pushd, start_nginx):
    seconds = (2, 4, 8, 16, 32)
    site = "".join(f"location /soon{n} {{ push_subscribe a; push_expires {n}s; }}" for n in seconds) + """
        location /at { push_subscribe a; push_expires @$arg_at; }
        location /variable { push_subscribe a; push_expires $arg_at; }
        location /may { push_subscribe a; push_client_publish $arg_may; }
    """
    nginx = start_nginx(server=site + _site())
    # On a slow machine such a short time may be over before the client is let in. Then the next has more.
    for n in seconds:
        try:
            with connect(nginx.url(f"/soon{n}", scheme="ws"), proxy=None) as client:
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv()
                assert closed.value.rcvd.code == 4403
                break
        except InvalidStatus as refused:
            assert refused.response.status_code == 403
    else:
        raise AssertionError("half a minute is too short")
    assert nginx.get("/at?at=1000000000&last=1")[0] == 403
    # A value that is no time does not mean for ever, and neither does an empty one.
    assert nginx.get("/at?at=soon")[0] == 500
    assert nginx.get("/variable?at=never-1&last=1")[0] == 500
    assert nginx.get("/variable?last=1")[0] == 500
    assert 'push_expires "" is no time' in nginx.error_log()
    assert nginx.get("/variable?at=off&last=1")[0] == 200
    for may, answer in (("on", "published"), ("no", "error")):
        with connect(nginx.url("/may", scheme="ws", may=may), subprotocols=["push.v1.json"], proxy=None) as client:
            assert json.loads(client.recv())["type"] == "subscribed"
            client.send('{"type":"publish","channel":"a","data":"x"}')
            types = {json.loads(client.recv())["type"]}
            if answer == "published":
                types.add(json.loads(client.recv())["type"])
            assert answer in types


def test_publishing_has_a_list_of_its_own(pushd, start_nginx):
    nginx = start_nginx(server="""
        location /apart { push_subscribe news; push_grant_publish "cmd-$arg_room" "typing-$arg_room.*" a*b; }
        location /both { push_subscribe news; push_client_publish on; push_grant_publish "cmd-$arg_room"; }
    """ + _site())  # fmt: skip
    cases = (
        ("/apart", {"cmd-7"}, ("news", "cmd-70", "typing-70.x", "cmd-", "axb"), {"typing-7.x", "a*b"}),
        ("/both", {"cmd-7", "news"}, ("cmd-70", "other"), set()),
    )
    for path, may, may_not, more in cases:
        with connect(nginx.url(path, scheme="ws", room="7"), subprotocols=["push.v1.json"], proxy=None) as client:
            assert json.loads(client.recv())["type"] == "subscribed"

            def answer(request, channel):
                client.send(json.dumps({"type": request, "channel": channel} | ({"data": "x"} if request == "publish" else {})))
                answers = (json.loads(client.recv()) for _ in range(10))
                return next(got for got in answers if got["type"] != "message")

            for channel in may | more:
                assert answer("publish", channel)["type"] == "published", channel
            for channel in may_not:
                assert answer("publish", channel)["code"] == "publish", channel
            # It may not have them for that.
            assert answer("subscribe", "cmd-7")["code"] == "channel"
    # An asterisk of a client makes no pattern, and an empty variable does not widen one.
    assert nginx.get("/apart?room=7*&last=1")[0] == 403
    assert nginx.get("/apart?last=1")[0] == 200
    assert 'push_grant_publish "cmd-$arg_room" is "cmd-7*": only an asterisk of the' in nginx.error_log()


def test_other_methods_and_bodies_are_refused(nginx, pushd):
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        status, headers, _ = nginx.get("/push?channel=a", method)
        assert (status, headers["Allow"]) == (405, "GET, OPTIONS")
    assert nginx.get("/push?channel=a", "GET", b"body")[0] == 400
    # The hub answers preflights, by its option allowed_origins.
    assert nginx.get("/push?channel=a", "OPTIONS", headers={"Origin": f"http://127.0.0.1:{nginx.port}"})[0] == 204
    assert nginx.get("/push?channel=a", "OPTIONS", headers={"Origin": "http://evil.test"})[0] == 403
    assert pushd.stats()["adopted"] == 2


def test_what_still_needs_the_request_keeps_it(pushd, start_nginx):
    """A mirror's subrequest is under way while the content handler runs: the connection can't be given away then."""
    site = """
        location = /copy { internal; proxy_pass http://127.0.0.1:%d/; }
        location /mirrored { mirror /copy; push_subscribe a; }
    """
    nginx = start_nginx()
    nginx.configure(server=site % nginx.port + _site())
    nginx.reload()
    nginx.publish("a", "hello")
    wait_until(lambda: b"hello" in nginx.get("/mirrored?last=1")[2], "the new configuration serves")
    nginx.logged("relay GET /mirrored")


def test_cleanup_handlers_run(pushd, start_nginx):
    """limit_conn counts requests that nginx has. A request that was handed over does not count."""
    http = "limit_conn_zone $binary_remote_addr zone=each:1m;"
    nginx = start_nginx(
        http=http, server="location /limited { limit_conn each 1; push_subscribe a; }" + _site(), workers=1
    )
    limited = _at(nginx, "/limited")
    with subscribers.over_sse(limited, channel="a"), subscribers.over_sse(limited, channel="a"):
        wait_until(lambda: pushd.stats()["sse"] == 2, "both are served")


class _at:
    """nginx, with another path for subscribers."""

    def __init__(self, nginx, path):
        self._nginx, self._path = nginx, path

    def url(self, **arguments):
        return self._nginx.url(self._path, **arguments)


def test_polls_on_one_connection_where_that_is_allowed(pushd, start_nginx):
    nginx = start_nginx(server="location = /push { push_subscribe; push_grant a; push_keep_alive on; }" + _site())
    nginx.publish("a", "hello")
    poll = b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\n\r\n"
    with connection(nginx) as client:
        for _ in range(2):
            client.sendall(poll)
            read_until(client, b"hello")
        # The grant stays as it was.
        client.sendall(poll.replace(b"channel=a", b"channel=b"))
        assert b"HTTP/1.1 403" in read_until(client, b"\r\n\r\n")
    assert pushd.stats()["adopted"] == 1


def test_each_poll_on_a_connection_gets_the_channels_of_its_location(pushd, start_nginx):
    """They are in the grant and not in the request, so their names take no room there, either (max_head is 16 KB)."""
    names = [f"{'ü' * 120}{number}" for number in range(100)]
    location = f"location = /push {{ push_subscribe {' '.join(names)}; push_keep_alive on; }}"
    nginx = start_nginx(server=location + _site())
    nginx.publish(names[-1], "hers")
    nginx.publish("b", "not hers")
    poll = b"GET /push?channel=b&last=1 HTTP/1.1\r\nHost: h\r\n\r\n"
    with connection(nginx) as client:
        for _ in range(2):
            client.sendall(poll)
            assert b'"data":"hers"}]}' in read_until(client, b"]}")
    assert pushd.stats()["adopted"] == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_limits_by_address(start_pushd, start_nginx, trust, scheme):
    """The hub knows a client's address, even if it does not have the client's socket, and a client can't change it.
    """
    pushd = start_pushd("max_per_address=1", "trusted_proxies=unix")
    nginx = start_nginx()
    at = nginx if scheme == "http" else nginx.tls
    url = at.url(scheme=scheme, channel="a", transport="sse")
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        with client.stream("GET", url) as first:
            # This keeps the iterator: without it the connection would be closed.
            parts = first.iter_raw()
            assert b"push-open" in next(parts)
            for headers in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}):
                with client.stream("GET", url, headers=headers) as second:
                    assert b"push-open" not in b"".join(second.iter_raw())
        assert pushd.stats()["refused"] == 3


def test_a_handshake_that_became_http_2_is_refused_at_once(nginx):
    """A proxy has made a GET of the handshake. That opens no WebSocket, and a poll in its place would keep the client
    waiting."""
    key = ["-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    for headers in (key, [*key, "-H", "Upgrade: websocket"]):
        for asked in ({}, {"transport": "ws"}):
            answer = curl(nginx.tls.url(scheme="https", channel="a", **asked), "--http2", *headers)
            assert answer.startswith(("HTTP/2 400", "HTTP/2 426")), answer
            assert "proxy" in answer, answer


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_handshake_that_lost_its_upgrade_is_refused_at_once(nginx, trust, scheme):
    lost = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode()}
    url = (nginx.tls if scheme == "https" else nginx).url(scheme=scheme, channel="a")
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        response = client.get(url, headers=lost)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "upgrade")
    assert "Upgrade: websocket" in response.text and "proxy" in response.text


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_upgrade_required_says_to_what(nginx, trust, scheme):
    old = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "8",
           "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode()}  # fmt: skip
    url = (nginx.tls if scheme == "https" else nginx).url(scheme=scheme, channel="a")
    with httpx.Client(verify=trust, timeout=PATIENCE, trust_env=False) as client:
        response = client.get(url, headers=old)
    assert (response.status_code, response.headers["Upgrade"]) == (426, "websocket")
    assert "Upgrade" in response.headers["Connection"].split(", ")


def test_in_an_if_and_after_a_redirect(pushd, start_nginx):
    site = """
        location /choice {
            push_subscribe a;
            if ($arg_user) { push_user $arg_user; }
            if ($arg_other) { push_subscribe b; }
        }
        location /moved { rewrite ^ /choice last; }
        error_page 404 = /choice?last=1;
        location /missing { return 404; }
    """
    nginx = start_nginx(server=site + _site())
    nginx.publish("a", "to a")
    nginx.publish("b", "to b")
    for path, text, via in (
        ("/choice?last=1", "to a", "handover"), ("/choice?last=1&user=ann", "to a", "handover"),
        ("/choice?last=1&other=1", "to b", "handover"), ("/moved?last=1", "to a", "handover"),
        ("/missing?last=1", "to a", "relay"),
    ):  # fmt: skip
        assert text in nginx.get(path)[2].decode(), path
        nginx.logged(f"{via} GET /choice")
