"""Paths. All files that the harness makes are below target/bench."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHES = ROOT / "benches"
OUT = ROOT / "target" / "bench"
BIN = OUT / "bin"
RUN = OUT / "run"
PEERS = OUT / "peers"

LIBPUSH = ROOT / "target" / "release" / "libpush.so"
LEGACY_SERVER = ROOT / "target" / "examples-c" / "legacy-server"
