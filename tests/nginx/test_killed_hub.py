"""A pushd that shares its log, in a Redis, with the hubs after it is killed while many publish through nginx."""

import json
import signal
import threading
import time

import pytest
import subscribers
from redis_server import Redis
from servers import wait_until

KEPT = ("history_count=10000", "max_message=1000KB", "engine_timeout=1m")
PUBLISHERS, EACH = 4, 60


def publish(nginx, data):
    """The position of a message. 503 says that the hub can't be reached, and that nothing was done."""
    while (answer := nginx.get("/publish?channel=a", "POST", data))[0] == 503:
        time.sleep(0.05)
    assert answer[0] == 200, answer
    return json.loads(answer[2])["id"]


@pytest.fixture
def redis():
    with Redis() as running:
        yield running


def test_what_a_killed_hub_has_not_answered_is_published_once_by_the_next(start_nginx, start_pushd, redis):
    # The log itself recognises a message for a second only.
    options = (f"engine={redis.url}", "key_window=1s", *KEPT)
    pushd, nginx = start_pushd(*options), start_nginx()
    begin = publish(nginx, "begin")
    answers = {}

    def publisher(name):
        for n in range(EACH):
            data = f"{name}.{n}"
            answers[data] = publish(nginx, data)

    threads = [threading.Thread(target=publisher, args=(name,)) for name in range(PUBLISHERS)]
    for thread in threads:
        thread.start()
    for kill in range(1, 4):
        wait_until(lambda: len(answers) >= kill * PUBLISHERS * EACH // 4, f"so many are published: {kill}")
        pushd.stop(signal.SIGKILL)
        # Longer than the log recognises them.
        time.sleep(2.5)
        pushd = start_pushd(*options)
    for thread in threads:
        thread.join()
    with subscribers.over_sse(nginx, channel="a", since=begin) as messages:
        got = [next(messages) for _ in range(PUBLISHERS * EACH)]
        publish(nginx, "end")
        assert next(messages)["data"] == "end", "no message came twice"
    assert {message["type"] for message in got} == {"message"}
    assert {message["data"]: message["id"] for message in got} == answers
    for name in range(PUBLISHERS):
        own = [message["data"] for message in got if message["data"].startswith(f"{name}.")]
        assert own == [f"{name}.{n}" for n in range(EACH)]
