"""EventSources in Chromium, one for each hub, driven by `page.mjs`."""

import json
import os
import subprocess
import threading
import time

from host import PATIENCE, ROOT


class Pages:
    def __init__(self, hubs, channels):
        self.hubs = hubs
        origins = [hub.url("") for hub in hubs]
        command = ["node", ROOT / "tests/cluster/page.mjs", ",".join(channels), *origins]
        # The hubs are on this machine, also those that are not on its loopback.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, **streams)
        # A browser that hangs must not hang the test.
        self._alarm = threading.Timer(PATIENCE, self._process.kill)
        self._alarm.start()
        line = self._process.stdout.readline()
        self._alarm.cancel()
        assert line == "ready\n", f"the browser says {line!r}"

    def look(self):
        """For each hub: what its EventSource was told, how often it was opened, its readyState."""
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return [([tuple(pair) for pair in page["told"]], page["openings"], page["state"]) for page in found]

    def wait_for(self, last, seconds):
        """Waits until each has the last message of each channel."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(last <= set(told[-2000:]) for told, _, _ in self.look()):
                return True
            time.sleep(0.2)
        return False

    def close(self):
        try:
            self._process.stdin.write("end\n")
            self._process.stdin.close()
            self._process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
