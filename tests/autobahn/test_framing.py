"""Frames: their sizes, pings, reserved bits and opcodes, fragments (RFC 6455, section 5)."""

import pytest
from peer import BINARY, CONTINUATION, PING, PONG, TEXT, fragments, frame

SIZES = [0, 1, 2, 125, 126, 127, 128, 65535, 65536, 100_000]
CHOPS = [None, 1, 7]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_length_comes_back(peer, opcode, size):
    payload = b"*" * size if opcode == TEXT else bytes(n % 256 for n in range(size))
    peer.send(frame(opcode, payload))
    peer.expect((opcode, payload))
    peer.close()


@pytest.mark.parametrize("chop", [1, 13, 997])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 3000])
def test_however_the_bytes_are_cut(peer, size, chop):
    payload = b"*" * size
    peer.send(frame(TEXT, payload), chop=chop)
    peer.expect((TEXT, payload))
    peer.close()


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_every_mask(peer, mask):
    peer.send(frame(BINARY, bytes(range(256)), mask=mask))
    peer.expect((BINARY, bytes(range(256))))
    peer.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
def test_unmasked_is_an_error(peer, opcode):
    peer.send(frame(opcode, b"x", mask=None))
    peer.expect_closed(1002)


@pytest.mark.parametrize("chop", CHOPS)
@pytest.mark.parametrize("size", [0, 1, 64, 125])
def test_a_ping_is_answered_with_its_payload(peer, size, chop):
    payload = bytes(0xFF - n for n in range(size))
    peer.send(frame(PING, payload), chop=chop)
    peer.expect((PONG, payload))
    peer.close()


def test_pings_are_answered_in_order(peer):
    payloads = [b"%d" % n for n in range(50)]
    peer.send(*(frame(PING, payload) for payload in payloads), chop=3)
    peer.expect(*((PONG, payload) for payload in payloads))
    peer.close()


@pytest.mark.parametrize("payload", [b"", b"nobody asked", b"x" * 125])
def test_a_pong_that_nobody_asked_for_is_ignored(peer, payload):
    peer.send(frame(PONG, payload), frame(PONG), frame(PING, b"asked"))
    peer.expect((PONG, b"asked"))
    peer.close()


@pytest.mark.parametrize("opcode", [PING, PONG, 0x8])
@pytest.mark.parametrize("size", [126, 127, 65536])
def test_a_control_frame_too_long_is_an_error(peer, opcode, size):
    peer.send(frame(opcode, b"\x03\xe8" + b"x" * (size - 2)))
    peer.expect_closed(1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, 0x8])
@pytest.mark.parametrize("rsv", range(1, 8))
def test_reserved_bits_are_an_error(peer, rsv, opcode):
    peer.send(frame(opcode, b"\x03\xe8", rsv=rsv))
    peer.expect_closed(1002)


@pytest.mark.parametrize("payload", [b"", b"x"])
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes_are_an_error(peer, opcode, payload):
    peer.send(frame(opcode, payload))
    peer.expect_closed(1002)


@pytest.mark.parametrize("bad", [frame(TEXT, "x", rsv=4), frame(3), frame(12), frame(TEXT, "x", mask=None)])
def test_what_was_sent_before_an_error_is_echoed_first_or_not_at_all(peer, bad):
    peer.send(frame(TEXT, "good"))
    peer.expect((TEXT, "good"))
    peer.send(bad, frame(TEXT, "never read"))
    peer.expect_closed(1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("chop", CHOPS)
def test_fragments_come_back_as_one(peer, opcode, chop):
    peer.send(*fragments(opcode, "one ", "", "two ", "three", ""), chop=chop)
    peer.expect((opcode, "one two three"))
    peer.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("chop", CHOPS)
def test_control_frames_between_fragments(peer, opcode, chop):
    first, second, third = fragments(opcode, "one ", "two ", "three")
    peer.send(first, frame(PING, "a"), second, frame(PONG, "?"), frame(PING, "b"), third, chop=chop)
    peer.expect((PONG, "a"), (PONG, "b"), (opcode, "one two three"))
    peer.close()


@pytest.mark.parametrize("opcode", [PING, PONG, 0x8])
def test_a_control_frame_in_fragments_is_an_error(peer, opcode):
    peer.send(frame(opcode, b"\x03\xe8", fin=False), frame(CONTINUATION, "x"))
    peer.expect_closed(1002)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("before", [[], [frame(PING)], fragments(TEXT, "a", "b"), [frame(TEXT, "whole")]])
def test_a_continuation_of_nothing_is_an_error(peer, before, fin):
    peer.send(*before)
    if before:
        peer.receive()
    peer.send(frame(CONTINUATION, "of nothing", fin=fin), frame(TEXT, "never read"))
    peer.expect_closed(1002)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_within_a_message_is_an_error(peer, opcode, fin):
    peer.send(frame(TEXT, "begun", fin=False), frame(opcode, "another", fin=fin))
    peer.expect_closed(1002)


def test_as_many_fragments_as_there_are(peer):
    """A message of 65,536 fragments is legal."""
    peer.send(*fragments(BINARY, *[b"x"] * 65_536))
    peer.expect((BINARY, b"x" * 65_536))
    peer.send(*fragments(TEXT, *[b""] * 65_536))
    peer.expect((TEXT, b""))
    peer.close()


def test_messages_one_after_the_other_keep_their_borders(peer):
    sent = [(BINARY if n % 3 else TEXT, b"%d" % n * (n % 50)) for n in range(500)]
    peer.send(*(frame(opcode, payload) for opcode, payload in sent), chop=611)
    peer.expect(*sent)
    peer.close()
