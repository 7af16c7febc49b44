"""libpush in nginx: its start, and the measurements that compare it with Nchan only."""

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from . import load, paths, peers
from .load import Load

MODULE = paths.ROOT / "target/nginx/ngx_http_push_module.so"
PUSHD = paths.ROOT / "target/release/pushd"
NGINX = Path("/usr/sbin/nginx")
SUBSCRIBERS = 19000
# The slope is measured from here on. By then nginx has the memory for the requests that it handles at one time.
FIRST_STEP = 9500
SHOW = {"subscribers": 2000, "rate": 100, "reloads": 10}
QUICK_SHOW = {"subscribers": 500, "rate": 50, "reloads": 3}

NCHAN_SITE = """
    location = /push {
        nchan_subscriber websocket eventsource longpoll;
        nchan_channel_id $arg_channel;
        nchan_subscriber_first_message newest;
    }
    location = /publish {
        nchan_publisher;
        nchan_channel_id $arg_channel;
        nchan_message_buffer_length 1000;
        nchan_message_timeout 5m;
        add_header X-Worker $pid always;
    }
    location / { return 200; }
"""
PUSH_SITE = """
    location = /push { push_subscribe; push_grant *; }
    location = /publish {
        push_publish $push_arg_channel key=$http_push_key;
        add_header X-Worker $pid;
    }
    location / { return 200; }
"""


def command(ports):
    text = (paths.BENCHES / "peers/push-nginx.conf.in").read_text()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for name, value in {
        "@MODULE@": MODULE, "@RUN@": paths.RUN, "@PORT@": ports[0], "@DESCRIPTORS@": min(limit, 1 << 20),
        # pushd allows only processes of its own user to attach.
        "@USER@": "user root;" if os.geteuid() == 0 else "",
    }.items():  # fmt: skip
        text = text.replace(name, str(value))
    paths.RUN.mkdir(parents=True, exist_ok=True)
    configuration = paths.RUN / "push-nginx.conf"
    configuration.write_text(text)
    return [paths.BENCHES / "peers/push-nginx.sh", PUSHD, NGINX, paths.RUN, configuration]


def _is(name):
    return lambda pid: Path(f"/proc/{pid}/comm").read_text().strip() == name


def memory(server, quick):
    """The memory of a handed-over client, in nginx and in pushd. Each is a run of its own, on fresh servers."""
    the_load = Load("ws", SUBSCRIBERS, first_step=FIRST_STEP, settle_ms=1000)
    found = {}
    for name in ("nginx", "pushd"):
        result = load.run(server, the_load, of=_is(name))
        if result["fault"]:
            return {"fault": f"{name}: {result['fault']}"}
        found[f"{name}_memory"] = result["memory_per_subscriber"]
    return {**found, "fault": None}


def reloads(server, quick):
    """The run of tests/nginx/reloads.py: reloads, a dead worker and a restart, with four workers. The figure is what
    clients lost. So a loss is a result, also for Nchan, and not a fault of the measurement."""
    sys.path[:0] = [str(paths.ROOT / "tests/nginx")]
    import reloads as tests
    import servers as tested

    with tempfile.TemporaryDirectory(prefix="push-reloads-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-keyout", directory / "key.pem", "-out", directory / "certificate.pem"], check=True, capture_output=True,
        )  # fmt: skip
        push = server.name == "libpush-nginx"
        if push:
            pushd = tested.Pushd(directory, "history_count=1000", "poll_timeout=5s", program=PUSHD)
            stack.callback(pushd.stop)
        nginx = tested.Nginx(
            directory, directory / "certificate.pem", directory / "key.pem", workers=4,
            http=f"push_attach {pushd.attach};" if push else "", server=PUSH_SITE if push else NCHAN_SITE,
            load=[MODULE if push else peers.nchan_root() / "usr/lib/nginx/modules/ngx_nchan_module.so"],
            program=NGINX if push else peers.nchan_root() / "usr/sbin/nginx", via="$push_via" if push else "-",
        )  # fmt: skip
        stack.callback(nginx.quit, 15)
        try:
            found = tests.show(nginx.start(), "push" if push else "nchan", **(QUICK_SHOW if quick else SHOW))
        except (AssertionError, OSError, ValueError) as error:
            return {"fault": str(error)[:300] or repr(error)}
    wrong = sum(found[what] for what in ("lost", "doubled or out of order", "dropped"))
    return {
        "lost": found["lost"], "doubled": found["doubled or out of order"], "dropped": found["dropped"], "wrong": wrong,
        "messages": found["deliveries"] + found["lost"],
        "old_workers_s": max(found["old workers stayed"], default=0), "never_went": found["old workers never went"],
        "found": found, "fault": None,
    }  # fmt: skip
