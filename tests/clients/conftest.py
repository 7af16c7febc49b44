"""What the tests of this directory share: hosts, and subscribers over each transport."""

import contextlib
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import host as harness  # noqa: E402


@pytest.fixture
def start():
    """Starts hosts, which end with the test: start("history_count=10", flags=["-k"])."""
    with contextlib.ExitStack() as hosts:
        yield lambda *options, **arguments: hosts.enter_context(harness.running(*options, **arguments))


@pytest.fixture
def host(start):
    """A host as it is without options."""
    return start()
