"""`make demo-nginx`, as a user starts and ends it."""

import http.client
import json
import os
import signal
import subprocess

import pytest
from servers import PATIENCE, ROOT, free_port, wait_until


def get(port, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def heeds_sigint():
    """As in a terminal. What runs in a script's background ignores SIGINT, and a shell can't trap what it began with
    ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_the_demo_serves_and_ends():
    port = free_port()
    demo = subprocess.Popen(
        [ROOT / "examples-c/nginx/demo", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True, preexec_fn=heeds_sigint,
    )  # fmt: skip
    try:
        assert f"http://127.0.0.1:{port}/" in demo.stdout.readline()
        wait_until(lambda: get(port, "/publish?channel=news", "POST", b"hello")[0] == 200, "it publishes")
        assert b"<title>" in get(port, "/")[1] and get(port, "/app.js")[0] == 200
        assert b'"hello"' in get(port, "/push?channel=news&last=1")[1]
        assert get(port, "/broadcast", "POST", b"to all")[0] == 200
        assert json.loads(get(port, "/stats")[1])["published"] == 2
        # As the terminal does it.
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(PATIENCE) == 0
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
        demo.stdout.close()
    # Of its group nobody is left.
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
