"""TLS: the certificate of all servers, the servers' commands, and the measurements of handshakes and of a storm."""

import subprocess
import time
from pathlib import Path

from . import load, paths
from .load import Load

FOLDER = paths.OUT / "tls"
CERTIFICATE, KEY = FOLDER / "certificate.pem", FOLDER / "key.pem"
DAYS, RENEWED_AFTER_S = 30, 20 * 24 * 3600
HANDSHAKES, QUICK_HANDSHAKES = 4200, 1200  # the first 200 of them are not measured
OTHERS, STORM, QUICK_STORM = 1000, 5000, 1000
KERNELS = Path("/proc/sys/net/ipv4/tcp_available_ulp")


def certificate():
    """Makes a certificate for localhost with a key on P-256, unless there is one. Returns the paths of both files."""
    if not (CERTIFICATE.exists() and time.time() - CERTIFICATE.stat().st_mtime < RENEWED_AFTER_S):
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
             str(DAYS), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(KEY), "-out",
             str(CERTIFICATE)], check=True, capture_output=True,
        )  # fmt: skip
    return CERTIFICATE, KEY


def kernel_absent():
    """Why connections can't move into this kernel, or None."""
    has = KERNELS.exists() and "tls" in KERNELS.read_text().split()
    return None if has else "this kernel has no TLS (`modprobe tls`)"


def floor(ports):
    # It does not raise its own limit of descriptors.
    raised = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"]
    return [*raised, paths.BIN / "tls-floor", *ports, *certificate()]


def libpush(ports, control, kernel="off"):
    chain, key = certificate()
    return [
        paths.BIN / "own-listener", "threads=1", f"listen=tls:127.0.0.1:{ports[0]}", f"tls_certificate={chain}",
        f"tls_key={key}", f"tls_kernel={kernel}", *control,
    ]


def go_sse(ports):
    return [paths.BIN / "sse", f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", *certificate()]


def nginx_listens(ports):
    """The lines of a server of nginx with an address for subscribers, and a plain one to publish."""
    chain, key = certificate()
    return (
        f"listen 127.0.0.1:{ports[0]} ssl backlog=4096; listen 127.0.0.1:{ports[1]} backlog=4096; "
        f"ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
    )


def handshakes(version):
    """Full handshakes, then as many resumed ones. Nothing is asked for."""

    def measure(server, quick):
        count = QUICK_HANDSHAKES if quick else HANDSHAKES
        return load.run(server, Load("ws", count, tls=version, handshakes=1))

    return measure


def storm(server, quick):
    """Others get messages, and clients of another channel come back at once. One run measures both: the others without
    the storm, and with it."""
    the_load = Load("ws", OTHERS, 40, rate=20, tls="1.3", storm=QUICK_STORM if quick else STORM)
    result = load.run(server, the_load)
    if result.get("p99_all_read_ms"):
        result["others_p99"] = result["p99_ms"] / result["p99_all_read_ms"]
    return result
