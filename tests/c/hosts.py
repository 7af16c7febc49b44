"""The C hosts under traffic and valgrind: no error, and no leak after push_stop. And the host that links nothing."""

import os
import re
import signal
import subprocess
import traceback

import traffic
from report import EXAMPLES, OUT, STAGE, execute, kill_group
from traffic import BINARY, CLOSE, PING, TEXT, Client, WebSocket

ERROR = 99
# valgrind runs one thread at a time. Without --fair-sched one thread would get all the time.
VALGRIND = ["valgrind", "--leak-check=full", "--show-leak-kinds=definite,indirect",
            "--errors-for-leak-kinds=definite,indirect", f"--error-exitcode={ERROR}", "--num-callers=30",
            "--fair-sched=yes", "--track-fds=no"]


def run(report, only):
    if only in ("", "valgrind"):
        valgrind_works(report)
        under_valgrind(report, "hello", [EXAMPLES / "hello", "127.0.0.1:0"], drive_hello)
        # Under valgrind nobody is quick.
        options = ("outbox=64KB", "history_count=20", "heartbeat=1h", "head_timeout=10m", "close_timeout=10m")
        under_valgrind(report, "legacy-server", [EXAMPLES / "legacy-server", "-p", "0", "-k", "-w", "60000",
                                                 *(part for option in options for part in ("-o", option))],
                       drive_legacy_server)
    if only in ("", "plugin-host"):
        plugin_host(report)
    if only in ("", "auth"):
        no_login(report)
    if only in ("", "numbers"):
        wrong_numbers(report)


def wrong_numbers(report):
    """A number of an argument has one form, as in the library's options: a mistyped one is not taken for another."""
    prefork = ["prefork-server", "-a", "unix:/nowhere"]
    for command, flag in ((["legacy-server"], "-p"), (["legacy-server"], "-w"), (["answer"], "-p"), (["answer"], "-n"),
                          (prefork, "-p"), (prefork, "-n")):
        for number in ("+8", "008", " 8", "8 ", "-8", "8x", "0x8", "", "4294967304", "9" * 30):
            # One that takes the number serves, and does not end.
            process = subprocess.Popen([EXAMPLES / command[0], *command[1:], flag, number], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
            try:
                _, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                kill_group(process)
                errors = b"it does not end"
            says = f"{flag} {number}: a ".encode() in errors
            report.check(f"{command[0]} {flag} '{number}'", process.returncode != 0 and says,
                         f"{process.returncode}, {errors!r}")


def no_login(report):
    """The grant of -k takes the place of the option auth, so that it must not ask for a login. Without -k it may: the
    library may have a listener of its own."""
    file = OUT / "auth.toml"
    for auth, secret in (("jwt", "s" * 32), ("none", None)):
        options = {"auth": auth, **({"jwt_secret": secret} if secret else {})}
        file.write_text("".join(f'{name} = "{value}"\n' for name, value in options.items()))
        of_options = [part for option, value in options.items() for part in ("-o", f"{option}={value}")]
        for arguments in (of_options, ["-c", file], [*of_options, "-k"], ["-c", file, "-k"]):
            allowed = auth == "none" or "-k" not in arguments
            process = subprocess.Popen([EXAMPLES / "legacy-server", "-p", "0", *arguments], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
            serves = b"listening" in process.stdout.readline()
            if serves:
                process.send_signal(signal.SIGTERM)
            try:
                _, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                kill_group(process)
                errors = b"it does not end"
            names = b"option auth: beside -k only none is allowed" in errors
            name = f"legacy-server: auth={auth}{' in a file' if file in arguments else ''}"
            report.check(name + (" with -k" if "-k" in arguments else ""),
                         serves == allowed and names != allowed, f"serves: {serves}, {errors!r}")


def valgrind_works(report):
    """Valgrind finds a planted error and a planted leak."""
    source, program = OUT / "mistakes.c", OUT / "mistakes"
    source.write_text("#include <stdlib.h>\n#include <string.h>\nint main(void) {\n"
                      "char *volatile p = malloc(9); memset(p, 1, 8); p = NULL; return 0; }\n")
    code, output = execute(["gcc", "-O0", "-g", source, "-o", program])
    if code == 0:
        code, output = execute([*VALGRIND, program])
    report.check("valgrind finds a leak where there is one", code == ERROR and "definitely lost: 9 bytes" in output,
                 f"exit code {code}", output)


def under_valgrind(report, name, command, drive):
    log = OUT / f"valgrind-{name}.log"
    log.unlink(missing_ok=True)
    process = subprocess.Popen([*VALGRIND, f"--log-file={log}", *map(str, command)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    problem = None
    try:
        port = int(re.search(rb"http://127\.0\.0\.1:(\d+)/", process.stdout.readline()).group(1))
        leave = drive(port)
        process.send_signal(signal.SIGTERM)
        leave()
        _, errors = process.communicate(timeout=240)
        if errors:
            problem = f"it writes to stderr: {errors.decode(errors='replace')}"
    except (AssertionError, AttributeError, OSError, subprocess.TimeoutExpired) as failure:
        place = traceback.extract_tb(failure.__traceback__)[-2 if isinstance(failure, AssertionError) else -1]
        problem = f"{type(failure).__name__}: {failure} ({place.name}, line {place.lineno})"
    finally:
        kill_group(process)
    text = log.read_text(errors="replace") if log.exists() else ""
    report.add(f"{name} under valgrind: traffic of every kind, and a stop", problem, text)
    report.check(f"{name} under valgrind: it ends well after SIGTERM", process.returncode in (0, ERROR),
                 f"exit code {process.returncode}", text)
    report.check(f"{name} under valgrind: no error", "ERROR SUMMARY: 0 errors" in text, "there are errors", text)
    lost = {kind: int(count.replace(",", "")) for kind, count in
            re.findall(r"(definitely|indirectly) lost: ([\d,]+) bytes", text)}
    freed = "All heap blocks were freed" in text
    report.check(f"{name} under valgrind: nothing is lost", freed or lost == {"definitely": 0, "indirectly": 0},
                 f"lost: {lost}", text)


def drive_hello(port):
    subscribers = traffic.subscribe_all(port, "time")
    ws, json, sse, stream, poll = subscribers
    clock = rb"\d\d:\d\d:\d\d"
    for _ in range(2):
        frame = ws.next()
        assert frame and frame[0] == TEXT and re.fullmatch(clock, frame[1]), frame
        json.expect_part(rb'"data":"' + clock)
        sse.past(rb"data: " + clock)
        stream.past(rb'"data":"' + clock)
    position = poll.past(rb'"position":"([^"]+)","messages":\[.*?\]\}').group(1).decode()
    poll.get(f"/push?channel=time&since={position}")
    poll.past(rb'"data":"' + clock)
    late = Client(port).get(f"/push?channel=time&transport=stream&since={position}")
    late.past(rb'"data":"' + clock)
    traffic.misbehave(port, alive=(ws, json))
    preflight = Client(port).get("/push?channel=time", "Origin: http://127.0.0.1", method="OPTIONS")
    preflight.past(r"HTTP/1\.1 204 ")
    nowhere = Client(port).get("/elsewhere")
    nowhere.past(r"HTTP/1\.1 404 ")
    return lambda: goodbye(ws, json, sse, stream, others=[poll, late, preflight, nowhere])


def goodbye(ws, json, sse, stream, others=()):
    """Every client is told why, in the form of its transport."""
    for client in (ws, json):
        assert client.close_code() == 1001
        client.frame(CLOSE, b"\x03\xe9")
    sse.past(r"event: push-close\ndata: .*1001")
    stream.past(r'"type":"close","code":1001')
    for client in (ws, json, sse, stream, *others):
        client.close()


def drive_legacy_server(port):
    subscribers = traffic.subscribe_all(port, "news")
    ws, json, sse, stream, poll = subscribers
    publisher = Client(port)
    publish(publisher, "/publish?channel=news", b"hello")
    ws.expect(b"hello")
    json.expect_part(rb'"data":"hello"')
    sse.past(rb"data: hello\n")
    stream.past(rb'"data":"hello"')
    position = poll.past(rb'"position":"([^"]+)"').group(1).decode()
    for index in range(40):  # more than the history keeps, so a client that comes back is told of a gap
        publish(publisher, f"/publish?channel=news&event=tick&key=k{index % 30}", b"\xff\0%d" % index)
    publish(publisher, "/broadcast", b"to everybody")
    ws.expect(b"to everybody")
    json.expect_part(rb'"type":"broadcast".*to everybody')
    sse.past(b"data: to everybody\n")
    stream.past(b'"data":"to everybody"')
    poll.get(f"/push?channel=news&since={position}")
    poll.past(rb'"type":"gap"')
    echo(port)
    slow_client(port, publisher)
    traffic.misbehave(port)
    for path, status in (("/", 200), ("/nowhere", 404), ("/stats", 200)):
        publisher.get(path).past(rf"HTTP/1\.1 {status} .*?\r\n\r\n")
    publisher.past(rb'"seq":\d+[^}]*\}')
    return lambda: goodbye(ws, json, sse, stream, others=[poll, publisher])


def publish(client, path, body):
    client.get(path, method="POST", body=body)
    client.past(rb'HTTP/1\.1 200 .*?\{"id":"[0-9a-z]+-\d+"\}')


def echo(port):
    """A message of a WebSocket client comes back unchanged."""
    client = WebSocket(port, "channel=quiet")
    for size in (0, 1, 125, 126, 4000, 65535, 65536):
        payload = os.urandom(size)
        client.frame(BINARY, payload)
        client.expect(payload)
    client.frame(TEXT, b"in ", first=0)
    client.frame(PING, b"amid")
    client.frame(0, b"two parts")
    client.expect(b"amid")
    client.expect(b"in two parts")
    client.frame(BINARY, bytes(65537))
    assert client.close_code() == 1009
    client.close()


def slow_client(port, publisher):
    """A client does not read: its outbox fills up, and it is closed."""
    slow = WebSocket(port, "channel=flood")
    payload = os.urandom(500_000)
    for _ in range(20):
        publish(publisher, "/publish?channel=flood", payload)
    assert slow.close_code() == 4429
    slow.close()


def plugin_host(report):
    host, library = EXAMPLES / "plugin-host", STAGE / "lib" / "libpush.so"
    _, linked = execute(["ldd", host])
    report.check("plugin-host links nothing of the library", "libpush" not in linked, "it does", linked)
    output = report.command("plugin-host loads it, publishes, stops, and lets go", [host, library])
    report.check("plugin-host says so", output and output.endswith("\nok\n"), f"it says {output!r}")
    code, output = execute([*VALGRIND, host, library])
    report.check("plugin-host under valgrind", code == 0 and "ERROR SUMMARY: 0 errors" in output, f"exit code {code}",
                 output)
    code, output = execute([host, STAGE / "lib" / "none.so"])
    report.check("plugin-host without a library says so", code == 1 and "none.so" in output, f"exit code {code}",
                 output)
