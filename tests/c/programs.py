"""The C programs beside this file: built against the installed library, run, and run again under sanitizers."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from report import HERE, OUT, execute, pkg_config

COMMON = ["check", "process", "peer", "websocket", "serve"]
PROGRAMS = ["arguments", "structs", "options", "adoption", "grants", "names", "publishing", "events", "callbacks",
            "lifecycle", "footprint", "forks", "vanishing", "cancelling", "surroundings", "concurrency", "reloading", "busy",
            "faults", "refused",
            "shortwrites", "listening", "stopping", "hanging",
            "users", "tousers", "presence", "engine", "logs", "logfd", "errors"]
# These replace pthread_create, and a sanitizer must see that call first.
NOT_SANITIZED = {"faults", "refused"}
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g", "-pthread"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
# The limit of a program. It bounds each of its tests itself.
LIMIT_S = 900
# Threads' caches count as used memory. Without them the heap's count is the memory that is really held.
EXACT_HEAP = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def run_plain(report, only):
    build_and_run(report, only, OUT / "plain", [], EXACT_HEAP)


def run_sanitized(report, only):
    options = {"ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:"
                               "verify_asan_link_order=0",  # for the object that tests/stress preloads
               "UBSAN_OPTIONS": "print_stacktrace=1"}
    if sees_mistakes(report, options):
        build_and_run(report, only, OUT / "sanitized", SANITIZERS, options, NOT_SANITIZED)


def build_and_run(report, only, directory, flags, environment, without=frozenset()):
    directory.mkdir(parents=True, exist_ok=True)
    compiler = ["gcc", *FLAGS, *flags, *pkg_config("--cflags")]
    objects = [directory / f"{name}.o" for name in COMMON]
    wanted = [name for name in PROGRAMS if name not in without and only in ("", name)]
    with ThreadPoolExecutor(2) as pool:
        commands = [[*compiler, "-c", f"{name}.c", "-o", directory / f"{name}.o"] for name in COMMON]
        for code, output in pool.map(compile_here, commands):
            if code != 0:
                return report.add("what the programs share is built", "it is not", output)
        commands = [[*compiler, f"{name}.c", *objects, "-o", directory / name, *pkg_config("--libs")]
                    for name in wanted]
        built = dict(zip(wanted, pool.map(compile_here, commands)))
    for name in wanted:
        code, output = built[name]
        if code != 0:
            report.add(f"{name} is built", "it is not", output)
            continue
        began = time.monotonic()
        code, output = execute([directory / name], LIMIT_S, env={**os.environ, **environment}, cwd=HERE)
        count(report, name, code, output, time.monotonic() - began)


def compile_here(command):
    """With the bare names of the sources: the checks name their places in that way."""
    return execute(command, cwd=HERE)


def count(report, name, code, output, seconds):
    last = re.search(r"^(\d+) passed, (\d+) failed$", output, re.M)
    if not last:
        return report.add(name, f"exit code {code}, and no count", output)
    passed, failed = map(int, last.groups())
    # The output of a failed test, without the lines of tests that passed.
    shown = "\n".join(line for line in output.splitlines() if not line.startswith("ok ") and line != last.group(0))
    report.add_many(name, passed, failed, seconds, shown if failed or code else "")
    if (code != 0) != (failed > 0):
        report.add(name, f"exit code {code} with {failed} failed", output)


def sees_mistakes(report, environment):
    """The sanitizers are on: a program with one mistake of each kind is caught."""
    mistakes = {"a read beyond the end": "char *p = malloc(argc); return p[argc + 1];",
                "a leak": "volatile char *p = malloc(9); p[0] = 1; p = 0; return 0;",
                "an overflow": "volatile int big = 2147483647; big = big + argc; return 0;"}
    seen = True
    for name, body in mistakes.items():
        source, program = OUT / "mistake.c", OUT / "mistake"
        source.write_text(f"#include <stdlib.h>\nint main(int argc, char **argv) {{ (void)argv; {body} }}\n")
        code, output = execute(["gcc", "-O0", *SANITIZERS, source, "-o", program])
        if code == 0:
            code, output = execute([program], env={**os.environ, **environment})
        caught = code != 0 and ("AddressSanitizer" in output or "LeakSanitizer" in output or "runtime error" in output)
        report.check(f"the sanitizer catches {name}", caught, f"exit code {code}", output)
        seen = seen and caught
    return seen
