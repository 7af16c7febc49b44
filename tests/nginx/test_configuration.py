"""The errors of `nginx -t` for wrong configurations. A reload with one changes nothing."""

import pytest
from servers import wait_until

ATTACH = "push_attach unix:/tmp/none.sock"


@pytest.mark.parametrize(
    "http, server, workers, says",
    [
        (
            "", "location /a { push_subscribe a; }", 2,
            "set \"worker_processes 1\", or run pushd and name its socket with push_attach"
        ),
        ("push_option history_count lots;", "", 1, "history_count"),
        ("push_option colour blue;", "", 1, "colour"),
        ("push_option attach unix:/tmp/x;", "", 1, "use push_attach instead"),
        ("push_option log pull;", "", 1, "push_option log: the log goes to nginx's error log"),
        ("push_option log_fd 2;", "", 1, "push_option log_fd: the log goes to nginx's error log"),
        ("push_attach 127.0.0.1:80;", "", 1, "unix:PATH is allowed"),
        ("push_attach unix:;", "", 1, "unix:PATH is allowed"),
        (f"{ATTACH} size=3;", "", 1, "name=, timeout= and buffer= are known"),
        (f"{ATTACH} timeout=long;", "", 1, "attach_timeout"),
        (f"{ATTACH} buffer=1;", "", 1, "attach_buffer"),
        (f"{ATTACH}; {ATTACH};", "", 1, '"push_attach" directive is duplicate'),
        (f"{ATTACH}; push_option history_count 5;", "", 1, "push_option history_count does nothing beside push_attach"),
        (f"push_option attach_name shop; {ATTACH};", "", 1, "push_option attach_name: push_attach has name="),
        (f"{ATTACH}; push_retry 0;", "", 1, "push_retry 0"),
        (f"{ATTACH}; push_thread_pool none;", "location /a { push_status; }", 1, 'unknown thread pool "none"'),
        (f"{ATTACH};", "location /a { push_subscribe; }", 1, 'push_subscribe in location "/a" names no channel'),
        (f"{ATTACH};", "location /a { push_subscribe a; push_subscribe b; }", 1, "is duplicate"),
        (f"{ATTACH};", "location /a { push_subscribe a news.*; }", 1, 'push_subscribe "news.*" ends in *'),
        (f"{ATTACH};", "location /a { push_subscribe news.$arg_a*; }", 1, "as no channel's name does; push_grant takes patterns"),
        (f"{ATTACH}; push_relay_timeout 0;", "", 1, "push_relay_timeout 0: a time from 1ms is allowed"),
        (f"{ATTACH}; push_drain 60d;", "", 1, "at most 1d is allowed"),
        *((f"{ATTACH}; {name} {value};", "", 1, f'{name} "{value}": a time without a zero before its number is allowed')
          for name in ("push_drain", "push_retry", "push_relay_timeout") for value in ("007s", "1m007s", "00")),
        (f"{ATTACH} timeout=05s;", "", 1, "attach_timeout"), (f"{ATTACH} buffer=0128KB;", "", 1, "attach_buffer"),
        *((f"{ATTACH};", f"location /a {{ push_subscribe a; {line} }}", 1, says) for line, says in (
            ("push_expires tomorrow;", 'push_expires "tomorrow" is no time; off, a time from now such as 8h'),
            ("push_expires @soon;", 'push_expires "@soon" is no time'), ("push_expires 0;", "is no time"),
            ('push_expires "";', "is no time"), ("push_expires 08h;", "is no time"), ("push_expires @0123;", "is no time"),
            ("push_client_publish yes;", 'push_client_publish "yes" is neither on (or 1) nor off (or 0)'),
            ('push_user "a\tb";', "has control characters"), (f"push_user {'u' * 256};", "is longer than 255 bytes"),
            ('push_user "";', "is empty"), ("push_grant a*b*;", "has a * before its end"),
            ('push_grant "";', "is empty"), ("push_parameters last=0;", "a last that is not a number from 1 to 10000"),
            ("push_parameters last=005;", "a last that is not a number from 1 to 10000"),
            ("push_parameters transport=carrier;", "a transport other than ws"),
            ("push_parameters format=xml;", "a format other than raw and json"),
        )),
        (f"{ATTACH};", f"location /a {{ push_subscribe {'c' * 256}; }}", 1, "is longer than 255 bytes"),
        (f"{ATTACH};", "location /a { push_publish news.*; }", 1, 'push_publish "news.*" ends in *'),
        (f"{ATTACH};", "location /a { push_publish a event=push-gap; }", 1, 'event= "push-gap" begins with push-'),
        (f"{ATTACH};", f"location /a {{ push_publish a event={'e' * 128}; }}", 1, "is longer than 127 bytes"),
        (f"{ATTACH};", "location /a { push_publish a key=; }", 1, 'key= "" is empty'),
        (
            f"{ATTACH};", "location /a { push_subscribe a; push_publish b; }", 1,
            "one of push_subscribe, push_publish, push_begin, push_end and push_status"
        ),
        (
            f"{ATTACH};", "location /a { push_status; push_subscribe a; }", 1,
            "one of push_subscribe, push_publish, push_begin, push_end and push_status"
        ),
        (
            f"{ATTACH};", "location /a { proxy_pass http://127.0.0.1:1; push_status; }", 1,
            "one of push_subscribe, push_publish, push_begin, push_end and push_status"
        ),
        (f"{ATTACH};", "location /a { push_publish a colour=blue; }", 1, "event= and key= are known"),
        (f"{ATTACH};", "location /a { push_publish; }", 1, "invalid number of arguments"),
        (f"{ATTACH};", "location /a { push_end; }", 1, "invalid number of arguments"),
        (f"{ATTACH};", "location /a { push_end news.*; }", 1, "ends in *"),
        (f"{ATTACH};", "location /a { push_begin a; push_end a; }", 1, "is not the only push_begin or push_end here"),
        (f"{ATTACH};", "push_subscribe a;", 1, '"push_subscribe" directive is not allowed here'),
        (f"{ATTACH};", "location /a { push_user $nobody; }", 1, 'unknown "nobody" variable'),
    ],
)
def test_a_mistake_is_named(configured, http, server, workers, says):
    nginx = configured(attached=False, http=http, server=server, workers=workers)
    content, text = nginx.test()
    assert not content and "[emerg]" in text and says in text, text
    # The error is on stderr and in the error log. It is no defect of this test.
    (nginx.directory / "error.log").unlink()


@pytest.mark.parametrize("order", ["{workers} {http}", "{http} {workers}"])
def test_one_worker_may_embed(configured, order):
    nginx = configured(attached=False, server="location /a { push_subscribe a; }", workers=1)
    text = (nginx.directory / "nginx.conf").read_text()
    # The place of `worker_processes` does not matter.
    line = "worker_processes 1;"
    text = text.replace(line, "")
    (nginx.directory / "nginx.conf").write_text(f"{line}\n{text}" if order.startswith("{w") else f"{text}\n{line}")
    assert nginx.test()[0]
    (nginx.directory / "nginx.conf").write_text(f"{text}\nworker_processes 3;")
    assert "there are 3 of them" in nginx.test()[1]
    (nginx.directory / "error.log").unlink()


def test_a_worker_may_have_a_log_level_of_its_own(configured):
    assert configured(http="push_option log_level debug;").test() == (True, configured().test()[1])


def test_nothing_is_started_where_nothing_is_used(configured):
    nginx = configured(attached=False, server='location / { return 200 "here"; }', workers=4)
    assert nginx.test()[0]
    nginx.start()
    assert nginx.get("/")[2] == b"here"


def test_a_reload_with_a_mistake_changes_nothing(pushd, start_nginx):
    nginx = start_nginx(expected=1)
    workers = nginx.workers()
    nginx.configure(http="push_option colour blue;")
    nginx.reload()
    wait_until(lambda: "colour" in nginx.error_log(), "it is said")
    assert nginx.workers() == workers
    nginx.publish("a", "still there")


def test_embedded(configured, pushd):
    """The hub in the one worker: the same directives, and a reload that closes in order."""
    nginx = configured(
        attached=False, http="push_option history_count 7; push_option max_message 1KB;", workers=1
    ).start()
    position = nginx.publish("a", "hello")
    assert b'"hello"' in nginx.get("/push?channel=a&last=1")[2]
    assert nginx.get("/publish?channel=a", "POST", b"x" * 1025)[0] == 413
    old = nginx.workers()
    nginx.reload()
    wait_until(lambda: len(nginx.workers()) == 1 and nginx.workers() != old, "the old worker has gone")
    # This is another hub, so a client that comes back is told of the gap.
    messages = __import__("json").loads(nginx.get(f"/push?channel=a&since={position}")[2])["messages"]
    assert messages[0]["type"] == "gap"
