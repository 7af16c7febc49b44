"""Free ports for servers of the tests."""

import collections
import contextlib
import os
import random
import socket

# The last ports that were given: their servers may not have started yet.
_given = collections.deque(maxlen=100)


def free_port():
    """A port that is free at this moment. It is not one of the ports that the system gives to clients. Otherwise some
    client could have it before the server starts, or while it is away. TEST_PORTS=FIRST-LAST chooses others."""
    first, last = map(int, os.environ.get("TEST_PORTS", "10000-31999").split("-"))
    while True:
        port = random.randint(first, last)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As the servers do: a connection of an earlier server on this port is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _given.append(port)
            return port
