"""The figures to reach, each with its calculation from the results."""

from dataclasses import dataclass
from typing import Optional

from . import servers
from .scenarios import LARGE
from .stats import Sample, ratios, sample

REACHED, MISSED, FAULTY, UNMEASURED = "reached", "not reached", "faulty", "not measured"


@dataclass(frozen=True)
class Figure:
    text: str
    scenario: str
    server: str
    metric: str
    target: float
    over: Optional[str] = None  # the server to which the figure is a ratio, in the same round
    unit: str = ""
    at_least: bool = False
    digits: int = 2

    def samples(self, results, server=None):
        rounds = sound(results.get(self.scenario, {}).get(server or self.server, []))
        if not self.over:
            return sample(rounds, self.metric)
        return ratios(rounds, sound(results[self.scenario].get(self.over, [])), self.metric) if rounds else Sample(())

    def verdict(self, results):
        rounds = results.get(self.scenario, {}).get(self.server, [])
        if any(r["fault"] for r in rounds):
            return FAULTY
        values = self.samples(results)
        if not values:
            return UNMEASURED
        good = values.median >= self.target if self.at_least else values.median <= self.target
        return REACHED if good else MISSED

    def best_peer(self, results):
        """The peer with the best median in the same table: (label, sample), or None."""
        found = []
        for name in results.get(self.scenario, {}):
            server = servers.BY_NAME[name]
            values = self.samples(results, name)
            if server.kind == servers.PEER and name != self.over and values:
                found.append((server.label, values))
        return min(found, key=lambda peer: peer[1].median, default=None)


def sound(rounds):
    """The rounds without a fault. The others become None, so that rounds keep their numbers."""
    return [None if r["fault"] else r for r in rounds]


def _cpu(text, scenario, server, target, over="floor"):
    return Figure(f"CPU per delivery, {text}, over {over}", scenario, server, "cpu_us_per_delivery", target, over)


def _memory(text, scenario, target):
    return Figure(
        f"memory of an idle subscriber, {text}", scenario, "libpush", "memory_per_subscriber", target, unit="B",
        digits=0
    )


def _tls_memory(text, scenario, server, target):
    return Figure(
        f"memory of an idle TLS client, {text}", scenario, server, "memory_per_subscriber", target, unit="B", digits=0
    )


def _tls_memory_over(text, scenario, peer):
    return Figure(f"memory of an idle TLS client, {text}", scenario, "libpush-tls", "memory_per_subscriber", 0.2, peer)


def _handshake(kind, version, scenario, metric):
    text = f"CPU per {kind} handshake, TLS {version}, ECDSA P-256, over Debian's nginx"
    return Figure(text, scenario, "libpush-tls", metric, 1.1, "nchan-tls")


FIGURES = [
    _cpu("WebSocket, low rate", "ws", "libpush", 1.10),
    _cpu("WebSocket, low rate, own listener", "ws", "libpush-own", 1.10),
    _cpu("SSE, low rate", "sse", "libpush", 1.10),
    _cpu("SSE, low rate, own listener", "sse", "libpush-own", 1.10),
    _cpu("saturated", "saturated", "libpush", 0.5, "uws"),
    _cpu("saturated, own listener", "saturated", "libpush-own", 0.5, "uws"),
    _cpu("long-poll, low rate", "poll", "libpush", 1.15),
    _memory("WebSocket", "idle-ws", 256),
    _memory("SSE", "idle-sse", 256),
    _memory("parked long-poll", "idle-poll", 384),
    Figure(
        "CPU per accepted WebSocket, own listener, over floor", "accept", "libpush-own", "accept_cpu_us", 1.15, "floor"
    ),
    Figure(
        "CPU per accepted WebSocket, push_adopt in a loop like floor's, over floor", "accept", "libpush-epoll",
        "accept_cpu_us",
        1.3, "floor",
    ),
    Figure(
        "CPU per accepted WebSocket, push_adopt in the C server's poll() loop, over floor", "accept", "libpush",
        "accept_cpu_us",
        1.3, "floor",
    ),
    Figure(
        "CPU per WebSocket accepted through nginx, with pushd's, over Nchan", "accept-nginx", "libpush-nginx",
        "accept_cpu_us",
        1.0, "nchan",
    ),
    Figure(
        "memory of a handed-over client, in nginx", "idle-nginx", "libpush-nginx", "nginx_memory", 1, unit="B", digits=1
    ),
    Figure(
        "memory of a handed-over client, in pushd", "idle-nginx", "libpush-nginx", "pushd_memory", 256, unit="B",
        digits=0
    ),
    Figure(
        "ten reloads of nginx, a dead worker, a restart: lost, doubled and dropped", "reloads", "libpush-nginx",
        "wrong", 0,
        digits=0,
    ),
    Figure("old workers gone after a reload", "reloads", "libpush-nginx", "old_workers_s", 1, unit="s"),
    Figure(
        "publishing through an attached host, acknowledged, a second", "publish-attached", "libpush",
        "acknowledged_per_s",
        200000, at_least=True, digits=0,
    ),
    Figure(
        "publishing through an attached host, one at a time, p50", "publish-attached", "libpush", "one_at_a_time_us",
        30, unit="µs", digits=1
    ),
    Figure("p99 of a broadcast to 2,000 WebSockets, over floor", "ws", "libpush", "p99_ms", 1.1, "floor"),
    Figure("p99 of a broadcast to 2,000 SSE subscribers, over floor", "sse", "libpush", "p99_ms", 1.1, "floor"),
    Figure("push_publish, no subscribers", "publish", "libpush", "alone_ns", 300, unit="ns", digits=0),
    Figure(
        "push_publish, waking one shard on another CPU", "publish-waking", "libpush", "waking_ns", 1000, unit="ns",
        digits=0
    ),
    Figure(
        "publishing from 4 threads to 4 channels, over 1 thread", "publish-threads", "libpush", "four_over_one", 0.9,
        at_least=True,
    ),
    Figure(
        "publishing beside 10,000 patterns of which one fits, over none", "publish-patterns", "libpush",
        "patterns_fit_over_none", 2.0,
    ),
    *(
        Figure(
            f"a join of 10,000 users to a channel with presence, {who}: CPU per join over without presence",
            "presence-join", server, "joined_cpu_us", 1.5, "libpush-users",
        )
        for who, server in (("all follow", "libpush-presence"), ("one in ten follows", "libpush-presence-some"))
    ),
    *(
        Figure(
            f"2,000 tokens to 1,000 clients with since=start, {transport}: CPU over one message of the same bytes",
            scenario, "libpush-kept", "tokens_over_whole", 1.2,
        )
        for transport, scenario in (("SSE", "kept-sse"), ("WebSocket", "kept-ws"))
    ),
    Figure("CPU per delivery, 19,000 subscribers over 1,000", "scale", "libpush", "growth", 1.1),
    Figure("publish with 1,000,000 channels over 1", "channels", "libpush", "among_over_alone", 1.2),
    Figure(
        "memory of an idle channel, without its name", "channels", "libpush", "channel_bytes", 200, unit="B", digits=0
    ),
    Figure("one slow reader among 1,000: the others' p99 over without it", "slow", "libpush", "others_p99", 1.1),
    Figure(
        "1 MB to 1,000 subscribers: peak extra memory", "large", "libpush", "extra_mb", LARGE / 1e6 + 64 * 1.048576,
        unit="MB", digits=1,
    ),
    Figure("start to listening", "start", "libpush", "start_ms", 5, unit="ms"),
    Figure(
        "CPU of publishing on its caller, with a log on disk, over without", "engine-caller", "libpush",
        "caller_over_memory", 1.5,
    ),
    Figure(
        "messages of 100 B into the log, over a bare write in 64 KB pieces", "engine-throughput", "libpush",
        "throughput_over_bare", 0.4, at_least=True,
    ),
    Figure(
        "64 publishers that wait with engine_sync=always, over 64 for each bare fdatasync", "engine-always", "libpush",
        "always_over_bare", 0.7, at_least=True,
    ),
    Figure(
        "a start with 1,000,000 messages in the log, over reading and checksumming them", "engine-start", "libpush",
        "log_start_over_read", 4,
    ),
    _cpu("WebSocket, low rate, with a log on disk", "engine-ws", "libpush-log", 1.03, "libpush-own"),
    Figure(
        "publishing into a log in Redis, over a bare client with the same requests", "cluster-throughput", "libpush",
        "cluster_over_bare", 0.8, at_least=True,
    ),
    Figure(
        "from a publish at one hub to a client of another, over Redis, p50, over a bare append and read",
        "cluster-latency", "libpush", "cluster_p50_over_bare", 1.3,
    ),
    Figure("the same, p99", "cluster-latency", "libpush", "cluster_p99_over_bare", 1.3),
    Figure("the same over NATS, p50", "cluster-latency-nats", "libpush", "cluster_p50_over_bare", 1.3),
    Figure("the same over NATS, p99", "cluster-latency-nats", "libpush", "cluster_p99_over_bare", 1.3),
    _cpu("the hub of the subscribers, over Redis", "cluster-hub", "libpush-nodes", 1.1, "libpush-own"),
    _cpu("two hubs and a Redis, all processes", "cluster-sse", "libpush-nodes", 0.5, "centrifuge-nodes"),
    Figure("the same, p99", "cluster-sse", "libpush-nodes", "p99_ms", 0.8, "centrifuge-nodes"),
    Figure(
        "three hubs, 15,000 clients, one hub killed: lost, doubled, or told of a gap", "cluster-killed", "libpush",
        "cluster_wrong", 0, digits=0,
    ),
    Figure(
        "requests to Redis for the clients that moved", "cluster-killed", "libpush", "cluster_requests", 0, digits=0,
    ),
    _cpu("WebSocket over TLS 1.3", "tls-ws", "libpush-tls", 1.15, "floor-tls"),
    _cpu("SSE over TLS 1.3", "tls-sse", "libpush-tls", 1.15, "floor-tls"),
    _tls_memory("WebSocket", "tls-idle-ws", "libpush-tls", 3072),
    _tls_memory("SSE", "tls-idle-sse", "libpush-tls", 3072),
    _tls_memory("WebSocket, in the kernel", "tls-idle-ws", "libpush-tls-kernel", 300),
    _tls_memory("SSE, in the kernel", "tls-idle-sse", "libpush-tls-kernel", 300),
    _tls_memory_over("WebSocket, over nginx + Nchan", "tls-idle-ws", "nchan-tls"),
    _tls_memory_over("SSE, over nginx + Nchan", "tls-idle-sse", "nchan-tls"),
    _tls_memory_over("SSE, over Go's net/http", "tls-idle-sse", "go-sse-tls"),
    _handshake("full", "1.3", "tls-handshakes", "full_cpu_us"),
    _handshake("resumed", "1.3", "tls-handshakes", "resumed_cpu_us"),
    _handshake("full", "1.2", "tls-handshakes-1.2", "full_cpu_us"),
    _handshake("resumed", "1.2", "tls-handshakes-1.2", "resumed_cpu_us"),
    Figure(
        "5,000 TLS clients come back at once with tickets: the others' p99 over without", "tls-storm", "libpush-tls",
        "others_p99", 1.5,
    ),
    Figure("libpush.so stripped", "size", "libpush", "library_mb", 8, unit="MB"),
]
