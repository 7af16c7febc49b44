//! `pushd` as a process: started, attached to, killed, started again, ended.

mod common;

use common::{Client, PATIENCE, UPGRADE};
use push::hub::Publication;
use push::{Builder, Server};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Pushd {
    child: Child,
    /// Where it listens for subscribers.
    address: String,
}

impl Pushd {
    fn command(attach: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushd"));
        command.args(["-o", "listen=127.0.0.1:0", "-o", &format!("attach_listen={attach}"), "-d", "1"]);
        command.stderr(Stdio::piped());
        command
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.ok()?.strip_prefix("pushd: info: listening on 127.0.0.1:")?.to_owned()))
            .expect("it says where it listens");
        // Or it would wait for us to read.
        std::thread::spawn(move || lines.for_each(drop));
        Pushd { child, address: format!("127.0.0.1:{address}") }
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn path(test: &str) -> String {
    let path = std::env::temp_dir().join(format!("pushd-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    format!("unix:{}", path.display())
}

fn attached(path: &str) -> Server {
    let mut builder = Builder::default();
    builder.set("attach", path).unwrap();
    builder.set("attach_timeout", "10s").unwrap();
    Server::start(builder).unwrap()
}

fn handed_over(server: &Server, query: &str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n");
    server.adopt(OwnedFd::from(listener.accept().unwrap().0), head.as_bytes(), None).unwrap();
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
fn hosts_come_and_go_and_clients_stay() {
    let path = path("stay");
    let pushd = Pushd::start(Pushd::command(&path));
    let mut clients = Vec::new();
    for round in 0..5 {
        // Each in a process's place: attached, used, gone.
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
fn the_service_manager_is_told() {
    let path = path("notify");
    let notify = std::env::temp_dir().join(format!("pushd-{}-notified", std::process::id()));
    let _ = std::fs::remove_file(&notify);
    let told = UnixDatagram::bind(&notify).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Pushd::command(&path);
    command.env("NOTIFY_SOCKET", &notify);
    let pushd = Pushd::start(command);
    let mut text = [0; 64];
    let len = told.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"READY=1");
    pushd.signal("TERM");
    let len = told.recv(&mut text).unwrap();
    assert_eq!(&text[..len], b"STOPPING=1");
    assert_eq!(pushd.ended(), Some(0));
    let _ = std::fs::remove_file(&notify);
}

#[test]
fn sockets_of_the_service_manager_are_taken_over() {
    let path = path("activated");
    // What a service manager does between fork and exec.
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
    client.send(b"GET /push?channel=a&last=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.response().1.contains("\"data\":\"x\""));
    host.stop(Duration::ZERO);
    pushd.signal("TERM");
    assert_eq!(pushd.ended(), Some(0));
    let socket = path.strip_prefix("unix:").unwrap();
    assert!(std::fs::remove_file(socket).is_ok(), "the path stays: it is the service manager's");
}

#[test]
fn wrong_calls_are_told_by_code_and_text() {
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
        (&["-o", "nonsense"], 2, "NAME=VALUE"),
        (&["-o", "nonsense=1"], 2, "unknown option"),
        (&["-o", "attach=unix:/x"], 2, "pushd is a hub"),
        (&["-c", "/nonexistent"], 1, "/nonexistent"),
        (&["-o", "listen=unix:/nonexistent/x"], 1, "listen on"),
        (&["-h"], 0, ""),
    ] {
        let (ended, told) = run(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
}
