"""Fetches and builds the peers, each by its name from a package registry. If one can't be fetched, the reason is shown.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Callable

from . import paths

ABSENT = paths.OUT / "absent.json"
TIMEOUT_S = 900

SOCKETIFY = "socketify==0.0.31"
CENTRIFUGO = "github.com/centrifugal/centrifugo/v6@v6.9.1"
NCHAN_PACKAGES = ("nginx", "libnginx-mod-nchan")
# This path is compiled into Debian's nginx. It makes its directories for temporary files there when a module is loaded.
NGINX_STATE = "/var/lib/nginx"


class Absent(Exception):
    """A peer can't be fetched or built. The text is the reason."""


def _tool(name, package=None):
    if not shutil.which(name):
        raise Absent(f"needs `{name}`" + (f" (Debian: {package})" if package else ""))


def _run(*command, cwd=None, env=None):
    """Runs a command. If it fails, raises Absent with the end of its output."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **(env or {})}, timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )
    if result.returncode:
        said = [line.strip() for line in result.stdout.splitlines() if line.strip()][-2:]
        words = re.sub(r"https?://\S+", "the registry", " ".join(said))
        # These tools print the cause at the end.
        cause = words if len(words) < 160 else "… " + words[-160:].split(" ", 1)[-1]
        raise Absent(f"`{' '.join(map(str, command))}` failed: {cause}")
    return result.stdout


def nchan_root():
    return paths.PEERS / "nchan" / "root"


def _fetch_nchan():
    """Unpacks the packages below target/bench. They are not installed, since that would also start a web server."""
    _tool("apt-get")
    _tool("dpkg-deb", "dpkg")
    packages = paths.PEERS / "nchan" / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    _say("nchan", f"apt-get download {' '.join(NCHAN_PACKAGES)}, unpacked below target/bench")
    try:
        _run("apt-get", "download", *NCHAN_PACKAGES, cwd=packages)
    except Absent:
        # A machine that never ran `apt-get update` has no lists of packages.
        if os.geteuid() != 0:
            raise
        _say("nchan", "apt-get update")
        _run("apt-get", "update")
        _run("apt-get", "download", *NCHAN_PACKAGES, cwd=packages)
    for package in packages.glob("*.deb"):
        _run("dpkg-deb", "-x", package, nchan_root())
    if not os.path.isdir(NGINX_STATE):
        if os.geteuid() != 0:
            raise Absent(f"Debian's nginx needs the directory {NGINX_STATE}, which only root can make")
        _say("nchan", f"mkdir {NGINX_STATE}")
        os.makedirs(NGINX_STATE)
    _run(nchan_root() / "usr/sbin/nginx", "-v")


def uws_library():
    found = sorted((paths.PEERS / "uws").glob("lib/python3*/site-packages/socketify/libsocketify_linux_amd64.so"))
    return found[0] if found else None


def _fetch_uws():
    venv = paths.PEERS / "uws"
    _say("uws", f"a venv below target/bench, pip install {SOCKETIFY}")
    if not (venv / "bin" / "pip").exists():
        _run(sys.executable, "-m", "venv", venv)
    _run(venv / "bin" / "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", SOCKETIFY)
    if os.uname().machine != "x86_64" or not uws_library():
        raise Absent("socketify has no library for this machine")
    _tool("cc", "gcc")
    _run(
        "cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", paths.BIN / "uws", paths.BENCHES / "peers" / "uws.c", "-ldl"
    )
    missing = [line.split()[0] for line in _run("ldd", uws_library()).splitlines() if "not found" in line]
    if missing:
        raise Absent(f"{', '.join(missing)} is not installed (Debian: libuv1)")


def _fetch_centrifugo():
    _tool("go", "golang")
    _say("centrifugo", f"go install {CENTRIFUGO}")
    _run("go", "install", "-p", "1", CENTRIFUGO, env={"GOBIN": str(paths.BIN)})


SOURCES = paths.BENCHES / "peers"


@dataclass(frozen=True)
class Peer:
    fetch: Callable
    made: Callable  # the file that exists once the peer is built
    sources: tuple = ()  # the files of this repository that it is built from

    def current(self):
        made = self.made()
        if not made or not made.exists():
            return False
        return all(made.stat().st_mtime >= source.stat().st_mtime for source in self.sources)


def _go_peer(module, package, program):
    """A program of a module below benches/peers, and its package there."""
    folder = SOURCES / module

    def fetch():
        _tool("go", "golang")
        _say(module, f"go build in benches/peers/{module}, its modules through the Go module proxy")
        # One compiler at a time, so that the set-up of a benchmark does not block others who work on this machine.
        _run("go", "build", "-p", "1", "-o", f"{paths.BIN}/", f"./{package}", cwd=folder)

    return Peer(fetch, lambda: paths.BIN / program, (folder / package / "main.go", folder / "go.mod"))


PEERS = {
    "uws": Peer(_fetch_uws, lambda: paths.BIN / "uws", (SOURCES / "uws.c",)),
    "nchan": Peer(_fetch_nchan, lambda: nchan_root() / "usr/lib/nginx/modules/ngx_nchan_module.so"),
    "melody": _go_peer("go", "melody", "melody"),
    "go-sse": _go_peer("go", "sse", "sse"),
    "centrifugo": Peer(_fetch_centrifugo, lambda: paths.BIN / "centrifugo"),
    "centrifuge": _go_peer("centrifuge", "", "centrifuge-node"),
    # No peer, but the floor of latency over NATS.
    "nats": _go_peer("nats", "", "bare-nats"),
    "mercure": _go_peer("mercure", "", "mercure"),
}


def _say(name, text):
    print(f"  {name}: {text}", flush=True)


def _read_reasons():
    return json.loads(ABSENT.read_text()) if ABSENT.exists() else {}


def set_up():
    """Fetches the peers that are missing. A peer that failed is not tried again until absent.json is removed."""
    paths.BIN.mkdir(parents=True, exist_ok=True)
    reasons = _read_reasons()
    for name, peer in PEERS.items():
        if name in reasons or peer.current():
            continue
        try:
            peer.fetch()
            peer.made().touch()  # newer than its sources, even if nothing had to be built
        except Absent as reason:
            reasons[name] = str(reason)
        except subprocess.TimeoutExpired as late:
            reasons[name] = f"`{late.cmd[0]}` took longer than {TIMEOUT_S} s"
    for name, reason in reasons.items():
        _say(name, f"absent: {reason}")
    ABSENT.write_text(json.dumps(reasons, indent=2) + "\n")


def absent(name):
    """The reason why that peer can't be measured, or None."""
    if PEERS[name].current():
        return None
    return _read_reasons().get(name, "it is not set up; `make bench-peers` does that")
