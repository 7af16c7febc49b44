"""Python's `websockets`: raw frames and their echo, and the dialogue of push.v1.json."""

import json
import random

import pytest
from subscribers import SECONDS, websocket
from websockets.exceptions import ConnectionClosed

MB = 1 << 20
# The host's echo must fit into the client's outbox.
LARGE = ["max_client_message=16MB", "max_message=16MB", "outbox=64MB"]


def raw(host, **parameters):
    return websocket(host, subprotocol=None, **parameters)


def ask(socket, **request):
    """Sends a request, and returns the answer."""
    socket.send(json.dumps(request))
    return json.loads(socket.recv())


def test_raw_frames_are_payloads_as_published(host):
    with raw(host, channel="a") as socket:
        assert socket.subprotocol is None
        host.publish("a", "text, grüße")
        host.publish("b", "not subscribed")
        host.publish("a", b"\xff\x00\xfe")
        host.publish("a", "")
        assert socket.recv() == "text, grüße"
        assert socket.recv() == b"\xff\x00\xfe"
        assert socket.recv() == ""


def test_the_position_to_begin_at_is_in_the_answer(host):
    host.publish("a", "old")
    with raw(host, channel="a") as socket:
        position = socket.response.headers["Push-Position"]
    host.publish("a", "missed")
    with raw(host, channel="a", since=position) as socket:
        assert socket.recv() == "missed"


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_a_large_message_in_fragments_comes_back_whole(start, kind):
    host = start(*LARGE)
    shuffle = random.Random(7)
    fragments = [shuffle.randbytes(shuffle.randrange(200_000)) for _ in range(80)]
    if kind == "text":
        # Characters of one to four bytes, so that the borders of fragments and reads fall inside them.
        fragments = ["".join(shuffle.choices("aß€😀\0\n", k=len(fragment) // 2)) for fragment in fragments]
    whole = (b"" if kind == "binary" else "").join(fragments)
    assert len(whole) > 3 * MB
    with raw(host, channel="a") as socket:
        socket.send(iter(fragments))
        assert socket.recv() == whole


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, MB, 16 * MB])
def test_echo_of_every_size_of_length(start, size):
    host = start(*LARGE)
    data = random.Random(size).randbytes(size)
    with raw(host, channel="a") as socket:
        socket.send(data)
        assert socket.recv() == data


def test_echoes_come_in_order(host):
    with raw(host, channel="a") as socket:
        sent = [f"message {count}" if count % 2 else b"%d" % count for count in range(2000)]
        for message in sent:
            socket.send(message)
        assert [socket.recv() for _ in sent] == sent


def test_echoes_are_for_the_sender_alone(host):
    with raw(host, channel="a") as one, raw(host, channel="a") as other:
        one.send("of one")
        assert one.recv() == "of one"
        host.publish("a", "of all")
        assert (one.recv(), other.recv()) == ("of all", "of all")


def test_a_message_too_large_is_closed_with_1009(start):
    host = start("max_client_message=64KB")
    for message in (b"x" * 70_000, iter([b"x" * 40_000] * 2)):
        with raw(host, channel="a") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                socket.send(message)
                socket.recv()
            assert closed.value.rcvd.code == 1009


def test_a_ping_is_answered_with_its_payload(host):
    with raw(host, channel="a") as socket:
        for payload in (b"", b"x", b"y" * 125):
            assert socket.ping(payload).wait(SECONDS)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
def test_a_close_is_answered_with_its_code(host, code):
    with raw(host, channel="a") as socket:
        socket.close(code, "enough")
        assert (socket.close_code, socket.protocol.close_rcvd.code) == (code, code)
        assert not socket.protocol.close_rcvd_then_sent


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_compression(start, kind):
    host = start(*LARGE, "compression=true")
    shuffle = random.Random(3)
    words = ["price", "ß€😀", '"size":', "\n", " "] + [str(shuffle.random()) for _ in range(20)]
    payloads = ["", "short"] + ["".join(shuffle.choices(words, k=1 << n)) for n in range(5, 17)]
    if kind == "binary":
        payloads = [payload.encode() for payload in payloads] + [shuffle.randbytes(100_000)]
    with raw(host, channel="a", compression="deflate") as socket, raw(host, channel="a") as plain:
        assert [extension.name for extension in socket.protocol.extensions] == ["permessage-deflate"]
        assert plain.protocol.extensions == []
        for payload in payloads:
            host.publish("a", payload if kind == "text" else b"\xff" + payload)
            assert socket.recv() == plain.recv() == (payload if kind == "text" else b"\xff" + payload)
            # The host sends each message back.
            socket.send(payload)
            assert socket.recv() == payload
            # Each fragment is flushed, so there are many small blocks.
            fragments = [payload[at : at + 99] for at in range(0, min(len(payload), 20_000), 99)]
            socket.send(iter(fragments or [payload]))
            assert socket.recv() == payload[:0].join(fragments)


def test_compression_of_the_dialogue(start):
    host = start("compression=true", "client_publish=true")
    with websocket(host, channel="a", compression="deflate") as socket:
        assert json.loads(socket.recv())["type"] == "subscribed"
        data = "what is said " * 100
        answers = [ask(socket, type="publish", channel="a", data=data), json.loads(socket.recv())]
        assert sorted(answer["type"] for answer in answers) == ["message", "published"]
        assert [answer["data"] for answer in answers if answer["type"] == "message"] == [data]


def test_dialogue(start):
    host = start("client_publish=true")
    with websocket(host) as socket:
        assert socket.subprotocol == "push.v1.json"
        answer = ask(socket, type="subscribe", channel="a")
        assert (answer["type"], answer["channel"]) == ("subscribed", "a")
        begun = answer["id"]
        answer = ask(socket, type="subscribe", channel="a")
        assert (answer["type"], answer["code"], answer["channel"]) == ("error", "subscribed", "a")
        id = host.publish("a", "one", event="tick")
        wanted = {"type": "message", "channel": "a", "id": id, "event": "tick", "data": "one"}
        assert json.loads(socket.recv()) == wanted
        assert ask(socket, type="unsubscribe", channel="a") == {"type": "unsubscribed", "channel": "a"}
        assert ask(socket, type="unsubscribe", channel="a")["code"] == "not_subscribed"
        host.publish("a", "while away")
        # Nothing came in between, since the next answer is that of the ping.
        assert ask(socket, type="ping") == {"type": "pong"}
        socket.send(json.dumps({"type": "subscribe", "channel": "a", "since": begun}))
        seen = [json.loads(socket.recv()) for _ in range(3)]
        assert [message.get("data") for message in seen] == ["one", "while away", None]
        assert (seen[2]["type"], seen[2]["id"] >= id) == ("subscribed", True)


def test_several_channels_in_the_url_and_more_live(host):
    with websocket(host, channel=["a", "b"]) as socket:
        begun = [json.loads(socket.recv()) for _ in range(2)]
        told = [(message["type"], message["channel"]) for message in begun]
        assert told == [("subscribed", "a"), ("subscribed", "b")]
        assert ask(socket, type="subscribe", channel="c")["type"] == "subscribed"
        for channel in "cab":
            host.publish(channel, f"of {channel}")
        assert [json.loads(socket.recv())["data"] for _ in range(3)] == ["of c", "of a", "of b"]


def test_live_subscribe_with_last_and_gap(start):
    host = start("history_count=3")
    ids = [host.publish("a", f"{count}") for count in range(10)]
    with websocket(host) as socket:
        socket.send(json.dumps({"type": "subscribe", "channel": "a", "last": 2}))
        seen = [json.loads(socket.recv()) for _ in range(3)]
        assert [message["type"] for message in seen] == ["message", "message", "subscribed"]
        assert [message["id"] for message in seen] == ids[8:] + ids[9:]
        ask(socket, type="unsubscribe", channel="a")
        socket.send(json.dumps({"type": "subscribe", "channel": "a", "since": ids[0]}))
        seen = [json.loads(socket.recv()) for _ in range(5)]
        assert [message["type"] for message in seen] == ["gap", "message", "message", "message", "subscribed"]
        assert [message["id"] for message in seen[:4]] == [ids[6], *ids[7:]]


def test_publishing_is_refused_unless_allowed(start):
    for options, allowed in (((), False), (("client_publish=true",), True)):
        host = start(*options)
        with websocket(host, channel="a") as socket:
            socket.recv()
            answer = ask(socket, type="publish", channel="b", data="from a client", event="said", key="once")
            if not allowed:
                assert (answer["type"], answer["code"], answer["channel"]) == ("error", "publish", "b")
                assert host.stats()["published"] == 0
                continue
            assert (answer["type"], answer["channel"]) == ("published", "b")
            again = ask(socket, type="publish", channel="b", data="from a client", event="said", key="once")
            assert again == answer
        with websocket(host, channel="b", last=5) as socket:
            wanted = {"type": "message", "channel": "b", "id": answer["id"], "event": "said", "data": "from a client"}
            assert json.loads(socket.recv()) == wanted
            assert json.loads(socket.recv())["type"] == "subscribed"


def test_a_publisher_that_is_subscribed_gets_its_own(start):
    host = start("client_publish=true")
    with websocket(host, channel="a") as socket:
        socket.recv()
        socket.send(json.dumps({"type": "publish", "channel": "a", "data": "AAE=", "base64": True}))
        seen = [json.loads(socket.recv()) for _ in range(2)]
        by_type = {message["type"]: message for message in seen}
        assert by_type["published"]["id"] == by_type["message"]["id"]
        assert (by_type["message"]["data"], by_type["message"]["base64"]) == ("AAE=", True)


def test_a_message_to_the_host_is_answered_to_this_client(host):
    with websocket(host, channel="a") as socket:
        socket.recv()
        assert ask(socket, type="message", data="hello, host") == {"type": "message", "data": "hello, host"}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "{}", '"ping"', '{"type":"fly"}', '{"type":"subscribe"}',
        '{"type":"subscribe","channel":7}'
    ],
)  # fmt: skip
def test_nonsense_is_an_error_and_the_connection_goes_on(host, text):
    with websocket(host, channel="a") as socket:
        socket.recv()
        socket.send(text)
        answer = json.loads(socket.recv())
        assert (answer["type"], answer["code"]) == ("error", "malformed")
        assert answer["message"]
        host.publish("a", "still here")
        assert json.loads(socket.recv())["data"] == "still here"


def test_what_makes_no_sense_is_an_error_that_says_so(start):
    host = start("client_publish=true", "max_channels=1")
    with websocket(host) as socket:
        for request, code in [
            ({"type": "subscribe", "channel": ""}, "channel"),
            ({"type": "subscribe", "channel": "x" * 256}, "channel"),
            ({"type": "subscribe", "channel": "a", "since": "nonsense"}, "position"),
            ({"type": "subscribe", "channel": "a", "last": 0}, "last"),
            ({"type": "publish", "channel": "a", "data": "!", "base64": True}, "base64"),
            ({"type": "publish", "channel": "", "data": "!"}, "malformed"),
            ({"type": "publish", "channel": "a", "data": "!", "event": "push-close"}, "malformed"),
            ({"type": "publish", "channel": "a", "data": "!", "key": "k" * 256}, "malformed"),
        ]:
            answer = ask(socket, **request)
            assert (answer["type"], answer["code"]) == ("error", code), request
        assert ask(socket, type="subscribe", channel="a")["type"] == "subscribed"
        assert ask(socket, type="subscribe", channel="b")["code"] == "channels"


def test_a_broadcast_reaches_who_has_no_channel(host):
    with websocket(host) as socket:
        id = host.broadcast("to all")
        assert json.loads(socket.recv()) == {"type": "broadcast", "id": id, "data": "to all"}
