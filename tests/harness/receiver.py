"""Runs the OTLP receiver of the OpenTelemetry Collector (tests/harness/otlp), and keeps the spans that it prints."""

import json
import subprocess
import tempfile
import threading

from collector import OfMessage, wait_for
from host import PATIENCE, ROOT, free_port

PROGRAM = ROOT / "target/otlp/receiver"


class Span(OfMessage):
    """A span, as the receiver has read it."""

    def __init__(self, line):
        self.trace, self.id, self.parent = line["trace"], line["id"], line["parent"]
        self.name, self.kind, self.flags, self.status = line["name"], line["kind"], line["flags"], line["status"]
        self.begun, self.ended = line["begun"], line["ended"]
        self.attributes, self.events = line["attributes"], line["events"]
        self.resource, self.scope, self.request = line["resource"], line["scope"], line["request"]


class Receiver:
    """`answers` are what its consumer says first, as tests/harness/otlp/main.go describes them. `certificates`: it speaks
    TLS, with what tests/harness/certificates has made there. `settings` are further ones of `protocols.http`."""

    def __init__(self, *answers, port=None, certificates=None, **settings):
        assert PROGRAM.exists(), f"there is no {PROGRAM}: tests/harness/otlp/install builds it"
        self.port, self.spans = port or free_port(), []
        self._host = "https://localhost" if certificates is not None else "http://127.0.0.1"
        http = {"endpoint": f"127.0.0.1:{self.port}", "include_metadata": True, **settings}
        if certificates is not None:
            live = f"{certificates}/live"
            http["tls"] = {"cert_file": f"{live}/fullchain.pem", "key_file": f"{live}/privkey.pem"}
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [PROGRAM, json.dumps(http), *answers],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True,
        )  # fmt: skip
        first = self._process.stdout.readline()
        if not first:
            self._process.wait()
            raise RuntimeError(f"the receiver did not start: {self.said()}")
        assert json.loads(first) == {"listens": True}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self._process.returncode is not None:
            return
        self._process.stdin.close()
        code = self._ended()
        if kind is None:
            assert (code, self.said()) == (0, "")

    @property
    def option(self):
        return f"otlp:{self._host}:{self.port}"

    def kill(self):
        """Ends it in the middle of whatever it does."""
        self._process.kill()
        self._process.stdin.close()
        self._ended()

    def said(self):
        """What it has warned of."""
        self._stderr.seek(0)
        return self._stderr.read()

    def wait_for(self, count=1):
        """The spans, when that many have come, and none beyond."""
        wait_for(lambda: len(self.spans) >= count, f"only {len(self.spans)} of {count} spans have come")
        assert len(self.spans) == count, [span.attributes for span in self.spans]
        return self.spans

    def _ended(self):
        try:
            return self._process.wait(timeout=PATIENCE)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._reader.join()
            self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            # A killed process may leave half a line.
            if line.endswith("\n"):
                self.spans.append(Span(json.loads(line)))
