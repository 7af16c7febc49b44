"""`make demo-cluster`, as a user starts it, kills its processes, and ends it."""

import os
import re
import signal
import threading
import time

import demo
import httpx
import pytest
from host import LOOK_SECONDS, PATIENCE, ROOT, Address
from subscribers import over_sse


class Cluster:
    """The running demo: what it prints, and the addresses and pids that it names."""

    def __init__(self, process):
        self.said = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        self.hubs = [Address("127.0.0.1", int(self.says(rf"hub {n}: http://127.0.0.1:(\d+)/")[1])) for n in (1, 2, 3)]

    def _read(self, stdout):
        for line in stdout:
            with self._heard:
                self.said.append(line)
                self._heard.notify_all()

    def says(self, pattern):
        """Waits for a line. Returns the match with the last one."""
        with self._heard:
            found = self._heard.wait_for(lambda: [m for line in self.said if (m := re.search(pattern, line))], PATIENCE)
        assert found, (pattern, self.said)
        return found[-1]

    def kill(self, name):
        """Kills a process by the command that the demo has printed last, and waits until it is started again."""
        pid = int(self.says(rf"^{name}.*kill -9 (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        self.says(f"^{name} has ended")
        self.says(rf"^{name} is started again  \(kill -9 (?!{pid}\))")


@pytest.fixture
def cluster():
    with demo.running(ROOT / "examples-c/demo-cluster", "0") as process:
        yield Cluster(process)


def published(hub, data):
    """Publishes until the hub says that it is done. With its key it is done once, however often it is tried."""
    until = time.monotonic() + PATIENCE
    url = hub.url("/publish", channel="news", key=data)
    while True:
        try:
            answer = httpx.post(url, content=data, timeout=PATIENCE, trust_env=False)
            if answer.status_code == 200:
                return answer.json()["id"]
            # The log is away.
            assert answer.status_code in (503, 504), answer.text
        except httpx.TransportError:
            pass  # The hub can't be reached.
        assert time.monotonic() < until
        time.sleep(LOOK_SECONDS)


def up_to(messages, data):
    """The payloads up to this one. No gap is among them."""
    got = []
    for message in messages:
        assert message["type"] == "message", message
        got.append(message["data"])
        if got[-1] == data:
            return got


def test_each_page_shows_all_and_what_is_killed_comes_back(cluster):
    one, two, three = cluster.hubs
    for hub in cluster.hubs:
        assert "<title>libpush" in httpx.get(hub.url("/"), timeout=PATIENCE, trust_env=False).text
    seen = published(one, "first")
    # Here a client that comes before its hub has read the log is sent away after two seconds. The key says that this has
    # been published.
    assert published(three, "first") == seen
    with over_sse(three, channel="news", since=seen) as messages:
        published(two, "second")
        assert up_to(messages, "second") == ["second"]

        cluster.kill("hub 2")
        published(one, "third")
        assert up_to(messages, "third") == ["third"]
        # The hub that is back has all of it, under the same positions, once it has read the log.
        published(two, "third")
        with over_sse(two, channel="news", since=seen) as again:
            assert up_to(again, "third") == ["second", "third"]

            cluster.kill("redis-server")
            published(one, "fourth")
            assert up_to(messages, "fourth") == up_to(again, "fourth") == ["fourth"]
    with over_sse(two, channel="news", since=seen) as messages:
        assert up_to(messages, "fourth")[:2] == ["second", "third"]
