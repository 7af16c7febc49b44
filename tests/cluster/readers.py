"""Subscribers that write down everything they are told, over each transport. They come back with their position.

All of them run in one thread, on an event loop of their own. A reader stays with one hub, as a browser's page does,
or goes to the next one whenever it loses its connection.
"""

import asyncio
import json
import threading
import time

import httpx
import httpx_sse
import websockets
from ledger import GAP
from websockets.asyncio.client import connect

# Before it comes back: what an EventSource does after `retry`.
RETRY_SECONDS = 0.1
# A hub that is cut off neither answers nor refuses.
CONNECT_SECONDS = 5
TROUBLES = (OSError, TimeoutError, httpx.HTTPError, websockets.WebSocketException, ConnectionError)


class Reader:
    def __init__(self, kind, hubs, channels, stays):
        self.kind, self.hubs, self.channels, self.stays = kind, hubs, channels, stays
        self.name = f"{kind} that {'stays' if stays else 'moves'}"
        # (channel, number) and (channel, GAP), in the order in which they came.
        self.seen = []
        self.position = None
        self.connects = 0
        self.told_at = 0.0

    async def run(self):
        follow = {"sse": self.sse, "ws": self.ws, "stream": self.stream, "poll": self.poll}[self.kind]
        turn = 0
        while True:
            self.connects += 1
            try:
                await follow(self.hubs[turn % len(self.hubs)])
            except TROUBLES:
                pass
            if not self.stays:
                turn += 1
            await asyncio.sleep(RETRY_SECONDS)

    def take(self, message):
        """A message in the JSON form."""
        if message["type"] == "message":
            channel, number, _ = message["data"].split(" ", 2)
            assert channel == message["channel"]
            self.seen.append((channel, int(number)))
        elif message["type"] == "gap":
            self.seen.append((message["channel"], GAP))
        else:
            return
        self.position = message["id"]
        self.told_at = time.monotonic()

    def query(self, **more):
        since = {} if self.position is None else {"since": self.position}
        return httpx.QueryParams({"channel": self.channels, **since, **more})

    def client(self):
        return httpx.AsyncClient(timeout=httpx.Timeout(None, connect=CONNECT_SECONDS), trust_env=False)

    async def sse(self, hub):
        """As an EventSource: the last id that came goes into a header."""
        # The first connection has none.
        headers = {} if self.position is None else {"Last-Event-ID": self.position}
        params = httpx.QueryParams({"channel": self.channels})
        async with self.client() as client:
            async with httpx_sse.aconnect_sse(client, "GET", hub.url(), params=params, headers=headers) as source:
                source.response.raise_for_status()
                async for event in source.aiter_sse():
                    # A comment makes one without data, which an EventSource would pass over.
                    if event.event == "message" and event.data:
                        channel, number, _ = event.data.split(" ", 2)
                        self.seen.append((channel, int(number)))
                        self.told_at = time.monotonic()
                    elif event.event == "push-gap":
                        self.seen.append((json.loads(event.data)["channel"], GAP))
                    if event.id:
                        self.position = event.id

    async def ws(self, hub):
        url = hub.url().replace("http", "ws", 1) + f"?{self.query()}"
        times = {"open_timeout": CONNECT_SECONDS, "close_timeout": 1}
        async with connect(url, subprotocols=["push.v1.json"], max_queue=None, proxy=None, **times) as socket:
            waits = set(self.channels) if self.position is None else set()
            async for text in socket:
                message = json.loads(text)
                self.take(message)
                if message["type"] == "subscribed" and waits:
                    # Each is confirmed at the same place.
                    waits.discard(message["channel"])
                    if not waits and self.position is None:
                        self.position = message["id"]

    async def stream(self, hub):
        async with self.client() as client:
            headers = {"Accept": "application/x-ndjson"}
            async with client.stream("GET", hub.url(), params=self.query(), headers=headers) as response:
                response.raise_for_status()
                self.position = self.position or response.headers["Push-Position"]
                async for line in response.aiter_lines():
                    if line:
                        self.take(json.loads(line))

    async def poll(self, hub):
        async with self.client() as client:
            while True:
                more = {"wait": "0"} if self.position is None else {}
                response = await client.get(hub.url(), params=self.query(**more))
                response.raise_for_status()
                answer = response.json()
                for message in answer["messages"]:
                    self.take(message)
                self.position = answer["position"]


class Readers(threading.Thread):
    """Two readers over each transport: one that stays with a hub, and one that moves."""

    def __init__(self, hubs, channels):
        super().__init__(daemon=True)
        self.readers = []
        for place, kind in enumerate(("sse", "ws", "stream", "poll")):
            turned = hubs[place % len(hubs) :] + hubs[: place % len(hubs)]
            self.readers.append(Reader(kind, turned[:1], channels, stays=True))
            self.readers.append(Reader(kind, turned[1:] + turned[:1], channels, stays=False))
        self._loop = asyncio.new_event_loop()
        self.failure = None

    def run(self):
        async def all_of_them():
            async with asyncio.TaskGroup() as group:
                for reader in self.readers:
                    group.create_task(reader.run())

        self._task = self._loop.create_task(all_of_them())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as failure:
            self.failure = failure

    def stop(self):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()
        self._loop.close()

    def wait_until_subscribed(self, seconds):
        return self._wait(lambda: all(reader.position is not None for reader in self.readers), seconds)

    def wait_for(self, last, seconds):
        """Waits until each has the last message of each channel. What does not come is missing."""

        def is_there():
            return all(last <= set(reader.seen[-2000:]) for reader in self.readers)

        return self._wait(is_there, seconds)

    def _wait(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.failure:
                raise self.failure
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
