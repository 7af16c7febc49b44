"""The system denies pushd some calls, as a container's seccomp filter may. pushd still serves, or says why it does not.
tests/python/run runs this."""

import ctypes
import errno
import os
import platform
import signal
import socket
import struct
import subprocess
import threading
import unittest

PUSHD = os.environ["PUSHD"]
# How long to wait for something that must come. It is long, as the machine may be busy.
PATIENCE = 120
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x50000
# (number, as <asm/unistd.h> has it for x86_64, for aarch64), by name
NUMBERS = {"eventfd2": (290, 19), "epoll_create1": (291, 20), "accept4": (288, 242), "clone3": (435, 435),
           "rt_sigtimedwait": (128, 137), "madvise": (28, 233), "getrandom": (318, 278), "prlimit64": (302, 261),
           "io_uring_setup": (425, 425), "rseq": (334, 293), "sched_getaffinity": (204, 123), "prctl": (157, 167)}


def deny(name, error):
    """For preexec_fn: makes this process's calls of that name fail with that error."""
    number = NUMBERS[name][platform.machine() == "aarch64"]
    # Load the call's number. If it is this one, return the error.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, SECCOMP_RET_ERRNO | error),
             (0x06, 0, 0, SECCOMP_RET_ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


class Denied(unittest.TestCase):
    def started(self, name, error):
        pushd = subprocess.Popen([PUSHD, "-o", "listen=127.0.0.1:0", "-d", "0"], stderr=subprocess.PIPE, text=True,
                                 preexec_fn=lambda: deny(name, error))
        self.addCleanup(pushd.stderr.close)
        self.addCleanup(pushd.wait)
        self.addCleanup(pushd.kill)
        # This ends a wait for a line that does not come.
        late = threading.Timer(PATIENCE, pushd.kill)
        late.start()
        self.addCleanup(late.cancel)
        return pushd

    def test_what_it_can_do_without(self):
        """Without clone3 threads are started in the old way. The other calls are not needed, or replaced."""
        for name, error in (("clone3", errno.ENOSYS), ("madvise", errno.EPERM), ("getrandom", errno.ENOSYS),
                            ("prlimit64", errno.EPERM), ("io_uring_setup", errno.EPERM), ("rseq", errno.EPERM),
                            ("sched_getaffinity", errno.EPERM), ("prctl", errno.EPERM)):
            with self.subTest(name):
                pushd = self.started(name, error)
                line = next(line for line in pushd.stderr if "listening on" in line)
                address = line.rsplit(" ", 1)[1].strip().split(":")
                with socket.create_connection((address[0], int(address[1])), PATIENCE) as client:
                    client.sendall(b"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    with client.makefile("rb") as answer:
                        self.assertIn(b" 200 OK\r\n", answer.readline())
                pushd.send_signal(signal.SIGTERM)
                self.assertEqual(pushd.wait(PATIENCE), 0)

    def test_what_it_can_not_do_without(self):
        for name, text in (("eventfd2", "a mailbox can't be made: "), ("epoll_create1", "a shard can't be made: "),
                           ("clone3", "a thread can't be started: "),
                           ("rt_sigtimedwait", "can't wait for signals: ")):
            with self.subTest(name):
                pushd = self.started(name, errno.EPERM)
                self.assertEqual(pushd.wait(PATIENCE), 1)
                self.assertIn(text + "Operation not permitted", pushd.stderr.read())

    def test_clients_that_may_not_be_accepted(self):
        """pushd logs it, and does not try all the time."""
        pushd = self.started("accept4", errno.EPERM)
        line = next(line for line in pushd.stderr if "listening on" in line)
        address = line.rsplit(" ", 1)[1].strip().split(":")
        with socket.create_connection((address[0], int(address[1])), PATIENCE):
            self.assertIn("accept: Operation not permitted", next(pushd.stderr, "nothing"))


if __name__ == "__main__":
    unittest.main()
