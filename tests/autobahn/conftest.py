"""One host for all cases. Each case has its own connection."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import host as harness  # noqa: E402
from peer import Peer  # noqa: E402


@pytest.fixture(scope="session")
def host():
    large = ("max_client_message=16MB", "max_message=16MB", "outbox=64MB")
    with harness.running(*large, "compression=true", "heartbeat=1h") as host:
        yield host


@pytest.fixture
def peer(host):
    with Peer(host) as peer:
        yield peer
