"""A prefork host in Python: WSGI workers on one listening socket, attached to pushd.

    python3 host.py LIBRARY unix:/path/of/pushd.sock [WORKERS]

GET /push is handed over with a grant. The WSGI application serves everything else.
"""

import io
import os
import signal
import socket
import sys
import threading
import urllib.parse

import push


def application(environ, start_response):
    """The application. It publishes as it would write to a database."""
    server = environ["push.server"]
    if environ["PATH_INFO"] == "/publish":
        query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
        body = environ["wsgi.input"].read()
        try:
            answer = server.publish(query["channel"], body, query.get("key"))
        except push.Error as error:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [str(error).encode()]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{answer} {os.getpid()}".encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def read_head(client):
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return None
        data += more
    return data


def serve(server, client):
    """One request of one connection."""
    data = read_head(client)
    if data is None:
        return
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines[1:])}
    path, _, query = target.partition("?")
    if path == "/push":
        # A real host knows the user and the channels from the session. Here the cookie simply is the name, and
        # everybody may read everything.
        user = headers.get("cookie", "").removeprefix("user=") or None
        try:
            server.adopt(client, data, user=user, patterns=["*"])
        except push.Error as error:
            client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            print(f"adopt: {error}", file=sys.stderr)
        return
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        body += client.recv(65536)
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body),
               "CONTENT_LENGTH": str(length), "push.server": server}
    status = []
    chunks = application(environ, lambda line, headers: status.extend([line, headers]))
    body = b"".join(chunks)
    lines = [f"HTTP/1.1 {status[0]}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in status[1]]
    client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def echo(server):
    """Each message of a WebSocket client goes back to it, with the worker that got it."""
    for kind, connection, user, data in server.events():
        if kind == push.EVENT_MESSAGE:
            server.send(connection, b"%d %s: %s" % (os.getpid(), user.encode(), data))


def worker(library, attach, listener):
    server = push.Server(library, attach=attach, attach_name="python", attach_timeout="1m")
    server.want_events()
    thread = threading.Thread(target=echo, args=(server,))
    thread.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    listener.settimeout(0.1)
    while not stop.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client:
            client.settimeout(120)
            try:
                serve(server, client)
            except (OSError, ValueError):
                pass
    server.stop()
    thread.join()


def main(library, attach, workers="2"):
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])

    def fork():
        pid = os.fork()
        if pid == 0:
            try:
                worker(library, attach, listener)
            finally:
                os._exit(0)
        return pid

    pids = {fork() for _ in range(int(workers))}
    while signal.sigwait([signal.SIGTERM, signal.SIGCHLD]) == signal.SIGCHLD:
        # Several children may cause only one signal.
        while (ended := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            pids.discard(ended)
            pids.add(fork())
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
