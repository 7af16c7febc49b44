"""A client leaves one transport at a position and goes on with another. Nothing is missing, doubled or out of order."""

import pytest
from host import Publishers, number
from subscribers import TRANSPORTS, take

# Enough to keep everything that a test publishes.
LONG_HISTORY = ["history_count=1000000", "history_bytes=1GB", "history_total=1GB"]
# The number of messages that each transport takes before the client leaves it. More may be on the way.
LEG = 150


def in_form(published):
    return [{"type": "message", "channel": channel, "id": id, "data": data} for id, channel, data in published]


def follow(host, first, order, channels, rounds):
    """Takes LEG messages over each transport in turn. Each goes on where the one before was left."""
    seen, position = [], first
    for transport in order * rounds:
        with TRANSPORTS[transport](host, since=position, channel=channels) as messages:
            seen += take(messages, LEG)
        position = seen[-1]["id"]
    return seen, position


def rest(host, transport, position, end, channels):
    """The messages after a position, up to the one at `end`."""
    seen = []
    if number(position) < number(end):
        with TRANSPORTS[transport](host, since=position, channel=channels) as messages:
            for message in messages:
                seen.append(message)
                if message["id"] == end:
                    break
    return seen


@pytest.mark.parametrize("order", [("ws", "sse", "stream", "poll"), ("poll", "stream", "sse", "ws")])
def test_across_transports_while_four_threads_publish(start, order):
    host = start(*LONG_HISTORY)
    first = host.publish("a", "the beginning")
    with Publishers(host, ["a", "b", "not subscribed"], threads=4) as publishers:
        seen, position = follow(host, first, order, ["a", "b"], rounds=2)
        published = publishers.finish()
    wanted = in_form(message for message in published if message[1] != "not subscribed")
    assert len({message["data"].split(" message ")[0] for message in seen}) == 4, "all threads were publishing"
    seen += rest(host, order[0], position, wanted[-1]["id"], ["a", "b"])
    assert seen == wanted


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_many_short_connections_while_four_threads_publish(start, transport):
    host = start(*LONG_HISTORY)
    position = host.publish("a", "the beginning")
    seen = []
    with Publishers(host, ["a"], threads=4) as publishers:
        for size in [1, 2, 3, 5, 8, 13, 21, 34] * 4:
            with TRANSPORTS[transport](host, since=position, channel="a") as messages:
                seen += take(messages, size)
            position = seen[-1]["id"]
        published = publishers.finish()
    wanted = in_form(published)
    seen += rest(host, transport, position, wanted[-1]["id"], ["a"])
    assert seen == wanted


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_replay_larger_than_the_outbox_is_whole(start, transport):
    host = start(*LONG_HISTORY, "outbox=4KB")
    first = host.publish("a", "first")
    wanted = [host.publish("a", f"{count} " + "x" * 1000) for count in range(300)]
    with TRANSPORTS[transport](host, since=first, channel="a") as messages:
        seen = take(messages, len(wanted))
        wanted.append(host.publish("a", "live"))
        seen += take(messages, 1)
    assert [message["id"] for message in seen] == wanted
    assert {message["type"] for message in seen} == {"message"}


def test_a_broadcast_missed_is_recovered_in_its_place(start):
    host = start(*LONG_HISTORY)
    first = host.publish("a", "first")
    host.publish("a", "before")
    host.broadcast("to all")
    host.publish("a", "after")
    for transport, over in TRANSPORTS.items():
        with over(host, since=first, channel="a") as messages:
            seen = [(message["type"], message["data"]) for message in take(messages, 3)]
        assert seen == [("message", "before"), ("broadcast", "to all"), ("message", "after")], transport
