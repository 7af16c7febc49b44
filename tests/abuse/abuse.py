"""Measures honest clients before and during abuse: `make abuse`, or some scenarios by name.

Each scenario has a pushd of its own, honest subscribers, and clients that abuse the hub. The benchmarks' load generator
counts and times the deliveries to the honest subscribers. They are measured in turns, without and with the abuse, so
that a slow minute of the machine affects both. The figure is the median of the turns' ratios. Every delivery to them is
checked. It writes target/abuse/report.md, and ends with "N passed, N failed".

SCALE=0.1 makes everything a tenth as large, for a quick look.
"""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import resource
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

import faults  # noqa: E402
from clients import UPGRADE, read_until, subscriber  # noqa: E402
from hub import KEY, Hub  # noqa: E402

OUT = ROOT / "target/abuse"
PUSHLOAD = ROOT / "target/bench/bin/pushload"
SCALE = float(os.environ.get("SCALE", "1"))
HONEST = int(1000 * SCALE)
ATTACKERS = int(5000 * SCALE)
TURNS = 3
# The most by which abuse may raise the p99 of the honest clients, as a ratio. With SCALE below 1 nothing is judged.
MOST = 1.2


class Report:
    def __init__(self):
        self.passed = self.failed = 0
        self.lines = []

    def check(self, name, holds, detail):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"{'ok     ' if holds else 'FAILED '} {name}: {detail}", flush=True)
        self.lines.append(f"| {'ok' if holds else 'FAILED'} | {name} | {detail} |")

    def figure(self, name, detail):
        print(f"        {name}: {detail}", flush=True)
        self.lines.append(f"| | {name} | {detail} |")


def honest(hub, messages=60):
    """A turn of the honest subscribers. Returns their p99 in ms. Raises an error if the turn is not valid."""
    command = [
        PUSHLOAD, "--transport", "ws", "--port", hub.port, "--path", "/push?channel=honest", "--publish-port",
        hub.control_port,
        "--publish", "/v1/publish?channel=honest", "--publish-type", "text/plain", "--publish-header",
        f"Authorization: Bearer {KEY}", "--pid", hub.pid, "--subscribers", HONEST, "--messages", messages, "--rate", 20,
        "--size", 128, "--settle", 100, "--drain", 5000, "--deadline", 120,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=150)
    measured = json.loads(done.stdout) if done.stdout else {}
    wrong = [name for name in ("lost", "repeats", "failed", "ended_early") if measured.get(name)]
    if done.returncode or wrong or not measured.get("in_time"):
        raise AssertionError(f"the honest clients are not served: {wrong} {done.stderr[-200:]} {done.stdout[:300]}")
    return measured["p99_ms"]


def compare(report, name, hub, abuse):
    """Compares the honest clients' p99 without and with the abuse, in turns."""
    honest(hub)
    before, during, cpu = [], [], [0, 0]

    def turn(number):
        began = hub.usage().cpu_seconds
        p99 = honest(hub)
        cpu[number] += hub.usage().cpu_seconds - began
        return p99

    for _ in range(TURNS):
        before.append(turn(0))
        with abuse():
            during.append(turn(1))
    ratio = statistics.median(after / first for first, after in zip(before, during))
    detail = (
        f"p99 {statistics.median(before):.1f} ms without, {statistics.median(during):.1f} ms with; ratio {ratio:.2f}; "
        f"the hub's CPU {cpu[0]:.2f} and {cpu[1]:.2f} s"
    )
    if SCALE < 1:
        return report.figure(name, detail)
    report.check(f"{name}: the honest clients' p99 rises at most {MOST} times", ratio <= MOST, detail)


@contextlib.contextmanager
def slowhttptest(hub, *arguments):
    """Makes ATTACKERS connections with slowhttptest. All of them are open when the body runs."""
    began = hub.stats()["accepted"]
    # Attackers would run on another machine, so here they get the lowest priority.
    command = ["nice", "-n", 19, "slowhttptest", "-c", ATTACKERS, "-r", 2000, "-l", 300, "-v", 0, *arguments]
    attack = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        hub.wait_for(lambda stats: stats["accepted"] - began >= ATTACKERS, 60)
        yield
    finally:
        attack.kill()
        attack.wait()
    hub.wait_for(lambda stats: stats["connections"] == 0, 90)


def slow_heads(report):
    """Slowloris: request heads that never end, with a line every few seconds."""
    with Hub("threads=1", "head_timeout=60s") as hub:
        before = hub.usage()
        url = f"http://127.0.0.1:{hub.port}/push?channel=a"
        compare(report, f"{ATTACKERS} slow heads", hub, lambda: slowhttptest(hub, "-H", "-i", 5, "-x", 24, "-u", url))
        with slowhttptest(hub, "-H", "-i", 5, "-x", 24, "-u", url):
            during = hub.usage()
        report.figure(
            "memory", f"RSS {before.rss_kb} kB before, {during.rss_kb} kB with them, {hub.usage().rss_kb} kB after"
        )
    with Hub("threads=1", "head_timeout=2s") as hub:
        with slowhttptest(hub, "-H", "-i", 1, "-x", 24, "-u", f"http://127.0.0.1:{hub.port}/push?channel=a"):
            stats = hub.wait_for(lambda stats: stats["connections"] == 0, 60)
        report.check(
            "head_timeout ends them all", stats["refused"] >= ATTACKERS * 0.95, f"{stats['refused']} got 408"
        )


def slow_reads(report):
    """Subscribers of a busy channel that have receive windows of a few bytes."""
    with Hub("threads=1", "outbox=64KB") as hub:
        url = f"http://127.0.0.1:{hub.port}/push?channel=slow&transport=stream"
        before = hub.usage()

        @contextlib.contextmanager
        def abuse():
            with slowhttptest(hub, "-X", "-w", 8, "-y", 16, "-n", 5, "-z", 8, "-u", url):
                hub.publish("slow", b"x" * 1000)
                yield

        compare(report, f"{ATTACKERS} slow reads", hub, abuse)
        with abuse():
            during = hub.usage()
        report.figure(
            "memory", f"RSS {before.rss_kb} kB before, {during.rss_kb} kB with them, {hub.usage().rss_kb} kB after"
        )


def stalled_readers(report):
    """100 subscribers stop reading while a channel is flooded."""
    seconds = max(5, int(300 * SCALE))
    with Hub("threads=1", "outbox=64KB", "history_count=10") as hub:
        before = hub.usage()
        stop = threading.Event()
        counts = {"published": 0, "closed": 0}
        watch = http.client.HTTPConnection("127.0.0.1", hub.control_port)

        def hub_stats():
            watch.request("GET", "/v1/stats", headers={"Authorization": f"Bearer {KEY}"})
            return json.loads(watch.getresponse().read())

        def flood():
            flooder = FloodPublisher(hub)
            while not stop.is_set():
                counts["published"] += flooder.publish("flood", b"x" * 2000)
                time.sleep(0.005)

        def stalled():
            clients, opened = collections.deque(), 0
            while not stop.is_set():
                # A client does not see that it was closed: the end comes after bytes that it does not read. The hub's
                # counter says how many were closed, and the oldest ones are among them.
                counts["closed"] = hub_stats()["slow_closed"]
                while opened - counts["closed"] < 100:
                    clients.append(subscriber(hub.port, "channel=flood", receive=4096))
                    opened += 1
                while len(clients) > 2000:
                    clients.popleft().close()
                time.sleep(1)
            for client in clients:
                client.close()

        peaks = []
        first = [honest(hub) for _ in range(TURNS)]
        threads = [threading.Thread(target=work) for work in (flood, stalled)]
        for thread in threads:
            thread.start()
        try:
            until, during = time.monotonic() + seconds, []
            while time.monotonic() < until or not during:
                during.append(honest(hub))
                peaks.append(hub.usage().rss_kb)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        ratio = statistics.median(during) / statistics.median(first)
        report.figure("the honest clients' p99",
                      f"{statistics.median(first):.1f} ms before, {statistics.median(during):.1f} ms with them; "
                      f"ratio {ratio:.2f}, the flood itself included")
        # An outbox of 64 kB for each of the 100, and room for shared messages and the honest clients' connections.
        bound = before.rss_kb + 100 * 64 + 8 * 1024
        report.check("they cost no more than their outboxes", max(peaks) <= bound,
                     f"RSS {before.rss_kb} kB before, {max(peaks)} kB at most in {seconds} s and "
                     f"{counts['published']} messages of 2 kB; a client was closed {counts['closed']} times")


class FloodPublisher:
    """A publisher with its own connection to the control API."""

    def __init__(self, hub):
        self.socket = socket.create_connection(("127.0.0.1", hub.control_port))

    def publish(self, channel, body):
        head = f"POST /v1/publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        self.socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return self.socket.recv(4096).startswith(b"HTTP/1.1 200 ")


def storm(report):
    """15,000 clients are cut off at once, miss some messages, and come back at once."""
    count, missed = int(15_000 * SCALE), 5
    with Hub("threads=2") as hub:
        position = hub.publish("storm", b"first")[1]
        crowd = [connect(hub.port, position, count, n) for n in range(count)]
        read_all(crowd, lambda seen: b'"subscribed"' in seen)
        before = hub.usage()
        for client, _ in crowd:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        for n in range(missed):
            hub.publish("storm", f"missed {n}".encode())
        began = time.monotonic()
        crowd = [connect(hub.port, position, count, n) for n in range(count)]
        seen = read_all(crowd, lambda seen: b'"subscribed"' in seen)
        took = time.monotonic() - began
        whole = sum(all(text.count(b'"missed %d"' % n) == 1 for n in range(missed)) for text in seen)
        cpu = hub.usage().cpu_seconds - before.cpu_seconds
        report.check(f"{count} come back and recover", whole == count,
                     f"{whole} with all {missed} missed messages, in {took:.1f} s; {cpu / count * 1e6:.0f} us of the "
                     f"hub's CPU each; "
                     f"RSS {before.rss_kb} kB with the crowd, {hub.usage().rss_kb} kB after")
        for client, _ in crowd:
            client.close()


def connect(port, position, count, number):
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((f"127.0.2.{1 + number * 4 // count}", 0))
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /push?channel=storm&since={position} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode())
    return client, number


def read_all(crowd, done):
    """Reads until each client has what it waits for. Returns the bytes that each got."""
    selector, seen = selectors.EpollSelector(), [b""] * len(crowd)
    for client, number in crowd:
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ, number)
    left = len(crowd)
    while left:
        ready = selector.select(30)
        if not ready:
            raise AssertionError(f"{left} clients wait in vain")
        for key, _ in ready:
            data = key.fileobj.recv(65536)
            if not data:
                raise AssertionError(f"cut off after {seen[key.data]!r}")
            seen[key.data] += data
            if done(seen[key.data]):
                selector.unregister(key.fileobj)
                left -= 1
    return seen


def floods(report):
    """One client sends very many tiny frames, and no client_rate slows it down. Then clients announce huge frames."""
    for name, piece, times in (
        ("pings", b"\x89\x80\0\0\0\0", 100_000),
        ("messages of one byte", b"\x81\x81\0\0\0\0x", 1_000_000),
        ("empty fragments", b"\x00\x80\0\0\0\0", 1_000_000),
    ):
        with Hub("threads=1", "client_rate=0") as hub:
            before = hub.usage()
            client = socket.create_connection(("127.0.0.1", hub.port))
            client.sendall(
                f"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE.replace('push.v1.json', 'x')}\r\n".encode()
            )
            client.recv(1000)
            if name == "empty fragments":
                client.sendall(b"\x01\x81\0\0\0\0x")
            reader = threading.Thread(target=drain, args=(client,))
            reader.start()
            count, began = int(times * SCALE), time.monotonic()
            with contextlib.suppress(OSError):
                client.settimeout(60)
                for _ in range(count // 1000):
                    client.sendall(piece * 1000)
                # The pong comes when the hub has read everything before this ping.
                client.sendall(b"\x89\x83\0\0\0\0end")
            reader.join()
            took, usage = time.monotonic() - began, hub.usage()
            others = hub.publish("other", b"x")[0]
            client.close()
            report.check(f"{count} {name}", others == 200 and usage.rss_kb < before.rss_kb + 4096,
                         f"{took:.1f} s; the hub's CPU {usage.cpu_seconds - before.cpu_seconds:.2f} s, RSS "
                         f"{before.rss_kb} kB before, "
                         f"{usage.rss_kb} kB with it")


    with Hub("threads=1") as hub:
        before = hub.usage()
        clients = [subscriber(hub.port, "channel=a") for _ in range(200)]
        answers = []
        for client in clients:
            # The client announces a frame of 64 MB and sends a part. The hub must not make room for the announced size.
            with contextlib.suppress(OSError):
                client.sendall(b"\x82\xff" + (64 << 20).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 10_000)
            answers.append(read_until(client))
            client.close()
        during = hub.usage()
        told = sum(b"\x03\xf1" in answer for answer in answers)  # 1009
        report.check("200 frames of 64 MB", told == 200 and during.rss_kb < before.rss_kb + 8192,
                     f"{told} were closed with 1009; RSS {before.rss_kb} kB before, {during.rss_kb} kB with them")


def drain(client):
    """Reads until the pong of the last ping, or the end."""
    last = b""
    with contextlib.suppress(OSError, ValueError):
        while (data := client.recv(65536)) and b"end" not in last + data:
            last = data[-2:]


def names(report):
    """A million channels are published to, and disappear again."""
    count = int(1_000_000 * SCALE)
    with Hub("threads=1", "history_age=5s", "history_total=64MB") as hub:
        before, peak = hub.usage(), 0
        for begin in range(0, count, 8000):
            batch = [{"channel": f"name {n}", "data": ""} for n in range(begin, min(begin + 8000, count))]
            status, answer = hub.request("POST", "/v1/publish", json.dumps(batch))
            assert status == 200, answer
            peak = max(peak, hub.usage().rss_kb)
        at_most = hub.stats()
        stats = hub.wait_for(lambda stats: stats["channels"] == 0, 60)
        after = hub.usage()
        report.check(f"{count} channel names", stats["history_bytes"] == 0 and at_most["history_bytes"] <= 64 << 20,
                     f"RSS {before.rss_kb} kB before, {peak} kB at most with history_total=64MB, {after.rss_kb} kB "
                     f"when they are gone")


def bombs(report):
    """Bodies that would be much larger in memory than on the wire."""
    with Hub("threads=1") as hub:
        before = hub.usage()
        for name, body in (
            ("64 MB of [", b"[" * (63 << 20)),
            ("64 MB of small messages", b"[" + b'{"channel":"a","data":""},' * 2_400_000)
        ):
            began = hub.usage().cpu_seconds
            peak, stop = [0], threading.Event()

            def watch(peak=peak, stop=stop):
                while not stop.wait(0.002):
                    peak[0] = max(peak[0], hub.usage().rss_kb)

            watcher = threading.Thread(target=watch)
            watcher.start()
            status, _ = hub.request("POST", "/v1/publish", body)
            stop.set()
            watcher.join()
            # Room for the body while it is collected, but not for what it would be when it is parsed.
            report.check(f"a batch of {name}", status == 400 and peak[0] < before.rss_kb + (200 << 10),
                         f"{status}; {hub.usage().cpu_seconds - began:.2f} s of CPU, RSS {before.rss_kb} kB before, "
                         f"{peak[0]} kB at most")


SCENARIOS = {
    "slow_heads": slow_heads, "slow_reads": slow_reads, "stalled_readers": stalled_readers, "storm": storm,
    "floods": floods,
    "names": names, "bombs": bombs, **faults.SCENARIOS,
}  # fmt: skip


def main():
    chosen = list(faults.SCENARIOS) if sys.argv[1:] == ["faults"] else sys.argv[1:] or list(SCENARIOS)
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        sys.exit(f"error: no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    OUT.mkdir(parents=True, exist_ok=True)
    report = Report()
    for name in chosen:
        print(f"-- {name}: {SCENARIOS[name].__doc__}", flush=True)
        report.lines.append(f"| | **{name}** | {SCENARIOS[name].__doc__} |")
        try:
            SCENARIOS[name](report)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as failure:
            report.check(name, False, f"{type(failure).__name__}: {failure}")
    (OUT / "report.md").write_text("# Abuse\n\n| | | |\n|---|---|---|\n" + "\n".join(report.lines) + "\n")
    print("report: target/abuse/report.md")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
