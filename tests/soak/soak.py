"""Runs a hub for a long time under load and faults: `make soak SECONDS=3600`.

Clients of every transport come and go. Some use compression, some never read, some send nonsense. A publisher
publishes, also in bursts. The hub runs out of descriptors, is stopped and continued, and has its channels cleared. All
its queues are small. At the end, no message may be lost without a gap and none may have come twice. Memory must not
have grown in the second half, and the numbers of descriptors and threads must be those of the start.

It writes target/soak/report.md and samples.csv, and ends with "N passed, N failed".
"""

import asyncio
import collections
import os
import pathlib
import random
import signal
import socket
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

from hub import KEY, Hub  # noqa: E402

from clients import Ledger, Subscriber, Wrong  # noqa: E402

OUT = ROOT / "target/soak"
OPTIONS = (
    "threads=2", "history_count=50", "history_age=20s", "history_total=4MB", "outbox=64KB", "mailbox=1024",
    "heartbeat=5s",
    "ping_timeout=5s", "poll_timeout=5s", "head_timeout=2s", "keep_alive=10s", "max_connections=1000", "key_window=10s",
    "compression=true", "channel.soak.1*.slow_policy=drop-oldest",
)  # fmt: skip
CHANNELS = [f"soak.{n}" for n in range(20)]
SUBSCRIBERS = 100
SLOW = 8
RATE = 50
# The average number of single messages between two bursts.
BURST_EVERY = 500
SAMPLE_SECONDS = 5
# The most by which memory may grow from the third quarter to the fourth, as a fraction and in kB. The allocator varies
# by so much.
GROWTH, GROWTH_KB = 0.03, 1024


class Soak:
    def __init__(self, hub, seconds):
        self.hub, self.seconds = hub, seconds
        self.counts = collections.Counter()
        self.numbers = collections.Counter()
        self.samples = []
        self.random = random.Random(7)

    async def run(self):
        loop = asyncio.get_running_loop()
        began, until = loop.time(), loop.time() + self.seconds
        transports = ("ws", "sse", "stream", "poll")
        clients = []
        for number in range(SUBSCRIBERS + SLOW):
            slow = number >= SUBSCRIBERS
            channels = CHANNELS if slow else self.random.sample(CHANNELS, self.random.choice((1, 1, 2, 5)))
            transport = transports[number % (3 if slow else 4)]
            client = Subscriber(number, self.hub.port, channels, self.counts, transport, slow)
            clients.append(client)
        tasks = [client.live(until) for client in clients]
        tasks += [self.publish(until), self.trouble(until), self.nonsense(until), self.sample(began, until)]
        try:
            await asyncio.gather(*tasks)
        finally:
            self.counts["messages"] = sum(client.ledger.messages for client in clients)
            self.counts["gaps"] = sum(client.ledger.gaps for client in clients)

    async def publish(self, until):
        reader = writer = None
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            for _ in range(2000 if self.random.random() < 1 / BURST_EVERY else 1):
                if writer is None:
                    try:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.hub.control_port)
                    except OSError:
                        await asyncio.sleep(0.2)
                        continue
                channel = self.random.choice(CHANNELS)
                body = f"{self.numbers[channel] + 1} {'x' * self.random.choice((10, 100, 100, 1000, 8000))}".encode()
                writer.write(
                    f"POST /v1/publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode() + body
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                status = head.split(" ")[1]
                self.counts[f"published {status}"] += 1
                if status == "200":
                    self.numbers[channel] += 1
                elif status != "503":
                    raise Wrong(f"a publish is answered {head}")
            await asyncio.sleep(1 / RATE)
        if writer:
            writer.close()

    async def trouble(self, until):
        """Now and then does something that a system does to a process, or an operator to a hub."""
        loop = asyncio.get_running_loop()
        while loop.time() + 15 < until:
            await asyncio.sleep(self.random.uniform(5, 15))
            kind = self.random.choice(("descriptors", "stopped", "cleared"))
            self.counts[f"trouble: {kind}"] += 1
            if kind == "descriptors":
                self.hub.limit_descriptors(self.hub.usage().descriptors + 3)
                await asyncio.sleep(4)
                self.hub.limit_descriptors(None)
            elif kind == "stopped":
                self.hub.send_signal(signal.SIGSTOP)
                await asyncio.sleep(1)
                self.hub.send_signal(signal.SIGCONT)
            else:
                channel = self.random.choice(CHANNELS)
                await asyncio.to_thread(self.hub.request, "DELETE", f"/v1/channels/{channel}")

    async def nonsense(self, until):
        """Broken and hostile clients."""
        loop = asyncio.get_running_loop()
        heads = (
            b"", b"GET /push?channel=a HTTP/1.1\r\nHo", b"\x16\x03\x01garbage\r\n\r\n",
            b"POST /push HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nx", b"GET /" + b"x" * 20000,
        )  # fmt: skip
        while loop.time() < until:
            for _ in range(5):
                self.counts["nonsense"] += 1
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.hub.port)
                    writer.write(self.random.choice(heads))
                    await asyncio.wait_for(reader.read(1000), 4)
                    writer.close()
                except (OSError, asyncio.TimeoutError):
                    pass
            await asyncio.sleep(0.5)

    async def sample(self, began, until):
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            await asyncio.sleep(SAMPLE_SECONDS)
            usage = self.hub.usage()
            stats = await asyncio.to_thread(self.stats)
            self.samples.append((round(loop.time() - began), usage, stats))

    def stats(self):
        try:
            return self.hub.stats()
        except OSError:
            # The hub can't answer while it has no descriptors.
            return {}


def quarters(samples):
    """The median of the memory in the third and in the fourth quarter."""
    rss = [usage.rss_kb for _, usage, _ in samples]
    half, three = len(rss) // 2, len(rss) * 3 // 4
    return statistics.median(rss[half:three]), statistics.median(rss[three:])


def ledgers_find_errors():
    """Whether a ledger finds each kind of error."""

    def seen(*numbers, gap_before=None):
        ledger = Ledger("example")
        try:
            for number in numbers:
                if number == gap_before:
                    ledger.take({"type": "gap", "channel": "c", "id": "e-1"})
                ledger.take({"type": "message", "channel": "c", "id": "e-1", "data": f"{number} x"})
        except Wrong:
            return True
        return False

    wrong = seen(1, 2, 4) and seen(1, 2, 2) and seen(2, 1) and seen(3, 5, 7, gap_before=5)
    return wrong and not seen(1, 2, 3) and not seen(1, 4, 5, gap_before=4)


def main():
    seconds = int(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    results = []

    def check(name, holds, detail):
        results.append((holds, name, detail))
        print(f"{'ok     ' if holds else 'FAILED '} {name}: {detail}", flush=True)

    check("the ledgers find errors", ledgers_find_errors(), "a hole, a double and a break of order are each found")
    hub = Hub(*OPTIONS)
    wrong = None
    try:
        # The figures are taken after the hub has done everything once.
        hub.publish(CHANNELS[0], "0 x")
        with socket.create_connection(("127.0.0.1", hub.port)) as client:
            client.sendall(b"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(100)
        hub.wait_for(lambda stats: stats["connections"] == 0)
        before = hub.usage()
        soak = Soak(hub, seconds)
        began = time.monotonic()
        try:
            asyncio.run(soak.run())
        except (Wrong, AssertionError, OSError) as failure:
            wrong = failure
        print(f"soak: {time.monotonic() - began:.0f} s", flush=True)
        check("the hub is alive", hub.alive(), f"pid {hub.pid}")
        check("no message lost without a gap, none twice, no client forgotten", wrong is None,
              wrong or f"{soak.counts['messages']} messages and {soak.counts['gaps']} gaps in "
                       f"{soak.counts['visits']} visits")
        stats = hub.wait_for(lambda stats: stats["connections"] == 0)
        check("no connection is left", stats["connections"] == 0 and stats["subscriptions"] == 0,
              f"{stats['connections']} connections, {stats['subscriptions']} subscriptions")
        after = hub.usage()
        check(
            "descriptors as at the start", after.descriptors == before.descriptors,
            f"{before.descriptors}, {after.descriptors}"
        )
        check("threads as at the start", after.threads == before.threads, f"{before.threads}, {after.threads}")
        if len(soak.samples) >= 8:
            third, fourth = quarters(soak.samples)
            check("memory flat in the second half", fourth <= third * (1 + GROWTH) + GROWTH_KB,
                  f"median RSS {third:.0f} kB in the third quarter, {fourth:.0f} kB in the fourth")
        check("slow clients were closed and came back", soak.counts["closed 4429"] > 0 or seconds < 120,
              f"{soak.counts['closed 4429']} were closed with 4429")
        check("messages came compressed", soak.counts["compressed"] > 0, f"{soak.counts['compressed']} of them")
        code = hub.stop()
        check("the hub ends without an error", code == 0, f"exit code {code}")
        write_report(seconds, soak, before, after, results)
    finally:
        hub.stop()
    failed = sum(not holds for holds, *_ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def write_report(seconds, soak, before, after, results):
    with open(OUT / "samples.csv", "w") as file:
        file.write("second,rss_kb,descriptors,threads,cpu_s,connections,history_bytes\n")
        for second, usage, stats in soak.samples:
            file.write(f"{second},{usage.rss_kb},{usage.descriptors},{usage.threads},{usage.cpu_seconds},"
                       f"{stats.get('connections', '')},{stats.get('history_bytes', '')}\n")
    lines = [f"# Soak: {seconds} seconds", "", "| | |", "|---|---|"]
    lines += [f"| {'ok' if holds else 'FAILED'}: {name} | {detail} |" for holds, name, detail in results]
    rss = [usage.rss_kb for _, usage, _ in soak.samples]
    if rss:
        lines += [f"| RSS at the start, lowest, highest, at the end | {before.rss_kb}, {min(rss)}, {max(rss)}, "
                  f"{after.rss_kb} kB |"]
    lines += [f"| {name} | {count} |" for name, count in sorted(soak.counts.items())]
    (OUT / "report.md").write_text("\n".join(lines) + "\n")
    print(f"report: {os.path.relpath(OUT / 'report.md', ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
