"""Hubs that share a log, under load, while they and the servers of the log fail.

    cluster.py [--short] [--times N] [--seed N] [--no-browser] [FAULT...]

Each fault has hubs and servers of its own. Two channels are published to all the time, each message by its number
until a hub acknowledges it. Subscribers over each transport, and an EventSource in Chromium at each hub, write down
what they are told. At the end nothing may be lost without a gap, doubled or out of order.
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

import hubs_cut_off  # noqa: E402
import hubs_killed  # noqa: E402
import nats_fails  # noqa: E402
import redis_fails  # noqa: E402
from trial import Setting  # noqa: E402

REPORT = ROOT / "target/cluster/report.md"
FAULTS = {**hubs_killed.FAULTS, **redis_fails.FAULTS, **nats_fails.FAULTS, **hubs_cut_off.FAULTS}
SHORT = 2
COUNTS = ("told", "lost", "doubled", "out of order", "gaps", "missing with a gap", "again after a gap")
COLUMNS = ("fault", "times", "published", *COUNTS, "EventSource in Chromium", "seconds")
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="each fault twice, where it is not once")
    parser.add_argument("--times", type=int, help="each fault so often")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of what happens by chance")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("fault", nargs="*", help="one of " + ", ".join(FAULTS))
    options = parser.parse_args()
    if unknown := set(options.fault) - set(FAULTS):
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    print(f"seed {options.seed}", flush=True)
    rows, failed = [HEADER], 0
    for name in options.fault or FAULTS:
        fault = FAULTS[name]
        times = options.times or (min(SHORT, fault.times) if options.short else fault.times)
        row, problem = run(name, fault, times, options)
        rows.append(row)
        print(row if not problem else f"{row}\nFAILED: {name}: {problem}", flush=True)
        failed += bool(problem)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(rows) + "\n")
    print(f"cluster: {len(rows) - 1 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def run(name, fault, times, options):
    """A row of the report, and what is wrong."""
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix=f"push-cluster-{name}-")
    setting = Setting(folder, random.Random(f"{options.seed} {name}"), times, options.short, not options.no_browser)
    problem, result = None, None
    try:
        result = fault.run(setting)
        problem = result.problem(fault)
    except Exception:
        problem = traceback.format_exc()
    if problem:
        print(f"the logs of {name} are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = round(time.monotonic() - began)
    if result is None:
        return f"| {name} | {times} | | | | | | | | | | {seconds} |", problem
    cells = [name, times, result.published, *counts(result.readers)]
    browser = ", ".join(f"{count} {what}" for count, what in zip(counts(result.pages), COUNTS))
    cells += [f"{browser}, {result.openings} times open" if result.openings else "", seconds]
    return "| " + " | ".join(map(str, cells)) + " |", problem


def counts(verdict):
    return [
        verdict.told, verdict.lost, verdict.doubled, verdict.unordered, verdict.gaps, verdict.announced, verdict.again,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
