//! Real servers, as children of the tests: each in a folder of its own, on free ports of loopback.

use crate::engine::shared::contract_tests::ports::free_port;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("libpush-nats-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A nats-server.
pub(crate) struct Server {
    child: Option<Child>,
    folder: Arc<Folder>,
    pub(crate) port: u16,
    name: String,
}

impl Server {
    /// One server with JetStream, and more of a configuration.
    pub(crate) fn alone(more: &str) -> Self {
        Self::named("alone", &format!("jetstream {{ store_dir: \"FOLDER/alone\" }}\n{more}"))
    }

    /// In the configuration, `FOLDER` stands for the server's folder.
    pub(crate) fn named(name: &str, more: &str) -> Self {
        let folder = Arc::new(Folder::new());
        let mut server = Server { child: None, folder, port: free_port(), name: name.to_owned() };
        server.configure(more);
        server.start();
        server
    }

    pub(crate) fn configure(&self, more: &str) {
        let more = more.replace("FOLDER", self.folder.0.to_str().unwrap());
        let text = format!("listen: \"127.0.0.1:{}\"\nserver_name: {}\n{more}\n", self.port, self.name);
        fs::write(self.path("conf"), text).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }

    fn path(&self, end: &str) -> PathBuf {
        self.folder.0.join(format!("{}.{end}", self.name))
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it, also again, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let command = &program();
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut child = Command::new(command);
        child.arg("--config").arg(self.path("conf")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(child.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.display())));
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                panic!("nats-server does not start:\n{}", fs::read_to_string(self.path("log")).unwrap_or_default());
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut start = [0; 4];
        socket.read_exact(&mut start).is_ok() && &start == b"INFO"
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It stands still, with its sockets open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers, of which each keeps what any of them has.
pub(crate) struct Cluster(pub(crate) Vec<Server>);

impl Cluster {
    pub(crate) fn new() -> Self {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let all: Vec<String> = routes.iter().map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).collect();
        let server = |(at, port): (usize, &u16)| {
            Server::named(
                &format!("n{at}"),
                &format!(
                    "jetstream {{ store_dir: \"FOLDER/n{at}\" }}\n\
                     cluster {{ name: tests, listen: \"127.0.0.1:{port}\", routes: [{}] }}",
                    all.join(", ")
                ),
            )
        };
        Cluster(routes.iter().enumerate().map(server).collect())
    }

    pub(crate) fn url(&self) -> String {
        let places: Vec<String> = self.0.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("nats://{}", places.join(","))
    }

    /// One for all tests that run at the same time. It ends with the last of them.
    pub(crate) fn shared() -> Arc<Cluster> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::new());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }
}

/// The set-up of the tests installs it.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env/bin/nats-server");
    assert!(path.exists(), "there is no {}: tests/harness/install python installs it", path.display());
    path
}
