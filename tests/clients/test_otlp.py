"""Spans of messages (option trace), as the OTLP receiver of the OpenTelemetry Collector gets them (tests/harness/otlp): its
own code reads the requests, bounds them, and answers what its consumer says."""

import json
import re

import pytest
from collector import wait_for
from receiver import Receiver
from traced import (
    ALL, LIBRARY, ONLY_THEIRS, PARENT, SAMPLED, TRACE, answered, control, embedded, hub, options_of, outcomes, push,
    subscribed,
)  # fmt: skip


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def exported(hub, count):
    """The hub has the receiver's answer, and has lost nothing."""
    wait_for(lambda: outcomes(hub) == {"exported": count, "rejected": 0, "dropped": 0})


# ---- the doors ----


def test_a_publish_by_the_control_api_and_its_deliveries(receiver):
    with hub(*options_of(receiver, trace_service="shop", **ONLY_THEIRS), "threads=2") as running:
        clients = [subscribed(running.port, "channel=orders") for _ in range(6)]
        running.wait_for(lambda stats: stats["subscriptions"] == 6)
        answer = control(running, "POST", "/v1/publish?channel=orders", b"12345", [("traceparent", SAMPLED)])
        [span] = receiver.wait_for()
        exported(running, 1)
        for client in clients:
            client.close()
    assert (span.trace, span.parent) == (TRACE, PARENT)
    assert re.fullmatch("[0-9a-f]{16}", span.id) and span.id not in (PARENT, "0" * 16)
    assert (span.name, span.kind, span.status, span.scope) == ("publish", "Producer", "Unset", "libpush")
    assert span.flags == 0x301, "sampled, and its parent is of another process"
    assert span.attributes == {
        "messaging.system": "libpush", "messaging.operation.name": "publish", "messaging.operation.type": "send",
        "messaging.destination.name": "orders", "messaging.message.id": answer["id"], "messaging.message.body.size": 5,
        "push.subscribers": 6,
    }  # fmt: skip
    assert {event["name"] for event in span.events} == {"delivered"}
    assert sum(event["attributes"]["push.connections"] for event in span.events) == 6
    times = [event["at"] for event in span.events]
    assert span.begun <= min(times) and max(times) == span.ended
    assert span.resource.pop("service.instance.id") and span.resource == {"service.name": "shop"}
    # The request as such, before the receiver took it apart.
    assert span.request["content-type"] == ["application/x-protobuf"]
    assert span.request["user-agent"][0].startswith("libpush/") and "content-encoding" not in span.request


def test_messages_of_a_program_that_loads_the_library(receiver):
    with embedded(trace=receiver.option, **ALL) as server:
        names = ["a", "ä.😀", "x" * 255]
        positions = [server.publish(name, b"12") for name in names]
        first = server.publish("k", b"12", key="k", trace=SAMPLED)
        assert server.publish("k", b"12", key="k", trace=SAMPLED) == first
        spans = receiver.wait_for(5)
    assert [span.channel for span in spans] == [*names, "k", "k"]
    assert [span.position for span in spans] == [*positions, first, first]
    assert [(span.trace, span.parent) for span in spans[3:]] == [(TRACE, PARENT)] * 2
    # Traces of their own, without a parent.
    assert len({span.trace for span in spans}) == 4 and all(span.parent == "" for span in spans[:3])
    assert [span.attributes.get("push.duplicate") for span in spans] == [None] * 4 + [True]


def test_messages_of_an_attached_program(receiver, tmp_path):
    path = f"unix:{tmp_path}/hub"
    with hub(f"attach_listen={path}", *options_of(receiver, **ONLY_THEIRS)) as running:
        host = push.Server(str(LIBRARY), attach=path, attach_timeout="1m")
        client = subscribed(running.port, "channel=a")
        position = host.publish("a", b"x", trace=SAMPLED)
        host.publish("a", b"x")
        [span] = receiver.wait_for()
        exported(running, 1)
        client.close()
        host.stop()
    assert (span.trace, span.parent, span.position) == (TRACE, PARENT, position)
    assert [event["attributes"]["push.connections"] for event in span.events] == [1]


# ---- what the receiver takes ----


def test_thousands_of_spans_arrive_once_and_in_order(receiver):
    with embedded(drain_ms=60_000, trace=receiver.option, trace_queue="8192", mailbox="16384", **ALL) as server:
        positions = [*answered(server, receiver), *(server.publish("a", b"x") for _ in range(3000))]
    assert [span.position for span in receiver.wait_for(len(positions))] == positions


def test_requests_that_are_too_large_for_the_receiver_are_refused_and_counted():
    with Receiver(max_request_body_size=1500) as receiver:
        with hub(*options_of(receiver, **ALL)) as running:
            running.publish("a", b"x")
            receiver.wait_for()
            exported(running, 1)
            # In one request, or in two if it tries just then.
            batch = json.dumps([{"channel": "b", "data": "x"}] * 100).encode()
            control(running, "POST", "/v1/publish", batch)
            wait_for(lambda: sum(outcomes(running).values()) == 101)
            found = outcomes(running)
            assert found["rejected"] >= 50 and found["dropped"] == 0, found
            wait_for(lambda: len(receiver.spans) == found["exported"])
            # What is small enough still comes.
            last = running.publish("c", b"x")[1]
            wait_for(lambda: receiver.spans[-1].position == last)
        assert re.search(r"it answers 4\d\d [A-Z][^;]*; \d+ spans are dropped", running.log())


def test_a_receiver_that_takes_compressed_requests_alone_refuses_those_of_the_hub():
    with Receiver(compression_algorithms=["gzip"]) as receiver:
        with hub(*options_of(receiver, **ALL)) as running:
            running.publish("a", b"x")
            wait_for(lambda: outcomes(running) == {"exported": 0, "rejected": 1, "dropped": 0})
        assert "it answers 400 Bad Request; 1 spans are dropped" in running.log() and receiver.spans == []


def test_a_receiver_with_a_certificate(certificates):
    with Receiver(certificates=certificates) as receiver:
        trust = {"SSL_CERT_FILE": f"{certificates}/root.pem"}
        with hub(*options_of(receiver, **ALL), environment=trust) as running:
            position = running.publish("a", b"x")[1]
            [span] = receiver.wait_for()
            exported(running, 1)
    assert span.position == position


# ---- what the consumer behind it says ----


def test_spans_for_which_there_is_no_room_come_again():
    with Receiver("busy", "busy:1") as receiver:
        with hub(*options_of(receiver, **ALL)) as running:
            position = running.publish("a", b"x")[1]
            [span] = receiver.wait_for()
            exported(running, 1)
        assert span.position == position
        log = running.log()
        assert "it answers 503" in log and "it answers 429" in log and "the collector takes spans again" in log


def test_spans_that_are_refused_for_good_do_not_come_again():
    with Receiver("never") as receiver:
        with hub(*options_of(receiver, **ALL)) as running:
            running.publish("a", b"x")
            wait_for(lambda: outcomes(running) == {"exported": 0, "rejected": 1, "dropped": 0})
            last = running.publish("a", b"x")[1]
            wait_for(lambda: outcomes(running) == {"exported": 1, "rejected": 1, "dropped": 0})
            [span] = receiver.wait_for()
        assert span.position == last and "it answers 500" in running.log()


def test_a_receiver_that_is_killed_gets_the_rest_when_it_is_back():
    with Receiver() as first, hub(*options_of(first, **ALL)) as running:
        running.publish("a", b"x")
        first.wait_for()
        exported(running, 1)
        first.kill()
        positions = [running.publish("a", b"x")[1]]
        wait_for(lambda: "the hub tries again" in running.log())
        positions.append(running.publish("a", b"x")[1])
        with Receiver(port=first.port) as second:
            assert [span.position for span in second.wait_for(2)] == positions
            exported(running, 3)
