"""Runs the parts named in the arguments, or all; ends with "N passed, N failed"."""

import sys
import time

import cdef
import header
import hosts
import install
import library
import programs
import threads
from report import EXAMPLES, OUT, STAGE, Report

PARTS = {
    "header": header.run,
    "cdef": cdef.run,
    "library": library.run,
    "install": install.run,
    "programs": programs.run_plain,
    "sanitized": programs.run_sanitized,
    "hosts": hosts.run,
}
# This runs only if it is named, since it compiles Rust's standard library.
NAMED = {"threads": threads.run}


def main():
    for needed in (STAGE / "lib" / "libpush.so", EXAMPLES / "legacy-server"):
        if not needed.exists():
            sys.exit(f"error: {needed} is missing; run `make examples` first")
    chosen = [argument.partition("=") for argument in sys.argv[1:]] or [(name, "", "") for name in PARTS]
    parts = {**PARTS, **NAMED}
    unknown = [name for name, _, _ in chosen if name not in parts]
    if unknown:
        sys.exit(f"error: no part {', '.join(unknown)}; the parts are {', '.join(parts)}")
    OUT.mkdir(parents=True, exist_ok=True)
    report, began = Report(), time.monotonic()
    for name, _, only in chosen:
        print(f"-- {name}", flush=True)
        parts[name](report, only)
    print(f"tests/c: {time.monotonic() - began:.0f} s")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
