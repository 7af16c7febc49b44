"""Reports what passed and what failed: a line each, and the sum at the end. Also the commands that find out."""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "c"
STAGE = ROOT / "target" / "stage"
OUT = ROOT / "target" / "tests-c"
EXAMPLES = ROOT / "target" / "examples-c"


class Report:
    """Counts, and prints each failure at once with its reason."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def add(self, name, problem=None, detail=""):
        """One test. Without a problem it has passed."""
        if problem is None:
            self.passed += 1
            print(f"ok      {name}", flush=True)
            return
        self.failed += 1
        print(f"FAILED  {name}: {problem}", flush=True)
        show(str(detail), 40)

    def add_many(self, name, passed, failed, seconds, detail=""):
        """The tests of one program."""
        self.passed += passed
        self.failed += failed
        word = "FAILED " if failed else "ok     "
        print(f"{word} {name}: {passed} passed, {failed} failed ({seconds:.1f} s)", flush=True)
        show(detail, 80)

    def check(self, name, condition, problem, detail=""):
        self.add(name, None if condition else problem, detail)

    def command(self, name, command, timeout=120, **options):
        """Runs a command that must succeed. Returns its output, or None."""
        done, output = execute(command, timeout, **options)
        self.add(name, None if done == 0 else f"exit code {done}: {' '.join(map(str, command))}", output)
        return output if done == 0 else None


def show(text, most):
    """The end of an output, which mostly has the error."""
    lines = text.rstrip().splitlines()
    if len(lines) > most:
        print(f"        ({len(lines) - most} lines before are not shown)", flush=True)
    for line in lines[-most:]:
        print(f"        {line}", flush=True)


def execute(command, timeout=120, **options):
    """Runs a command to its end. Returns the exit code and all output. If it takes too long, it is killed with its children."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True, **options)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        output, _ = process.communicate()
        output += f"\nkilled after {time.monotonic() - began:.0f} s".encode()
        return "timeout", output.decode(errors="replace")
    return process.returncode, output.decode(errors="replace")


def kill_group(process):
    """Kills a process that was started as the leader of its session, and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def pkg_config(*wanted, prefix=STAGE):
    """pkg-config's flags for the installed library. With --libs, also the path where a program finds it when it runs."""
    environment = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
    code, output = execute(["pkg-config", *wanted, "libpush"], env=environment)
    if code != 0:
        raise SystemExit(f"error: pkg-config does not find libpush: {output}")
    return output.split() + ([f"-Wl,-rpath,{prefix}/lib"] if "--libs" in wanted else [])
