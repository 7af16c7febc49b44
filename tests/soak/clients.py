"""Subscribers of every transport. Each records its messages, their order, and the gaps that were announced."""

import asyncio
import json
import random
import socket
import struct
import zlib

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: push.v1.json\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
# If a client gets nothing for so long, not even a heartbeat, the hub has forgotten it.
SILENCE_SECONDS = 60


class Wrong(Exception):
    """The hub broke a promise."""


class Ledger:
    """The messages and gaps that one client got. Publishers number the messages of each channel without holes."""

    def __init__(self, name):
        self.name = name
        self.last = {}
        self.excused = set()
        self.position = None
        self.messages = self.gaps = 0

    def take(self, item):
        kind = item["type"]
        if kind == "message":
            self.message(item["channel"], int(item["data"].split(" ", 1)[0]))
        elif kind == "gap":
            self.gaps += 1
            self.excused.add(item["channel"])
        if item.get("id"):
            self.position = item["id"]

    def message(self, channel, number):
        self.messages += 1
        last = self.last.get(channel)
        if last is not None:
            if number <= last:
                raise Wrong(f"{self.name}: {channel} {number} after {last}: it came twice, or out of order")
            if number > last + 1 and channel not in self.excused:
                raise Wrong(f"{self.name}: {channel} {number} after {last}: messages were lost without a gap")
        self.excused.discard(channel)
        self.last[channel] = number

    def forget(self, channel):
        self.last.pop(channel, None)
        self.excused.discard(channel)


class Subscriber:
    """A client that connects, reads for a while, disconnects in different ways, and comes back by its position."""

    def __init__(self, number, port, channels, counts, transport, slow):
        self.ledger = Ledger(f"client {number} ({transport})")
        self.port, self.channels, self.counts, self.transport, self.slow = port, channels, counts, transport, slow
        self.random = random.Random(number)
        # The transports take turns, so this is every other WebSocket.
        self.deflates = number % 8 == 0

    async def live(self, until):
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            stay = self.random.uniform(0.5, 30)
            try:
                await asyncio.wait_for(self.visit(min(stay, until - loop.time())), stay + SILENCE_SECONDS)
            except (OSError, asyncio.IncompleteReadError, EOFError):
                # The client was refused, cut off, or closed by the server. It comes back in each case.
                self.counts["cut off"] += 1
            except asyncio.TimeoutError:
                raise Wrong(f"{self.ledger.name}: the hub has forgotten it") from None
            await asyncio.sleep(self.random.uniform(0, 3))

    async def visit(self, seconds):
        self.counts["visits"] += 1
        client = socket.socket()
        client.setblocking(False)
        if self.slow:
            # The kernel's default buffer would hold hours of messages.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        except BaseException:
            client.close()
            raise
        reader, writer = await asyncio.open_connection(sock=client, limit=4096 if self.slow else 65536)
        try:
            if self.slow:
                await self.ask(writer)
                await asyncio.sleep(seconds)
            read = {"ws": self.websocket, "sse": self.events, "stream": self.lines, "poll": self.polls}[self.transport]
            task = asyncio.ensure_future(read(reader, writer))
            done, _ = await asyncio.wait([task], timeout=seconds)
            if done:
                task.result()
            else:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await self.leave(writer)
        finally:
            if self.random.random() < 0.3:
                # Ends the connection with a reset.
                linger = struct.pack("ii", 1, 0)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()

    async def ask(self, writer):
        query = "&".join(f"channel={channel}" for channel in self.channels)
        if self.ledger.position:
            query += f"&since={self.ledger.position}"
        lines = UPGRADE + OFFER * self.deflates if self.transport == "ws" else ""
        writer.write(
            f"GET /push?{query}&format=json&transport={self.transport} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
        )
        await writer.drain()

    async def leave(self, writer):
        """Sends a close frame now and then."""
        if self.transport == "ws" and self.random.random() < 0.5:
            writer.write(frame(8, b"\x03\xe8"))
            await writer.drain()

    async def head(self, reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = head.split(" ", 2)[1]
        self.counts[f"status {status}"] += 1
        if status not in ("101", "200"):
            if status != "503":
                raise Wrong(f"{self.ledger.name}: {head}")
            raise EOFError
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
        if self.ledger.position is None:
            self.ledger.position = fields.get("push-position")
        return fields

    async def websocket(self, reader, writer):
        if not self.slow:
            await self.ask(writer)
        await self.head(reader)
        while True:
            first, length = await reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(length)
            if first & 0x40:
                if not self.deflates:
                    raise Wrong(f"{self.ledger.name}: a message is compressed, though the client did not offer that")
                payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
                first &= ~0x40
                self.counts["compressed"] += 1
            if first == 0x89:
                writer.write(frame(10, payload))
            elif first == 0x88:
                self.counts[f"closed {struct.unpack('!H', payload[:2])[0]}"] += 1
                raise EOFError
            elif first == 0x81:
                item = json.loads(payload)
                if item["type"] == "error":
                    raise Wrong(f"{self.ledger.name}: {item}")
                if item["type"] in ("message", "gap"):
                    self.ledger.take(item)

    async def chunks(self, reader):
        """The lines of a chunked body."""
        rest = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            rest += (await reader.readexactly(size + 2))[:-2]
            *lines, rest = rest.split(b"\n")
            for line in lines:
                yield line
        raise EOFError

    async def events(self, reader, writer):
        if not self.slow:
            await self.ask(writer)
        await self.head(reader)
        async for line in self.chunks(reader):
            if line.startswith(b"data: "):
                self.take_or_end(json.loads(line[6:]))

    async def lines(self, reader, writer):
        if not self.slow:
            await self.ask(writer)
        await self.head(reader)
        async for line in self.chunks(reader):
            if line:
                self.take_or_end(json.loads(line))

    def take_or_end(self, item):
        if item["type"] == "close":
            self.counts[f"closed {item['code']}"] += 1
            raise EOFError
        if item["type"] in ("message", "gap"):
            self.ledger.take(item)

    async def polls(self, reader, writer):
        first = not self.slow
        while True:
            if first:
                await self.ask(writer)
            first = True
            fields = await self.head(reader)
            answer = json.loads(await reader.readexactly(int(fields["content-length"])))
            for item in answer.get("messages", ()):
                self.ledger.take(item)
            self.ledger.position = answer["position"]


def frame(opcode, payload):
    """A frame with a mask of zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload
