"""Messages that are no longer in the history are announced as a gap in their place. `last` asks for the newest
instead."""

import pytest
from subscribers import TRANSPORTS, take, websocket

EACH = pytest.mark.parametrize("transport", TRANSPORTS)


def publish(host, channel, count):
    return [host.publish(channel, f"{channel} {n}") for n in range(count)]


def first_since(host, transport, position):
    """The first message after a position that a new client of the channel a gets."""
    with TRANSPORTS[transport](host, since=position, channel="a") as messages:
        return take(messages, 1)[0]


@EACH
def test_a_gap_stands_before_what_is_left(start, transport):
    host = start("history_count=5")
    ids = publish(host, "a", 20)
    with TRANSPORTS[transport](host, since=ids[2], channel="a") as messages:
        gap, *left = take(messages, 6)
    assert (gap["type"], gap["channel"]) == ("gap", "a")
    assert ids.index(gap["id"]) == 14, "the gap reaches to the last message that is gone"
    assert [message["id"] for message in left] == ids[15:]


@EACH
def test_no_gap_where_nothing_is_missing(start, transport):
    host = start("history_count=5")
    ids = publish(host, "a", 20)
    with TRANSPORTS[transport](host, since=ids[14], channel="a") as messages:
        left = take(messages, 5)
    assert [message["id"] for message in left] == ids[15:]
    assert host.stats()["gaps"] == 0


@EACH
def test_going_on_after_a_gap_tells_it_once(start, transport):
    host = start("history_count=5")
    ids = publish(host, "a", 20)
    gap = first_since(host, transport, ids[0])
    with TRANSPORTS[transport](host, since=gap["id"], channel="a") as messages:
        assert [message["id"] for message in take(messages, 5)] == ids[15:]


@EACH
def test_a_gap_is_of_its_channel(start, transport):
    host = start("history_count=5")
    first = host.publish("quiet", "first")
    loud = publish(host, "loud", 10)
    quiet = host.publish("quiet", "second")
    with TRANSPORTS[transport](host, since=first, channel=["quiet", "loud"]) as messages:
        seen = take(messages, 7)
    assert [(m["type"], m["channel"]) for m in seen] == [("gap", "loud")] + [("message", "loud")] * 5 + [
        ("message", "quiet")
    ]
    assert [m["id"] for m in seen[1:]] == loud[5:] + [quiet]


@EACH
@pytest.mark.parametrize("position", ["anotherlife-3", "future"])
def test_a_position_of_another_life_or_the_future_is_a_gap(start, transport, position):
    host = start("history_count=5")
    ids = publish(host, "a", 3)
    if position == "future":
        position = ids[0].rsplit("-", 1)[0] + "-1000000"
    with TRANSPORTS[transport](host, since=position, channel="a") as messages:
        seen = take(messages, 4)
    assert [m["type"] for m in seen] == ["gap"] + ["message"] * 3
    assert [m["id"] for m in seen[1:]] == ids


@EACH
def test_without_history_everything_missed_is_a_gap(start, transport):
    host = start("history_count=0")
    ids = publish(host, "a", 3)
    gap = first_since(host, transport, ids[0])
    assert (gap["type"], gap["id"]) == ("gap", ids[2])


def test_a_raw_websocket_is_told_of_a_gap_by_a_header(start):
    host = start("history_count=5")
    ids = publish(host, "a", 20)
    with websocket(host, subprotocol=None, since=ids[2], channel="a") as socket:
        assert socket.response.headers["Push-Gap"] == "1"
        assert [socket.recv() for _ in range(5)] == [f"a {n}" for n in range(15, 20)]
    with websocket(host, subprotocol=None, since=ids[14], channel="a") as socket:
        assert "Push-Gap" not in socket.response.headers
        assert socket.recv() == "a 15"


@EACH
def test_last_gives_the_newest_of_each_channel_then_what_comes(start, transport):
    host = start()
    a, b = publish(host, "a", 10), publish(host, "b", 2)
    with TRANSPORTS[transport](host, last=3, channel=["a", "b"]) as messages:
        seen = take(messages, 5)
        live = host.publish("a", "live")
        seen += take(messages, 1)
    assert [m["id"] for m in seen] == a[7:] + b + [live]
    assert {m["type"] for m in seen} == {"message"}


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "poll"])
def test_without_a_position_only_what_is_new(host, transport):
    publish(host, "a", 3)
    with TRANSPORTS[transport](host, channel="a") as messages:
        new = host.publish("a", "new")
        assert take(messages, 1)[0]["id"] == new
