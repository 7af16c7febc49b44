"""Refused requests: the status, a JSON body that says why, and whether the client comes back."""

import httpx
import pytest
from subscribers import SECONDS, TRANSPORTS, websocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

STREAMING = [name for name in TRANSPORTS if name != "ws"]


@pytest.fixture
def client():
    with httpx.Client(timeout=SECONDS, trust_env=False) as client:
        yield client


def refused(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert error["code"] == code
    assert len(error["message"]) > 5
    return response


@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("position", ["-", "x", "a-", "-1", "a-b", "a-99999999999999999999999", "a b-1"])
def test_what_is_no_position(host, client, transport, position):
    refused(client.get(host.url(channel="a", transport=transport, since=position)), 400, "position")


# An EventSource sends the last id that it has seen by itself, even one of an earlier server. It would never come back
# from an error.
@pytest.mark.parametrize("form", ["raw", "json"])
@pytest.mark.parametrize("transport", STREAMING)
@pytest.mark.parametrize("id", ["42", "1700000000:0", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "urn:uuid:f81d4fae", "-", "x" * 999])
def test_an_id_of_another_server_is_a_position_of_another_life(host, client, transport, form, id):
    host.publish("a", "kept")
    for headers, parameters in [({"Last-Event-ID": id}, {}), ({}, {"lastEventId": id})]:
        url = host.url(channel="a", transport=transport, format=form, **parameters)
        with client.stream("GET", url, headers=headers) as response:
            assert response.status_code == 200
            text = ""
            for part in response.iter_text():
                text += part
                if "kept" in text:
                    break
        assert '"type":"gap"' in text.split("kept")[0], text


@pytest.mark.parametrize("transport", STREAMING)
def test_no_channel(host, client, transport):
    refused(client.get(host.url(transport=transport)), 400, "channel")


def test_channels_that_are_none(start, client):
    host = start("max_channels=10")
    for name in ("", "x" * 256, "tab\there", "nul\0"):
        refused(client.get(host.url(channel=name)), 400, "channel")
    refused(client.get(host.url(channel=[f"{n}" for n in range(11)])), 400, "channels")


def test_other_parameters_that_make_no_sense(host, client):
    for name, value in {"last": "0", "format": "xml", "transport": "carrier pigeon"}.items():
        refused(client.get(host.url(channel="a", **{name: value})), 400, name)


def test_a_foreign_origin(host, client):
    headers = {"Origin": "http://elsewhere.example"}
    refused(client.get(host.url(channel="a"), headers=headers), 403, "origin")
    with pytest.raises(InvalidStatus) as refusal, websocket_from(host, "http://elsewhere.example"):
        pass
    assert refusal.value.response.status_code == 403


def test_an_allowed_origin_may_read_the_answer(start, client):
    host = start("allowed_origins=http://app.example")
    first = host.publish("a", "one")
    host.publish("a", "two")
    headers = {"Origin": "http://app.example"}
    response = client.get(host.url(channel="a", since=first), headers=headers)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "http://app.example"
    assert "Push-Position" in response.headers["Access-Control-Expose-Headers"]
    with websocket_from(host, "http://app.example"):
        pass
    asked = ["traceparent", "x-requested-with", "content-type", "x-csrf-token"]
    preflight = {**headers, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": ",".join(asked)}
    response = client.options(host.url(channel="a"), headers=preflight)
    assert response.status_code == 204
    assert "GET" in response.headers["Access-Control-Allow-Methods"]
    allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
    assert set(asked) | {"Authorization", "Cache-Control", "Last-Event-ID"} == set(allowed)
    assert {"Origin", "Access-Control-Request-Headers"} <= set(response.headers["Vary"].split(", "))
    other = {**preflight, "Origin": "http://other.example"}
    refused(client.options(host.url(channel="a"), headers=other), 403, "origin")
    for wrong in ("a b", "a;b", "x" * 2000):
        wrong = {**preflight, "Access-Control-Request-Headers": wrong}
        refused(client.options(host.url(channel="a"), headers=wrong), 400, "preflight")


def test_subdomains_of_an_allowed_origin(start, client):
    host = start("allowed_origins=https://*.example.org")
    for origin, status in {"https://a.example.org": 200, "https://a.b.example.org": 200, "https://example.org": 403,
                           "https://evil-example.org": 403, "http://a.example.org": 403}.items():  # fmt: skip
        response = client.get(host.url(channel="a", wait=0), headers={"Origin": origin})
        assert response.status_code == status, origin
        assert response.headers.get("Access-Control-Allow-Origin") == (origin if status == 200 else None)


def websocket_from(host, origin):
    return connect(host.url(scheme="ws", channel="a"), origin=origin, proxy=None, open_timeout=SECONDS)


def test_a_websocket_version_that_nobody_speaks(host, client):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "12",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    response = refused(client.get(host.url(channel="a"), headers=headers), 426, "websocket_version")
    assert response.headers["Sec-WebSocket-Version"] == "13"


def test_a_websocket_position_that_is_none(host):
    with pytest.raises(InvalidStatus) as refusal, websocket(host, channel="a", since="nothing"):
        pass
    assert refusal.value.response.status_code == 400


def test_a_head_too_large(host, client):
    refused(client.get(host.url(channel="a", padding="x" * 20_000)), 414, "uri_too_long")
    refused(client.get(host.url(channel="a"), headers={"Padding": "x" * 20_000}), 413, "too_large")


def test_full_tells_an_event_source_to_come_back(start, client):
    host = start("max_connections=1", "retry=7s", own_listener=True)
    with websocket(host.own, channel="a"):
        response = refused(client.get(host.own.url(channel="a")), 503, "full")
        assert int(response.headers["Retry-After"]) > 0
        response = client.get(host.own.url(channel="a", transport="sse"))
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert 7000 <= int(response.text.removeprefix("retry: ").splitlines()[0]) <= 14000
        assert "event: push-close\n" in response.text


def test_the_host_refuses_whom_the_library_has_no_room_for(start, client):
    host = start("max_connections=1")
    with websocket(host, channel="a"):
        response = client.get(host.url(channel="a"))
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        response = client.get(host.url(channel="a"), headers={"Accept": "text/event-stream"})
        assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")
        assert response.text.startswith("retry: ") and "event: push-close\n" in response.text


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_elsewhere_than_the_path_on_the_own_listener(start, client, transport):
    host = start(own_listener=True)
    refused(client.get(host.own.url("/other", channel="a", transport=transport)), 404, "not_found")
    refused(client.post(host.own.url(channel="a", transport=transport)), 405, "method_not_allowed")
