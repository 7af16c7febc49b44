"""Subscribers on bare sockets, honest or not."""

import contextlib
import socket
import time

# For what must come: long, as the machine may be busy.
PATIENCE_SECONDS = 120
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: push.v1.json\r\n"
)



def subscriber(port, query, receive=None):
    """A WebSocket that has had its answer's head."""
    client = socket.socket()
    if receive:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /push?{query} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n".encode())
    if not client.recv(200).startswith(b"HTTP/1.1 101 "):
        raise AssertionError("refused")
    return client


def read_until(client, *texts):
    """What comes until all of these have, or the end has; without texts, until the end. What is missing is an error."""
    client.settimeout(PATIENCE_SECONDS)
    seen, until = b"", time.monotonic() + PATIENCE_SECONDS
    with contextlib.suppress(ConnectionResetError):
        while (not texts or not all(text in seen for text in texts)) and (data := client.recv(65536)):
            seen += data
            if time.monotonic() > until:
                break
    missing = [text for text in texts if text not in seen]
    if missing:
        raise AssertionError(f"{missing} is not in {seen[-1000:]!r}")
    return seen
