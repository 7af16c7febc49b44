"""Fixtures for the tests of this directory: hosts, and subscribers over each transport."""

import contextlib
import pathlib
import subprocess
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
    """A host without options."""
    return start()


def _made(directory, key):
    subprocess.run([harness.ROOT / "tests/harness/certificates", directory, key], check=True)
    return directory


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A directory with an authority, and with a certificate of it in certbot's files."""
    return _made(tmp_path_factory.mktemp("certificates"), "ec")


@pytest.fixture(scope="session")
def certificates_of_rsa(tmp_path_factory):
    return _made(tmp_path_factory.mktemp("certificates"), "rsa")
