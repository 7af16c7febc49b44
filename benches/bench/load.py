"""One run of the load generator against one fresh server."""

import json
import subprocess
from dataclasses import dataclass, replace

from . import paths
from .process import LOAD_CPU, ServerError, child_setup


# Of a server with two paths for subscribers, every such subscriber has the second.
SOME = 10


@dataclass(frozen=True)
class Load:
    """The options of pushload. Its usage text explains each."""

    transport: str
    subscribers: int
    messages: int = 0
    size: int = 128
    rate: int = 10
    first_step: int = 0
    slow: int = 0
    segment: int = 0
    window: int = 64
    settle_ms: int = 500
    deadline_s: int = 90
    tls: str = "off"
    handshakes: int = 0
    storm: int = 0
    ramp: int = 256
    kept: int = 0
    told: str = ""

    def shorter(self, messages):
        return replace(self, messages=min(self.messages, messages), settle_ms=200)

    def arguments(self):
        names = {"settle_ms": "settle", "deadline_s": "deadline"}
        for name, value in vars(self).items():
            yield from (f"--{names.get(name, name).replace('_', '-')}", str(value))


def command(server, ports, pids, load):
    publish = server.publish
    words = [
        str(paths.BIN / "pushload"), "--port", str(ports[0]), "--path", server.transports[load.transport],
        "--publish-port", str(ports[publish.port_index]), "--publish", publish.path, "--publish-type", publish.type,
        "--publish-prefix", publish.prefix, "--publish-suffix", publish.suffix, "--pid", ",".join(map(str, pids)),
    ]
    if load.storm:
        words += ["--storm-path", server.other]
    if server.some_path:
        words += ["--some", str(SOME), "--some-path", server.some_path]
    for header in publish.headers:
        words += ["--publish-header", header]
    return words + list(load.arguments())


def run(server, load, of=lambda pid: True):
    """Starts the server, loads it, and stops it. Returns the measured values; `fault` is a reason not to trust them, or
    None. `of` chooses which of the server's processes are measured."""
    try:
        with server.start() as process:
            pids = [pid for pid in process.pids if of(pid)]
            result = subprocess.run(
                command(server, process.ports, pids, load), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, errors="replace", timeout=load.deadline_s + 20, preexec_fn=child_setup(LOAD_CPU),
            )
            if result.returncode or not result.stdout:
                return {"fault": f"pushload: {result.stderr.strip()[-200:] or result.returncode}"}
            measured = json.loads(result.stdout)
            if not process.alive():
                return {**measured, "fault": f"the server ended: {process.log_end()}"}
    except (ServerError, subprocess.TimeoutExpired) as error:
        return {"fault": str(error)[:300]}
    return {**measured, "fault": fault_of(measured, load, result.stderr)}


def fault_of(measured, load, said):
    """Why these figures are not valid, or None. For example, a fast figure with a lost message is a failure."""
    if load.told and measured["untold"]:
        return f"{measured['untold']} subscribers were not told {load.told}"
    if not measured["in_time"]:
        return f"not done after {load.deadline_s} s"
    if measured["failed"]:
        return f"{measured['failed']} of {load.subscribers} could not subscribe. {said.strip()[:150]}"
    if measured["ended_early"]:
        return f"{measured['ended_early']} subscribers were cut off"
    if load.storm and measured["storm_open"] != load.storm:
        return f"{load.storm - measured['storm_open']} of {load.storm} never came back from the storm"
    if load.storm and load.tls != "off" and measured["storm_resumed"] < load.storm:
        return f"only {measured['storm_resumed']} of {load.storm} clients of the storm resumed"
    if load.handshakes and (measured["not_full"] or measured["not_resumed"]):
        return f"{measured['not_full']} resumed without a ticket, {measured['not_resumed']} did not resume with one"
    if load.messages and measured["repeats"]:
        return f"{measured['repeats']} doubled or out of order"
    if load.messages and measured["lost"]:
        return f"{measured['lost']} of {measured['expected']} lost"
    return None
