"""Spans of messages (option trace), as a collector of ours gets them, which answers as a test wants: the types of the
package opentelemetry-proto read what the library sends, embedded, attached and through the control API."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import uuid

import pytest
from collector import Collector, wait_for
from host import PATIENCE, ROOT, free_port
from hub import Hub
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.trace.v1 import trace_pb2
from traced import (
    ALL, LIBRARY, NOT_SAMPLED, ONLY_THEIRS, PARENT, SAMPLED, TRACE, answered, control, embedded, hub, options_of, outcomes,
    push, subscribed,
)  # fmt: skip


@pytest.fixture
def collector():
    with Collector() as collector:
        yield collector


# ---- what a span says ----


def test_a_span_has_the_ids_of_its_parent_and_the_message_s_position(collector):
    with embedded(trace=collector.option, trace_service="shop", **ONLY_THEIRS) as server:
        before = time.time_ns()
        position = server.publish("orders", b"12345", trace=SAMPLED)
        after = time.time_ns()
        [span] = collector.wait_for()
    assert (span.trace, span.parent) == (TRACE, PARENT)
    assert len(span.raw.span_id) == 8 and any(span.raw.span_id) and span.raw.span_id.hex() != PARENT
    assert span.raw.kind == trace_pb2.Span.SPAN_KIND_PRODUCER and span.raw.name == "publish"
    assert span.attributes == {
        "messaging.system": "libpush", "messaging.operation.name": "publish", "messaging.operation.type": "send",
        "messaging.destination.name": "orders", "messaging.message.id": position, "messaging.message.body.size": 5,
        "push.subscribers": 0,
    }
    instance = span.resource.pop("service.instance.id")
    assert uuid.UUID(instance).version == 4 and str(uuid.UUID(instance)) == instance
    assert span.resource == {"service.name": "shop"} and span.scope.name == "libpush"
    assert span.raw.flags & 1 and span.raw.flags & 0x300 == 0x300, "its parent is of another process"
    assert before - 10**6 <= span.raw.start_time_unix_nano <= span.raw.end_time_unix_nano <= after + 10**6
    assert span.raw.status.code == trace_pb2.Status.STATUS_CODE_UNSET and span.delivered == []


def test_a_message_without_a_traceparent_begins_a_trace_of_its_own(collector):
    with embedded(trace=collector.option, **ALL) as server:
        positions = [server.publish("a", b"x") for _ in range(3)]
        spans = collector.wait_for(3)
    assert [span.position for span in spans] == positions
    assert len({span.trace for span in spans}) == 3 == len({span.raw.span_id for span in spans})
    assert all(span.parent == "" and len(span.raw.trace_id) == 16 for span in spans)
    assert all(span.raw.flags & 0x300 == 0x100 for span in spans)


def test_the_sampled_flag_decides_and_what_is_not_valid_is_ignored(collector):
    wrong = ["", "x", SAMPLED.upper(), SAMPLED[:-1], SAMPLED + "-more", "ff" + SAMPLED[2:], "00-" + "0" * 32 + SAMPLED[35:],
             SAMPLED.replace(PARENT, "0" * 16), SAMPLED + ", " + SAMPLED, "\xe4" * 55, "9" * 100_000]  # fmt: skip
    with embedded(trace=collector.option, **ONLY_THEIRS) as server:
        for trace in [*wrong, NOT_SAMPLED]:
            server.publish("a", b"x", trace=trace)
        later = "cc" + SAMPLED[2:] + "-what-comes-later"
        last = server.publish("a", b"x", trace=later)
        [span] = collector.wait_for()
        assert (span.trace, span.parent, span.position) == (TRACE, PARENT, last)
    collector.spans.clear()
    # As if it had none: the sample decides.
    with embedded(trace=collector.option, **ALL) as server:
        server.publish("a", b"x", trace=NOT_SAMPLED)
        positions = [server.publish("a", b"x", trace=trace) for trace in wrong]
        spans = collector.wait_for(len(wrong))
    assert [span.position for span in spans] == positions and all(span.trace != TRACE for span in spans)


def test_one_of_so_many_has_a_span(collector):
    with embedded(drain_ms=60_000, trace=collector.option, trace_sample="10", trace_queue="10000", mailbox="16384") as server:
        positions = {*answered(server, collector), *(server.publish("a", b"x") for _ in range(5000))}
    assert 250 <= len(collector.spans) <= 1000
    assert {span.position for span in collector.spans} <= positions


def test_a_message_that_is_published_already_says_so(collector):
    with embedded(trace=collector.option, **ONLY_THEIRS) as server:
        first = server.publish("a", b"x", key="k")
        assert server.publish("a", b"x", key="k", trace=SAMPLED) == first
        [span] = collector.wait_for()
    assert (span.position, span.attributes["push.duplicate"]) == (first, True)


def test_what_is_not_published_has_no_span(collector):
    with embedded(trace=collector.option, max_message="10", **ONLY_THEIRS) as server:
        with pytest.raises(push.Error):
            server.publish("a", b"x" * 11, trace=SAMPLED)
        with pytest.raises(push.Error):
            server.publish("", b"x", trace=SAMPLED)
        last = server.publish("a", b"x", trace=SAMPLED)
        [span] = collector.wait_for()
    assert span.position == last


def test_it_is_off_by_default_and_a_wrong_value_is_refused():
    with embedded() as server:
        server.publish("a", b"x", trace=SAMPLED)
    for wrong in ["http://127.0.0.1:4318", "otlp:grpc://h:4317", "otlp:http://h", "otlp:http://u:p@h:1"]:
        with pytest.raises(push.Error, match="option trace: .* is not allowed; allowed is none, otlp:http://HOST:PORT"):
            push.Server(str(LIBRARY), trace=wrong)


# ---- to the last socket ----


def test_a_span_ends_when_the_last_thread_has_handed_the_message_on(collector):
    with hub(*options_of(collector, **ONLY_THEIRS), "threads=2", "history_count=0") as running:
        clients = [subscribed(running.port, "channel=a") for _ in range(12)]
        clients += [subscribed(running.port, "channel=a&channel=b") for _ in range(3)]
        running.wait_for(lambda stats: stats["subscriptions"] == 18)
        answer = control(running, "POST", "/v1/publish?channel=a", b"12", [("traceparent", SAMPLED)])
        assert answer["subscribers"] == 15
        [span] = collector.wait_for()
        assert (span.position, span.attributes["push.subscribers"]) == (answer["id"], 15)
        assert sum(event["push.connections"] for event in span.delivered) == 15
        shards = [event["push.shard"] for event in span.delivered]
        assert len(set(shards)) == len(shards) and set(shards) <= {0, 1}
        assert all(event.name == "delivered" for event in span.raw.events)
        times = [event.time_unix_nano for event in span.raw.events]
        assert span.raw.start_time_unix_nano <= min(times) and max(times) == span.raw.end_time_unix_nano
        assert "push.unfinished" not in span.attributes
        # A client that reads the message has it before or at the end of the span.
        data = b""
        while b"12" not in data:
            data += clients[0].recv(65536)
        for client in clients:
            client.close()


def test_a_broadcast_reaches_all_connections(collector):
    with hub(*options_of(collector, **ONLY_THEIRS), "threads=2") as running:
        clients = [subscribed(running.port, f"channel=c{place}") for place in range(5)]
        answer = control(running, "POST", "/v1/broadcast", b"x", [("traceparent", SAMPLED)])
        [span] = collector.wait_for()
        assert span.position == answer["id"] and span.attributes["push.broadcast"] is True
        assert span.channel is None, "a broadcast has no destination"
        assert sum(event["push.connections"] for event in span.delivered) == 5
        assert len(span.delivered) == 2, "each thread looks for connections"
        for client in clients:
            client.close()


def test_clients_that_go_away_and_clients_that_do_not_read_leave_no_span_open(collector):
    count = 300
    with hub(*options_of(collector, trace_queue="4096", **ALL), "threads=2", "outbox=64KB") as running:
        slow = [subscribed(running.port, "channel=a") for _ in range(4)]
        for place in range(count):
            # Some are reset in the middle of a delivery.
            short = subscribed(running.port, "channel=a")
            short.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            running.publish("a", b"x" * 20_000)
            short.close()
        wait_for(lambda: len(collector.spans) >= count)
        assert len(collector.spans) == count and len({span.position for span in collector.spans}) == count
        assert not any("push.unfinished" in span.attributes for span in collector.spans)
        # The hub counts when it has the answer.
        wait_for(lambda: outcomes(running) == {"exported": count, "rejected": 0, "dropped": 0})
        for client in slow:
            client.close()


# ---- the doors ----


def test_the_control_api_takes_the_header_of_each_way_to_publish(collector):
    header = ("TraceParent", f" {SAMPLED} ")
    with hub(*options_of(collector, **ONLY_THEIRS)) as running:
        one = [control(running, "POST", "/v1/publish?channel=a", b"x", [header])]
        several = control(running, "POST", "/v1/publish?channel=a&channel=b", b"x", [header])
        batch = json.dumps([{"channel": "c", "data": "x"}, {"channel": "d", "data": "x"}]).encode()
        batched = control(running, "POST", "/v1/publish", batch, [header])
        positions = [answer["id"] for answer in one + several + batched]
        # Nobody knows which of two counts.
        control(running, "POST", "/v1/publish?channel=e", b"x", [header, header])
        control(running, "POST", "/v1/publish?channel=f", b"x", [("traceparent", NOT_SAMPLED)])
        spans = collector.wait_for(5)
    assert [span.position for span in spans] == positions
    assert [span.channel for span in spans] == ["a", "a", "b", "c", "d"]
    assert all((span.trace, span.parent) == (TRACE, PARENT) for span in spans)


def test_an_attached_host_s_trace_reaches_the_hub(collector, tmp_path):
    path = f"unix:{tmp_path}/hub"
    with hub(f"attach_listen={path}", *options_of(collector, **ONLY_THEIRS)) as running:
        host = push.Server(str(LIBRARY), attach=path, attach_timeout="1m")
        positions = [host.publish("a", b"x", trace=SAMPLED), host.publish("b", b"xy", key="k", trace=SAMPLED)]
        host.publish("c", b"x")
        spans = collector.wait_for(2)
        assert [span.position for span in spans] == positions
        assert all((span.trace, span.parent) == (TRACE, PARENT) for span in spans)
        host.stop()
        assert running.alive()
    with pytest.raises(push.Error, match="options attach and trace: the hub exports the spans"):
        push.Server(str(LIBRARY), attach=path, trace=collector.option)


def test_a_client_can_not_bring_a_trace(collector):
    with hub(*options_of(collector, **ONLY_THEIRS), "client_publish=true") as running:
        client = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
        client.sendall((
            "GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: push.v1.json\r\ntraceparent: {SAMPLED}\r\n\r\n"
        ).encode())  # fmt: skip
        text = json.dumps({"type": "publish", "channel": "a", "data": "x"}).encode()
        client.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        running.wait_for(lambda stats: stats["published"] == 1)
        last = control(running, "POST", "/v1/publish?channel=a", b"x", [("traceparent", SAMPLED)])
        [span] = collector.wait_for()
        assert span.position == last["id"]
        client.close()


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_a_log_on_disk_has_spans_too(collector, tmp_path, sync):
    options = {"engine": f"file:{tmp_path}/log", "engine_sync": sync, "trace": collector.option, **ONLY_THEIRS}
    with embedded(drain_ms=60_000, **options) as server:
        first = server.publish("a", b"x", key="k", trace=SAMPLED)
        assert server.publish("a", b"x", key="k", trace=SAMPLED) == first
        spans = collector.wait_for(2)
    assert [span.position for span in spans] == [first, first]
    assert [span.attributes.get("push.duplicate") for span in spans] == [None, True]


def test_a_log_that_hubs_share_has_the_span_of_the_hub_that_published(collector):
    port = free_port()
    log = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        options = {"engine": f"redis://127.0.0.1:{port}", **ONLY_THEIRS, "engine_timeout": "1m"}
        with Collector() as other, hub(*options_of(collector, **options)) as one, hub(*options_of(other, **options)) as two:
            client = subscribed(one.port, "channel=a")
            wait_for(lambda: one.request("GET", "/healthz")[0] == 200 and two.request("GET", "/healthz")[0] == 200)
            header = [("traceparent", SAMPLED)]
            first = control(one, "POST", "/v1/publish?channel=a&key=k", b"x", header)["id"]
            [span] = collector.wait_for()
            assert (span.position, span.trace, span.parent) == (first, TRACE, PARENT)
            assert [event["push.connections"] for event in span.delivered] == [1]
            assert control(one, "POST", "/v1/publish?channel=a&key=k", b"x", header)["id"] == first
            again = collector.wait_for(2)[1]
            assert (again.position, again.attributes["push.duplicate"]) == (first, True)
            assert other.spans == []
            client.close()
    finally:
        log.terminate()
        log.wait()


# ---- collectors that are away, slow or full ----


def test_a_collector_that_hangs_holds_up_nobody():
    with Collector("hang") as collector:
        with hub(*options_of(collector, trace_timeout="10m", trace_queue="16", **ALL), "threads=1") as running:
            client = subscribed(running.port, "channel=a")
            running.publish("a", b"x")
            wait_for(lambda: collector.hanging == 1)
            # The queue has room for far fewer. Whoever waited for the collector would wait for ever.
            for _ in range(500):
                assert running.publish("a", b"x")[0] == 200
            wait_for(lambda: outcomes(running)["dropped"] > 0)
            assert outcomes(running)["exported"] == 0
            assert len(collector.requests) == 1 and collector.hanging == 1, "it still hangs"
            client.close()
            # What was held comes when the collector answers again.
            collector.release()
            wait_for(lambda: outcomes(running)["exported"] > 0)


def test_what_a_collector_has_not_answered_comes_again():
    with Collector("hang", "hang") as collector:
        with hub(*options_of(collector, trace_timeout="500ms", **ALL)) as running:
            position = running.publish("a", b"x")[1]
            wait_for(lambda: collector.spans)
            # On a slow machine the third answer may be too late as well, and the span comes again.
            assert {span.position for span in collector.spans} == {position} and len(collector.requests) >= 3
            wait_for(lambda: outcomes(running)["exported"] == 1)
        lines = [line for line in running.log().splitlines() if "trace: " in line]
        assert sum("has not answered for 500 ms; the hub tries again" in line for line in lines) == 1, lines
        assert any("takes spans again" in line for line in lines), lines


def test_a_collector_that_is_not_there_is_tried_again_and_the_log_says_it_once():
    port = free_port()
    with hub(f"trace=otlp:http://127.0.0.1:{port}", "trace_sample=1", "trace_timeout=10m") as running:
        first = running.publish("a", b"x")[1]
        wait_for(lambda: "can't be reached" in running.log())
        time.sleep(4)
        assert running.log().count("can't be reached") == 1
        with Collector(port=port) as collector:
            [span] = collector.wait_for()
            assert span.position == first
            wait_for(lambda: outcomes(running) == {"exported": 1, "rejected": 0, "dropped": 0})
    assert running.log().count("the collector takes spans again") == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_asks_for_time_gets_it(status):
    with Collector((status, "2", b"")) as collector:
        with hub(*options_of(collector, **ALL)) as running:
            position = running.publish("a", b"x")[1]
            [span] = collector.wait_for()
            assert span.position == position
            (first, *_), (second, *_) = collector.requests
            assert second - first >= 1.9
            assert collector.requests[0][2] == collector.requests[1][2], "the same spans"
            wait_for(lambda: outcomes(running) == {"exported": 1, "rejected": 0, "dropped": 0})
        assert f"it answers {status}" in running.log()


def test_spans_that_a_collector_refuses_are_counted():
    partial = otlp.ExportTraceServiceResponse()
    partial.partial_success.rejected_spans = 1
    partial.partial_success.error_message = "no room for it\nlibpush: forged"
    with Collector(400, (200, None, partial.SerializeToString()), 307, 200) as collector:
        with hub(*options_of(collector, **ALL)) as running:
            for exported, rejected in [(0, 1), (0, 2), (0, 3), (1, 3)]:
                running.publish("a", b"x")
                wait_for(lambda: outcomes(running) == {"exported": exported, "rejected": rejected, "dropped": 0})
            assert len(collector.requests) == 4, "none comes again"
        log = running.log()
        assert "it answers 400 Bad Request; 1 spans are dropped" in log and "redirects are not followed" in log
        assert "it has rejected 1 spans: no room for it" in log and "\nlibpush: forged" not in log


def test_a_key_in_the_collectors_url_is_sent_and_shown_nowhere():
    with Collector((404, None, b"")) as collector:
        with hub(*options_of(collector, **ALL, trace=f"{collector.option}/in?api-key=SECRET")) as running:
            running.publish("a", b"x")
            wait_for(lambda: outcomes(running)["rejected"] == 1)
            shown = json.dumps(control(running, "GET", "/v1/config"))
            assert "/in?..." in shown and "SECRET" not in shown
        assert collector.requests[0][1] == "/in?api-key=SECRET"
        assert "/in?..." in running.log() and "SECRET" not in running.log()
    for wrong in ("otlp:http://user:SECRET@127.0.0.1:4318", "otlp:http://127.0.0.1?api-key=SECRET"):
        with pytest.raises(push.Error) as error:
            push.Server(str(LIBRARY), trace=wrong)
        assert "option trace" in str(error.value) and "SECRET" not in str(error.value)


def test_the_path_is_that_of_the_option():
    with Collector() as collector:
        with embedded(trace=f"{collector.option}/otlp/in?tenant=7", **ALL) as server:
            server.publish("a", b"x")
            collector.wait_for()
        assert [path for _, path, _ in collector.requests] == ["/otlp/in?tenant=7"]
        with embedded(trace=collector.option, **ALL) as server:
            server.publish("a", b"x")
            collector.wait_for(2)
        assert collector.requests[-1][1] == "/v1/traces"


def test_an_encrypted_collector_is_one_that_the_system_trusts(certificates):
    with Collector(certificates=certificates) as collector:
        with hub(*options_of(collector, **ALL)) as running:
            running.publish("a", b"x")
            wait_for(lambda: "UnknownIssuer" in running.log())
            assert collector.requests == []
        trusting = Hub("auth=none", *options_of(collector, **ALL), environment={"SSL_CERT_FILE": f"{certificates}/root.pem"})
        try:
            position = trusting.publish("a", b"x")[1]
            [span] = collector.wait_for()
            assert span.position == position
        finally:
            assert trusting.stop() == 0, trusting.log()


# ---- the stop ----


def test_a_stop_exports_what_is_left(collector):
    with embedded(drain_ms=60_000, trace=collector.option, trace_queue="4096", **ALL) as server:
        positions = [*answered(server, collector), *(server.publish("a", b"x") for _ in range(1500))]
    assert [span.position for span in collector.spans] == positions
    assert max(len(request[2]) for request in collector.requests) < 1 << 20


def test_a_stop_waits_for_a_collector_that_asks_for_a_moment():
    with Collector((503, "1", b""), (503, "1", b"")) as collector:
        with embedded(drain_ms=60_000, trace=collector.option, **ALL) as server:
            position = server.publish("a", b"x")
            # One that has not answered before has a second only.
            wait_for(lambda: len(collector.requests) >= 2)
        assert [span.position for span in collector.spans] == [position]


def test_a_stop_waits_no_longer_than_the_drain_for_a_collector_that_hangs():
    with Collector("hang") as collector:
        server = push.Server(str(LIBRARY), trace=collector.option, trace_timeout="10m", **ALL)
        server.publish("a", b"x")
        wait_for(lambda: collector.requests)
        began = time.monotonic()
        server.stop(2000)
        assert time.monotonic() - began < 60


def test_a_stop_does_not_wait_for_a_collector_that_is_not_there():
    server = push.Server(str(LIBRARY), trace=f"otlp:http://127.0.0.1:{free_port()}", **ALL)
    server.publish("a", b"x")
    began = time.monotonic()
    server.stop(600_000)
    assert time.monotonic() - began < 60


# ---- the thread, and reloads ----


def threads():
    names = set()
    for task in os.listdir("/proc/self/task"):
        # It may have ended meanwhile.
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as comm:
            names.add(comm.read().strip())
    return names


def test_there_is_a_thread_only_where_spans_are_exported(collector):
    # A thread gives itself its name, and stands in the list for a moment after its end.
    wait_for(lambda: "push-trace" not in threads())
    with embedded():
        assert "push-trace" not in threads()
    with embedded(trace=collector.option):
        wait_for(lambda: "push-trace" in threads())
    wait_for(lambda: "push-trace" not in threads())


def test_a_reload_changes_the_sample(collector, tmp_path):
    config = tmp_path / "hub.toml"
    options = [f'control = "unix:{tmp_path}/control"', f'trace = "{collector.option}"', 'listen = "127.0.0.1:0"']
    config.write_text("\n".join([*options, "trace_sample = 0"]) + "\n")
    process = subprocess.Popen([ROOT / "target/release/pushd", "-c", config], stderr=subprocess.DEVNULL)

    def request(path, body=b""):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(f"{tmp_path}/control")
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read()

    def is_up():
        with contextlib.suppress(OSError):
            return request("/healthz")[0] == 200

    try:
        wait_for(is_up)
        request("/v1/publish?channel=a", b"x")
        config.write_text("\n".join([*options, "trace_sample = 1"]) + "\n")
        process.send_signal(signal.SIGHUP)
        positions = []

        def a_span_has_come():
            positions.append(json.loads(request("/v1/publish?channel=a", b"x")[1])["id"])
            return collector.spans

        assert wait_for(a_span_has_come)[0].position in positions
    finally:
        process.terminate()
        process.wait()

