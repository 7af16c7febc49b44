"""Publishers: each numbers the messages of its channel, and tries one hub after the other until one acknowledges."""

import http.client
import json
import random
import threading
import time

from hubs import KEY

# How long a publisher waits for an answer, which comes after engine_timeout at the latest.
ANSWER_SECONDS = 30
# Between two requests of a publisher.
PAUSE_SECONDS = 0.03
MOST_AT_ONCE = 5


class Publisher(threading.Thread):
    """Publishes to a channel until it is stopped. All that it was able to count is acknowledged."""

    def __init__(self, channel, hubs, seed, padding=0):
        super().__init__(daemon=True)
        self.channel, self.hubs, self.padding = channel, hubs, padding
        self.random = random.Random(seed)
        self.count = 0
        self.retries = 0
        self.longest = 0.0
        self._ended = threading.Event()
        self._connections = {}

    def stop(self):
        """Ends it, once what is on its way is acknowledged. Returns how many messages there are."""
        self._ended.set()
        self.join()
        return self.count

    def run(self):
        at = self.random.randrange(len(self.hubs))
        while not self._ended.wait(PAUSE_SECONDS):
            numbers = range(self.count + 1, self.count + 1 + self.random.randint(1, MOST_AT_ONCE))
            # The number is the key as well, so that it is published once, however often it is tried.
            batch = json.dumps([self._message(number) for number in numbers])
            began = time.monotonic()
            while not self._is_taken(self.hubs[at], batch):
                self.retries += 1
                at = (at + 1) % len(self.hubs)
                time.sleep(PAUSE_SECONDS)
            self.longest = max(self.longest, time.monotonic() - began)
            self.count = numbers[-1]
            if self.random.random() < 0.1:
                at = self.random.randrange(len(self.hubs))

    def _message(self, number):
        data = f"{self.channel} {number} {'x' * self.padding}"
        return {"channel": self.channel, "data": data, "key": f"{self.channel}-{number}"}

    def _is_taken(self, hub, batch):
        connection = self._connections.get(hub)
        if connection is None:
            connection = http.client.HTTPConnection(hub.control_host, hub.control_port, timeout=ANSWER_SECONDS)
            self._connections[hub] = connection
        try:
            connection.request("POST", "/v1/publish", batch, {"Authorization": f"Bearer {KEY}"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._connections[hub]
            return False
        # Away, full, or nobody knows.
        if response.status in (503, 504):
            return False
        assert response.status == 200, f"{response.status}: {body}"
        return True
