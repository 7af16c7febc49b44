"""Runs test programs one after the other within a bound of time, and says how many passed and failed.

    tally.py NAME SECONDS KIND:PATH...

Kinds: `pytest` and `node` (files *.test.mjs in that directory) are Python's and Node's test runners; `count` is a
program that ends its output with a line "N passed, N failed". A run without a single test has failed, as has a skipped
test: everything that a test needs is installed before.
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / "target/test-env/bin/python"
COUNT = re.compile(r"(?:\w+: )?(\d+) passed, (\d+) failed")
# The limit of one test, so that a test that hangs is named and the others still run.
TEST_SECONDS = 240


def main():
    name, seconds, *suites = sys.argv[1:]
    ends_at = time.monotonic() + float(seconds)
    passed = failed = 0
    for suite in suites:
        kind, path = suite.split(":", 1)
        more_passed, more_failed = KINDS[kind](path, ends_at)
        if more_passed + more_failed == 0:
            print(f"FAILED: {suite} ran no test")
            more_failed = 1
        passed, failed = passed + more_passed, failed + more_failed
    print(f"{name}: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def pytest(path, ends_at):
    def command(report):
        return [
            PYTHON, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}",
            "-o", "addopts=", f"--rootdir={ROOT / path}", f"--junitxml={report}", path,
        ]  # fmt: skip

    return with_report(path, command, ends_at)


def node(path, ends_at):
    def command(report):
        return [
            # Node's own --test-timeout is for whole files. host.mjs has one for each test.
            "node", "--test",
            "--test-reporter=spec", "--test-reporter-destination=stdout",
            "--test-reporter=junit", f"--test-reporter-destination={report}",
            *sorted(str(file) for file in pathlib.Path(path).glob("*.test.mjs")),
        ]  # fmt: skip

    return with_report(path, command, ends_at)


def count(path, ends_at):
    """The program's own count, in the last line that has one."""
    print(f"== {path}", flush=True)
    counts = []

    def show(line):
        print(line, end="", flush=True)
        if match := COUNT.fullmatch(line.strip()):
            counts.append((int(match[1]), int(match[2])))

    code = bounded([path], ends_at, show)
    passed, failed = counts[-1] if counts else (0, 0)
    return passed, max(failed, 1 if code else 0)


def with_report(path, command, ends_at):
    print(f"== {path}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        report = pathlib.Path(directory) / "report.xml"
        code = bounded(command(report), ends_at)
        passed, failed = read_report(report)
    if code and not failed:
        print(f"FAILED: {path} ended with {code}")
        failed = 1
    return passed, failed


def read_report(report):
    """Counts the test cases of a JUnit report, which may be missing or cut short."""
    try:
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        print(f"FAILED: no report: {error}")
        return 0, 1
    failed = [case for case in cases if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))]
    for case in failed:
        print(f"FAILED: {case.get('name')}")
    return len(cases) - len(failed), len(failed)


def bounded(command, ends_at, show=None):
    """Runs a program in its own process group. The group ends with it, or at the bound, so nothing is left."""
    program = subprocess.Popen(command, cwd=ROOT, start_new_session=True, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if show else None)  # fmt: skip

    def end():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)

    def out_of_time(*_):
        print("FAILED: out of time", flush=True)
        end()

    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max(ends_at - time.monotonic(), 0.001))
    for line in program.stdout if show else ():
        show(line)
    code = program.wait()
    signal.setitimer(signal.ITIMER_REAL, 0)
    end()
    return code


KINDS = {"pytest": pytest, "node": node, "count": count}

if __name__ == "__main__":
    main()
