"""Runs the C hosts with many threads under the thread sanitizer, together with the library. The library's code and Rust's
standard library are compiled anew for it. That needs the nightly toolchain with its component rust-src."""

import os
import subprocess
import time
from pathlib import Path

import programs
from report import HERE, OUT, ROOT, execute

# Not `stopping`, which looks at how long something takes, and `lifecycle`, where a process ends with its last thread:
# the sanitizer has its own.
PROGRAMS = [
    "concurrency", "reloading", "callbacks", "busy", "forks", "adoption", "events", "vanishing", "publishing", "grants",
    "listening"
]
TARGET = "x86_64-unknown-linux-gnu"
BUILT = ROOT / "target/tsan"
FLAGS = [
    "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-O1", "-g", "-pthread", "-fsanitize=thread", f"-I{ROOT}/include"
]
LIMIT_S = 900


def run(report, only):
    runtime, source = toolchain()
    if not source.exists():
        return report.add(
            "the thread sanitizer",
            "NOT RUN: the nightly toolchain has no rust-src (rustup +nightly component add rust-src)"
        )
    library = build(report)
    if not library:
        return
    directory = OUT / "threads"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / "libpush.so.0"
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    # This is the runtime for Rust's code. All of it must be in the program.
    libraries = ["-Wl,--whole-archive", runtime, "-Wl,--no-whole-archive", "-rdynamic",
                 f"-L{directory}", "-l:libpush.so.0", f"-Wl,-rpath,{directory}",
                 "-lpthread", "-ldl", "-lm", "-lrt", "-lstdc++"]
    objects = []
    for name in [*programs.COMMON, *PROGRAMS, "race"]:
        report_of = execute(["gcc", *FLAGS, "-c", f"{name}.c", "-o", directory / f"{name}.o"], cwd=HERE)
        if report_of[0] != 0:
            return report.add(f"{name} is built", "it is not", report_of[1])
        if name in programs.COMMON:
            objects.append(directory / f"{name}.o")
    if not planted(report, directory, libraries):
        return
    for name in PROGRAMS:
        if only not in ("", name):
            continue
        code, output = execute(["gcc", directory / f"{name}.o", *objects, "-o", directory / name, *libraries], cwd=HERE)
        if code != 0:
            report.add(f"{name} is linked", "it is not", output)
            continue
        began = time.monotonic()
        code, output = execute(
            [directory / name], LIMIT_S, cwd=HERE, env={**os.environ, "TSAN_OPTIONS": "second_deadlock_stack=1"}
        )
        programs.count(report, name, code, output, time.monotonic() - began)
        races = output.count("WARNING: ThreadSanitizer")
        report.check(f"{name}: no race", races == 0, f"{races} reports", output)


def toolchain():
    root = subprocess.run(["rustc", "+nightly", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
    rust = Path(root) / "lib/rustlib"
    return rust / TARGET / "lib/librustc-nightly_rt.tsan.a", rust / "src/rust/library/std/Cargo.toml"


def build(report):
    """The library, instrumented."""
    environment = dict(
        os.environ, RUSTFLAGS="-Zsanitizer=thread", CARGO_PROFILE_DEV_OPT_LEVEL="1", CARGO_TARGET_DIR=str(BUILT)
    )
    command = ["cargo", "+nightly", "build", "--quiet", "-Zbuild-std", "--target", TARGET, "--lib"]
    built = report.command(
        "the library is built for the thread sanitizer", command, 1800, cwd=ROOT, env=environment
    )
    if built is None:
        return None
    return BUILT / TARGET / "debug/libpush.so"


def planted(report, directory, libraries):
    """The sanitizer is on, in the host and in the library."""
    program = directory / "race"
    code, output = execute(["gcc", directory / "race.o", "-o", program, *libraries])
    if code == 0:
        code, output = execute([program])
    seen = "WARNING: ThreadSanitizer: data race" in output and "push_publish" in output and "write_on" in output
    report.check(
        "the thread sanitizer finds a planted race between host and library", seen, f"exit code {code}", output
    )
    return seen
