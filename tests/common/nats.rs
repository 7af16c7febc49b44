//! A nats-server with JetStream as the child of a test, in a folder and at a port of its own.

use super::folder::Folder;
use super::killed::Killed;
use super::{free_port, until};
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// See the module. It is killed when this is dropped.
pub struct Nats {
    child: Killed,
    folder: Folder,
    port: u16,
}

impl Nats {
    /// Starts one, and waits until it answers.
    pub fn started() -> Self {
        let (port, folder) = (free_port(), Folder::new("nats"));
        // The set-up of the tests installs it.
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env/bin/nats-server");
        let mut command = Command::new(&program);
        command
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string(), "--store_dir"])
            .arg(folder.path());
        let log = File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}: tests/harness/install python installs it", program.display()));
        let mut nats = Nats { child: Killed(child), folder, port };
        until("nats-server does not answer", || nats.answers());
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn answers(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut start = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.read_exact(&mut start).is_ok() && start == *b"INFO"
    }
}
