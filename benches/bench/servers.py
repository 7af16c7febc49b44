"""The servers that are measured: the command that starts each, and its URLs for subscribing and publishing."""

import base64
import hashlib
import hmac
import json
import resource
import shutil
from dataclasses import dataclass, field
from typing import Callable
from urllib.parse import quote

from . import before, cluster, nginx, paths, peers, tls
from .process import Process, free_port

FLOOR, LIBPUSH, PEER = "floor", "libpush", "peer"
CONTROL_KEY = "0123456789abcdef0123456789abcdef"
MERCURE_KEY = "a key for benchmarks of 32 bytes."


@dataclass(frozen=True)
class Publish:
    """The request that publishes a message."""

    path: str
    headers: tuple = ()
    type: str = "text/plain"
    prefix: str = ""
    suffix: str = ""
    port_index: int = 0


@dataclass(frozen=True)
class Server:
    name: str
    label: str
    kind: str
    transports: dict  # transport: the subscribers' path
    publish: Publish
    command: Callable  # from its ports to argv
    port_count: int = 1
    versions: Callable = field(default=lambda: "")
    other: str = ""  # the subscribers' path of another channel
    some_path: str = ""  # the path of one subscriber in ten, if it is not that of all

    def absent(self):
        """The reason why it can't be measured, or None."""
        if self.kind == PEER:
            program = self.name.removesuffix("-nodes").removesuffix("-tls")
            return peers.absent(program) or (self.name.endswith("-nodes") and cluster.absent())
        if self.name.endswith("-before") and before.absent():
            return before.absent()
        if self.name == "libpush-nodes" and cluster.absent():
            return cluster.absent()
        if self.name == "libpush-tls-kernel" and tls.kernel_absent():
            return tls.kernel_absent()
        needed = {
            "floor": [paths.BIN / "floor"],
            "floor-tls": [paths.BIN / "tls-floor"],
            "libpush": [paths.LIBPUSH, paths.LEGACY_SERVER],
            "libpush-own": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-tls": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-tls-kernel": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-log": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-nodes": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-kept": [paths.LIBPUSH, paths.BIN / "own-listener"],
            "libpush-epoll": [paths.LIBPUSH, paths.BIN / "adopting"],
            "libpush-before": [paths.BIN / "publish"],
            "libpush-users": [paths.LIBPUSH, paths.BIN / "adopting"],
            "libpush-users-before": [paths.BIN / "adopting"],
            "libpush-presence": [paths.LIBPUSH, paths.BIN / "adopting"],
            "libpush-presence-some": [paths.LIBPUSH, paths.BIN / "adopting"],
            "libpush-nginx": [paths.LIBPUSH, nginx.MODULE, nginx.PUSHD, nginx.NGINX],
        }[self.name]
        missing = [
            str(p.relative_to(paths.ROOT) if p.is_relative_to(paths.ROOT) else p) for p in needed if not p.exists()
        ]
        return f"{', '.join(missing)} not built" if missing else None

    def start(self):
        ports = [free_port() for _ in range(self.port_count)]
        return Process(self.name, [str(part) for part in self.command(ports)], ports)


def _legacy(ports):
    empty = paths.RUN / "www"
    empty.mkdir(parents=True, exist_ok=True)
    # -k keeps a poll's connection open: each connection of the load is one client.
    return [paths.LEGACY_SERVER, "-p", ports[0], "-d", empty, "-k", "-o", "threads=1"]


def _own_listener(ports):
    return [paths.BIN / "own-listener", "threads=1", f"listen=127.0.0.1:{ports[0]}", *_control(ports)]


def _with_log(ports):
    log = paths.RUN / "log"
    shutil.rmtree(log, ignore_errors=True)
    paths.RUN.mkdir(parents=True, exist_ok=True)
    return [*_own_listener(ports), f"engine=file:{log}"]


def _nodes(ports):
    return cluster.libpush_nodes(ports, CONTROL_KEY)


def _epoll_host(ports):
    return [paths.BIN / "adopting", ports[0], "threads=1", "listen=none", "events=message", *_control(ports)]


def _users(ports, *more):
    """The same, with a user of its own for each client."""
    host = [paths.BIN / "adopting", "-u", ports[0], "threads=1", "listen=none", "events=message"]
    return [*host, *_control(ports), *more]


def _presence(ports):
    return _users(ports, "channel.bench.presence=true")


def _kept(ports):
    return [*_own_listener(ports), "history_count=3000"]


def _control(ports):
    return [f"control=127.0.0.1:{ports[1]}", f"control_key={CONTROL_KEY}"]


def _nchan(ports):
    return _nchan_at(f"listen 127.0.0.1:{ports[0]} backlog=4096;")


def _nchan_at(listen):
    config = (paths.BENCHES / "peers" / "nchan.conf.in").read_text()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for name, value in {
        "@ROOT@": peers.nchan_root(), "@RUN@": paths.RUN, "@LISTEN@": listen, "@DESCRIPTORS@": min(limit, 1 << 20),
    }.items():
        config = config.replace(name, str(value))
    path = paths.RUN / "nchan.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config)
    return [peers.nchan_root() / "usr/sbin/nginx", "-p", paths.RUN, "-c", path]


def _centrifuge_nodes(ports):
    """Two nodes over the Redis engine. Subscribers come to the second."""

    def node(port):
        return lambda url: [str(paths.BIN / "centrifuge-node"), _ADDRESS(port), url]

    return cluster.nodes(ports, node(ports[1]), node(ports[0]))


def _centrifugo(ports):
    """Anybody may subscribe and publish. The transports are one-way, so a subscriber is one request, as elsewhere."""
    channel = {"allow_subscribe_for_client": True, "allow_subscribe_for_anonymous": True}
    config = {
        "http_server": {"address": "127.0.0.1", "port": str(ports[0])},
        "client": {"insecure": True, "allowed_origins": ["*"]},
        "http_api": {"insecure": True},
        "channel": {"without_namespace": channel},
        "uni_sse": {"enabled": True},
        "uni_websocket": {"enabled": True},
        "log": {"level": "error"},
    }
    path = paths.RUN / "centrifugo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return [paths.BIN / "centrifugo", "--config", path]


def _jwt(key, claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(key.encode(), signed, hashlib.sha256).digest())).decode()


_TRANSPORTS = ("ws", "sse", "stream", "poll")
_SUBSCRIBE = dict.fromkeys(_TRANSPORTS, "/push?channel=bench")
_CONTROL_PUBLISH = Publish("/v1/publish?channel=bench", (f"Authorization: Bearer {CONTROL_KEY}",), port_index=1)
_ADDRESS = "127.0.0.1:{}".format
_OTHER = "/push?channel=other"
_CENTRIFUGO_CONNECT = "?cf_connect=" + quote(json.dumps({"subs": {"bench": {}}}))


_FOLLOW = "/push?channel=bench&presence=1"


def _with_control(name, label, command, query="", some_path=""):
    """A server of the library, which is published to through the control API."""
    transports = {transport: path + query for transport, path in _SUBSCRIBE.items()}
    return Server(
        name, label, LIBPUSH, transports, _CONTROL_PUBLISH, command, port_count=2, other=_OTHER, some_path=some_path
    )


SERVERS = [
    Server(
        "floor", "floor (bare send)", FLOOR,
        {"ws": "/sub", "sse": "/sub", "stream": "/sub", "poll": "/poll"},
        Publish("/pub"), lambda ports: [paths.BIN / "floor", ports[0]],
    ),
    Server(
        "floor-tls", "floor (encrypt, bare send)", FLOOR, {"ws": "/sub", "sse": "/sub"}, Publish("/pub", port_index=1),
        tls.floor, port_count=2,
    ),
    Server(
        "libpush", "libpush in a C server", LIBPUSH, _SUBSCRIBE,
        Publish("/publish?channel=bench"), _legacy,
    ),
    Server("libpush-before", "libpush of an earlier build", LIBPUSH, {}, Publish(""), lambda ports: [], port_count=0),
    _with_control("libpush-own", "libpush, own listener", _own_listener),
    _with_control("libpush-tls", "libpush, own listener, TLS", lambda ports: tls.libpush(ports, _control(ports))),
    _with_control(
        "libpush-tls-kernel", "libpush, own listener, TLS in the kernel",
        lambda ports: tls.libpush(ports, _control(ports), "auto"),
    ),
    _with_control("libpush-log", "libpush, own listener, with a log on disk", _with_log),
    _with_control("libpush-nodes", "libpush, two hubs and a Redis", _nodes),
    _with_control("libpush-epoll", "libpush in an epoll host", _epoll_host),
    _with_control("libpush-users", "libpush in an epoll host, clients with users", _users),
    _with_control(
        "libpush-users-before", "libpush of an earlier build, clients with users", lambda ports: before.command(_users(ports))
    ),
    _with_control("libpush-presence", "libpush in an epoll host, with presence, all follow", _presence, "&presence=1"),
    _with_control(
        "libpush-presence-some", "libpush in an epoll host, with presence, one in ten follows", _presence, some_path=_FOLLOW
    ),
    _with_control("libpush-kept", "libpush, own listener, clients with since=start", _kept, "&since=start"),
    Server(
        "libpush-nginx", "libpush in nginx, with pushd", LIBPUSH,
        dict.fromkeys(_TRANSPORTS, "/push"), Publish("/pub"), nginx.command,
    ),
    Server(
        "uws", "uWebSockets", PEER, {"ws": "/sub"},
        Publish("/pub"), lambda ports: [paths.BIN / "uws", peers.uws_library(), ports[0]],
    ),
    Server(
        "nchan", "Nchan", PEER, dict.fromkeys(("ws", "sse", "poll"), "/sub"),
        Publish("/pub"), _nchan,
    ),
    Server(
        "nchan-tls", "nginx + Nchan, TLS", PEER, dict.fromkeys(("ws", "sse"), "/sub"), Publish("/pub", port_index=1),
        lambda ports: _nchan_at(tls.nginx_listens(ports)), port_count=2, other="/other",
    ),
    Server(
        "melody", "melody (Go)", PEER, {"ws": "/sub"},
        Publish("/pub"), lambda ports: [paths.BIN / "melody", _ADDRESS(ports[0])],
    ),
    Server(
        "go-sse", "net/http SSE (Go)", PEER, {"sse": "/sub"},
        Publish("/pub"), lambda ports: [paths.BIN / "sse", _ADDRESS(ports[0])],
    ),
    Server(
        "go-sse-tls", "net/http SSE (Go), TLS", PEER, {"sse": "/sub"}, Publish("/pub", port_index=1), tls.go_sse,
        port_count=2,
    ),
    Server(
        "centrifugo", "Centrifugo", PEER,
        {"ws": "/connection/uni_websocket" + _CENTRIFUGO_CONNECT, "sse": "/connection/uni_sse" + _CENTRIFUGO_CONNECT},
        Publish("/api/publish", (), "application/json", '{"channel":"bench","data":"', '"}'), _centrifugo,
    ),
    Server(
        "centrifuge-nodes", "centrifuge (Go), two nodes and a Redis", PEER, {"sse": "/sub?cf_connect=" + quote('{"id":1,"connect":{}}')},
        Publish("/pub", port_index=1), _centrifuge_nodes, port_count=2,
    ),
    Server(
        "mercure", "Mercure", PEER, {"sse": "/.well-known/mercure?topic=bench"},
        Publish(
            "/.well-known/mercure",
            ("Authorization: Bearer " + _jwt(MERCURE_KEY, {"mercure": {"publish": ["*"]}}),),
            "application/x-www-form-urlencoded", "topic=bench&data=",
        ),
        lambda ports: [paths.BIN / "mercure", _ADDRESS(ports[0]), MERCURE_KEY],
    ),
]

BY_NAME = {server.name: server for server in SERVERS}
