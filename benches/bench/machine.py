"""The machine on which the figures were measured."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from . import paths
from .process import LOAD_CPU, SERVER_CPU


def _first(path, key):
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")


def _commit():
    def git(*words):
        return subprocess.run(["git", "-C", paths.ROOT, *words], capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return commit + (" with changes" if commit and git("status", "--porcelain") else "")


def _siblings():
    """Whether the two CPUs are threads of one core."""
    try:
        listed = Path(f"/sys/devices/system/cpu/cpu{SERVER_CPU}/topology/thread_siblings_list").read_text()
    except OSError:
        return False
    return str(LOAD_CPU) in listed.replace("-", ",").strip().split(",")


def describe():
    return {
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit() or "none",
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "siblings": _siblings(),
        "kernel": f"{platform.system()} {platform.release()}",
        "pinned": {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0),
    }


class Noise:
    """The part of a CPU that other programs used during a measurement. A build meanwhile affects every latency."""

    def __init__(self):
        self._before = self._read()

    @staticmethod
    def _read():
        """The busy time of all CPUs, that of the harness with its ended children, and the clock, in seconds."""
        fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        ours = os.times()
        ticks = os.sysconf("SC_CLK_TCK")
        busy = sum(fields) - fields[3] - fields[4]  # without idle time and waiting for a disk
        return busy / ticks, ours.user + ours.system + ours.children_user + ours.children_system, ours.elapsed

    def of_one_cpu(self):
        """The part of one CPU. 1.0 means that other programs kept a whole CPU busy all the time."""
        now = self._read()
        busy, ours, elapsed = (b - a for a, b in zip(self._before, now))
        return max(0.0, (busy - ours) / elapsed) if elapsed > 0 else 0.0
