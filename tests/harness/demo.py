"""Runs a demo that serves until Ctrl-C, as a user starts it in a terminal."""

import contextlib
import os
import signal
import subprocess
import time

from host import PATIENCE


def _heeds_sigint():
    """As in a terminal. A program in a script's background ignores SIGINT, and a shell can't trap a signal that was
    ignored from the start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def running(*command):
    """The process of a demo, for the length of a `with`. Then Ctrl-C must end it well, and no process of its group may
    be left."""
    demo = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        preexec_fn=_heeds_sigint,
    )  # fmt: skip
    try:
        yield demo
        # As the terminal does it.
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(PATIENCE) == 0
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
        demo.stdout.close()
    # The last ones may still be ending.
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(demo.pid, 0)
            assert time.monotonic() < deadline, "the demo has left processes behind"
            time.sleep(0.05)
