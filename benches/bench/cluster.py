"""Hubs that share a log in a Redis: what they cost, each beside its floor."""

import json
import math
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import load, paths
from .load import Load
from .process import LOAD_CPU, SERVER_CPU, child_setup, free_port
from .tap import Tap, frames

PATIENCE_S = 60
BARE = paths.BIN / "bare-redis"
BARE_NATS = paths.BIN / "bare-nats"
NATS = paths.ROOT / "target/test-env/bin/nats-server"
HOST = paths.BIN / "shared-log"
LISTENER = paths.BIN / "own-listener"
STAMPS = paths.BIN / "stamps"


class _Server:
    """A server in a folder of its own, which goes when it ends."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="push-bench-"))

    def _start(self, *command, cpu, is_up):
        with open(self.folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=child_setup(cpu)
            )
        wait_for(is_up, f"{Path(command[0]).name} is ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(_Server):
    """A redis-server without a disk, at a socket."""

    def __init__(self, cpu=LOAD_CPU):
        super().__init__()
        self.socket = self.folder / "redis.sock"
        self._start(
            "redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.folder, cpu=cpu,
            is_up=lambda: self.socket.exists() and self.ask("PING").strip() == "PONG",
        )

    def ask(self, *words):
        return subprocess.run(["redis-cli", "-s", self.socket, *words], capture_output=True, text=True).stdout

    def calls(self):
        """How often each command was called."""
        lines = (line.split(":", 1) for line in self.ask("INFO", "commandstats").splitlines() if ":calls=" in line)
        return {name.removeprefix("cmdstat_"): int(rest[6:].split(",", 1)[0]) for name, rest in lines}


class Nats(_Server):
    """A nats-server with JetStream."""

    def __init__(self):
        super().__init__()
        port = free_port()
        self.url = f"nats://127.0.0.1:{port}"
        self._start(
            NATS, "--jetstream", "--store_dir", self.folder, "--addr", "127.0.0.1", "--port", str(port), cpu=LOAD_CPU,
            is_up=lambda: "Server is ready" in (self.folder / "log").read_text(),
        )


def wait_for(reached, what):
    until = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > until:
            raise TimeoutError(f"never: {what}")
        time.sleep(0.02)


def sharing(socket, *more):
    return options(f"redis+unix://{socket}", *more)


def options(url, *more):
    # A NATS with its defaults takes messages below 1 MB only.
    return [f"engine={url}", "threads=1", "engine_timeout=1m", "max_message=1000KB", *more]


def run(*command, cpu=SERVER_CPU):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=2 * PATIENCE_S,
        preexec_fn=child_setup(cpu),
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip()[-200:] or done.returncode}")
    return done.stdout


def guarded(measure):
    """A measurement whose failures are faults."""

    def guard(server, quick):
        try:
            return {**measure(quick), "fault": None}
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            return {"fault": str(error)[:300]}

    return guard


# ---- publishing, over the same requests from a bare client ----


@guarded
def throughput(quick):
    count = 20_000 if quick else 100_000
    with Redis() as redis:
        command = (HOST, "throughput", count)
        quiet = ("listen=none", "log_level=error")
        hub = json.loads(run(*command, *sharing(redis.socket, *quiet)))["seconds"]
        redis.ask("FLUSHALL")
        # The same once more, not timed: what it asks is recorded.
        with Tap(redis.folder / "tap.sock", redis.socket) as tap:
            run(*command, *sharing(tap.path, *quiet))
        entries = int(redis.ask("XLEN", "{push}:log"))
        redis.ask("FLUSHALL")
        recorded = redis.folder / "recorded"
        recorded.write_bytes(frames(tap.longest()))
        bare = json.loads(run(BARE, "replay", redis.socket, recorded))
        replayed = int(redis.ask("XLEN", "{push}:log"))
        if not count <= replayed <= entries or entries - replayed > 100:
            raise RuntimeError(f"the bare client has put {replayed} of {entries} entries into the log")
    return {
        "cluster_per_s": count / hub, "cluster_bare_per_s": replayed / bare["seconds"],
        "cluster_batch": replayed / bare["requests"],
        "cluster_over_bare": (count / hub) / (replayed / bare["seconds"]),
    }


# ---- from a publish at one hub until a client of another has it ----


def _ages(reader, start):
    """The ages that a program prints in ns, in ms and in order. `start` publishes once it is ready."""
    process = subprocess.Popen(
        [str(word) for word in reader], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=child_setup(LOAD_CPU),
    )
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{Path(reader[0]).name}: {process.stderr.read()[-200:]}")
        start()
        said, _ = process.communicate(timeout=PATIENCE_S)
        return sorted(int(line) / 1e6 for line in said.split())
    finally:
        process.kill()
        process.wait()


def percentile(ordered, part):
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _through_hubs(url, count, rate):
    """The ages at a subscriber of one hub, of what a host with another hub publishes."""
    port = free_port()
    listener = subprocess.Popen(
        [LISTENER, f"listen=127.0.0.1:{port}", *options(url)], stdout=subprocess.PIPE, text=True,
        preexec_fn=child_setup(SERVER_CPU),
    )
    try:
        listener.stdout.readline()
        publish = (HOST, "stamp", count, rate, *options(url, "listen=none"))
        return _ages((STAMPS, port, count), lambda: run(*publish))
    finally:
        listener.terminate()
        listener.wait()


def _compared(hubs, bare, count):
    if (len(hubs), len(bare)) != (count, count):
        raise RuntimeError(f"{len(hubs)} and {len(bare)} of {count} messages came")
    found = {}
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        found[f"cluster_{name}_ms"], found[f"cluster_bare_{name}_ms"] = percentile(hubs, part), percentile(bare, part)
        found[f"cluster_{name}_over_bare"] = found[f"cluster_{name}_ms"] / found[f"cluster_bare_{name}_ms"]
    return found


@guarded
def latency(quick):
    count, rate = (400, 200) if quick else (2000, 200)
    with Redis() as redis:
        hubs = _through_hubs(f"redis+unix://{redis.socket}", count, rate)
        bare = _ages((BARE, "read", redis.socket, count), lambda: run(BARE, "append", redis.socket, count, rate))
    return _compared(hubs, bare, count)


@guarded
def latency_nats(quick):
    count, rate = (400, 200) if quick else (2000, 200)
    for needed in (NATS, BARE_NATS):
        if not needed.exists():
            raise RuntimeError(f"{needed.name} is missing (tests/harness/install python; make bench-peers)")
    with Nats() as nats:
        hubs = _through_hubs(nats.url, count, rate)
        bare = _ages((BARE_NATS, "read", nats.url, count), lambda: run(BARE_NATS, "append", nats.url, count, rate))
    return _compared(hubs, bare, count)


# ---- two nodes, with subscribers of the second ----


def nodes(ports, first, second):
    """The command that starts a Redis and two nodes. Each is a function that makes its words from the Redis' URL."""
    folder = paths.RUN / "nodes"
    folder.mkdir(parents=True, exist_ok=True)
    redis = free_port()
    url = f"redis://127.0.0.1:{redis}"
    return [paths.BENCHES / "peers/two-nodes.sh", folder, redis, shlex.join(first(url)), shlex.join(second(url))]


def libpush_nodes(ports, key):
    def words(*options):
        return lambda url: [str(LISTENER), f"engine={url}", "threads=1", *options]

    first = words("listen=none", f"control=127.0.0.1:{ports[1]}", f"control_key={key}")
    return nodes(ports, first, words(f"listen=127.0.0.1:{ports[0]}"))


def _is_second(pid):
    """Whether a process is the node with the subscribers, and not the other one or the Redis."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"own-listener" in words and b"listen=none" not in words


def second_hub(server, quick):
    """The CPU of the hub with the subscribers alone. For a hub without a log it is all of it."""
    the_load = Load("ws", 2000, 10 if quick else 50)
    return load.run(server, the_load, of=_is_second)


def absent():
    """Why none of this can be measured, or None."""
    missing = [name for name in ("redis-server", "redis-cli") if not shutil.which(name)]
    return f"needs {', '.join(missing)} (Debian: redis-server)" if missing else None
