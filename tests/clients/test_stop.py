"""A stop on a signal: all messages are delivered, all clients are told to come back, and the host ends well."""

import signal
import threading

import pytest
from host import PATIENCE
from subscribers import over_poll, over_sse, over_stream, take, websocket
from websockets.exceptions import ConnectionClosed

# This is more than sockets hold, so some of it waits in the library when the signal comes.
COUNT = 1500


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_everything_published_is_delivered_before_the_goodbye(start, by):
    # The clients are read one after the other. A slow machine needs longer for that than the host gives by itself, and
    # than a client may take nothing.
    host = start("outbox=64MB", "heartbeat=10m", flags=["-w", str(PATIENCE * 1000)])
    with (
        websocket(host, subprotocol=None, channel="a", queue=1) as raw,
        over_sse(host, channel="a") as sse,
        over_stream(host, channel="a") as stream,
    ):
        host.wait_for(websockets=1, sse=1, streams=1)
        wanted = [f"{count} " + "x" * 4000 for count in range(COUNT)]
        for data in wanted:
            host.publish("a", data)
        host.terminate(by)
        assert [raw.recv() for _ in wanted] == wanted
        with pytest.raises(ConnectionClosed) as closed:
            raw.recv()
        assert closed.value.rcvd.code == 1001
        for messages in (sse, stream):
            assert [message["data"] for message in take(messages, COUNT)] == wanted
            close = next(messages)
            assert (close["type"], close["code"]) == ("close", 1001)
            assert list(messages) == [], "the body ends as it should"
    assert host.wait() == 0


def test_a_poll_that_waits_is_answered(start):
    host = start("poll_timeout=1h")
    position = host.publish("a", "one")
    answers = []

    def wait():
        with over_poll(host, since=position, channel="a") as messages:
            answers.extend(take(messages, 1))

    waiting = threading.Thread(target=wait)
    waiting.start()
    host.wait_for(polls=1)
    id = host.publish("a", "two")
    host.terminate()
    waiting.join()
    assert [message["id"] for message in answers] == [id]
    assert host.wait() == 0


def test_a_client_that_reads_nothing_does_not_hold_the_stop_up(start):
    host = start("history_count=10000", "history_bytes=64MB", "outbox=64MB")
    with websocket(host, subprotocol=None, channel="a", queue=1) as socket:
        for _ in range(40):
            host.publish("a", "x" * 1_000_000)
        host.terminate()
        # The host gives it two seconds; the test has more patience.
        assert host.wait() == 0
        with pytest.raises(ConnectionClosed):
            for _ in range(41):
                socket.recv()
