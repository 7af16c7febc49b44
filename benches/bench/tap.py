"""Records what a client sends to a server over a Unix socket, and reads it as requests of Redis' protocol."""

import contextlib
import os
import socket
import struct
import threading

# With its life, hub, connection and counters an append of one entry has this many words; every other call has fewer.
LEAST_APPEND = 3 + 5 + 5 + 3


class Tap:
    """Passes connections on to the server, and keeps what their clients sent."""

    def __init__(self, path, server):
        self.path, self._server = path, str(server)
        self._sent = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                sent = bytearray()
                self._sent.append(sent)
                threading.Thread(target=_pump, args=(client, server, sent), daemon=True).start()
                threading.Thread(target=_pump, args=(server, client, None), daemon=True).start()

    def longest(self):
        """What was sent on the connection with the most bytes."""
        return bytes(max(self._sent, key=len, default=b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        os.unlink(self.path)


def _pump(source, target, kept):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 18):
            if kept is not None:
                kept += data
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def requests(sent):
    """The requests, each with its number of words. The last one may be cut off, and is left out then."""
    at = 0
    while at < len(sent):
        start = at
        end = sent.find(b"\r\n", at)
        if end < 0:
            return
        words = int(sent[at + 1:end])
        at = end + 2
        for _ in range(words):
            end = sent.find(b"\r\n", at)
            if end < 0:
                return
            at = end + 2 + int(sent[at + 1:end]) + 2
        if at > len(sent):
            return
        yield words, sent[start:at]


def frames(sent):
    """What bare-redis replays: all requests up to the first append, and from then on the appends, which are timed."""
    out, appends = bytearray(), False
    for words, request in requests(sent):
        is_append = words >= LEAST_APPEND and b"EVALSHA" in request[:40]
        appends |= is_append
        if is_append or not appends:
            out += struct.pack("=BI", is_append, len(request)) + request
    return bytes(out)
