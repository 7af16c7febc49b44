"""The scenarios. Each measures one server once. The runner goes through the servers and repeats that."""

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import Callable

from . import before, cluster, kept, killed, load, nginx, paths, presence, tls
from .load import Load

SHORT_MESSAGES = 10
ALL_SUBSCRIBERS = 19000  # as many as fit below the usual limit of 20,000 descriptors
LARGE = 1000000


@dataclass(frozen=True)
class Metric:
    """One column of a scenario's table."""

    name: str
    title: str
    unit: str
    digits: int = 2
    compared: bool = True  # whether a ratio to the scenario's base makes sense


def _alone(unit, digits):
    """Makes metrics with this unit, for which a ratio to the base makes no sense."""
    return lambda name, title, digits=digits: Metric(name, title, unit, digits, False)


_ns, _us, _ms, _s = _alone("ns", 0), _alone("µs", 1), _alone("ms", 2), _alone("s", 2)
_count, _ratio = _alone("", 0), _alone("", 3)

CPU = Metric("cpu_us_per_delivery", "CPU per delivery", "µs")
P50 = Metric("p50_ms", "p50", "ms", 1, False)
P99 = Metric("p99_ms", "p99", "ms", 1)
MEMORY = Metric("memory_per_subscriber", "memory per subscriber", "B", 0, False)
ACCEPT = Metric("accept_cpu_us", "CPU per subscriber accepted", "µs")


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    servers: tuple
    measure: Callable  # (server, quick) -> a dict of metrics, with "fault"
    metrics: tuple
    quick: bool = False
    quick_servers: tuple = ("floor", "libpush", "libpush-own")
    base: str = "floor"  # the server to which the others' ratios are computed
    charted: int = 0  # the number of the metric in the chart


def _loaded(the_load):
    def measure(server, quick):
        return load.run(server, the_load.shorter(SHORT_MESSAGES) if quick else the_load)

    return measure


def _saturated(server, quick):
    """All messages are sent at once, so the window never closes. This measures a server with a backlog."""
    return load.run(server, Load("ws", 1000, 500, size=100, rate=0, window=500, settle_ms=200 if quick else 500))


def _both(first, second, combine):
    """Two runs, each on a fresh server. The figure is the ratio between them."""

    def measure(server, quick):
        results = load.run(server, first), load.run(server, second)
        faults = [r["fault"] for r in results if r["fault"]]
        return {**(combine(*results) if not faults else {}), "fault": "; ".join(faults) or None}

    return measure


def _grown(small, large):
    return {
        "cpu_small": small["cpu_us_per_delivery"], "cpu_large": large["cpu_us_per_delivery"],
        "growth": large["cpu_us_per_delivery"] / small["cpu_us_per_delivery"],
    }


def _slow(server, quick):
    """One run measures both: before and after one client stops reading. 1.2 MB is more than an outbox of libpush."""
    result = load.run(server, Load("ws", 1000, 300, 4096, 50, slow=1))
    if "p99_all_read_ms" in result:
        result["others_p99"] = result["p99_ms"] / result["p99_all_read_ms"]
    return result


def _large(server, quick):
    """With small segments, most of the message does not fit the kernel's buffers, and the server has to keep it."""
    result = load.run(server, Load("ws", 1000, 1, size=LARGE, segment=536, deadline_s=60))
    if "extra_peak_kb" in result:
        result["extra_mb"] = result["extra_peak_kb"] * 1024 / 1e6
    return result


def _program(name, *words):
    """Runs a program of this folder, which prints its figures as JSON."""

    def measure(server, quick):
        result = subprocess.run(
            [str(paths.BIN / name), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=150,
        )
        if result.returncode:
            return {"fault": result.stderr.strip()[-200:] or f"status {result.returncode}"}
        return {**json.loads(result.stdout), "fault": None}

    return measure


def _micro(*words):
    return _program("publish", *words)


def _engine(word):
    """What a log costs, with its floor in the same rounds; see benches/engine.rs."""
    return _program("engine", word, paths.RUN / "engine")


def _library_size(server, quick):
    """The size as it would be shipped: without symbols and line tables."""
    if not shutil.which("strip"):
        return {"fault": "needs `strip` (Debian: binutils)"}
    stripped = paths.RUN / "libpush.so"
    paths.RUN.mkdir(parents=True, exist_ok=True)
    subprocess.run(["strip", "-o", stripped, paths.LIBPUSH], check=True)
    return {"library_mb": stripped.stat().st_size / 1e6, "fault": None}


WS = ("floor", "libpush", "libpush-own", "uws", "nchan", "melody", "centrifugo")
SSE = ("floor", "libpush", "libpush-own", "nchan", "go-sse", "mercure", "centrifugo")
POLL = ("floor", "libpush", "libpush-own", "nchan")
OURS = ("libpush",)
NGINX = ("libpush-nginx", "nchan")
TLS = ("floor-tls", "libpush-tls", "nchan-tls")
QUICK_TLS = ("floor-tls", "libpush-tls")
PRESENCE = ("libpush-users", "libpush-presence", "libpush-presence-some")
KEPT = ("libpush-kept",)


def _without_floor(names):
    return tuple(name for name in names if name != "floor")


def _low_rate(transport, **more):
    return _loaded(Load(transport, 2000, 50, **more))


def _idle(transport):
    return _loaded(Load(transport, ALL_SUBSCRIBERS, first_step=1000, settle_ms=1000))


def _idle_tls(transport):
    return _loaded(Load(transport, 9000, first_step=1000, settle_ms=1000, tls="1.3"))


_LATENCY = (
    _ms("cluster_p50_ms", "p50", 3),
    _ms("cluster_p99_ms", "p99", 3),
    _ms("cluster_bare_p50_ms", "a bare append and a bare read that waits, p50", 3),
    _ms("cluster_bare_p99_ms", "the same, p99", 3),
    _ratio("cluster_p50_over_bare", "p50 over the bare", 2),
    _ratio("cluster_p99_over_bare", "p99 over the bare", 2),
)

_LATE = (
    _us("tokens_cpu_us", "CPU per client"),
    _us("whole_cpu_us", "as one message of the same bytes"),
    _ratio("tokens_over_whole", "tokens over one message"),
    _count("tokens_bytes", "bytes to a client"),
)

_HANDSHAKES = (
    Metric("full_cpu_us", "CPU per full handshake", "µs", 1), Metric("resumed_cpu_us", "per resumed one", "µs", 1),
)

SCENARIOS = [
    Scenario(
        "ws", "WebSocket: 2,000 subscribers, 128 B, 10 messages a second", WS, _low_rate("ws"), (CPU, P50, P99), True
    ),
    Scenario(
        "sse", "SSE: 2,000 subscribers, 128 B, 10 messages a second", SSE, _low_rate("sse"), (CPU, P50, P99), True
    ),
    Scenario(
        "stream", "NDJSON stream: 2,000 subscribers, 128 B, 10 messages a second", ("floor", "libpush"),
        _low_rate("stream"),
        (CPU, P50, P99),
    ),
    Scenario(
        "poll", "Long-poll: 2,000 clients, 128 B, 10 messages a second, one message a poll", POLL, _low_rate("poll"),
        (CPU, P50, P99), True,
    ),
    Scenario(
        "saturated", "Saturated: 1,000 WebSockets, 500 messages of 100 B back to back", WS, _saturated,
        (CPU, _count("deliveries_per_s", "deliveries a second"), replace(P99, compared=False)), True,
        ("floor", "libpush", "libpush-own", "uws"), base="uws",
    ),
    Scenario(
        "accept", "Accepting 10,000 WebSockets", (*WS[:2], "libpush-epoll", *WS[2:]), _loaded(Load("ws", 10000)),
        (ACCEPT,),
        True, ("floor", "libpush", "libpush-epoll", "libpush-own"),
    ),
    Scenario(
        "accept-nginx", "Accepting 10,000 WebSockets through nginx, one worker; libpush with pushd, both counted",
        NGINX, _loaded(Load("ws", 10000)), (ACCEPT,), base="nchan",
    ),
    Scenario(
        "idle-nginx", "Clients handed over by nginx, from 9,500 to 19,000 WebSockets", ("libpush-nginx",), nginx.memory,
        (
            Metric("nginx_memory", "in nginx, each", "B", 1, False),
            Metric("pushd_memory", "in pushd, each", "B", 0, False),
        ),
    ),
    Scenario(
        "reloads", "nginx with 4 workers and 2,000 clients: ten reloads, a worker killed, stopped and started again; "
        "100 messages a second", NGINX, nginx.reloads,
        (
            _count("messages", "messages to arrive"), _count("lost", "lost"),
            _count("doubled", "doubled or out of order"),
            _count("dropped", "connections dropped"),
            _s("old_workers_s", "old workers gone after, at most"),
            _count("never_went", "reloads that they outlived"),
        ), base="nchan", charted=3,
    ),
    Scenario("idle-ws", "Idle WebSockets, from 1,000 to 19,000", _without_floor(WS), _idle("ws"), (MEMORY,)),
    Scenario("idle-sse", "Idle SSE subscribers, from 1,000 to 19,000", _without_floor(SSE), _idle("sse"), (MEMORY,)),
    Scenario("idle-poll", "Parked long-polls, from 1,000 to 19,000", _without_floor(POLL), _idle("poll"), (MEMORY,)),
    Scenario(
        "presence-join", "10,000 users join one channel at once, over SSE", PRESENCE, presence.join,
        (
            Metric("joined_cpu_us", "CPU per join", "µs"),
            Metric("joined_bytes", "sent, for each join", "B", 0, False),
            _s("connect_s", "until all had joined"),
        ), quick_servers=PRESENCE, base="libpush-users",
    ),
    Scenario(
        "presence-idle", "Idle SSE subscribers with users, from 1,000 to 19,000",
        PRESENCE, presence.idle, (MEMORY,), quick_servers=PRESENCE, base="libpush-users",
    ),
    Scenario(
        "idle-before", "Idle SSE subscribers with users and without presence, from 1,000 to 19,000, over an earlier build",
        ("libpush-users", "libpush-users-before"), presence.idle, (replace(MEMORY, compared=True),),
        base="libpush-users-before",
    ),
    Scenario(
        "kept-sse", "1,000 SSE subscribers at once to a stream of 2,000 tokens, with since=start", KEPT,
        kept.late("sse"), _LATE, quick_servers=KEPT, base="libpush-kept", charted=2,
    ),
    Scenario(
        "kept-ws", "The same over WebSocket, raw", KEPT, kept.late("ws"), _LATE, quick_servers=KEPT,
        base="libpush-kept", charted=2,
    ),
    Scenario(
        "scale", "CPU per delivery of 19,000 WebSockets over 1,000", ("floor", "libpush", "uws"),
        _both(Load("ws", 1000, 50), Load("ws", ALL_SUBSCRIBERS, 10, rate=1), _grown),
        (
            Metric("cpu_small", "with 1,000", "µs"), Metric("cpu_large", "with 19,000", "µs"),
            _ratio("growth", "19,000 over 1,000"),
        ), charted=2,
    ),
    Scenario(
        "slow", "One slow reader among 1,000 WebSockets, 4 KB, 50 messages a second",
        ("floor", "libpush", "uws", "nchan"),
        _slow,
        (
            _ms("p99_all_read_ms", "p99 when all read"),
            _ms("p99_ms", "p99 of the others"),
            _ratio("others_p99", "with over without"),
        ), charted=2,
    ),
    Scenario(
        "large", "A message of 1 MB to 1,000 WebSockets", ("libpush", "libpush-own", "uws", "nchan", "melody"), _large,
        (Metric("extra_mb", "peak extra memory", "MB", 1, False), _s("span_s", "until all had it")),
    ),
    Scenario(
        "publish", "push_publish of 100 B, no subscribers", OURS, _micro("alone"),
        (_ns("alone_ns", "a call"),), True, OURS,
    ),
    Scenario(
        "publish-waking", "push_publish of 100 B that wakes one shard", OURS, _micro("waking"),
        (
            _ns("waking_ns", "shard on another CPU"),
            _ns("bare_eventfd_ns", "a bare eventfd to there"),
            _ns("waking_same_cpu_ns", "shard on the same CPU"),
            _ns("bare_same_cpu_ns", "a bare eventfd to there"),
        ), True, OURS,
    ),
    Scenario(
        "publish-threads", "push_publish from 4 threads to 4 channels, over 1 thread", OURS, _micro("threads"),
        (
            _count("one_thread_per_s", "1 thread, a second"),
            _count("four_threads_per_s", "4 threads, a second"),
            _ratio("four_over_one", "4 over 1"),
        ), True, OURS,
    ),
    Scenario(
        "publish-before", "push_publish of 100 B, without subscribers and patterns, over an earlier build",
        ("libpush", "libpush-before"), before.publishing, (Metric("alone_ns", "a call", "ns", 0),),
        base="libpush-before",
    ),
    Scenario(
        "publish-patterns", "Publishing 100 B in the hub, beside 10,000 patterns of clients", OURS,
        _program("patterns"),
        (
            _ratio("patterns_fit_over_none", "one fits, over none"),
            _ratio("patterns_unfit_over_none", "none fits, over none"),
            _ratio("patterns_changed_over_none", "for the first time since patterns changed, 64 lengths, over none"),
            _ns("patterns_none_ns", "without patterns"),
        ), True, OURS,
    ),
    Scenario(
        "publish-attached", "push_publish of 100 B from an attached process, to pushd", OURS,
        _micro("attached", nginx.PUSHD, paths.RUN),
        (
            _count("acknowledged_per_s", "pipelined from one thread, acknowledged, a second"),
            _us("one_at_a_time_us", "one at a time, with its position, p50"),
            _us("bare_round_trip_us", "a bare round trip to there, p50"),
        ), True, OURS,
    ),
    Scenario(
        "channels", "1,000,000 channels in existence", OURS, _micro("channels", 1000000),
        (
            _ratio("among_over_alone", "publish to one, over only one in existence"),
            _ns("to_scattered_ns", "publish to one after the other"),
            Metric("channel_bytes", "an idle channel, without its name", "B", 0, False),
        ),
    ),
    Scenario(
        "start", "From starting a host's process to listening", OURS, _micro("start", paths.BIN / "own-listener"),
        (
            _ms("start_ms", "the process"),
            _ms("push_start_ms", "push_start alone")
        ),
        True, OURS,
    ),
    Scenario(
        "engine-ws", "With a log on disk: 2,000 WebSockets, 128 B, 10 messages a second", ("libpush-own", "libpush-log"),
        _low_rate("ws"), (CPU, P50, P99), base="libpush-own",
    ),
    Scenario(
        "engine-caller", "Publishing 100 B with a log on disk", OURS, _engine("caller"),
        (
            _ns("caller_ns", "CPU of its caller"),
            _ns("caller_memory_ns", "without the log"),
            _ratio("caller_over_memory", "with over without"),
        ), charted=2,
    ),
    Scenario(
        "engine-throughput", "500,000 messages of 100 B from one thread until they are in the log", OURS,
        _engine("throughput"),
        (
            _count("throughput_per_s", "messages a second"),
            _count("throughput_bare_per_s", "a bare write of their bytes in 64 KB pieces"),
            _count("throughput_memory_per_s", "without a log"),
            _ratio("throughput_over_bare", "over the bare write"),
            _ratio("throughput_memory_over_bare", "without a log, over the bare write"),
            _ratio("throughput_over_memory", "over the same without a log"),
        ), charted=3,
    ),
    Scenario(
        "engine-always", "64 publishers that wait for their position, engine_sync=always", OURS, _engine("always"),
        (
            _count("always_per_s", "messages a second"),
            _count("always_bare_per_s", "64 for each bare fdatasync"),
            _ratio("always_over_bare", "over the bare fdatasync"),
            _ratio("always_over_group", "over 64 threads that wait for it with nothing but a lock"),
        ), charted=2,
    ),
    Scenario(
        "engine-start", "A start with a log of 1,000,000 messages of 100 B", OURS, _engine("start"),
        (
            _ms("log_start_ms", "push_start", 0),
            _ms("log_read_ms", "reading and checksumming the files", 0),
            _ratio("log_start_over_read", "over that", 2),
        ), charted=2,
    ),
    Scenario(
        "cluster-throughput", "100,000 messages of 100 B from one thread into a log in Redis", OURS, cluster.throughput,
        (
            _count("cluster_per_s", "messages a second"),
            _count("cluster_bare_per_s", "a bare client that sends the same requests"),
            _count("cluster_batch", "messages a request"),
            _ratio("cluster_over_bare", "over the bare client"),
        ), charted=3,
    ),
    Scenario(
        "cluster-latency", "From a publish at one hub until a client of another has it, over Redis, 200 a second", OURS,
        cluster.latency, _LATENCY, charted=4,
    ),
    Scenario(
        "cluster-latency-nats", "The same over NATS JetStream", OURS, cluster.latency_nats, _LATENCY, charted=4,
    ),
    Scenario(
        "cluster-hub", "The hub with 2,000 WebSockets, published at another hub; 128 B, 10 messages a second",
        ("libpush-own", "libpush-nodes"), cluster.second_hub, (CPU, P50, P99), base="libpush-own",
    ),
    Scenario(
        "cluster-sse", "All processes: a Redis and two nodes, 2,000 SSE subscribers at the second; 128 B, 10 a second",
        ("libpush-nodes", "centrifuge-nodes"), _low_rate("sse"), (CPU, P50, P99), base="centrifuge-nodes",
    ),
    Scenario(
        "cluster-killed", "Three hubs with 15,000 SSE subscribers; one hub is killed", OURS, killed.measure,
        (
            _count("cluster_moved", "clients that came to the others"),
            _count("cluster_wrong", "lost, doubled, out of order, or a gap told"),
            _count("cluster_requests", "requests to Redis for that"),
            _s("cluster_back_s", "until the last was served"),
        ), charted=3,
    ),
    Scenario(
        "tls-ws", "WebSocket over TLS 1.3: 2,000 subscribers, 128 B, 10 messages a second", TLS,
        _low_rate("ws", tls="1.3"), (CPU, P50, P99), quick_servers=QUICK_TLS, base="floor-tls",
    ),
    Scenario(
        "tls-sse", "SSE over TLS 1.3: 2,000 subscribers, 128 B, 10 messages a second", (*TLS, "go-sse-tls"),
        _low_rate("sse", tls="1.3"), (CPU, P50, P99), quick_servers=QUICK_TLS, base="floor-tls",
    ),
    Scenario(
        "tls-idle-ws", "Idle WebSockets over TLS 1.3, from 1,000 to 9,000",
        ("libpush-tls", "libpush-tls-kernel", "nchan-tls"), _idle_tls("ws"), (MEMORY,), quick_servers=QUICK_TLS,
    ),
    Scenario(
        "tls-idle-sse", "Idle SSE subscribers over TLS 1.3, from 1,000 to 9,000",
        ("libpush-tls", "libpush-tls-kernel", "nchan-tls", "go-sse-tls"), _idle_tls("sse"), (MEMORY,),
        quick_servers=QUICK_TLS,
    ),
    Scenario(
        "tls-handshakes", "TLS 1.3: 4,000 full handshakes, and as many resumed", TLS, tls.handshakes("1.3"),
        _HANDSHAKES, quick_servers=QUICK_TLS, base="nchan-tls",
    ),
    Scenario(
        "tls-handshakes-1.2", "TLS 1.2: 4,000 full handshakes, and as many resumed", TLS, tls.handshakes("1.2"),
        _HANDSHAKES, quick_servers=QUICK_TLS, base="nchan-tls",
    ),
    Scenario(
        "tls-storm", "1,000 WebSockets over TLS 1.3, 128 B, 20 messages a second; 5,000 others come back with tickets",
        ("libpush-tls", "nchan-tls"), tls.storm,
        (
            Metric("storm_cpu_us", "CPU per client that comes back", "µs", 1),
            _s("storm_s", "until all are back"),
            _count("storm_again", "were cut off and came again"),
            _ms("p99_all_read_ms", "p99 of the 1,000 before"),
            _ms("p99_ms", "p99 of the 1,000 meanwhile"),
            _ratio("others_p99", "with over without"),
        ), quick_servers=QUICK_TLS, base="nchan-tls", charted=5,
    ),
    Scenario(
        "size", "libpush.so, stripped", OURS, _library_size, (Metric("library_mb", "on disk", "MB", 2, False),), True,
        OURS,
    ),
]

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
