"""A client over `wss`: the package `websockets`, with an event loop that runs in one thread.

The package's `sync` client reads in one thread and writes in another. Python's `ssl` passes both on to OpenSSL, which
allows only one at a time for a connection (CPython's issue 143756). Now and then it takes a connection for broken then.
"""

import asyncio
import contextlib
import threading

from host import PATIENCE
from websockets.asyncio.client import connect as connect_in_loop
from websockets.exceptions import ConnectionClosedOK


class SecureWebSocket:
    """Has the methods of the `sync` client that the tests use."""

    def __init__(self, loop, socket):
        self._loop, self._socket = loop, socket

    def __iter__(self):
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                yield self.recv()

    @property
    def protocol(self):
        return self._socket.protocol

    def recv(self):
        return self._run(self._socket.recv())

    def send(self, text):
        self._run(self._socket.send(text))

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextlib.contextmanager
def connect(url, **parameters):
    """The parameters are those of `websockets.asyncio.client.connect`. A busy machine may need longer than its times."""
    parameters = {"open_timeout": PATIENCE, "ping_interval": None, **parameters}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin():
        return await connect_in_loop(url, **parameters)

    try:
        socket = asyncio.run_coroutine_threadsafe(begin(), loop).result()
        try:
            yield SecureWebSocket(loop, socket)
        finally:
            asyncio.run_coroutine_threadsafe(socket.close(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
