"""Closes: codes, reasons, and that nothing follows (RFC 6455, sections 5.5.1 and 7)."""

import struct

import pytest
from peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, Peer, close_frame, fragments, frame

ALLOWED = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
NOT_ALLOWED = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", ALLOWED)
def test_a_close_is_answered_with_its_code(peer, code):
    peer.send(close_frame(code, "reason"))
    peer.expect_closed(code)


@pytest.mark.parametrize("code", NOT_ALLOWED)
def test_a_code_that_may_not_be_sent_is_an_error(peer, code):
    peer.send(close_frame(code))
    peer.expect_closed(1002)


def test_a_close_without_a_code(peer):
    peer.send(frame(CLOSE))
    opcode, payload = peer.receive()
    # None, or that all is well.
    assert (opcode, payload) in [(CLOSE, b""), (CLOSE, struct.pack("!H", 1000))]
    peer.expect_end()


def test_a_code_of_one_byte_is_an_error(peer):
    peer.send(frame(CLOSE, b"\x03"))
    peer.expect_closed(1002)


@pytest.mark.parametrize("reason", ["", "x", "grüße 😀", "x" * 123, "€" * 41])
def test_reasons_of_every_length(peer, reason):
    peer.send(close_frame(1000, reason))
    peer.expect_closed(1000)


def test_a_reason_too_long_is_an_error(peer):
    peer.send(close_frame(1000, "x" * 124))
    peer.expect_closed(1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok \xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_a_reason_that_is_not_text_is_an_error(peer, reason):
    peer.send(close_frame(1000, reason))
    peer.expect_closed(1007)


@pytest.mark.parametrize(
    "after",
    [frame(TEXT, "x"), frame(PING, "x"), close_frame(1001), frame(3), b"\xff" * 100, frame(TEXT, "x", mask=None)],
    ids=["text", "ping", "close", "reserved", "garbage", "unmasked"],
)
def test_nothing_after_a_close_is_read(peer, after):
    peer.send(close_frame(1000), after)
    peer.expect_closed(1000)


def test_a_close_within_a_message_ends_both(peer):
    peer.send(frame(TEXT, "begun", fin=False), close_frame(1000), frame(CONTINUATION, "ended"))
    peer.expect_closed(1000)


def test_what_was_echoed_comes_before_the_close(peer):
    for n in range(100):
        peer.send(frame(TEXT, f"{n}"))
        peer.expect((TEXT, f"{n}"))
    peer.close()


@pytest.mark.parametrize("size", [0, 125, 70_000])
def test_a_connection_that_just_ends_harms_nobody(host, size):
    for sent in (frame(TEXT, b"x" * size)[:-1] or b"\x81", *fragments(BINARY, b"a", b"b")[:1], b"\x81", b""):
        with Peer(host) as gone:
            gone.send(sent)
    with Peer(host) as next_one:
        next_one.expect_alive()
        next_one.close()
