//! A redis-server as the child of a test, in a folder and at a port of its own.

use super::folder::Folder;
use super::{free_port, until};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// See the module. It has its data again after a kill, and is killed when this is dropped.
pub struct Redis {
    child: Option<Child>,
    folder: Folder,
    port: u16,
}

impl Redis {
    /// A place for a server that does not run yet.
    pub fn away() -> Self {
        Redis { child: None, folder: Folder::new("redis"), port: free_port() }
    }

    pub fn started() -> Self {
        let mut redis = Redis::away();
        redis.start();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, with what is in its folder, and waits until it answers.
    pub fn start(&mut self) {
        let log = || Stdio::from(File::options().create(true).append(true).open(self.folder.join("log")).unwrap());
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(self.folder.path());
        let child = command.stdin(Stdio::null()).stdout(log()).stderr(log()).spawn();
        self.child = Some(child.expect("redis-server: tests/need redis-server:redis-server installs it"));
        until("redis-server does not answer", || self.answers());
    }

    fn answers(&mut self) -> bool {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        assert!(ended.is_none(), "{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 5];
        // While it reads its file it answers with an error.
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
