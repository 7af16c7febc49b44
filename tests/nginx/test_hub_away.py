"""pushd is gone, slow, full or refuses. Everything else is served as before, and subscribers get an answer at once.
"""

import json
import os
import signal
import time

import httpx
import httpx_sse
import pytest
import subscribers
from servers import PATIENCE, wait_until

EVENT_STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def start_nginx(configured):
    """nginx that does not wait for its hub for long. Where the hub is there it may be too late, too, on a busy machine,
    so what it answers is waited for."""
    return lambda **arguments: configured(**{"timeout": "500ms", **arguments}).start()


def others_are_served(nginx, count=50):
    """Requests that have nothing to do with live push, and how long the slowest of them took."""
    slowest = 0
    for _ in range(count):
        begin = time.monotonic()
        assert nginx.get("/")[2] == b"here\n"
        slowest = max(slowest, time.monotonic() - begin)
    return slowest


def publish(nginx):
    """What publishing gets. It goes to a channel that nobody looks at: where the answer was too late, the message may
    still come to the next hub."""
    return nginx.get("/publish?channel=probe", "POST", b"x")


def published(nginx, data):
    """Publishes as soon as the hub answers in time; says the position. With a key, since an answer that came too late
    does not say that nothing was done."""
    headers = {"Push-Key": data}
    answer = wait_until(lambda: (got := nginx.get("/publish?channel=a", "POST", data, headers))[0] == 200 and got, data)
    return json.loads(answer[2])["id"]


def is_away(nginx):
    """The hub is known to be away: what is asked of it is refused at once. Before that the answer to a request that is
    on its way, and to those that wait with it, is that it has not come in time."""
    status, headers, body = publish(nginx)
    assert status in (503, 504), (status, body)
    return status == 503 and b"the hub can't be reached" in body


def test_workers_start_without_a_hub_and_find_it_when_it_comes(start_nginx, start_pushd):
    nginx = start_nginx()
    others_are_served(nginx)
    workers = nginx.workers()
    status, headers, body = publish(nginx)
    assert (status, json.loads(body)["error"]["code"]) == (503, "busy") and 5 <= int(headers["Retry-After"]) <= 10
    assert len(headers.get_all("Date")) == 1
    assert b"the hub can't be reached" in body
    # Away for longer than `timeout` of push_attach: nobody waits for it any more.
    wait_until(lambda: nginx.get("/push?channel=a&last=1")[0] == 503, "it is away")
    status, headers, _ = nginx.get("/push?channel=a&last=1")
    assert status == 503 and 5 <= int(headers["Retry-After"]) <= 10
    # A browser's EventSource would never come back after an error status.
    status, headers, body = nginx.get("/push?channel=a", headers=EVENT_STREAM)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert body.startswith(b"retry: ") and b"event: push-close" in body
    # A page of another origin may read that: a browser would end its EventSource otherwise, too.
    status, headers, body = nginx.get("/push?channel=a", headers={**EVENT_STREAM, "Origin": "https://other.test"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://other.test")
    start_pushd()
    wait_until(lambda: publish(nginx)[0] == 200, "it is attached")
    # Nobody had to be restarted for that.
    assert nginx.workers() == workers
    # One worker may have found it before the other.
    wait_until(nginx.is_attached, "both are attached")
    with subscribers.over_sse(nginx, channel="a") as messages:
        published(nginx, "hello")
        assert next(messages)["data"] == "hello"


def test_a_hub_that_is_killed_and_comes_back(start_nginx, start_pushd):
    pushd = start_pushd()
    nginx = start_nginx()
    seen = published(nginx, "before")
    # One worker has published that. The other one may still be on its way.
    wait_until(nginx.is_attached, "both workers are attached")
    with subscribers.over_sse(nginx, channel="a", since=seen) as messages:
        pushd.stop(signal.SIGKILL)
        with pytest.raises(Exception):
            next(messages)
    wait_until(lambda: is_away(nginx), "it is seen to be away")
    others_are_served(nginx)
    start_pushd()
    wait_until(lambda: nginx.is_attached(2), "both workers are attached again")
    with subscribers.over_sse(nginx, channel="a", since=seen) as messages:
        published(nginx, "after")
        assert [message["type"] for message in subscribers.take(messages, 2)] == ["gap", "message"]


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_hub_with_a_log_is_stopped_and_started_again(start_nginx, start_pushd, tmp_path, with_signal):
    engine = f"engine=file:{tmp_path}/log"
    pushd = start_pushd(engine)
    nginx = start_nginx()
    published(nginx, "before")
    wait_until(nginx.is_attached, "both workers are attached")
    with subscribers.over_sse(nginx, channel="a", last="1") as messages:
        assert next(messages)["data"] == "before"
        position = published(nginx, "seen")
        assert next(messages)["data"] == "seen"
    missed = [f"missed {n}" for n in range(20)]
    positions = [published(nginx, data) for data in missed]
    assert pushd.stop(with_signal) == 0
    wait_until(lambda: is_away(nginx), "it is seen to be away")
    others_are_served(nginx)
    pushd = start_pushd(engine)
    # The key of a message is known: what is published again has the position that it had.
    assert published(nginx, missed[-1]) == positions[-1]
    published(nginx, "after")
    wait_until(lambda: nginx.is_attached(2), "both workers are attached again")
    # As a browser's EventSource comes back.
    url = nginx.url(channel="a", format="json")
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        headers = {"Last-Event-ID": position}
        with httpx_sse.connect_sse(client, "GET", url, headers=headers) as source:
            events = (event for event in source.iter_sse() if event.event != "push-open")
            messages = [subscribers.read_event(event) for event in subscribers.take(events, len(missed) + 1)]
    assert [message.get("data", message["type"]) for message in messages] == [*missed, "after"]
    assert [message["id"] for message in messages[:-1]] == positions
    assert pushd.stats()["gaps"] == 0


def test_a_hub_that_hangs(nginx, pushd):
    published(nginx, "there")
    pushd.hang()
    # More than there are threads that could wait for it.
    requests = [_begin(nginx) for _ in range(100)]
    others_are_served(nginx)
    answers = [_finish(request) for request in requests]
    assert {status for status, _ in answers} <= {503, 504}, answers
    assert all(b"has not answered in time" in body for status, body in answers if status == 504), answers
    others_are_served(nginx)
    pushd.wake()
    published(nginx, "here again")


def _begin(nginx):
    import http.client

    connection = http.client.HTTPConnection(nginx.host, nginx.port, timeout=PATIENCE)
    connection.request("POST", "/publish?channel=a", b"x")
    return connection


def _finish(connection):
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_workers_end_though_the_hub_hangs(nginx, pushd):
    published(nginx, "there")
    pushd.hang()
    requests = [_begin(nginx) for _ in range(10)]
    for request in requests:
        _finish(request)
    old = nginx.workers()
    nginx.reload()
    wait_until(lambda: len(nginx.workers()) == 2 and not nginx.workers() & old, "the old workers have gone")
    others_are_served(nginx)
    pushd.wake()


def test_clients_that_leave_while_their_publish_waits(nginx, pushd):
    pushd.hang()
    for request in [_begin(nginx) for _ in range(40)]:
        request.close()
    others_are_served(nginx)
    pushd.wake()
    wait_until(lambda: nginx.get("/stub")[2].startswith(b"Active connections: 1 "), "they are let go")


def test_a_full_hub(start_pushd, start_nginx):
    start_pushd("max_connections=1")
    nginx = start_nginx()
    wait_until(nginx.is_attached, "both workers are attached")
    with subscribers.over_sse(nginx, channel="a"):
        # The hub itself says it, on the socket that it was given.
        status, headers, _ = nginx.get("/push?channel=a")
        assert status == 503 and headers["Retry-After"]
        published(nginx, "hello")


def test_a_hub_that_refuses_is_tried_again(start_pushd, start_nginx):
    pushd = start_pushd("attach_uids=54321")
    nginx = start_nginx(http="push_retry 100ms;")
    others_are_served(nginx)
    assert publish(nginx)[0] == 503
    assert nginx.get("/push?channel=a")[0] == 503

    def is_said_again():
        """nginx says it at each try. Where the hub's answer is too late for the start, the library tries, and says it
        once."""
        said = [line for line in nginx.error_log().splitlines() if "the hub refuses" in line]
        return len(said) > 2 or sum(line.endswith("; trying again") for line in said) == 2

    wait_until(is_said_again, "it is said, and tried again")
    pushd.stop()
    start_pushd()
    wait_until(lambda: publish(nginx)[0] == 200, "it is attached")


def test_who_was_handed_over_while_the_hub_is_away_is_told_to_come_back(start_nginx, start_pushd):
    pushd = start_pushd()
    nginx = start_nginx()
    published(nginx, "there")
    pushd.stop(signal.SIGKILL)
    # They wait for the hub, which may be back in a moment; it is not.
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    waiting = [_subscribe(nginx, headers) for headers in [{}, EVENT_STREAM, upgrade] * 20]
    others_are_served(nginx)
    for number, request in enumerate(waiting):
        response = request.getresponse()
        body = response.read()
        if number % 3 == 1:
            assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
            assert body.startswith(b"retry: ") and b"event: push-close" in body
        else:
            assert response.status == 503 and int(response.headers["Retry-After"]) > 0
        request.close()
    others_are_served(nginx)


def _subscribe(nginx, headers):
    import http.client

    connection = http.client.HTTPConnection(nginx.host, nginx.port, timeout=PATIENCE)
    connection.request("GET", "/push?channel=a", headers=headers)
    return connection
