"""The errors of `nginx -t` for wrong configurations. A reload with one changes nothing."""

import time

import pytest
from servers import wait_until

ATTACH = "push_attach unix:/tmp/none.sock"


def many(count):
    return " ".join(f"c{number}" for number in range(count))


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
        ("push_option client_publish host;", "", 1, "push_option client_publish host: nginx takes no events"),
        ("push_option channel.a.client_publish ' host';", "", 1, "channel.a.client_publish host: nginx takes no"),
        ("push_option channel.a.client_publish hosts;", "", 1, "allowed is true, false or host"),
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
            ('push_user "";', "is empty"), ('push_user a; push_info "";', 'push_info "" is empty'),
            ("push_info Ada;", 'push_info in location "/a" needs push_user'),
            ('push_user a; push_info "a\tb";', "has control characters"),
            ("push_user a; push_info b; push_info c;", '"push_info" directive is duplicate'),
            (f"push_user a; push_info {'i' * 1025};", f'push_info "{"i" * 256}..." is longer than 1024 bytes'),
            (f"push_user a; push_info {'ü' * 1500};", f'push_info "{"ü" * 128}..." is longer than 1024 bytes'),
            (f"push_user a; push_info a{'ü' * 1500};", f'push_info "a{"ü" * 127}..." is longer than 1024 bytes'),
            ("push_grant a*b*;", "has a * before its end"),
            ('push_grant "";', "is empty"), ("push_grant_publish a*b*;", 'push_grant_publish "a*b*" has a * before its end'),
            ("push_grant_publish a; push_grant_publish b;", '"push_grant_publish" directive is duplicate'),
            (f"push_grant_publish {many(1001)};", "push_grant_publish in location \"/a\": 1001 channels, at most 1000"),
            (
                f"push_client_publish on; push_grant_publish {many(1000)};",
                "1001 channels, at most 1000 are allowed (push_client_publish adds those of push_subscribe and push_grant)"
            ), ("push_parameters last=0;", "a last that is not a number from 1 to 10000"),
            ("push_parameters last=005;", "a last that is not a number from 1 to 10000"),
            ("push_parameters transport=carrier;", "a transport other than ws"),
            ("push_parameters format=xml;", "a format other than raw and json"),
            ("push_parameters last;", "a last that is not a number"),
            ("push_parameters since=x;", "a since that is neither start nor a position"),
            ("push_parameters wait=1;", "a wait other than 0"),
            ('push_parameters "$args&last=0";', "a last that is not a number"),
        )),
        *((f"{ATTACH};", f"location /a {{ push_subscribe; {line} }}", 1, says) for line, says in (
            ("push_grant *; push_parameters channel=news*;", 'in location "/a": "channel=news*" ends in *'),
            ("push_grant a; push_parameters channel=b;", '"channel=b" is not granted by push_grant'),
            ("push_grant a; push_parameters transport=sse;", "names no channel, and push_subscribe names none either"),
            (f"push_grant {many(1001)};", 'push_grant in location "/a": 1001 channels, at most 1000 are allowed'),
        )),
        *((f"{ATTACH};", f"location /a {{ push_subscribe; push_grant {grant}; push_parameters pattern={pattern}; }}", 1, says)
          for grant, pattern, says in (
            ("*", "news*x", '"pattern=news*x" does not end in *, as a pattern does'), ("*", "news", "does not end in *"),
            ("*", "", "does not end in *"), ("*", "a*b*", "has a * before its end"), ("*", "**", "has a * before its end"),
            ("*", f"{'p' * 65}*", "has more than 64 bytes before its *"), ("*", f"{'p' * 256}*", "is longer than 255 bytes"),
            ("*", "user:*", '"pattern=user:*" begins with user:, as the names do that no pattern fits'),
            ("*", "user:ada.*", "begins with user:"), ("*", "a%0A*", "has control characters"),
            ("*", "%FF*", "is not UTF-8"), ("*", "%EF%BF%BD*", "has U+FFFD"),
            ("news.*", "news*", '"pattern=news*" is not covered by a pattern of push_grant'), ("news.*", "*", "is not covered"),
            ("news.a $arg_more", "news.a*", "is not covered"), ("'news.*' a", "a*", "is not covered"),
        )),
        (
            "", "location /a { push_subscribe; push_grant *; push_parameters pattern=a*; }", 1,
            'in location "/a": "pattern=a*" is more than push_option max_patterns allows'
        ),
        (
            "push_option max_patterns 2;",
            "location /a { push_subscribe; push_grant *; push_parameters pattern=a*&pattern=b*&pattern=a*&pattern=c*; }", 1,
            '"pattern=c*" is more than push_option max_patterns allows'
        ),
        *(("push_option user_channel true;", f"location /a {{ {line} }}", 1, says) for line, says in (
            ("push_subscribe user:ada;", 'push_subscribe "user:ada" in location "/a" begins with user:'),
            ("push_subscribe; push_grant a user:*;", 'push_grant "user:*" in location "/a" begins with user:'),
            ("push_subscribe a; push_grant_publish user:ada;", 'push_grant_publish "user:ada" in location "/a" begins with'),
            ("push_subscribe; push_grant *; push_parameters channel=user:ada;", '"channel=user:ada" is the channel of a user'),
            ("push_begin user:ada;", 'push_begin "user:ada" in location "/a": the channel of a user does not end'),
            ("push_end user:ada;", 'push_end "user:ada" in location "/a": the channel of a user does not end'),
        )),
        (f"{ATTACH};", f"location /a {{ push_subscribe {'a ' * 1001}; }}", 1, "push_subscribe in location"),
        (f"{ATTACH};", f"push_grant x*; location /a {{ push_subscribe {many(1000)}; }}", 1,
         "push_subscribe and push_grant in location"),
        ("", f"location /a {{ push_subscribe {many(101)}; }}", 1, "at most 100 are allowed (push_option max_channels)"),
        ("push_option max_channels 2;", "location /a { push_subscribe a b c; }", 1, "at most 2 are allowed"),
        (
            "push_option max_channels 1;",
            "location /a { push_subscribe; push_grant *; push_parameters channel=a&channel=b; }", 1, "at most 1 are"
        ),
        (f"{ATTACH};", f"location /a {{ push_subscribe {'c' * 256}; }}", 1, "is longer than 255 bytes"),
        (f"{ATTACH};", "location /a { push_publish news.*; }", 1, 'push_publish "news.*" ends in *'),
        (f"{ATTACH};", "location /a { push_publish a event=push-gap; }", 1, 'event= "push-gap" begins with push-'),
        (f"{ATTACH};", f"location /a {{ push_publish a event={'e' * 128}; }}", 1, "is longer than 127 bytes"),
        (f"{ATTACH};", "location /a { push_publish a key=; }", 1, 'key= "" is empty'),
        (
            f"{ATTACH};", "location /a { push_subscribe a; push_publish b; }", 1,
            "one of push_subscribe, push_publish, push_publish_user, push_begin, push_end and push_status"
        ),
        (
            f"{ATTACH};", "location /a { push_status; push_subscribe a; }", 1,
            "one of push_subscribe, push_publish, push_publish_user, push_begin, push_end and push_status"
        ),
        (
            f"{ATTACH};", "location /a { proxy_pass http://127.0.0.1:1; push_status; }", 1,
            "one of push_subscribe, push_publish, push_publish_user, push_begin, push_end and push_status"
        ),
        (f"{ATTACH};", "location /a { push_publish a colour=blue; }", 1, "event=, key= and except= are known"),
        (f"{ATTACH};", "location /a { push_publish a except=me; }", 1, 'except= "me" is no UUID'),
        (f"{ATTACH};", "location /a { push_publish; }", 1, "invalid number of arguments"),
        (f"{ATTACH};", "location /a { push_publish_user; }", 1, "invalid number of arguments"),
        (f"{ATTACH};", "location /a { push_publish_user ada*; }", 1, 'push_publish_user "ada*" ends in *'),
        (f"{ATTACH};", f"location /a {{ push_publish_user {'u' * 251}; }}", 1, "is longer than 250 bytes"),
        (f"{ATTACH};", 'location /a { push_publish_user ""; }', 1, 'push_publish_user "" is empty'),
        (f"{ATTACH};", "location /a { push_publish_user a colour=blue; }", 1, 'push_publish_user "colour=blue": event='),
        (
            f"{ATTACH};", "location /a { push_publish a; push_publish_user b; }", 1,
            "is not the only push_publish or push_publish_user here"
        ),
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


@pytest.mark.parametrize(
    "attached, http, server",
    [
        # Repetitions count once, and variables may be empty.
        (True, "", f"push_subscribe {'a ' * 1000} $arg_a; push_grant $arg_b {many(999)};"),
        (True, "", f"push_subscribe a; push_client_publish $arg_a; push_grant_publish {many(1000)};"),
        # The hub may give a channel to the user.
        (True, "", "push_subscribe; push_user $arg_user;"),
        (True, "", f"push_subscribe a; push_user $arg_user; push_info {'i' * 1024};"),
        (True, "", "push_subscribe; push_user ada; push_parameters transport=sse;"),
        # The hub may have a larger max_channels.
        (True, "", f"push_subscribe {many(1000)};"),
        (False, "", f"push_subscribe {many(100)} {many(100)} $arg_a;"),
        (False, "push_option max_channels 102;", f"push_subscribe {many(101)};"),
        # The hub may take patterns, and may have no channels of users.
        (True, "", f"push_subscribe; push_grant *; push_parameters pattern={'p' * 64}*&pattern=*;"),
        (True, "", "push_subscribe; push_grant news.$arg_a*; push_parameters pattern=x*;"),
        (True, "", 'push_subscribe; push_grant a; push_parameters "pattern=$arg_pattern*";'),
        (True, "", "push_subscribe user:ada; push_grant user:* a*b; push_grant_publish user:*;"),
        (False, "push_option max_patterns 1;", "push_subscribe; push_grant a.*; push_parameters pattern=a.b*;"),
        (False, "push_option user_channel false;", "push_subscribe user:ada; push_grant user:*;"),
        (False, "push_option user_channel true;", "push_subscribe users; push_grant us* *;"),
        (False, "push_option user_channel true;", "push_publish user:ada;"),
        # Patterns and channels in the query do not count beside others.
        (True, "", "push_subscribe a; push_parameters pattern=news;"),
        (True, "", "push_subscribe a; push_parameters channel=news*;"),
        (True, "", "push_subscribe; push_grant room-$arg_a; push_parameters channel=b;"),
        (True, "", "push_subscribe; push_grant a; push_parameters transport=sse&$args;"),
        (True, "", 'push_subscribe a; push_parameters "since=x&$args";'),
        (True, "", 'push_subscribe a; push_parameters "last=$arg_last";'),
        # nginx must start again with a configuration with which it started before.
        (True, "", f"push_subscribe a; push_expires @{int(time.time()) + 86400};"),
    ],
)
def test_what_may_be_served_is_taken(configured, attached, http, server):
    nginx = configured(attached=attached, http=http, server=f"location /a {{ {server} }}", workers=1)
    taken, text = nginx.test()
    assert taken and "[warn]" not in text, text


def test_a_time_that_is_past_is_a_warning(configured, pushd):
    """nginx must start again with the file with which it started before that time."""
    nginx = configured(server="location /a { push_subscribe a; push_expires @1; }")
    taken, text = nginx.test()
    assert taken and "[warn]" in text and 'push_expires "@1" is in the past, so every subscriber gets 403' in text, text
    assert nginx.start().get("/a?wait=0")[0] == 403


LONG = "e" * 34
QUERIES = [
    "", "&&", "=", "x=y", "token=x", "token", "colour=blue&%zz=%", "a=%3c%22%5c%5e%60%7b%7c%7d%7e",
    "last", "last=", "last=0", "last=1", "last=01", "last=+1", "last=%2B1", "last=%2B", "last=-1", "last=1.",
    "last=10000", "last=10001", "last=99999999999999999999999", "last=1&last=x", "last=x&last=1", "l%61st=x", "LAST=x",
    "last%3D0",
    "last=%31", "last=%3", "last=1%20", "last=1=1",
    "format", "format=json", "format=raw", "format=JSON", "format=r%61w", "format=xml&format=raw",
    "transport", "transport=ws", "transport=sse", "transport=stream", "transport=poll", "transport=WS",
    "transport=%73se",
    "transport=long-poll&transport=ws", "transport=sse&transport=ws",
    "wait", "wait=0", "wait=1", "wait=00", "wait=%30", "wait=0&wait=1", "wait=off",
    "since", "since=", "since=start", "since=Start", "since=x", "since=x&since=start", "since=start&since=x",
    "since=x&since",
    "since=a-1", "since=a%2D1", "since=a-+1", "since=-1", "since=a-", "since=-", "since=1", "since=a-b-1", "since=0-0",
    f"since={LONG}-1", f"since={LONG}e-1", "since=a-18446744073709551615", "since=a-18446744073709551616",
    "since=a-000000000000000000001", "since=a-00000000000000000001", "since=%C3%A4-1", "since=a_-1", "since=1-1",
    "since=x&lastEventId=y", "since=x&lastEventId", "since=x&LAST-event-id=y", "since=x&last_event_id=y&last_event_id=",
    "lastEventId=*", "since=x&last-eventid=y",
    "channel", "channel=", "channel=a", "channel=news*", "channel=n*s", "channel=*", "channel=%2a", "channel=b",
    "channel=room.1", "channel=room.", "channel=room", "channel=a&channel=a&channel=b", "channel=a&channel=room.%2B",
    "channel=room.%FF", "channel=room.%EF%BF%BD", "channel=room.%C3%A4", "channel=room.%0A", "channel=room.%C2%85",
    "channel=room.+", "channel=room.%", f"channel=room.{'x' * 250}", f"channel=room.{'x' * 251}",
    "transport=poll&channel=a", "transport=stream&channel=news*", "transport=poll&transport=ws", "Channel=news*",
]  # fmt: skip


@pytest.mark.parametrize("directives", ["push_subscribe a b;", "push_subscribe; push_grant a room.*;"])
def test_the_parameters_that_are_refused_are_those_that_the_hub_refuses(configured, pushd, directives):
    """The module has the hub's rules once more. Each query is shown to both."""
    nginx = configured(server=f"location /a {{ {directives} }}").start()
    handshake = (
        "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: push.v1.json\r\n\r\n"
    )
    differ = []
    for query in QUERIES:
        # With `wait=0` a poll is answered at once. It takes nothing away from what was said before.
        answer = nginx.talk(f"GET /a?{query}&wait=0 HTTP/1.1\r\n{handshake}".encode(), ends=b"\r\n")
        status = int(answer.split()[1])
        assert status in (101, 200, 400, 403), (query, answer)
        nginx.configure(server=f'location /a {{ {directives} push_parameters "{query}"; }}')
        taken, text = nginx.test()
        if taken != (status < 400):
            differ.append((query, status, text))
    # The refusals are in the error log, too. They are no defects.
    log = nginx.error_log().splitlines(keepends=True)
    (nginx.directory / "error.log").write_text("".join(line for line in log if "[emerg]" not in line))
    assert not differ, differ


PATTERNS = [
    "pattern", "pattern=", "pattern=*", "pattern=news", "pattern=news*x", "pattern=a*b*", "pattern=**", "pattern=room.*",
    "pattern=room.%2a", "pattern=room*", "pattern=room.1*", "pattern=b*", "pattern=a*", "pattern=user:*",
    "pattern=user:a*", f"pattern=room.{'x' * 59}*", f"pattern=room.{'x' * 60}*", f"pattern=room.{'x' * 251}*",
    "pattern=room.%0A*", "pattern=room.%C2%85*", "pattern=room.%FF*", "pattern=room.%EF%BF%BD*", "pattern=room.%C3%A4*",
    "pattern=room.+*", "pattern=room.1*&pattern=room.2*", "pattern=room.1*&pattern=room.2*&pattern=room.1*",
    "pattern=room.1*&pattern=room.2*&pattern=room.3*", "pattern=room.*&channel=b", "pattern=room.*&channel=a", "Pattern=x",
]  # fmt: skip


@pytest.mark.parametrize("directives", ["push_subscribe a b;", "push_subscribe; push_grant a room.*;"])
def test_the_patterns_that_are_refused_are_those_that_the_hub_refuses(configured, directives):
    """The hub is embedded, so its option `max_patterns` counts, too."""
    embedded = {"attached": False, "http": "push_option max_patterns 2;", "workers": 1}
    nginx = configured(server=f"location /a {{ {directives} }}", **embedded).start()
    wait_until(lambda: nginx.get("/a?channel=a&wait=0")[0] == 200, "the hub has started, and answers")
    differ = []
    for query in PATTERNS:
        # A stream is answered at once, and stays open.
        answer = nginx.talk(f"GET /a?{query}&channel=a&transport=stream HTTP/1.1\r\nHost: a\r\n\r\n".encode(), ends=b"\r\n")
        status = int(answer.split()[1])
        assert status in (200, 400, 403), (query, answer)
        nginx.configure(server=f'location /a {{ {directives} push_parameters "{query}&channel=a"; }}')
        taken, text = nginx.test()
        if taken != (status < 400):
            differ.append((query, status, text))
    log = nginx.error_log().splitlines(keepends=True)
    (nginx.directory / "error.log").write_text("".join(line for line in log if "[emerg]" not in line))
    assert not differ, differ


@pytest.mark.parametrize("more, status", [("", 200), ("&channel=c100", 400)])
def test_the_default_of_max_channels_is_the_hubs(configured, more, status):
    nginx = configured(attached=False, server="location /a { push_subscribe; push_grant *; }", workers=1).start()
    query = "&".join(f"channel=c{number}" for number in range(100)) + more
    wait_until(lambda: nginx.get(f"/a?{query}&wait=0")[0] == status, "the hub has started, and answers")
    nginx.configure(server=f'location /a {{ push_subscribe; push_grant *; push_parameters "{query}"; }}')
    assert nginx.test()[0] == (status == 200)
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
