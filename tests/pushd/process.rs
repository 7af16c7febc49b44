//! `pushd` as a child of a test, and the service manager to which it tells its state.

use crate::common::killed::Killed;
use crate::common::PATIENCE;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

/// A running `pushd`.
pub struct Pushd {
    pub child: Killed,
    /// The address where it listens for subscribers.
    pub address: String,
}

impl Pushd {
    pub fn command(attach: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushd"));
        // However slow the machine is, no client gets a ping, and each gets its goodbye.
        command.args(["-o", "listen=127.0.0.1:0", "-o", "heartbeat=10m", "-d", "60"]);
        command.args(["-o", &format!("attach_listen={attach}")]);
        command.stderr(Stdio::piped());
        command
    }

    pub fn start(command: Command) -> Self {
        Self::start_logged(command).0
    }

    /// The process, with the lines that it logs from when it listens for subscribers until it ends.
    pub fn start_logged(mut command: Command) -> (Self, JoinHandle<Vec<String>>) {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.ok()?.strip_prefix("pushd: info: listening on 127.0.0.1:")?.to_owned()))
            .expect("it says where it listens");
        // A thread reads the lines, or pushd would wait for us.
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        (Pushd { child: Killed(child), address: format!("127.0.0.1:{address}") }, log)
    }

    pub fn signal(&self, name: &str) {
        // This is the shell's own kill: not every system has it as a program.
        let kill = format!("kill -s {name} {}", self.child.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits until all of its threads have stopped. A thread inside a system call ends the call first.
    pub fn stopped(&self) {
        let start = Instant::now();
        let running = || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            threads.flatten().any(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
                // The state comes after the name, which is in brackets (proc(5)).
                !stat.rsplit(") ").next().unwrap().starts_with('T')
            })
        };
        while running() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    /// Ends it as a service manager does.
    pub fn terminate(self) {
        self.signal("TERM");
        assert_eq!(self.ended(), Some(0));
    }

    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// A service manager's socket (`NOTIFY_SOCKET`).
pub struct Manager {
    socket: UnixDatagram,
    pub path: PathBuf,
}

impl Manager {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pushd-{}-notified-{test}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    /// The next message.
    pub fn hear(&self) -> String {
        let mut text = [0; 1024];
        let len = loop {
            match self.socket.recv(&mut text) {
                // A machine that was stopped and goes on (signal(7), on sockets with a timeout).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        String::from_utf8(text[..len].to_vec()).unwrap()
    }

    /// All messages up to the first that has this text.
    pub fn hear_up_to(&self, text: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|last: &String| last.contains(text)) {
            heard.push(self.hear());
            assert!(heard.len() < 1000, "{text:?} is not in {heard:?}");
        }
        heard
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
