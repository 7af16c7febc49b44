"""`curl`, as from a script: the stream, SSE, polls over one connection, publishing."""

import contextlib
import json
import subprocess

import pytest
from host import PATIENCE, Host, running

COMMON = ["curl", "--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--max-time", str(PATIENCE)]


@contextlib.contextmanager
def curl(*arguments):
    """curl's output, line by line, while it runs."""
    process = subprocess.Popen([*COMMON, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(*arguments):
    return subprocess.run([*COMMON, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def objects(process):
    """The objects in a stream's lines. Heartbeats are empty lines."""
    return (json.loads(line) for line in process.stdout if line != "\n")


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_the_stream(host, version):
    with curl(version, "-H", "Accept: application/x-ndjson", host.url(channel="a")) as process:
        assert process.stdout.readline() == "\n"
        lines = objects(process)
        # They are sent one at a time: each must arrive without another one behind it.
        for count in range(20):
            id = host.publish("a", f"message {count}", event="tick")
            wanted = {"type": "message", "channel": "a", "id": id, "event": "tick", "data": f"message {count}"}
            assert next(lines) == wanted


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_sse(start, version):
    # There is no comment between two events.
    host = start("heartbeat=1h")
    with curl(version, "-H", "Accept: text/event-stream", host.url(channel="a")) as process:
        preamble = [process.stdout.readline() for _ in range(5)]
        assert [line.split(":")[0] for line in preamble] == ["retry", "id", "event", "data", "\n"]
        for count in range(20):
            id = host.publish("a", f"message {count}")
            event = [process.stdout.readline() for _ in range(3)]
            assert event == [f"id: {id}\n", f"data: message {count}\n", "\n"]


def test_the_head_of_a_stream(host):
    with curl("--include", host.url(channel="a", transport="stream")) as process:
        head = [line.strip().lower() for line in iter(process.stdout.readline, "\n")]
    assert head[0] == "http/1.1 200 ok"
    lines = {"content-type: application/x-ndjson", "cache-control: no-store, no-transform", "transfer-encoding: chunked"}
    assert lines <= set(head)


def poll_five_times(host, position):
    """Five polls by one curl. Each is answered at once. Returns the number of connections and the messages."""
    url = host.url(channel="a", since=position)
    counts = run(*[url] * 5, "--write-out", "\n%{num_connects}\n").split("\n")
    return [int(count) for count in counts[1::2]], [json.loads(answer) for answer in counts[:-1:2]]


def test_polls_over_one_connection_of_the_own_listener(start):
    host = start(own_listener=True)
    position = host.publish("a", "one")
    id = host.publish("a", "two")
    connects, answers = poll_five_times(host.own, position)
    assert connects == [1, 0, 0, 0, 0]
    assert [[message["id"] for message in answer["messages"]] for answer in answers] == [[id]] * 5


def test_polls_over_one_connection_where_the_host_says_so(start):
    for flags, wanted in (["-k"], [1, 0, 0, 0, 0]), ([], [1, 1, 1, 1, 1]):
        host = start(flags=flags)
        position = host.publish("a", "one")
        host.publish("a", "two")
        connects, answers = poll_five_times(host, position)
        assert connects == wanted
        assert len(answers) == 5


def test_the_shortest_program():
    """hello publishes the time every second at its own listener. One poll gets the newest, and the next one waits."""
    with running(program="hello", arguments=["127.0.0.1:0"]) as host:
        with curl("-H", "Accept: application/x-ndjson", host.url(channel="time", last=1)) as process:
            lines = objects(process)
            times = [next(lines) for _ in range(2)]
        assert [message["type"] for message in times] == ["message", "message"]
        assert [len(message["data"].split(":")) for message in times] == [3, 3]
        url = host.url(channel="time", since=times[0]["id"])
        following = host.url(channel="time", since=times[1]["id"])
        out = run(url, following, "--write-out", "\n%{num_connects}\n").split("\n")
        answers = [json.loads(out[0]), json.loads(out[2])]
        assert [int(out[1]), int(out[3])] == [1, 0]
        assert answers[0]["messages"][0] == times[1]
        assert answers[1]["messages"][0]["id"] > times[1]["id"] or len(answers[1]["messages"][0]["id"]) > len(
            times[1]["id"]
        )


def test_publishing(host):
    with curl(host.url(channel=["a", "ß/&"], transport="stream")) as process:
        assert process.stdout.readline() == "\n"
        lines = objects(process)
        for channel in ("a", "%C3%9F%2F%26"):
            answer = json.loads(run("--data", "hello", host.url("/publish") + f"?channel={channel}"))
            message = next(lines)
            assert (message["id"], message["data"]) == (answer["id"], "hello")
        assert message["channel"] == "ß/&"


def test_publishing_what_can_not_be(host):
    status = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    for url, data, wanted in [
        (host.url("/publish"), "x", "400"),
        (host.url("/publish", channel=""), "x", "400"),
        (host.url("/publish", channel="x" * 256), "x", "400"),
        (host.url("/publish", channel="a", event="push-close"), "x", "400"),
        (host.url("/publish", channel="a"), "x" * 100, "200"),
    ]:
        assert run(*status, "--data", data, url) == wanted, url
    assert run(*status, host.url("/publish", channel="a")) == "405"
    assert host.stats()["published"] == 1


def test_files_and_the_demo_page(host):
    page = run(host.url("/"))
    assert "<main>" in page and "app.js" in page
    outside = host.url("/../Makefile")
    assert run("--output", "/dev/null", "--write-out", "%{http_code}", outside, "--path-as-is") == "404"


def test_an_option_that_is_none():
    with pytest.raises(RuntimeError, match=r"(?s)ended with 2.*no_such_option"):
        Host("no_such_option=1")
