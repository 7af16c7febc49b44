"""Fixtures for the tests of this directory: pushd, nginx with the module, a certificate."""

import contextlib
import pathlib
import ssl
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "clients")]

import servers  # noqa: E402

SITE = """
    location /push { push_subscribe; push_grant *; }
    location /publish {
        push_publish $push_arg_channel event=$http_push_event key=$http_push_key;
        client_max_body_size 20m;
        client_body_buffer_size 16k;
    }
    location /begin { push_begin $push_arg_channel; }
    location /end { push_end $push_arg_channel; }
    location /status { push_status; }
    location /stub { stub_status; access_log off; }
    location / { return 200 "here\\n"; }
"""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificate")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:*.example.org", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def trust(certificate):
    """A TLS context that trusts the test's certificate."""
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture
def start_pushd(tmp_path):
    with contextlib.ExitStack() as stack:

        def start(*options):
            pushd = servers.Pushd(tmp_path, *options)
            stack.callback(pushd.stop)
            return pushd

        yield start


@pytest.fixture
def pushd(start_pushd):
    return start_pushd()


@pytest.fixture
def configured(tmp_path, certificate):
    """nginx with this configuration, not started. At the end its log must have no line about a defect.
    """
    made = []

    def configure(expected=0, attached=True, http="", timeout="1m", **arguments):
        """`timeout`: how long to wait for the hub. Short ones are for hubs that do not answer: on a busy machine
        other hubs may not answer in time either."""
        if attached:
            http = f"push_attach unix:{tmp_path}/attach.sock timeout={timeout};\n" + http
        made.append((servers.Nginx(tmp_path, *certificate, http=http, **{"server": SITE, **arguments}), expected))
        return made[-1][0]

    yield configure
    for nginx, _ in made:
        nginx.end()
    for nginx, expected in made:
        assert len(nginx.defects()) == expected, nginx.defects()


@pytest.fixture
def start_nginx(configured):
    return lambda **arguments: configured(**arguments).start()


@pytest.fixture
def nginx(pushd, start_nginx):
    """The usual site, attached."""
    return start_nginx()
