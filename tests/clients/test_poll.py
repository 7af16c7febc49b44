"""Long-polling with `httpx`: when a poll is answered, with what, and how its connection is used afterwards."""

import threading

import httpx
import pytest
from subscribers import SECONDS


@pytest.fixture
def client():
    # By itself it would close a connection that was idle for five seconds.
    limits = httpx.Limits(keepalive_expiry=None)
    with httpx.Client(timeout=SECONDS, trust_env=False, limits=limits) as client:
        yield client


def poll(client, host, **parameters):
    response = client.get(host.url(**parameters))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Push-Position"] == answer["position"]
    assert list(answer) == ["position", "messages"]
    return answer


def test_answered_at_once_where_there_is_something(host, client):
    first = host.publish("a", "one")
    wanted = [host.publish("a", text, event="tick") for text in ("two", "three")]
    answer = poll(client, host, channel="a", since=first)
    assert answer["messages"] == [
        {"type": "message", "channel": "a", "id": id, "event": "tick", "data": data}
        for id, data in zip(wanted, ("two", "three"))
    ]
    assert answer["position"] == wanted[-1]


def test_waits_until_there_is_something(start, client):
    host = start("poll_timeout=1h")
    first = host.publish("a", "one")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(poll(client, host, channel="a", since=first)))
    waiting.start()
    host.wait_for(polls=1)
    host.publish("another", "not asked for")
    assert answers == []
    second = host.publish("a", "two")
    waiting.join()
    assert [message["id"] for message in answers[0]["messages"]] == [second]
    assert answers[0]["position"] == second


def test_everyone_who_waits_is_answered(start):
    host = start("poll_timeout=1h")
    answers = []

    def wait(channel):
        with httpx.Client(timeout=SECONDS, trust_env=False) as client:
            answers.append(poll(client, host, channel=channel))

    waiting = [threading.Thread(target=wait, args=(channel,)) for channel in ["a", ["a", "b"], ["b", "a"], "a"]]
    for thread in waiting:
        thread.start()
    host.wait_for(polls=4)
    id = host.publish("a", "to four")
    for thread in waiting:
        thread.join()
    assert [[message["id"] for message in answer["messages"]] for answer in answers] == [[id]] * 4
    host.wait_until(polls=0)


def test_answered_empty_when_its_time_is_over(start, client):
    host = start("poll_timeout=200ms")
    last = host.publish("a", "one")
    answer = poll(client, host, channel="a", since=last)
    assert answer == {"position": last, "messages": []}


def test_the_position_moves_on_without_messages(start, client):
    host = start("poll_timeout=200ms")
    first = host.publish("a", "one")
    elsewhere = host.publish("b", "not for us")
    answer = poll(client, host, channel="a", since=first)
    assert answer == {"position": elsewhere, "messages": []}
    next_one = host.publish("a", "two")
    answer = poll(client, host, channel="a", since=elsewhere)
    assert [message["id"] for message in answer["messages"]] == [next_one]


def test_polls_between_which_is_published_lose_nothing(start, client):
    host = start("poll_timeout=1h", "history_count=1000")
    position = host.publish("a", "the beginning")
    wanted, seen = [], []
    for count in range(200):
        wanted.append(host.publish("a", f"{count}"))
        if count % 3 == 0:
            answer = poll(client, host, channel="a", since=position)
            seen += [message["id"] for message in answer["messages"]]
            position = answer["position"]
    seen += [message["id"] for message in poll(client, host, channel="a", since=position)["messages"]]
    assert seen == wanted


def test_last_event_id_wins_over_since(host, client):
    ids = [host.publish("a", f"{count}") for count in range(4)]
    url = host.url(channel="a", since=ids[0])
    answer = client.get(url, headers={"Last-Event-ID": ids[2]}).json()
    assert [message["id"] for message in answer["messages"]] == [ids[3]]


def test_bytes_come_as_base64(host, client):
    first = host.publish("a", "text")
    host.publish("a", b"\xff\x00")
    answer = poll(client, host, channel="a", since=first)
    assert (answer["messages"][0]["data"], answer["messages"][0]["base64"]) == ("/wA=", True)


def test_the_connection_serves_further_polls_where_the_host_says_so(start, client):
    host = start("poll_timeout=200ms", flags=["-k"])
    position = host.publish("a", "one")
    for count in range(5):
        wanted = host.publish("a", f"{count}")
        position = poll(client, host, channel="a", since=position)["position"]
        assert position == wanted
    assert poll(client, host, channel="a", since=position)["messages"] == []
    # The publisher's connection is the host's own.
    assert host.stats()["adopted"] == 1


def test_a_host_keeps_its_connections_otherwise(start, client):
    host = start()
    position = host.publish("a", "one")
    for count in range(3):
        host.publish("a", f"{count}")
        response = client.get(host.url(channel="a", since=position))
        assert response.headers["Connection"] == "close"
        position = response.json()["position"]
        # It goes over the same client, and must not be taken for a subscriber's request.
        assert client.get(host.url("/stats")).json()["adopted"] == count + 1


def test_a_request_for_the_host_on_a_connection_kept_is_answered_by_the_host(start, client):
    host = start(flags=["-k"])
    position = host.publish("a", "one")
    host.publish("a", "two")
    poll(client, host, channel="a", since=position)
    # The library has the connection and ends it. The client asks again. Browsers do that by themselves, and httpx does
    # not.
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(host.url("/stats"))
    assert client.get(host.url("/stats")).json()["adopted"] == 1
