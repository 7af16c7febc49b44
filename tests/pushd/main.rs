//! `pushd` as a process: it is started, hosts attach, it is killed, started again and ended.

#[path = "../common/certificates.rs"]
mod certificates;
mod checking;
#[path = "../common/mod.rs"]
mod common;
mod lines;
mod process;
mod shared_log;

use common::killed::Killed;
use common::{adopted, Client, PATIENCE, UPGRADE};
use process::{Manager, Pushd};
use push::error::Kind;
use push::hub::Publication;
use push::Server;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn path(test: &str) -> String {
    let path = std::env::temp_dir().join(format!("pushd-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    format!("unix:{}", path.display())
}

fn attached(path: &str) -> Server {
    common::attached(path, &[])
}

fn handed_over(server: &Server, query: &str) -> Client {
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    let mut client = adopted(server, &head, None);
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client
}

fn publish(server: &Server, data: &str) -> String {
    server.position_of(&server.publish(&Publication::new("a", data.as_bytes())).unwrap())
}

#[test]
fn killed_and_started_again_hosts_and_clients_come_back() {
    let path = path("killed");
    let first = Pushd::start(Pushd::command(&path));
    let host = attached(&path);
    let mut client = handed_over(&host, "channel=a");
    let seen = publish(&host, "one");
    assert_eq!(client.text(), "one");
    first.signal("KILL");
    assert_eq!(first.ended(), None, "a signal has ended it");
    assert_eq!(client.rest(), "", "the client is free to come back");
    host.post(&Publication::new("a", b"meanwhile")).unwrap();
    let second = Pushd::start(Pushd::command(&path));
    let after = publish(&host, "two");
    assert!(after.ends_with("-2"), "{after}");
    let mut client = handed_over(&host, &format!("channel=a&since={seen}"));
    assert_eq!((client.text(), client.text()), ("meanwhile".into(), "two".into()));
    second.signal("TERM");
    assert_eq!(client.close_code(), 1001);
    assert_eq!(second.ended(), Some(0));
    host.stop(Duration::ZERO);
}

#[test]
fn messages_with_one_key_that_wait_for_a_hub_are_published_once() {
    let path = path("keyed");
    let first = Pushd::start(Pushd::command(&path));
    let (one, other) = (attached(&path), attached(&path));
    publish(&one, "before");
    first.signal("KILL");
    assert_eq!(first.ended(), None);
    let keyed = Publication { key: Some("order-7"), ..Publication::new("a", b"paid") };
    for host in [&one, &other, &one] {
        host.post(&keyed).unwrap();
    }
    let second = Pushd::start(Pushd::command(&path));
    let places = [&one, &other].map(|host| host.publish(&keyed).unwrap().seq);
    assert_eq!(places, [1, 1], "the first of them is every other one's, too");
    let stats = one.stats().unwrap();
    assert_eq!((stats.published, stats.duplicates), (1, 4));
    one.stop(Duration::ZERO);
    other.stop(Duration::ZERO);
    second.terminate();
}

#[test]
fn calls_return_a_status_while_the_hub_hangs_and_it_then_gets_everything_once() {
    let path = path("hangs");
    let pushd = Pushd::start(Pushd::command(&path));
    let host = common::attached(&path, &[("attach_timeout", "100ms"), ("attach_buffer", "64KB")]);
    // On a slow machine the host may need longer than this to attach.
    common::until("it is attached", || host.publish(&Publication::new("other", b"it is there")).is_ok());
    let mut client = handed_over(&host, "channel=a");
    pushd.signal("STOP");
    pushd.stopped();
    // The socket takes some of these messages, and the buffer some more. None of these calls waits.
    let payload = |n: usize| format!("{n:01000}");
    let posted = (0..100_000).take_while(|n| host.post(&Publication::new("a", payload(*n).as_bytes())).is_ok()).count();
    assert!((50..5000).contains(&posted), "{posted}");
    let one_more = host.publish(&Publication::new("a", payload(posted).as_bytes())).unwrap_err();
    assert_eq!(one_more.kind(), Kind::Busy, "the buffer is full: nothing was done");
    // What is not published has room of its own.
    let (fd, mut other) = UnixStream::pair().unwrap();
    host.adopt(fd.into(), b"GET /push?channel=a&wait=0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", None)
        .map_err(|(error, _)| error)
        .unwrap();
    pushd.signal("CONT");
    // If the socket took nothing more of it for `attach_timeout`, the client is told to come back.
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let _ = other.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for n in 0..posted {
        assert_eq!(client.text(), payload(n));
    }
    let start = Instant::now();
    while host.publish(&Publication::new("a", b"after")).is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(client.text(), "after");
    host.stop(Duration::from_secs(5));
    pushd.terminate();
}

#[test]
fn hosts_come_and_go_and_clients_stay() {
    let path = path("stay");
    let pushd = Pushd::start(Pushd::command(&path));
    let mut clients = Vec::new();
    for round in 0..5 {
        // Each server stands for a process: it attaches, is used, and goes.
        let host = attached(&path);
        clients.push(handed_over(&host, "channel=a"));
        publish(&host, &round.to_string());
        host.stop(Duration::from_secs(1));
    }
    for (joined, client) in clients.iter_mut().enumerate() {
        for round in joined..5 {
            assert_eq!(client.text(), round.to_string());
        }
    }
    let mut own = Client::over(TcpStream::connect(&pushd.address).unwrap());
    own.send(format!("GET /push?channel=a&last=1 HTTP/1.1\r\nHost: {}\r\n\r\n", pushd.address).as_bytes());
    assert!(own.response().1.contains("\"data\":\"4\""));
    pushd.signal("INT");
    assert_eq!(pushd.ended(), Some(0));
}

#[test]
fn the_service_manager_gets_the_state() {
    let path = path("notify");
    let manager = Manager::new("end");
    let mut command = Pushd::command(&path);
    command.env("NOTIFY_SOCKET", &manager.path);
    let pushd = Pushd::start(command);
    assert_eq!(manager.hear(), "READY=1");
    pushd.signal("TERM");
    assert_eq!(manager.hear(), "STOPPING=1");
    assert_eq!(pushd.ended(), Some(0));
}

#[test]
fn sighup_reads_the_options_again() {
    let path = path("reload");
    let file = std::env::temp_dir().join(format!("pushd-{}-options.toml", std::process::id()));
    std::fs::write(&file, "max_message = 10\n").unwrap();
    let manager = Manager::new("reload");
    let mut command = Pushd::command(&path);
    command.arg("-c").arg(&file).env("NOTIFY_SOCKET", &manager.path);
    let (pushd, log) = Pushd::start_logged(command);
    assert_eq!(manager.hear(), "READY=1");
    let host = attached(&path);
    let mut client = handed_over(&host, "channel=a");
    let long = Publication::new("a", b"longer than ten bytes");
    assert!(host.publish(&long).is_err());
    let reload = |options: &str| {
        std::fs::write(&file, options).unwrap();
        pushd.signal("HUP");
        let began = manager.hear();
        let since = began.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{began}"));
        assert!(since.parse::<u64>().unwrap() > 0);
        manager.hear()
    };
    assert_eq!(reload("max_message = 100\nthreads = 7\n"), "READY=1\nSTATUS=options reloaded");
    // The hub has the client, and the host gets the event.
    let start = Instant::now();
    while host.publish(&long).is_err() {
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(client.text(), "longer than ten bytes", "who is connected stays");
    for (options, wrong) in [
        ("max_message = 0\n", "option max_message: \"0\" is not allowed"),
        ("max_message =\n", "line 1 is not TOML"),
        ("max_message = 5\nauth = \"jwt\"\n", "option auth: jwt needs a key"),
    ] {
        let status = reload(options);
        assert!(status.starts_with("READY=1\nSTATUS=options not reloaded: ") && status.contains(wrong), "{status}");
        assert_eq!(status.lines().count(), 2);
    }
    std::fs::remove_file(&file).unwrap();
    pushd.signal("HUP");
    manager.hear();
    assert!(manager.hear().contains("No such file"));
    publish(&host, "all of it stays as it was");
    host.stop(Duration::ZERO);
    pushd.signal("TERM");
    assert_eq!(manager.hear(), "STOPPING=1");
    assert_eq!(pushd.ended(), Some(0));
    let log = log.join().unwrap();
    for line in [
        "pushd: info: SIGHUP: reading options again",
        "pushd: info: options reloaded: max_message changed",
        "pushd: warning: these options need a restart and stay as they are: threads",
        "pushd: error: the options are not reloaded and stay as they were: option auth: jwt needs a key",
    ] {
        assert!(log.iter().any(|known| known.starts_with(line)), "{line}: {log:#?}");
    }
}

#[test]
fn pushd_takes_sockets_from_the_service_manager() {
    let path = path("activated");
    // A service manager does this between fork and exec.
    let manager = "import os, socket, sys\n\
        attach = socket.socket(socket.AF_UNIX); attach.bind(sys.argv[2]); attach.listen()\n\
        listen = socket.create_server(('127.0.0.1', 0))\n\
        a, l = os.dup(attach.fileno()), os.dup(listen.fileno())\n\
        os.dup2(a, 3); os.dup2(l, 4)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='attach:listen')\n\
        os.execv(sys.argv[1], sys.argv[1:2])";
    let mut command = Command::new("python3");
    command.args(["-c", manager, env!("CARGO_BIN_EXE_pushd"), path.strip_prefix("unix:").unwrap()]);
    command.stderr(Stdio::piped());
    let pushd = Pushd::start(command);
    let host = attached(&path);
    publish(&host, "x");
    let mut client = Client::over(TcpStream::connect(&pushd.address).unwrap());
    client.send(b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.response().1.contains("\"data\":\"x\""));
    host.stop(Duration::ZERO);
    pushd.terminate();
    let socket = path.strip_prefix("unix:").unwrap();
    assert!(std::fs::remove_file(socket).is_ok(), "the path stays: it is the service manager's");
}

#[test]
fn two_sockets_for_hosts_are_refused() {
    let manager = "import os, socket, sys\n\
        socket = socket.create_server(('127.0.0.1', 0))\n\
        fd = os.dup(os.dup(socket.fileno()))\n\
        os.dup2(fd, 3); os.dup2(fd, 4)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='attach:attach')\n\
        os.execv(sys.argv[1], [sys.argv[1], '-o', 'listen=none'])";
    let output =
        Command::new("timeout").args(["120", "python3", "-c", manager, env!("CARGO_BIN_EXE_pushd")]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("two sockets are named \"attach\""), "{told}");
}

#[test]
fn wrong_arguments_end_with_a_code_and_a_text() {
    let run = |arguments: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pushd"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (child.wait().unwrap().code(), text)
    };
    for (arguments, code, text) in [
        (&["-x"][..], 2, "unknown argument"),
        (&["-o"], 2, "needs a value"),
        (&["--log-format"], 2, "plain, text or json is expected"),
        (&["--log-format=xml"], 2, "plain, text or json is expected"),
        (&["-o", "nonsense"], 2, "NAME=VALUE"),
        (&["-o", "nonsense=1"], 2, "unknown option"),
        (&["-o", "attach=unix:/x"], 2, "pushd is a hub"),
        (&["-o", "listen=none"], 2, "listen and attach_listen"),
        (&["-c", "/nonexistent"], 1, "/nonexistent"),
        (&["-o", "listen=unix:/nonexistent/x"], 1, "listen on"),
        (&["-h"], 0, ""),
    ] {
        let (ended, told) = run(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let argument = std::ffi::OsStr::from_bytes(b"listen=\xff");
    let output = Command::new(env!("CARGO_BIN_EXE_pushd")).arg("-o").arg(argument).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("is not UTF-8"), "{told}");
}

#[test]
fn a_closed_log_does_not_end_pushd() {
    let path = path("unread");
    let mut child = Pushd::command(&path).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on 127.0.0.1"))).unwrap().unwrap();
    drop(lines);
    let pushd = Pushd { child: Killed(child), address: String::new() };
    let host = attached(&path);
    pushd.signal("HUP");
    // It has logged that by now, or logs it when it ends.
    publish(&host, "still there");
    host.stop(Duration::ZERO);
    pushd.terminate();
}

#[test]
fn pushd_raises_its_limit_of_descriptors() {
    let mut command = Command::new("sh");
    let limited = "ulimit -S -n 40 && ulimit -H -n 128 && exec \"$0\" -o listen=127.0.0.1:0";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_pushd")]);
    command.stderr(Stdio::piped());
    let pushd = Pushd::start(command);
    let clients = (0..50).map(|_| {
        let mut client = Client::over(TcpStream::connect(&pushd.address).unwrap());
        client.send(b"GET /push?channel=a&transport=sse HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        client
    });
    assert_eq!(clients.collect::<Vec<_>>().len(), 50);
}
