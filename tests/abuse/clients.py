"""Subscribers on bare sockets, honest or not."""

import contextlib
import socket
import time

# How long to wait for something that must come. It is long, since the machine may be busy.
PATIENCE_SECONDS = 120
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: push.v1.json\r\n"
)



def subscriber(port, query, receive=None):
    """A WebSocket after its handshake."""
    client = socket.socket()
    if receive:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode())
    if not client.recv(200).startswith(b"HTTP/1.1 101 "):
        raise AssertionError("the handshake was refused")
    return client


def read_until(client, *texts):
    """Reads until all of these texts have come, or until the end if there are none. A missing text is an error."""
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
