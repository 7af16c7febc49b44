"""pushd and systemd's own programs, as far as they work without systemd as the first process. tests/python/run runs it.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import push

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

from ports import free_port  # noqa: E402

LIBRARY, PUSHD = (os.environ[name] for name in ("PUSH_LIBRARY", "PUSHD"))
PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging"
# How long to wait for something that must come. It is long, as the machine may be busy.
PATIENCE = 120


class Systemd(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="push-")
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def test_the_units_are_right(self):
        """It has the path that `make install` writes. The service finds the socket by its name."""
        for name in ("pushd.service", "pushd.socket"):
            unit = (PACKAGING / name).read_text().replace("@BINDIR@", os.path.dirname(PUSHD))
            self.assertNotRegex(unit, "@[A-Z]+@")
            (self.directory / name).write_text(unit)
        units = [str(self.directory / name) for name in ("pushd.service", "pushd.socket")]
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
        # It checks every unit of the machine. Lines about other units do not count.
        ours = [line for line in verified.stderr.splitlines() if "pushd" in line]
        self.assertEqual((ours, verified.returncode), ([], 0), verified.stderr)
        # It does report a mistake.
        broken = (self.directory / "pushd.service").read_text().replace("Type=notify", "Type=nonsense")
        (self.directory / "pushd.service").write_text(broken)
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", units[0]], capture_output=True, text=True)
        self.assertIn("pushd.service", verified.stderr)

    def test_socket_activation_notification_reload(self):
        attach, notify = self.directory / "attach.sock", self.directory / "notify.sock"
        options = self.directory / "pushd.toml"
        options.write_text("max_message = 10\n")
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(told.close)
        told.settimeout(PATIENCE)
        told.bind(str(notify))
        port = free_port()
        activate = ["systemd-socket-activate", "-l", str(attach), "-l", f"127.0.0.1:{port}", "--fdname=attach:listen"]
        pushd = subprocess.Popen([*activate, "-E", f"NOTIFY_SOCKET={notify}", PUSHD, "-c", str(options)],
                                 stderr=subprocess.DEVNULL)
        self.addCleanup(pushd.kill)
        # It starts pushd at the first connection.
        deadline = time.monotonic() + PATIENCE
        while not attach.exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        server = push.Server(LIBRARY, attach=f"unix:{attach}", attach_timeout="1m")
        self.addCleanup(server.stop)
        position = server.publish("a", b"x")
        self.assertEqual(told.recv(1000), b"READY=1")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = b""
            while position.encode() not in got:
                part = client.recv(65536)
                self.assertTrue(part, got)
                got += part
        # The ExecReload of the unit.
        options.write_text("max_message = 100\n")
        pushd.send_signal(signal.SIGHUP)
        self.assertRegex(told.recv(1000).decode(), r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")
        self.assertEqual(told.recv(1000), b"READY=1\nSTATUS=options reloaded")
        pushd.terminate()
        self.assertEqual(told.recv(1000), b"STOPPING=1")
        self.assertEqual(pushd.wait(PATIENCE), 0)
        self.assertTrue(attach.exists(), "the path is the service manager's")


if __name__ == "__main__":
    unittest.main()
