"""`httpx-sse`: events, their types, their lines, and recovery."""

import base64
import json

import httpx
import httpx_sse
import pytest
from subscribers import SECONDS


@pytest.fixture
def events():
    """Subscribes: `events(host, headers, channel=...)` yields the events that httpx-sse reads from the stream."""
    with httpx.Client(timeout=SECONDS, trust_env=False) as client:
        streams = []

        def subscribe(host, headers=None, **parameters):
            stream = httpx_sse.connect_sse(client, "GET", host.url(**parameters), headers=headers or {})
            source = stream.__enter__()
            streams.append(stream)
            source.response.raise_for_status()
            return source.iter_sse()

        yield subscribe
        for stream in streams:
            stream.__exit__(None, None, None)


def begin(stream):
    """A stream begins with a position to go on from, and with how long to wait."""
    first = next(stream)
    assert first.event == "push-open"
    assert json.loads(first.data) == {"type": "open", "id": first.id}
    return first


def test_events_have_payload_type_and_position(start, events):
    host = start("retry=1500ms")
    before = host.publish("a", "old")
    stream = events(host, channel="a")
    first = begin(stream)
    assert (first.id, first.retry) == (before, 1500)
    published = {}
    for data, event in [("plain", None), ("typed", "tick"), ("two\nlines", None), ("", None), ("grüße 😀", "ß")]:
        published[data] = (host.publish("a", data, event=event), event or "message")
    for data, (id, event) in published.items():
        seen = next(stream)
        assert (seen.data, seen.id, seen.event) == (data, id, event)


def test_line_ends_become_lines(host, events):
    stream = events(host, channel="a")
    begin(stream)
    host.publish("a", "a\r\nb\rc\n\n: no comment\ndata: no field\n")
    assert next(stream).data == "a\nb\nc\n\n: no comment\ndata: no field\n"


def test_bytes_are_base64_and_the_json_form_says_so(host, events):
    raw, in_json = events(host, channel="a"), events(host, channel="a", format="json")
    begin(raw), begin(in_json)
    host.publish("a", b"\xff\x00")
    assert base64.b64decode(next(raw).data) == b"\xff\x00"
    message = json.loads(next(in_json).data)
    assert (base64.b64decode(message["data"]), message["base64"]) == (b"\xff\x00", True)


def test_last_event_id_goes_on_where_one_was(host, events):
    ids = [host.publish("a", f"{count}") for count in range(10)]
    stream = events(host, {"Last-Event-ID": ids[3]}, channel="a", since=ids[8])
    assert begin(stream).id in ids[3:5]
    assert [next(stream).id for _ in range(6)] == ids[4:]


def test_who_is_cut_off_within_a_replay_comes_back_to_the_rest(host, events):
    ids = [host.publish("a", f"{count}") for count in range(10)]
    position = begin(events(host, channel="a", since=ids[3])).id
    again = events(host, {"Last-Event-ID": position}, channel="a")
    begin(again)
    assert [next(again).id for _ in range(6)] == ids[4:]


def test_a_gap_is_an_event(start, events):
    host = start("history_count=2")
    ids = [host.publish("a", f"{count}") for count in range(5)]
    stream = events(host, channel="a", since=ids[0])
    begin(stream)
    gap = next(stream)
    assert (gap.event, gap.id) == ("push-gap", ids[2])
    assert json.loads(gap.data) == {"type": "gap", "channel": "a", "id": ids[2]}
    assert [next(stream).data for _ in range(2)] == ["3", "4"]


def test_broadcasts_arrive_whatever_the_channel(host, events):
    raw, in_json = events(host, channel="a"), events(host, channel="b", format="json")
    begin(raw), begin(in_json)
    id = host.broadcast("to all", event="news")
    seen = next(raw)
    assert (seen.data, seen.id, seen.event) == ("to all", id, "news")
    wanted = {"type": "broadcast", "id": id, "event": "news", "data": "to all"}
    assert json.loads(next(in_json).data) == wanted


def test_quiet_streams_have_heartbeats(start):
    host = start("heartbeat=100ms")
    with httpx.Client(timeout=SECONDS, trust_env=False) as client:
        for transport, beat in (("sse", ":"), ("stream", "")):
            with client.stream("GET", host.url(channel="a", transport=transport)) as response:
                lines = response.iter_lines()
                seen = [next(lines) for _ in range(12)]
            assert seen.count(beat) >= 3, seen
