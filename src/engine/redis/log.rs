//! The log on a server, as one connection knows it: its keys, its life, and the scripts that the server has.

use super::super::contract::LogId;
use super::super::envelope::Unreadable;
use super::super::shared::connection::Failure;
use super::dial::{Line, Refused};
use redis::{Cmd, Value};

/// The scripts. Each has `common.lua` before it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Script {
    Open,
    Identify,
    Append,
    Fence,
    Trim,
    Check,
}

/// How many bytes a mark has, see [`Log::mark`].
pub(super) const MARK: usize = 16;

const COMMON: &str = include_str!("scripts/common.lua");
/// In the order of [`Script`].
pub(super) const SCRIPTS: [&str; 6] = [
    include_str!("scripts/open.lua"),
    include_str!("scripts/identify.lua"),
    include_str!("scripts/append.lua"),
    include_str!("scripts/fence.lua"),
    include_str!("scripts/trim.lua"),
    include_str!("scripts/check.lua"),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    /// Below one hash tag, so that a cluster has them in one slot.
    keys: [String; 5],
    hashes: Vec<String>,
    /// The server's history of replication, and the log's token. Every script compares it.
    life: String,
    pub(super) server: String,
}

/// An answer of a script that is not the one expected.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The append is refused, because an entry before it was not accepted over this connection.
    Busy,
    Refused(Refused),
    Failed(Failure),
}

impl Log {
    /// Gives the server its scripts, and finds or makes the log.
    pub(super) async fn open(line: &Line, namespace: &str) -> Result<Self, Wrong> {
        let keys = ["log", "state", "hubs", "keys", "order"].map(|part| format!("{{{namespace}}}:{part}"));
        let server = line.server.clone();
        let mut log = Log { keys, hashes: load(line).await?, life: String::new(), server };
        let answer = line.ask(log.call(Script::Open).arg(token()?).clone()).await;
        match log.read(answer)?.next() {
            Some(Value::BulkString(life)) => log.life = String::from_utf8(life).map_err(|_| log.strange())?,
            _ => return Err(log.strange()),
        }
        Ok(log)
    }

    /// A call of a script, to which its own arguments are added.
    pub(super) fn call(&self, script: Script) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hashes[script as usize]).arg(self.keys.len()).arg(&self.keys).arg(&self.life);
        command
    }

    /// Stands in the entries that this life of the log appends.
    pub(super) fn mark(&self) -> String {
        format!("{:016x}", self.sum() as u64)
    }

    /// The name of the stream.
    pub(super) fn stream(&self) -> &str {
        &self.keys[0]
    }

    pub(super) fn id(&self) -> LogId {
        LogId(self.sum().to_le_bytes())
    }

    fn sum(&self) -> u128 {
        // FNV-1a. Ids only have to differ when the texts `life` differ, and those are random.
        let mix =
            |sum: u128, byte: u8| (sum ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        self.life.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, mix)
    }

    /// The answer of a script, without the word before it.
    pub(super) fn read(&self, answer: Result<Value, Refused>) -> Result<std::vec::IntoIter<Value>, Wrong> {
        let Value::Array(parts) = answer.map_err(Wrong::Refused)? else { return Err(self.strange()) };
        let mut parts = parts.into_iter();
        let word = parts.next();
        let mut more = || match parts.next() {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned(),
            _ => String::new(),
        };
        let server = &self.server;
        let why = match word {
            Some(Value::BulkString(word)) => match &word[..] {
                b"ok" => return Ok(parts),
                b"busy" => return Err(Wrong::Busy),
                b"replica" => format!("Redis {server} is a replica now; the log is on the master"),
                b"other" => return Err(Wrong::Failed(self.another())),
                b"changed" => format!("another program has changed the stream {} on Redis {server}", self.stream()),
                b"newer" => format!("the log on Redis {server} has format {}: a newer libpush has made it", more()),
                b"foreign" => return Err(Wrong::Failed(self.foreign(&more()))),
                _ => return Err(self.strange()),
            },
            _ => return Err(self.strange()),
        };
        Err(Wrong::Failed(Failure(why)))
    }

    /// The failure for another life of the log.
    pub(super) fn another(&self) -> Failure {
        Failure(format!(
            "the log on Redis {} was replaced by another log: the server was restarted, another server took over, or \
             somebody deleted the log",
            self.server
        ))
    }

    /// The failure for an entry of another program.
    pub(super) fn foreign(&self, id: &str) -> Failure {
        let (stream, server) = (self.stream(), &self.server);
        let id: String = id.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        Failure(format!(
            "the stream {stream} on Redis {server} is not, or not only, a log of libpush: its entry {id} is of another \
             program; delete the stream, or choose another engine_namespace"
        ))
    }

    pub(super) fn unreadable_fence(&self, number: u64, why: Unreadable) -> Wrong {
        let (stream, server) = (self.stream(), &self.server);
        Wrong::Failed(Failure(format!(
            "the last fence of {stream} on Redis {server}, entry {number}, can't be read: {why}"
        )))
    }

    pub(super) fn strange(&self) -> Wrong {
        Wrong::Failed(Failure(format!("Redis {} does not answer as a Redis does", self.server)))
    }
}

/// Gives the server the scripts. It keeps them until it restarts, or somebody makes it forget them.
async fn load(line: &Line) -> Result<Vec<String>, Wrong> {
    let mut hashes = Vec::new();
    for script in SCRIPTS {
        let mut command = redis::cmd("SCRIPT");
        let text = format!("{COMMON}\n{script}");
        #[cfg(test)]
        let text = super::tests::planted::into(text);
        command.arg("LOAD").arg(text);
        match line.ask(command).await.map_err(Wrong::Refused)? {
            Value::BulkString(hash) => hashes.push(String::from_utf8_lossy(&hash).into_owned()),
            Value::SimpleString(hash) => hashes.push(hash),
            _ => {
                return Err(Wrong::Failed(Failure(format!(
                    "Redis {} does not keep the scripts that were loaded",
                    line.server
                ))))
            }
        }
    }
    Ok(hashes)
}

/// Gives the server the scripts again.
pub(super) async fn load_again(line: Line) -> Result<(), Wrong> {
    load(&line).await.map(drop)
}

/// A token that tells a new log from every other one.
fn token() -> Result<String, Wrong> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Wrong::Failed(Failure(format!("no random bytes: {error}"))))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
