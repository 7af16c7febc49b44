"""Clients that read too slowly are closed with 4429, come back with their position, and have missed nothing."""

import json

import pytest
from subscribers import TRANSPORTS, over_sse, over_stream, take, websocket
from websockets.exceptions import ConnectionClosed

OPTIONS = ["outbox=64KB", "history_count=100000", "history_bytes=1GB", "history_total=1GB"]
PAYLOAD = "x" * 50_000
# More than the sockets' buffers can take.
MOST = 2000


def publish_until_slow(host):
    """Publishes until a subscriber that does not read is closed. Returns the messages."""
    ids = []
    # A thread that comes late to its mailbox must not make them too many.
    while host.wait_until(mailbox=0)["slow_closed"] == 0:
        assert len(ids) < MOST, "nobody was found to be slow"
        ids += [host.publish("a", f"{len(ids) + count} {PAYLOAD}") for count in range(20)]
    return ids


def recovered(host, seen, ids, transport):
    """Goes on after the last message that was seen, and checks that all came once and in order."""
    assert seen == ids[: len(seen)], "in order, nothing missing"
    assert 0 < len(seen) < len(ids)
    with TRANSPORTS[transport](host, since=seen[-1], channel="a") as messages:
        seen += [message["id"] for message in take(messages, len(ids) - len(seen))]
    assert seen == ids


@pytest.mark.parametrize("then", TRANSPORTS)
def test_a_websocket(start, then):
    host = start(*OPTIONS)
    seen = []
    with websocket(host, channel="a", queue=1) as socket:
        assert json.loads(socket.recv())["type"] == "subscribed"
        ids = publish_until_slow(host)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                seen.append(json.loads(socket.recv())["id"])
        assert closed.value.rcvd.code == 4429
    recovered(host, seen, ids, then)


@pytest.mark.parametrize("over", [over_sse, over_stream])
def test_a_response_that_does_not_end(start, over):
    host = start(*OPTIONS)
    seen = []
    with over(host, channel="a") as messages:
        ids = publish_until_slow(host)
        for message in messages:
            if message["type"] == "close":
                break
            seen.append(message["id"])
        assert message["code"] == 4429
        assert list(messages) == [], "the body ends as it should"
    recovered(host, seen, ids, "ws")


def test_others_are_not_held_up(start):
    host = start(*OPTIONS)
    with over_sse(host, channel="a"), websocket(host, subprotocol=None, channel="a") as quick:
        count = 0
        while host.wait_until(mailbox=0)["slow_closed"] == 0:
            assert count < MOST, "nobody was found to be slow"
            host.publish("a", f"{count} {PAYLOAD}")
            # It has each message before the next one comes. So it is never slow itself, on whatever machine.
            assert int(quick.recv().split(" ")[0]) == count
            count += 1
        host.wait_until(websockets=1, sse=0, slow_closed=1)
