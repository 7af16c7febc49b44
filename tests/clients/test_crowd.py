"""There are as many subscribers as descriptors allow, over all transports. A broadcast reaches each of them once."""

import contextlib
import pathlib
import resource
import subprocess
import sys

import pytest

CROWD = pathlib.Path(__file__).with_name("crowd.py")
SUBSCRIBERS = 19_000
# Descriptors of the host: it has one for each subscriber and some of its own.
DESCRIPTORS = SUBSCRIBERS + 200
PROCESSES = 2
# crowd.py spreads its subscribers over these.
CHANNELS = 100
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def descriptors():
    """The host uses all descriptors of the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, DESCRIPTORS))
        except (ValueError, PermissionError):
            pytest.fail(f"RLIMIT_NOFILE is {hard} at most here; this needs {DESCRIPTORS} (ulimit -Hn)")


@contextlib.contextmanager
def crowds(port, mark, end, *presence):
    """Processes with the subscribers. They end in any case."""
    each = str(SUBSCRIBERS // PROCESSES)
    processes = [
        subprocess.Popen(
            [sys.executable, CROWD, str(port), f"127.0.1.{n + 1}", each, mark, end, *presence],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(PROCESSES)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("with_presence", [False, True])
def test_a_broadcast_reaches_all(descriptors, start, with_presence):
    """With presence each is a user, and each channel has more of them than are told by name: all get the number."""
    options, presence = ["poll_timeout=1h", "heartbeat=1h", "head_timeout=10m"], ()
    if with_presence:
        options += ["auth=jwt", f"jwt_secret={SECRET}", "channel.*.presence=true"]
        presence = (SECRET, str(SUBSCRIBERS // CHANNELS))
    host = start(*options, own_listener=with_presence)
    port = host.own.port if with_presence else host.port
    with crowds(port, "to all of you", "the end", *presence) as processes:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * PROCESSES
        each = SUBSCRIBERS // 4
        host.wait_until(websockets=each, sse=each, streams=each, polls=each, connections=SUBSCRIBERS)
        if with_presence:
            host.wait_until(presence_members=SUBSCRIBERS)
        host.broadcast("to all of you")
        host.broadcast("the end")
        assert [process.stdout.readline() for process in processes] == [f"1: {SUBSCRIBERS // PROCESSES}\n"] * PROCESSES
        assert host.wait_for(deliveries=2 * SUBSCRIBERS - each)["slow_closed"] == 0
    # All go at once, and the host still ends well.
