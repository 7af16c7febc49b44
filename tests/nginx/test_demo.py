"""`make demo-nginx`, as a user starts and ends it."""

import http.client
import json

import demo
from servers import PATIENCE, ROOT, free_port, wait_until


def get(port, path, method="GET", body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_demo_serves_and_ends():
    port = free_port()
    with demo.running(ROOT / "examples-c/nginx/demo", str(port)) as process:
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        wait_until(lambda: get(port, "/publish?channel=news", "POST", b"hello")[0] == 200, "it publishes")
        assert b"<title>" in get(port, "/")[1] and get(port, "/app.js")[0] == 200
        # A worker waits for its hub for two seconds only. If the answer to a publish came too late, there is one more.
        wait_until(lambda: b'"hello"' in get(port, "/push?channel=news&last=1")[1], "it subscribes")

        def published():
            status, body = get(port, "/stats")
            return status == 200 and json.loads(body)["published"]

        before = wait_until(published, "it counts")
        assert get(port, "/broadcast", "POST", b"to all")[0] == 200
        assert wait_until(published, "it counts") == before + 1
