"""permessage-deflate (RFC 7692), with Python's zlib on the other side."""

import random
import zlib

import pytest
from peer import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, deflated, frame

DEFLATE = "permessage-deflate"
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 4
MB = 1 << 20


@pytest.fixture
def deflating(host):
    with Peer(host, DEFLATE) as peer:
        yield peer


def words(size):
    return " ".join(random.Random(size).choices(["push", "ß€😀", "client", "message", "1234"], k=size)).encode()[:size]


@pytest.mark.parametrize("offer, answer", [
    ("permessage-deflate", ANSWER),
    ("permessage-deflate; client_max_window_bits", ANSWER),
    ('permessage-deflate; client_max_window_bits="9"; server_no_context_takeover', ANSWER),
    ("permessage-deflate; server_max_window_bits=15", ANSWER + "; server_max_window_bits=15"),
    ("permessage-deflate; server_max_window_bits=9, permessage-deflate", ANSWER),
    ("x-other; a=1\r\nSec-WebSocket-Extensions: permessage-deflate", ANSWER),
    ("permessage-deflate; server_max_window_bits=9", None),
    ("permessage-deflate; of_tomorrow", None),
    ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
    ('permessage-deflate; client_max_window_bits="9', None),
    ("x-other", None),
    (";=,\"", None),
])  # fmt: skip
def test_offers(host, offer, answer):
    with Peer(host, offer) as peer:
        assert peer.agreed == answer
        peer.send(frame(TEXT, "as it is"))
        peer.expect((TEXT, "as it is"))
        peer.close()


@pytest.mark.parametrize("chop", [None, 1, 13])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("size", [0, 1, 125, 5000])
def test_compressed_messages_come_back(deflating, size, level, chop):
    deflating.send(frame(BINARY, deflated(words(size), level), rsv=RSV1), chop=chop)
    deflating.expect((BINARY, words(size)))
    deflating.close()


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH])
def test_however_a_sender_flushes(deflating, flush):
    payload = words(20_000)
    deflating.send(frame(BINARY, deflated(payload, flush=flush), rsv=RSV1))
    deflating.expect((BINARY, payload))
    deflating.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_compressed_and_plain_fragmented_and_whole(deflating, opcode):
    text = "grüße ".encode() * 1000
    data = deflated(text)
    deflating.send(
        frame(opcode, deflated(b"one"), rsv=RSV1),
        frame(opcode, "two"),
        frame(opcode, data[:10], fin=False, rsv=RSV1),
        frame(PING, "between"),
        frame(CONTINUATION, b"", fin=False),
        frame(CONTINUATION, data[10:]),
        frame(opcode, "th", fin=False),
        frame(CONTINUATION, "ree"),
        frame(opcode, b"", rsv=RSV1),
    )
    deflating.expect(
        (PONG, "between"), (opcode, "one"), (opcode, "two"), (opcode, text), (opcode, "three"), (opcode, "")
    )
    deflating.close()


def test_many_kinds_of_data(deflating):
    kinds = random.Random(1)
    for size in [10, 100, 1000, 31_000, 33_000, 70_000, 300_000]:
        for payload in [bytes(size), kinds.randbytes(size), words(size), bytes(range(256)) * (size // 256 + 1)]:
            for level in [1, 6, 9]:
                deflating.send(frame(BINARY, deflated(payload, level), rsv=RSV1))
                deflating.expect((BINARY, payload))
    deflating.close()


def test_what_is_published_is_zlibs_to_read(host, deflating):
    kinds = random.Random(2)
    for size in [0, 1, 127, 128, 129, 1000, 31_000, 33_000, 70_000, MB]:
        for payload in [bytes(size), kinds.randbytes(size), words(size).decode(errors="ignore").encode()]:
            host.publish("conformance", payload)
            opcode, got = deflating.receive()
            assert got == payload
    deflating.close()


@pytest.mark.parametrize("bad, code", [
    (frame(PING, b"x", rsv=RSV1), 1002),
    (frame(TEXT, deflated("x"), rsv=RSV1 | 2), 1002),
    (frame(TEXT, deflated("x"), rsv=1), 1002),
    (frame(TEXT, deflated("x")[:1], fin=False, rsv=RSV1) + frame(CONTINUATION, deflated("x")[1:], rsv=RSV1), 1002),
    (frame(TEXT, "x", fin=False) + frame(CONTINUATION, deflated("x"), rsv=RSV1), 1002),
    (frame(TEXT, deflated(b"a\xff"), rsv=RSV1), 1007),
    (frame(TEXT, deflated("ß".encode()[:1]), rsv=RSV1), 1007),
    (frame(TEXT, b"not compressed", rsv=RSV1), 1007),
    (frame(TEXT, deflated(words(5000))[:300], rsv=RSV1), 1007),
    (frame(BINARY, deflated(bytes(16 * MB + 1)), rsv=RSV1), 1009),
    (frame(BINARY, deflated(bytes(500 * MB)), rsv=RSV1), 1009),
])  # fmt: skip
def test_bad_messages(deflating, bad, code):
    deflating.send(bad)
    deflating.expect_closed(code)


def test_the_largest_message(deflating):
    deflating.send(frame(BINARY, deflated(bytes(16 * MB)), rsv=RSV1))
    deflating.expect((BINARY, bytes(16 * MB)))
    deflating.close()


def test_who_has_not_agreed_may_not_compress(peer):
    peer.send(frame(TEXT, deflated("x"), rsv=RSV1))
    peer.expect_closed(1002)
