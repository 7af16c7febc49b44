"""Other people's clients over both versions of TLS: `websockets`, `httpx`, curl, OpenSSL's s_client, GnuTLS's gnutls-cli.

The server has the files that certbot writes. The clients trust only the root, so the server must send the rest.
"""

import itertools
import json
import socket
import ssl
import subprocess

import pytest
from host import PATIENCE, Publishers, Secure, with_tls
from subscribers import TRANSPORTS, take
from test_curl import COMMON, curl, objects
from test_recovery import LEG, LONG_HISTORY, in_form, rest

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# A poll that is answered at once, and is the last request of its connection.
REQUEST = b"GET /push?channel=a&last=1&wait=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def host(start, certificates):
    port, options = with_tls(certificates)
    host = start(*options)
    host.tls = {version: Secure(port, certificates, number) for version, number in VERSIONS.items()}
    return host


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_websockets_and_httpx(host, version, transport):
    since = host.publish("news", "before")
    with TRANSPORTS[transport](host.tls[version], channel="news", since=since) as messages:
        for text in ("one", "grüße", "x" * 100_000):
            host.publish("news", text)
            assert next(messages)["data"] == text


def test_a_key_of_rsa(start, certificates_of_rsa):
    port, options = with_tls(certificates_of_rsa)
    host = start(*options)
    for version in VERSIONS.values():
        since = host.publish("a", "before")
        host.publish("a", "one")
        with TRANSPORTS["poll"](Secure(port, certificates_of_rsa, version), channel="a", since=since) as messages:
            assert next(messages)["data"] == "one"


def test_across_plain_and_tls_and_all_transports_while_four_threads_publish(start, certificates):
    port, options = with_tls(certificates)
    host = start(*LONG_HISTORY, *options)
    ways = [host, *(Secure(port, certificates, version) for version in VERSIONS.values())]
    seen, position = [], host.publish("a", "the beginning")
    with Publishers(host, ["a", "b", "not subscribed"], threads=4) as publishers:
        # Four transports and three ways: each of one with each of the other.
        for transport, way in zip(list(TRANSPORTS) * 3, itertools.cycle(ways)):
            with TRANSPORTS[transport](way, since=position, channel=["a", "b"]) as messages:
                seen += take(messages, LEG)
            position = seen[-1]["id"]
        published = publishers.finish()
    wanted = in_form(message for message in published if message[1] != "not subscribed")
    seen += rest(ways[1], "stream", position, wanted[-1]["id"], ["a", "b"])
    assert seen == wanted


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_python_resumes(host, version):
    at, session = host.tls[version], None
    for resumed in (False, True, True):
        with socket.create_connection((at.host, at.port), PATIENCE) as plain:
            with at.trust.wrap_socket(plain, server_hostname="localhost", session=session) as client:
                client.sendall(REQUEST)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert (client.version(), client.session_reused) == (f"TLSv{version}", resumed)
                session = client.session


def flags(host, version, certificates):
    maximum = ("--tls-max", "1.2") if version == "1.2" else ("--tlsv1.3",)
    return ("--cacert", str(certificates / "root.pem"), *maximum)


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_reads_what_comes(host, version, accept, certificates):
    url = host.tls[version].url(channel="a")
    # It offers HTTP/2 as well, and gets what there is.
    with curl(*flags(host, version, certificates), "--http2", "-H", f"Accept: {accept}", url) as process:
        process.stdout.readline()
        host.wait_for(connections=1)
        for count in range(20):
            id = host.publish("a", f"message {count}")
            if accept == "text/event-stream":
                while (line := process.stdout.readline()) != f"id: {id}\n":
                    assert line, "it has ended"
                assert process.stdout.readline() == f"data: message {count}\n"
            else:
                assert next(objects(process))["data"] == f"message {count}"


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_polls_over_one_connection(host, version, certificates):
    since = host.publish("a", "before")
    id = host.publish("a", "one")
    url = host.tls[version].url(channel="a", since=since)
    told = "\n%{num_connects} %{http_version} %{ssl_verify_result}\n"
    command = [*COMMON, *flags(host, version, certificates), *[url] * 5, "--write-out", told]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")
    assert [json.loads(answer)["messages"][0]["id"] for answer in out[:-1:2]] == [id] * 5
    assert out[1::2] == ["1 1.1 0", *["0 1.1 0"] * 4]


def test_an_older_version_is_refused(host, certificates):
    command = ["curl", "--silent", "--cacert", certificates / "root.pem", "--tls-max", "1.1",
               "--ciphers", "DEFAULT:@SECLEVEL=0", host.tls["1.2"].url(channel="a")]  # fmt: skip
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 35
    host.may_say = "TLS handshake failed"
    # The next client is served.
    test_curl_polls_over_one_connection(host, "1.3", certificates)


def talk(command, ends, until=b"}]}"):
    """Sends the request to a program that passes it on, and returns all that it has printed until it ends.

    With `ends`, the program is ended after the whole answer, which it may print in parts.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        process.stdin.write(REQUEST)
        process.stdin.flush()
        said = b""
        while (part := process.stdout.read1()) and not (until in said + part and ends):
            said += part
        said += part
        process.kill()
    return said.decode(errors="replace")


@pytest.mark.parametrize("version", VERSIONS)
def test_s_client_resumes(host, version, certificates, tmp_path):
    host.publish("a", "one")
    at, session = host.tls[version], tmp_path / "session.pem"
    command = [
        "openssl", "s_client", "-connect", f"localhost:{at.port}", "-servername", "localhost", "-alpn", "http/1.1",
        "-CAfile", certificates / "root.pem", "-verify_return_error", f"-tls{version.replace('.', '_')}",
        "-ign_eof", "-sess_out", session,
    ]  # fmt: skip
    first = talk(command, ends=False)
    assert f"New, TLSv{version}, " in first and '"data":"one"' in first, first
    assert "Verify return code: 0 (ok)" in first and "ALPN protocol: http/1.1" in first, first
    again = talk([*command, "-sess_in", session], ends=False)
    assert f"Reused, TLSv{version}, " in again and '"data":"one"' in again, again


@pytest.mark.parametrize("version", VERSIONS)
def test_gnutls_cli_resumes(host, version, certificates):
    host.publish("a", "one")
    command = [
        "gnutls-cli", "--x509cafile", certificates / "root.pem", "--port", str(host.tls[version].port), "--alpn", "http/1.1",
        "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--resume", "--waitresumption", "localhost",
    ]  # fmt: skip
    said = talk(command, ends=True)
    assert f"Description: (TLS{version}" in said and "The certificate is trusted." in said, said
    assert "This is a resumed session" in said and '"data":"one"' in said, said


def test_s_client_may_not_renegotiate(host, certificates):
    """In TLS 1.2 a client could begin a handshake anew at any time, which costs the server more than the client."""
    command = [
        "openssl", "s_client", "-connect", f"localhost:{host.tls['1.2'].port}", "-servername", "localhost", "-tls1_2",
        "-CAfile", certificates / "root.pem",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        # An R at the beginning of a line asks for it.
        process.stdin.write(b"R\n")
        process.stdin.flush()
        said = process.stdout.read().decode(errors="replace")
    assert "RENEGOTIATING" in said and "no renegotiation" in said, said
    test_curl_polls_over_one_connection(host, "1.2", certificates)


def test_no_ticket_allows_early_data(host, certificates, tmp_path):
    """Early data could be sent again by somebody else."""
    host.publish("a", "one")
    session, early = tmp_path / "session.pem", tmp_path / "early"
    early.write_bytes(REQUEST)
    command = [
        "openssl", "s_client", "-connect", f"localhost:{host.tls['1.3'].port}", "-servername", "localhost", "-tls1_3",
        "-CAfile", certificates / "root.pem", "-ign_eof", "-sess_out", session,
    ]  # fmt: skip
    assert "Max Early Data: 0" in talk(command, ends=False)
    again = talk([*command, "-sess_in", session, "-early_data", early], ends=False)
    assert "Reused, TLSv1.3" in again and "Early data was not sent" in again, again
