"""The control API, with `httpx`: over TCP with a key, over a Unix socket without."""

import base64
import re
import time

import httpx
import pytest
from host import Host, free_port
from subscribers import SECONDS, over_sse, take

KEY = "a-key-of-sixteen-or-more"


class Control(httpx.Client):
    """The control API of a host, by TCP."""

    def __init__(self, port, key=KEY):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        super().__init__(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=SECONDS, trust_env=False)

    def publish(self, channel, data, **headers):
        response = self.post("/v1/publish", params={"channel": channel}, content=data, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def served(start):
    """A host and its control API."""
    port = free_port()
    host = start(f"control=127.0.0.1:{port}", f"control_key={KEY}", "history_count=1000")
    with Control(port) as control:
        yield host, control


def test_publish(served):
    host, control = served
    with over_sse(host, channel="a") as messages:
        host.wait_for(sse=1)
        answer = control.publish("a", "one", **{"Push-Event": "tick"})
        assert answer["subscribers"] == 1
        wanted = {"type": "message", "channel": "a", "id": answer["id"], "event": "tick", "data": "one"}
        assert next(messages) == wanted
        control.publish("a", b"text, but sent as bytes", **{"Content-Type": "application/octet-stream"})
        message = next(messages)
        assert (base64.b64decode(message["data"]), message["base64"]) == (b"text, but sent as bytes", True)
        control.publish("a", b"\xff")
        assert next(messages)["base64"] is True
        for kind in ("Application/Octet-Stream", "application/octet-stream; charset=binary"):
            control.publish("a", b"text", **{"Content-Type": kind})
            assert next(messages)["base64"] is True, kind
    assert control.publish("nobody listens", "x")["subscribers"] == 0


def test_a_name_that_is_not_utf_8_is_refused_and_not_taken_for_another(served):
    host, control = served
    host.may_say = "^libpush: control API: refused with 400 (channel|user|prefix|reason): .*not UTF-8"
    for method, path in [
        ("POST", "/v1/publish?channel=%ff"), ("POST", "/v1/disconnect?user=%ff"),
        ("POST", "/v1/revoke?user=u&channel=%ff"),
        ("POST", "/v1/revoke?user=%ff&channel=c"), ("GET", "/v1/channels?prefix=%ff"), ("GET", "/v1/channels/%ff"),
    ]:  # fmt: skip
        response = control.request(method, path, content="x" if "publish" in path else None)
        assert (response.status_code, "not UTF-8" in response.text) == (400, True), (path, response.text)
    assert host.stats()["published"] == 0


def test_a_pattern_is_not_a_channel(served):
    host, control = served
    host.may_say = "^libpush: control API: refused with 400 \\(channel\\)"
    batch = [{"channel": "fine", "data": "x"}, {"channel": "news.*", "data": "x"}]
    for method, path, body in [
        ("POST", "/v1/publish?channel=news.*", {"content": "x"}), ("POST", "/v1/publish?channel=%2A", {"content": "x"}),
        ("POST", "/v1/publish", {"json": batch}), ("GET", "/v1/users?channel=news.*", {}),
        ("GET", "/v1/channels/news.*", {}), ("DELETE", "/v1/channels/%2a", {}),
    ]:  # fmt: skip
        response = control.request(method, path, **body)
        answer = (response.status_code, "can't end in *; only the patterns of grants and options do" in response.text)
        assert answer == (400, True), (path, response.text)
    assert host.stats()["published"] == 0


def test_a_key_publishes_once(served):
    host, control = served
    first = control.publish("a", "one", **{"Push-Key": "once"})
    again = control.publish("a", "not published", **{"Push-Key": "once"})
    assert again["id"] == first["id"]
    elsewhere = control.publish("b", "one", **{"Push-Key": "once"})
    assert elsewhere["id"] != first["id"]
    with over_sse(host, channel="a", last=10) as messages:
        seen = take(messages, 1)
        seen += [next(messages) for _ in [host.publish("a", "two")]]
    assert [message["data"] for message in seen] == ["one", "two"]
    assert host.stats()["duplicates"] == 1


def test_a_batch_is_all_or_nothing_and_in_order(served):
    host, control = served
    batch = [{"channel": "ab"[count % 2], "data": f"{count}", "event": "e"} for count in range(100)]
    batch.append({"channel": "a", "data": base64.b64encode(b"\xff").decode(), "base64": True})
    with over_sse(host, channel=["a", "b"]) as messages:
        response = control.post("/v1/publish", json=batch)
        assert response.status_code == 200, response.text
        places = response.json()
        seen = take(messages, len(batch))
    assert [message["id"] for message in seen] == [place["id"] for place in places]
    assert [message["data"] for message in seen] == [item["data"] for item in batch]
    numbers = [int(place["id"].rsplit("-")[-1]) for place in places]
    assert numbers == list(range(numbers[0], numbers[0] + len(batch))), "nothing comes between"
    for bad in [{"channel": "", "data": "x"}, {"channel": "a"}, {"channel": "a", "data": "!", "base64": True}, 7]:
        response = control.post("/v1/publish", json=[{"channel": "a", "data": "good"}, bad])
        assert response.status_code == 400, bad
        assert response.json()["error"]["message"]
    assert host.stats()["published"] == len(batch)


def test_broadcast(served):
    host, control = served
    with over_sse(host, channel="a") as messages:
        answer = control.post("/v1/broadcast", content="to all").json()
        assert next(messages) == {"type": "broadcast", "id": answer["id"], "data": "to all"}


def test_channels(served):
    host, control = served
    ids = {name: control.publish(name, "12345")["id"] for name in ("news/a", "news/b", "other ß")}
    with over_sse(host, channel="quiet"):
        host.wait_for(sse=1)
        listed = control.get("/v1/channels").json()
        assert [channel["channel"] for channel in listed["channels"]] == ["news/a", "news/b", "other ß", "quiet"]
        assert listed["more"] is False
        assert listed["channels"][3]["subscribers"] == 1
        assert listed["channels"][3]["id"] is None
    listed = control.get("/v1/channels", params={"prefix": "news/"}).json()
    assert [channel["id"] for channel in listed["channels"]] == [ids["news/a"], ids["news/b"]]
    one = control.get("/v1/channels", params={"limit": 1}).json()
    assert (len(one["channels"]), one["more"]) == (1, True)
    for name in ("/v1/channels/other%20%C3%9F", "/v1/channels/news%2Fa"):
        channel = control.get(name).json()
        assert (channel["subscribers"], channel["messages"], channel["id"]) == (0, 1, ids[channel["channel"]])
        assert channel["bytes"] >= 5
        response = control.delete(name)
        assert (response.status_code, response.content) == (204, b"")
        assert control.get(name).status_code == 404
        assert control.delete(name).status_code == 404


def test_connections_are_listed_and_one_is_closed(served):
    host, control = served
    host.may_say = "^libpush: control API: refused with 404 \\(not_found\\)"
    with over_sse(host, channel="a") as one, over_sse(host, channel=["a", "b"]) as other:
        host.wait_for(sse=2)
        listed = control.get("/v1/connections", params={"channel": "a"}).json()
        assert (listed["count"], listed["more"], len(listed["connections"])) == (2, False, 2)
        assert [row["address"] for row in listed["connections"]] == ["127.0.0.1"] * 2
        first = control.get("/v1/connections", params={"channel": "a", "limit": 1}).json()
        after = {"channel": "a", "limit": 1, "after": first["after"]}
        paged = first["connections"] + control.get("/v1/connections", params=after).json()["connections"]
        assert [row["id"] for row in paged] == [row["id"] for row in listed["connections"]]
        [row] = control.get("/v1/connections", params={"channel": "b"}).json()["connections"]
        assert (row["names"], row["transport"], row["waiting"]) == (["a", "b"], "sse", 0)
        response = control.post("/v1/close", params={"connection": row["id"], "reason": "over there"})
        assert (response.status_code, response.json()) == (200, {})
        end = next(other)
        assert (end["code"], end["reason"]) == (4403, "over there")
        control.publish("a", "x")
        assert next(one)["data"] == "x"
    assert control.post("/v1/close", params={"connection": 1}).status_code == 404


def test_what_is_kept_of_a_channel_is_what_a_poll_gets(served):
    host, control = served
    places = [control.publish("a/b", data) for data in ("one", b"\xff", "three")]
    polled = httpx.get(host.url(channel="a/b", last=3, transport="poll"), timeout=SECONDS, trust_env=False).json()
    kept = control.get("/v1/channels/a%2Fb/messages").json()
    assert (kept["messages"], kept["position"]) == (polled["messages"], places[-1]["id"])
    assert (kept["gap"], kept["more"]) == (False, False)
    later = control.get("/v1/channels/a%2Fb/messages", params={"since": places[0]["id"], "limit": 1}).json()
    assert ([message["id"] for message in later["messages"]], later["more"]) == ([places[1]["id"]], True)
    assert control.get("/v1/channels/a%2Fb/messages", params={"since": "0-0"}).json()["gap"] is True


def test_a_channel_cleared_is_a_gap(served):
    host, control = served
    ids = [control.publish("a", f"{count}")["id"] for count in range(3)]
    control.delete("/v1/channels/a")
    with over_sse(host, channel="a", since=ids[0]) as messages:
        assert take(messages, 1) == [{"type": "gap", "channel": "a", "id": ids[2]}]


def test_stats_and_metrics_say_the_same(served):
    host, control = served
    control.publish("a", "one")
    stats = control.get("/v1/stats").json()
    assert stats == host.stats()
    assert (stats["published"], stats["channels"], stats["history_messages"], stats["seq"]) == (1, 1, 1, 1)
    response = control.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    plain = dict(re.findall(r"^push_(\w+) (\d+)$", response.text, re.M))
    plain = {name.removesuffix("_total"): int(value) for name, value in plain.items() if "_seconds_" not in name}
    # These are the operator's only.
    assert (plain.pop("panics"), plain.pop("lost_messages"), plain.pop("reload_success")) == (0, 0, 1)
    # The log on disk is the operator's, too.
    engine = {name: plain.pop(name) for name in list(plain) if name.startswith("engine_")}
    assert engine["engine_up"] == 1
    assert plain.items() <= stats.items()
    labelled = re.findall(r'^push_(\w+)\{(\w+)="([^"]+)"\} (\d+)$', response.text, re.M)
    of = {(name, value): int(count) for name, label, value, count in labelled}
    transports = {"websocket": "websockets", "sse": "sse", "stream": "streams", "poll": "polls"}
    for value, name in transports.items():
        assert of["connections", value] == stats[name]
    assert sum(count for (name, _), count in of.items() if name == "connections") == stats["connections"]
    assert (of["dropped_messages_total", "drop-oldest"], of["dropped_messages_total", "latest"]) == (0, 0)
    rest = {"connections", "dropped", "replaced", *transports.values()}
    assert set(stats) == set(plain) | rest, "each number is shown, and once"


@pytest.mark.parametrize("key", [None, "wrong-key-of-sixteen", KEY[:-1], KEY + "x", ""])
def test_without_the_key_nothing_but_health(served, key):
    host, control = served
    host.may_say = "^libpush: control API: refused with 401 unauthorized: .*control_key"
    with Control(control.base_url.port, key) as stranger:
        assert stranger.get("/healthz").text == "ok\n"
        for method, path in [
            ("POST", "/v1/publish?channel=a"), ("POST", "/v1/publish"), ("POST", "/v1/broadcast"), ("GET", "/v1/stats"),
            ("GET", "/metrics"), ("GET", "/v1/channels"), ("GET", "/v1/users?channel=a"), ("GET", "/v1/channels/a"),
            ("DELETE", "/v1/channels/a"),
            ("POST", "/v1/disconnect?user=u"), ("POST", "/v1/revoke?user=u&channel=c"), ("GET", "/elsewhere"),
        ]:  # fmt: skip
            response = stranger.request(method, path)
            assert response.status_code == 401, path
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "unauthorized"
    assert host.stats()["published"] == 0
    # A client that guesses a key is logged. A separate thread writes the log.
    until = time.monotonic() + SECONDS
    while not re.search(host.may_say, host.stderr(), re.M):
        assert time.monotonic() < until, host.stderr()
        time.sleep(0.01)


def test_what_is_not_there_and_what_is_not_allowed(start):
    port = free_port()
    host = start(f"control=127.0.0.1:{port}", f"control_key={KEY}", "max_message=1KB")
    with Control(port) as control:
        for method, path, status in [
            ("GET", "/", 404), ("GET", "/v1", 404), ("GET", "/v1/publish", 405), ("POST", "/v1/stats", 405),
            ("PUT", "/v1/channels/a", 405), ("POST", "/metrics", 405), ("POST", "/v1/disconnect", 400),
            ("GET", "/v1/revoke", 405), ("POST", "/v1/revoke?user=u", 400),
            ("POST", "/v1/revoke?user=u&channel=a*b*", 400),
            ("POST", "/v1/publish?channel=", 400), ("POST", "/v1/publish", 400), ("GET", "/v1/channels?limit=0", 400),
            ("POST", "/v1/broadcast?channel=a", 400), ("GET", "/v1/users", 400), ("GET", "/v1/users?channel=a", 404),
            ("POST", "/v1/users?channel=a", 405), ("GET", "/v1/channels/%FF", 400),
        ]:  # fmt: skip
            response = control.request(method, path)
            assert response.status_code == status, (method, path, response.text)
            assert response.json()["error"]["message"]
        response = control.post("/v1/publish?channel=a", content=b"x" * 1025)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
        assert control.publish("a", b"x" * 1024)
        response = control.post("/v1/publish?channel=a", content=b"x", headers={"Push-Event": "push-x"})
        assert response.status_code == 400
    assert host.stats()["published"] == 1


def test_a_unix_socket_needs_no_key(start, tmp_path):
    path = tmp_path / "control"
    host = start(f"control=unix:{path}")
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://control", timeout=SECONDS) as control:
        assert control.post("/v1/publish?channel=a", content="one").json()["id"]
        assert control.get("/v1/stats").json()["published"] == 1
    assert host.stop() == 0
    assert not path.exists(), "the socket goes with the server"


def test_a_body_in_parts_that_is_refused_is_told_why(start, tmp_path):
    path, port = tmp_path / "control", free_port()
    host = start(f"control=127.0.0.1:{port},unix:{path}", f"control_key={KEY}")
    host.may_say = "^libpush: control API: refused with (401|400)"

    def parts():
        for _ in range(20):
            yield b"x" * 20_000
            time.sleep(0.01)

    over_unix = httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://control", timeout=SECONDS)
    with Control(port, None) as over_tcp, over_unix:
        for control in (over_tcp, over_unix):
            assert control.post("/v1/publish?channel=a", content=parts()).status_code == 401
            headers = {"Authorization": f"bearer  {KEY}"}
            response = control.post("/v1/publish?chanel=a", content=parts(), headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "parameter")
    assert host.stats()["published"] == 0


def test_tcp_without_a_key_is_refused_at_the_start():
    with pytest.raises(RuntimeError, match="control_key"):
        Host("control=127.0.0.1:0")
