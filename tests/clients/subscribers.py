"""Subscribers over each transport, with third-party clients: `websockets`, `httpx-sse` and `httpx`.

Each is used as `with over_sse(host, channel="news") as messages:`. Inside, the subscription stands, and `messages`
gives the JSON form of everything that comes over any transport: messages, broadcasts, gaps, and the close of SSE and stream.
"""

import contextlib
import json

import httpx
import httpx_sse
import secure_websocket
from host import PATIENCE
from websockets.sync.client import connect

SECONDS = PATIENCE
SUBPROTOCOL = "push.v1.json"
# Answers that come only over a WebSocket.
DIALOGUE = ("subscribed", "unsubscribed", "published", "pong")


def websocket(host, subprotocol=SUBPROTOCOL, queue=None, compression=None, **parameters):
    """A `websockets` connection; no subprotocol means raw.

    It reads without a bound, so that it can be closed before all is taken. With `queue` it stops at that many, and then
    would not see the answers to pings of its own. So it sends none. `compression="deflate"` is offered.
    """
    trust = trusted(host)
    return (secure_websocket.connect if trust else connect)(
        host.url(scheme="ws", **parameters),
        ssl=trust,
        subprotocols=[subprotocol] if subprotocol else None,
        compression=compression,
        max_size=None,
        max_queue=queue,
        ping_interval=None,
        open_timeout=SECONDS,
        close_timeout=SECONDS,
        proxy=None,
    )


@contextlib.contextmanager
def over_ws(host, **parameters):
    with websocket(host, **parameters) as socket:

        def messages():
            for text in socket:
                message = json.loads(text)
                if message["type"] not in DIALOGUE:
                    yield message

        yield messages()


def trusted(host):
    """What its clients trust, if it speaks TLS, or None."""
    return getattr(host, "trust", None)


def http_client(host):
    return httpx.Client(timeout=SECONDS, trust_env=False, verify=trusted(host) or True)


@contextlib.contextmanager
def over_sse(host, **parameters):
    with http_client(host) as client:
        url = host.url(format="json", **parameters)
        with httpx_sse.connect_sse(client, "GET", url) as source:
            source.response.raise_for_status()
            # The beginning of the stream is no message.
            yield (read_event(event) for event in source.iter_sse() if event.event != "push-open")


def read_event(event):
    """The JSON form of an event. It must agree with the event's own fields."""
    message = json.loads(event.data)
    if message["type"] == "close":
        assert event.event == "push-close"
        return message
    assert event.id == message["id"]
    assert event.event == ("push-gap" if message["type"] == "gap" else message.get("event", "message"))
    return message


@contextlib.contextmanager
def over_stream(host, **parameters):
    with http_client(host) as client:
        headers = {"Accept": "application/x-ndjson"}
        with client.stream("GET", host.url(**parameters), headers=headers) as response:
            response.raise_for_status()
            yield (json.loads(line) for line in response.iter_lines() if line)


@contextlib.contextmanager
def over_poll(host, since=None, last=None, **parameters):
    """Polls again and again. It needs a position to begin at, or `last`."""
    assert since or last, "what is published between two polls needs a position to be found again"
    with http_client(host) as client:

        def messages():
            # The next poll goes on at this position, and not at that of the first poll.
            position, newest = since, last
            while True:
                response = client.get(host.url(since=position, last=newest, **parameters))
                response.raise_for_status()
                answer = response.json()
                assert response.headers["Push-Position"] == answer["position"]
                yield from answer["messages"]
                position, newest = answer["position"], None

        yield messages()


TRANSPORTS = {"ws": over_ws, "sse": over_sse, "stream": over_stream, "poll": over_poll}


def take(messages, count):
    """The next `count` messages."""
    return [next(messages) for _ in range(count)]
