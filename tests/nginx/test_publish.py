"""push_publish and push_status."""

import json
import re
import subprocess

import pytest
import subscribers
from collector import Collector
from conftest import SITE
from servers import PATIENCE, ROOT


def last(nginx, channel):
    """The newest message of a channel."""
    return json.loads(nginx.get(f"/push?channel={channel}&last=1")[2])["messages"][0]


@pytest.mark.parametrize("size", [0, 1, 1000, 17_000, 900_000])
def test_bodies_in_memory_and_in_files(nginx, size):
    text = "0123456789" * (size // 10) + "x" * (size % 10)
    position = nginx.publish("a", text)
    message = last(nginx, "a")
    assert (message["id"], message["data"]) == (position, text)


def test_a_body_in_chunks(nginx):
    nginx.get("/publish?channel=a", "POST", iter([b"one ", b"two ", b"x" * 20_000]))
    assert last(nginx, "a")["data"] == "one two " + "x" * 20_000


def test_event_key_and_binary(nginx):
    first = nginx.publish("a", "hello", **{"Push-Event": "greeting", "Push-Key": "1"})
    assert nginx.publish("a", "hello again", **{"Push-Key": "1"}) == first
    message = last(nginx, "a")
    assert (message["data"], message["event"]) == ("hello", "greeting")
    nginx.publish("a", "text", **{"Content-Type": "application/octet-stream"})
    assert last(nginx, "a")["base64"] is True


def test_the_place_of_a_request_in_a_trace_reaches_the_hub_only_where_that_is_wanted(start_pushd, start_nginx):
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    sampled = f"00-{trace}-{parent}-01"
    with Collector() as collector:
        start_pushd(f"trace={collector.option}", "trace_sample=0", "trace_timeout=10m")
        # The locations have it from the server, but for one.
        off = "location /off { push_publish $push_arg_channel; push_publish_trace off; }"
        nginx = start_nginx(server="push_publish_trace on;" + off + SITE)
        nginx.publish("a", "none")
        assert nginx.get("/off?channel=a", "POST", "off", {"traceparent": sampled})[0] == 200
        nginx.publish("a", "not one", traceparent=sampled.upper())
        position = nginx.publish("a", "one", TraceParent=sampled)
        # Nobody knows which of two counts.
        twice = f"POST /publish?channel=a HTTP/1.0\r\ntraceparent: {sampled}\r\ntraceparent: {sampled}\r\n\r\n"
        assert b" 200 " in nginx.talk(twice.encode())
        last = nginx.publish("a", "last", traceparent=sampled)
        first, second = collector.wait_for(2)
        assert [first.position, second.position] == [position, last]
        assert (first.trace, first.parent) == (trace, parent)


def test_without_a_directive_no_client_asks_for_spans(start_pushd, start_nginx):
    sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Collector() as collector:
        pushd = start_pushd(f"trace={collector.option}", "trace_sample=0")
        start_nginx().publish("a", "off", traceparent=sampled)
        # The span would be exported at a stop at the latest.
        pushd.stop()
        assert collector.spans == []


USERS = """
    location /mine { push_subscribe; push_grant news; push_user $push_arg_user; }
    location /own { push_subscribe; push_user $push_arg_user; }
    location /both { push_subscribe news; push_user $push_arg_user; }
    location = /to-user { push_publish_user $push_arg_user event=$http_push_event key=$http_push_key; }
"""


def test_a_message_to_a_user(start_pushd, start_nginx):
    start_pushd("user_channel=true")
    nginx = start_nginx(server=USERS + SITE)

    def publish(user, text, **headers):
        status, _, body = nginx.get(f"/to-user?user={user}", "POST", text.encode(), headers)
        assert status == 200, (status, body)
        return json.loads(body)["id"]

    first = publish("ada", "hello", **{"Push-Event": "greeting", "Push-Key": "1"})
    assert publish("ada", "hello again", **{"Push-Key": "1"}) == first
    publish("b%C3%B6b%2C%20100%25", "for him")
    nginx.publish("news", "to all")
    for path, more in (("/own", []), ("/mine", []), ("/mine?channel=news", ["to all"]), ("/both", ["to all"])):
        at = f"{path}{'&' if '?' in path else '?'}last=1&user="
        got = json.loads(nginx.get(at + "ada")[2])["messages"]
        assert [message["data"] for message in got] == ["hello", *more], path
        assert (got[0]["channel"], got[0]["event"], got[0]["id"]) == ("user:ada", "greeting", first)
        got = json.loads(nginx.get(at + "b%C3%B6b%2C%20100%25")[2])["messages"]
        assert [message["data"] for message in got] == ["for him", *more], path
    # Nobody names the channel of another user, and without a user there is none.
    assert nginx.get("/mine?user=ada&channel=user:ada&last=1")[0] == 403
    assert nginx.get("/own?last=1")[0] == 403
    assert nginx.get("/mine?last=1")[0] == 400
    for user in ("", "ada*", "u" * 251, "a%0Ab"):
        assert nginx.get(f"/to-user?user={user}", "POST", b"x")[0] == 400, user


def test_without_the_hubs_option_nothing_is_published_to_a_user(pushd, start_nginx):
    nginx = start_nginx(server=USERS + SITE)
    assert nginx.get("/to-user?user=ada", "POST", b"x")[0] == 400
    assert pushd.stats()["published"] == 0


EXCEPT = """
    location = /but { push_publish $push_arg_channel event=$http_push_event except=$http_x_client; }
    location = /to-user-but { push_publish_user $push_arg_user except=$http_x_client; }
"""


def test_a_message_leaves_out_the_client_that_the_request_names(start_pushd, start_nginx):
    start_pushd("user_channel=true")
    nginx = start_nginx(server=EXCEPT + USERS + SITE)
    own = "0a1b2c3d-0000-4000-8000-00000000000a"
    first = nginx.publish("a", "first")

    def publish(path, text, client):
        status, _, body = nginx.get(path, "POST", text.encode(), {"X-Client": client} if client else {})
        return json.loads(body)["id"] if status == 200 else status

    def got(path):
        answer = json.loads(nginx.get(path)[2])
        return [message["data"] for message in answer["messages"]], answer["position"]

    publish("/but?channel=a", "own", own.upper())
    last = publish("/but?channel=a", "to all", None)
    assert got(f"/push?channel=a&since={first}&client={own}") == (["to all"], last)
    assert got(f"/push?channel=a&since={first}") == (["own", "to all"], last)
    publish("/to-user-but?user=ada", "own", own)
    assert got(f"/own?user=ada&last=1&client={own}")[0] == []
    assert got("/own?user=ada&last=1")[0] == ["own"]
    assert publish("/but?channel=a", "x", "me") == 400
    assert nginx.get("/push?channel=a&client=me")[0] == 400


def test_a_stream_begins_and_ends(nginx):
    def mark(path):
        status, _, body = nginx.get(path, "POST", b"")
        assert status == 200, (status, body)
        return json.loads(body)["id"]

    mark("/begin?channel=answer")
    nginx.publish("answer", "token")
    end = mark("/end?channel=answer")
    messages = json.loads(nginx.get("/push?channel=answer&since=start")[2])["messages"]
    assert [message["type"] for message in messages] == ["begin", "message", "end"]
    seen = {"Accept": "text/event-stream", "Last-Event-ID": end}
    assert nginx.get("/push?channel=answer", headers=seen)[0] == 204
    for path in ("/end", "/end?channel=news.*", "/begin?channel="):
        assert nginx.get(path, "POST", b"")[0] == 400, path
    status, headers, _ = nginx.get("/end?channel=answer")
    assert (status, headers["Allow"]) == (405, "POST")


def test_a_packed_body_is_refused(nginx):
    before = nginx.publish("a", "plain", **{"Content-Encoding": "identity"})
    for coding in ("gzip", "br", "gzip, identity"):
        status, headers, answer = nginx.get("/publish?channel=a", "POST", b"\x1f\x8b", {"Content-Encoding": coding})
        assert (status, json.loads(answer)["error"]["code"]) == (415, "content_encoding")
        assert headers["Accept-Encoding"] == "identity"
    assert last(nginx, "a")["id"] == before, "nothing was published"


def test_names_come_decoded(nginx):
    nginx.publish("a b/ü", "hello")
    assert last(nginx, "a+b%2f%C3%BC")["data"] == "hello"


@pytest.mark.parametrize(
    "path, body, status, code",
    [
        ("/publish", b"x", 400, "invalid"),
        ("/publish?channel=", b"x", 400, "invalid"),
        ("/publish?channel=a%00b", b"x", 400, None),
        ("/publish?channel=a%0ab", b"x", 400, "invalid"),
        ("/publish?channel=" + "a" * 256, b"x", 400, "invalid"),
        ("/publish?channel=a", b"x" * 2_000_000, 413, "too_large"),
        ("/publish?channel=a", b"x" * 21_000_000, 413, None),
    ],
)
def test_what_is_refused(nginx, pushd, path, body, status, code):
    got, _, answer = nginx.get(path, "POST", body)
    assert got == status, answer
    if code:
        assert json.loads(answer)["error"]["code"] == code
    assert pushd.stats()["published"] == 0


def test_other_methods_are_refused(nginx):
    status, headers, _ = nginx.get("/publish?channel=a")
    assert (status, headers["Allow"]) == (405, "POST, PUT")
    assert nginx.get("/publish?channel=a", "PUT", b"x")[0] == 200
    status, headers, _ = nginx.get("/status", "POST", b"x")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_over_http_2(nginx):
    url = nginx.tls.url("/publish", scheme="https", channel="a")
    ran = subprocess.run(["curl", "-sk", "--http2", "--data", "hello", url], capture_output=True, text=True, timeout=PATIENCE)
    assert json.loads(ran.stdout)["id"] == last(nginx, "a")["id"]


def test_status_has_what_the_header_has(nginx):
    fields = re.search(r"/\* Counters since push_start.*?} push_stats;", (ROOT / "include/push.h").read_text(), re.S)[0]
    with subscribers.over_sse(nginx, channel="a"):
        nginx.publish("a", "hello")
        status, headers, body = nginx.get("/status")
    stats = json.loads(body)
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "application/json", "no-store")
    assert list(stats) == re.findall(r"uint64_t (\w+);", fields)
    assert (stats["sse"], stats["published"], stats["adopted"]) == (1, 1, 1)
    assert nginx.get("/status", "HEAD")[2] == b""


def test_on_one_connection_one_after_the_other(nginx):
    request = "POST /publish?channel=a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d"
    requests = "".join(request % number for number in range(8)) + "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    got = nginx.talk(requests.encode(), ends=b"here\n")
    assert len(re.findall(rb'{"id":"', got)) == 8
    messages = json.loads(nginx.get("/push?channel=a&last=8")[2])["messages"]
    assert [message["data"] for message in messages] == list("01234567")
