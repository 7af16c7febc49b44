"""A collector of OpenTelemetry, which reads what it gets with the package opentelemetry-proto."""

import http.server
import ssl
import threading
import time

from host import PATIENCE
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp


def wait_for(condition, what="it did not come"):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class OfMessage:
    """A span with its attributes, as a test looks at it."""

    @property
    def channel(self):
        return self.attributes.get("messaging.destination.name")

    @property
    def position(self):
        return self.attributes["messaging.message.id"]


class Span(OfMessage):

    def __init__(self, span, resource, scope):
        self.raw, self.resource, self.scope = span, self._read(resource.attributes), scope
        self.trace, self.parent = span.trace_id.hex(), span.parent_span_id.hex()
        self.attributes = self._read(span.attributes)
        self.delivered = [self._read(event.attributes) for event in span.events]

    @staticmethod
    def _read(attributes):
        values = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
        assert len(values) == len(attributes), "a key comes twice"
        return values


class Collector:
    """A receiver of OTLP over HTTP. `answers` are what it says first: a status, with a Retry-After and a body if it is
    a tuple, or "hang". Then it takes everything. `certificates`: it speaks TLS, with what tests/harness/certificates has
    made there."""

    def __init__(self, *answers, port=0, certificates=None):
        self.spans, self.requests, self.problems = [], [], []
        # The requests that hang just now.
        self.hanging = 0
        self._answers, self._lock, self._end = list(answers), threading.Lock(), threading.Event()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                collector._take(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{certificates}/live/fullchain.pem", f"{certificates}/live/privkey.pem")
            # The handshake is that of the connection's own thread.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._host = "https://localhost" if certificates is not None else "http://127.0.0.1"
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        if kind is None:
            assert self.problems == []

    def release(self):
        """Nothing hangs any more. Those that did have no answer."""
        self._end.set()

    @property
    def option(self):
        return f"otlp:{self._host}:{self.port}"

    def _take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            answer = self._answers.pop(0) if self._answers else 200
            self.requests.append((time.monotonic(), handler.path, body))
        if answer == "hang":
            self.hanging += 1
            self._end.wait()
            self.hanging -= 1
            handler.close_connection = True
            return
        status, retry, said = answer if isinstance(answer, tuple) else (answer, None, b"")
        if handler.headers["Content-Type"] != "application/x-protobuf":
            self.problems.append(f"content type {handler.headers['Content-Type']}")
        if status == 200:
            self._read(body)
        handler.send_response(status)
        if retry is not None:
            handler.send_header("Retry-After", retry)
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    def _read(self, body):
        request = otlp.ExportTraceServiceRequest()
        request.ParseFromString(body)
        with self._lock:
            for of_resource in request.resource_spans:
                for of_scope in of_resource.scope_spans:
                    self.spans += [Span(span, of_resource.resource, of_scope.scope) for span in of_scope.spans]

    def wait_for(self, count=1):
        """The spans, when that many have come, and none beyond."""
        wait_for(lambda: len(self.spans) >= count, f"only {len(self.spans)} spans have come")
        assert len(self.spans) == count, [span.attributes for span in self.spans]
        return self.spans
