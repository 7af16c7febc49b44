"""A WebSocket client that sends any bytes, and reads frames strictly."""

import os
import socket
import struct
import zlib

# How long to wait for something that must come. It is long, as the machine may be busy.
SECONDS = 120
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80


def frame(opcode, payload=b"", fin=True, rsv=0, mask=b"\x12\x9a\x34\xf0"):
    """A client's frame; `mask=None` leaves it unmasked, `rsv` are the three reserved bits."""
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([(FIN if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    return head + (mask + masked(payload, mask) if mask else payload)


def masked(payload, mask):
    """The payload with the mask applied, in one step however long it is."""
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")


def deflated(payload, level=6, flush=zlib.Z_SYNC_FLUSH):
    """A message's compressed bytes, without a context from before."""
    compress = zlib.compressobj(level, zlib.DEFLATED, -15)
    data = compress.compress(payload.encode() if isinstance(payload, str) else payload) + compress.flush(flush)
    # After a last block the sender adds a byte. With it the end that was left out makes an empty block.
    return data + b"\0" if flush == zlib.Z_FINISH else data[:-4]


def inflated(data):
    """A server's message. It must be complete."""
    return zlib.decompressobj(-15).decompress(data + b"\x00\x00\xff\xff")


def close_frame(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + (reason.encode() if isinstance(reason, str) else reason))


def fragments(opcode, *payloads):
    """A message in as many frames as there are payloads."""
    last = len(payloads) - 1
    return [frame(CONTINUATION if n else opcode, payload, fin=n == last) for n, payload in enumerate(payloads)]


class Peer:
    """A connection to the echo."""

    def __init__(self, host, offer=None):
        self.socket = socket.create_connection((host.host, host.port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self.socket.sendall(
            b"GET /push?channel=conformance HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            + (f"Sec-WebSocket-Extensions: {offer}\r\n".encode() if offer else b"")
            + b"\r\n"
        )
        head = self._until(b"\r\n\r\n").split(b"\r\n")
        assert head[0] == b"HTTP/1.1 101 Switching Protocols", head
        # The example of RFC 6455, section 1.3.
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        agreed = [line.split(b": ")[1].decode() for line in head if line.startswith(b"Sec-WebSocket-Extensions: ")]
        self.agreed = agreed[0] if agreed else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames, chop=None):
        """Sends frames in one piece, or `chop` bytes at a time."""
        data = b"".join(frames)
        for at in range(0, len(data), chop or max(len(data), 1)):
            self.socket.sendall(data[at : at + (chop or len(data))])

    def receive(self):
        """The next frame, as opcode and payload. A server's frames are whole, unmasked, and as short as they can be."""
        first, second = self._exactly(2)
        if first & 0x40 and self.agreed:
            assert first & 0x0F in (TEXT, BINARY), "messages are compressed, control frames are not"
            first -= 0x40
            inflate = True
        else:
            inflate = False
        assert first & 0x70 == 0, "no reserved bits"
        assert first & FIN, "whole"
        assert second & 0x80 == 0, "unmasked"
        length, least = second, 0
        if second == 126:
            (length,), least = struct.unpack("!H", self._exactly(2)), 126
        elif second == 127:
            (length,), least = struct.unpack("!Q", self._exactly(8)), 1 << 16
        assert length >= least, "the shortest length that does"
        payload = self._exactly(length)
        return first & 0x0F, inflated(payload) if inflate else payload

    def expect(self, *wanted):
        """Expects these frames, in this order."""
        for opcode, payload in wanted:
            if isinstance(payload, str):
                payload = payload.encode()
            assert self.receive() == (opcode, payload)

    def expect_alive(self):
        """Sends a ping. Its pong shows that everything before it was read."""
        payload = os.urandom(8)
        self.send(frame(PING, payload))
        self.expect((PONG, payload))

    def expect_closed(self, code):
        """Expects a close frame with this code (None: without one), then the end, and nothing between."""
        opcode, payload = self.receive()
        assert opcode == CLOSE, (opcode, payload[:80])
        got = struct.unpack("!H", payload[:2])[0] if payload else None
        assert got == code
        payload[2:].decode()
        self.expect_end()

    def expect_end(self):
        assert self._read + self.socket.recv(1) == b""

    def close(self, code=1000):
        """Ends the connection as it should."""
        self.send(close_frame(code))
        self.expect_closed(code)

    def _until(self, end):
        while end not in self._read:
            self._more(1)
        found, self._read = self._read.split(end, 1)
        return found

    def _exactly(self, length):
        parts, have = [self._read], len(self._read)
        while have < length:
            data = self.socket.recv(min(max(length - have, 1 << 12), 1 << 20))
            assert data, "the connection ended within a frame"
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._read = whole[length:]
        return whole[:length]

    def _more(self, least):
        data = self.socket.recv(1 << 16)
        assert len(data) >= least, "the connection ended"
        self._read += data
