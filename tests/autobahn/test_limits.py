"""Large messages, many messages, and messages that are too large."""

import random
import struct

import pytest
from peer import BINARY, FIN, TEXT, Peer, fragments, frame

KB, MB = 1 << 10, 1 << 20
LARGEST = 16 * MB


def payload(opcode, size):
    data = random.Random(size).randbytes(size)
    return data.hex().encode()[:size] if opcode == TEXT else data


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [64 * KB, 256 * KB, MB, 4 * MB, 8 * MB, LARGEST])
def test_large_messages(peer, opcode, size):
    data = payload(opcode, size)
    peer.send(frame(opcode, data))
    peer.expect((opcode, data))
    peer.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [64, 256, KB, 4 * KB, 64 * KB, MB, 4 * MB])
def test_a_large_message_in_fragments(peer, opcode, size):
    whole = payload(opcode, min(4 * MB, size * 10_000))
    peer.send(*fragments(opcode, *(whole[at : at + size] for at in range(0, len(whole), size))))
    peer.expect((opcode, whole))
    peer.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("chop", [64, 1300, 4096, 65536])
def test_a_large_message_in_pieces(peer, opcode, chop):
    data = payload(opcode, min(MB, chop * 1000))
    peer.send(frame(opcode, data), chop=chop)
    peer.expect((opcode, data))
    peer.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 16, 64, 256, KB, 4 * KB, 16 * KB])
def test_a_thousand_messages_to_and_fro(peer, opcode, size):
    data = payload(opcode, size)
    for _ in range(1000):
        peer.send(frame(opcode, data))
        peer.expect((opcode, data))
    peer.close()


def test_a_message_in_frames_of_a_packet_each(peer):
    data = payload(TEXT, 65536)
    peer.send(*fragments(TEXT, *(data[at : at + 1300] for at in range(0, len(data), 1300))))
    peer.expect((TEXT, data))
    peer.close()


@pytest.mark.parametrize("length", [LARGEST + 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_frame_that_announces_too_much(peer, length):
    peer.send(bytes([FIN | BINARY, 0x80 | 127]) + struct.pack("!Q", length) + b"mask")
    opcode, data = peer.receive()
    (code,) = struct.unpack("!H", data[:2])
    # A length must not have its highest bit set (section 5.2).
    assert opcode == 0x8 and code in ((1009,) if length < 1 << 63 else (1002, 1009))
    peer.expect_end()


def test_fragments_that_are_too_much_together(peer):
    half = payload(BINARY, LARGEST // 2)
    peer.send(*fragments(BINARY, half, half, b"x")[:2])
    peer.expect_alive()
    peer.send(frame(0x0, b"x"))
    peer.expect_closed(1009)


def test_the_largest_is_not_too_large_in_fragments_either(host):
    half = payload(BINARY, LARGEST // 2)
    with Peer(host) as peer:
        peer.send(*fragments(BINARY, half, half))
        peer.expect((BINARY, half * 2))
        peer.close()
