"""nginx with an embedded hub, and pushd behind nginx, that share a log in one Redis: one option each."""

import pytest
import subscribers
from redis_server import Redis
from servers import Pushd, wait_until


@pytest.fixture
def redis():
    with Redis() as running:
        yield running


@pytest.fixture
def embedded(redis, start_nginx):
    """nginx with the hub in its one worker."""
    options = f'push_option engine "{redis.url}"; push_option engine_timeout 1m;'
    return start_nginx(attached=False, http=options, workers=1)


def shares(redis):
    """The options of a pushd with its log there, which has time for a slow disk."""
    return f"engine={redis.url}", "engine_timeout=1m"


def positions(messages):
    return [(message["type"], message["data"], message["id"]) for message in messages]


def test_an_embedded_hub_and_pushd_are_one(redis, embedded, start_pushd):
    pushd = start_pushd(*shares(redis))
    with subscribers.over_sse(embedded, channel="a") as messages:
        status, answer = pushd.request("POST", "/v1/publish?channel=a", b"from pushd")
        assert status == 200
        first = answer["id"]
        second = embedded.publish("a", b"from nginx")
        want = [("message", "from pushd", first), ("message", "from nginx", second)]
        assert positions(subscribers.take(messages, 2)) == want
    # A worker that is reloaded has a new hub, which reads the log: nobody is told of a gap.
    before = embedded.workers()
    embedded.reload()
    wait_until(lambda: len(embedded.workers()) == 1 and not embedded.workers() & before, "there is a new worker")
    with subscribers.over_sse(embedded, channel="a", since=first) as messages:
        assert positions(subscribers.take(messages, 1)) == [("message", "from nginx", second)]
        redis.kill()
        redis.start()
        assert pushd.request("POST", "/v1/publish?channel=a", b"after")[0] == 200
        assert next(messages)["data"] == "after"


def test_pushd_behind_nginx_shares_the_log_with_others(redis, start_pushd, start_nginx, tmp_path):
    start_pushd(*shares(redis))
    nginx = start_nginx()
    other = tmp_path / "other"
    other.mkdir()
    another_machine = Pushd(other, *shares(redis))
    try:
        with subscribers.over_sse(nginx, channel="a") as messages:
            assert another_machine.request("POST", "/v1/publish?channel=a", b"from afar")[0] == 200
            assert next(messages)["data"] == "from afar"
        at = nginx.publish("a", b"from here")
        wait_until(lambda: another_machine.request("GET", "/v1/channels/a")[1]["id"] == at, "the other hub has it")
    finally:
        another_machine.stop()


def test_an_engine_that_is_none_is_refused(configured):
    nginx = configured(expected=1, attached=False, http="push_option engine redis:nowhere;", workers=1)
    passes, says = nginx.test()
    assert not passes and "option engine" in says and "redis+sentinel://" in says
