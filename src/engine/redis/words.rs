//! Words between hubs: two streams beside the log. All hubs read `{namespace}:words`, and each reads one of its own.
//!
//! They are read over a connection of their own, so a large answer holds up neither the tail nor an append, and a hub
//! that can't take more of the tail still hears. The streams are short and expire: nothing of them has to last, and
//! Redis may evict them. A hub removes from its own stream what it has read, so that large answers take no memory there.
//! Whatever fails here is said, and does not concern the log.
//!
//! The ids of a stream grow, also if the clock of the server steps back. But a stream that has expired is made anew, and
//! its ids then begin at the present time. So a hub reads its own stream from the beginning each time: it has removed what
//! it has read. And it looks once in a while whether the stream of all is another one, with ids before the last one that
//! it has read there. Otherwise it would hear nothing until the clock has caught up.
//!
//! PUBLISH would keep nothing at all. But in a cluster each message would go to every node, and the sharded form needs
//! Redis 7. Users would need rights for channels, and a client of Redis that reads too slowly is cut off.

use super::super::contract::Word;
use super::super::shared::connection::{Failure, Heard, Words};
use super::super::shared::pause;
use super::dial::{Address, Dialer, Line, Refused};
use super::url::Credentials;
use redis::{Cmd, Value};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, Instant};

/// How many words a stream keeps, about.
const KEPT: usize = 256;
/// How long a stream stays after its last word. No question waits for so long.
const EXPIRES: Duration = Duration::from_secs(10);
/// How many words of a stream are read at once.
const AT_ONCE: usize = 16;
/// The longest time that the server waits for a word before it says that there is none.
const WAIT: Duration = Duration::from_secs(1);
/// The pause after something has failed, about.
const PAUSE: Duration = Duration::from_secs(1);

/// A hub's part in the words.
pub(super) struct Place {
    pub(super) dialer: Dialer,
    pub(super) address: Address,
    pub(super) credentials: Credentials,
    pub(super) db: u32,
    pub(super) namespace: String,
    pub(super) hub: u64,
    /// Words are said over the connection that asks the log: that is only writing, and the server does it at once.
    pub(super) line: Line,
    pub(super) timeout: Duration,
}

impl Place {
    /// Passes words on until the hub ends the connection.
    pub(super) async fn exchange(self, words: Words) {
        let Words { mut said, heard } = words;
        tokio::select! {
            () = self.say_all(&mut said, &heard) => {}
            () = self.hear_all(&heard) => {}
        }
    }

    async fn say_all(&self, said: &mut mpsc::Receiver<Word>, heard: &mpsc::Sender<Heard>) {
        while let Some(word) = said.recv().await {
            // One at a time, so that an append never stands behind many.
            if let Err(refused) = self.say(&word).await {
                let _ = heard.try_send(Err(self.line.why(refused)));
            }
        }
    }

    async fn say(&self, word: &Word) -> Result<(), Refused> {
        let key = self.key(word.to);
        let mut add = redis::cmd("XADD");
        add.arg(&key).arg("MAXLEN").arg("~").arg(KEPT).arg("*").arg("w").arg(&word.bytes[..]);
        let mut expire = redis::cmd("PEXPIRE");
        expire.arg(&key).arg(EXPIRES.as_millis() as u64);
        let (added, expires) = futures_util::future::join(self.line.ask(add), self.line.ask(expire)).await;
        added.and(expires).map(drop)
    }

    async fn hear_all(&self, heard: &mpsc::Sender<Heard>) {
        while !heard.is_closed() {
            let Err(why) = self.hear(heard).await;
            let _ = heard.try_send(Err(why));
            sleep(pause::about(PAUSE)).await;
        }
    }

    async fn hear(&self, heard: &mpsc::Sender<Heard>) -> Result<std::convert::Infallible, Failure> {
        let line = self.dialer.dial(&self.address, &self.credentials, self.db).await?.with_limit(self.timeout);
        let [all, own] = [self.key(None), self.key(Some(self.hub))];
        let mut after = end_of(&line, &all).await?;
        let wait = WAIT.min(self.timeout / 4);
        // The last time at which the stream of all was surely the one of which `after` is an id.
        let mut known = Instant::now();
        loop {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(wait.as_millis().max(1) as u64);
            // This life of the hub has not read its own stream, unless it connects anew: then it may get words again.
            read.arg("STREAMS").arg(&all).arg(&own).arg(after.to_string()).arg("0-0");
            let read = line.ask(read).await.map_err(|refused| line.why(refused))?;
            let mut last = None;
            for (key, id, bytes) in words_in(read) {
                let id = id.parse().ok();
                if key == own.as_bytes() {
                    last = id.or(last);
                } else if let Some(id) = id {
                    (after, known) = (id, Instant::now());
                }
                let _ = heard.try_send(Ok(bytes));
            }
            if let Some(next) = last.and_then(Id::next) {
                let mut trim = redis::cmd("XTRIM");
                trim.arg(&own).arg("MINID").arg(next.to_string());
                line.ask(trim).await.map_err(|refused| line.why(refused))?;
            }
            if known.elapsed() >= wait {
                if end_of(&line, &all).await? < after {
                    // Nothing of this stream was read.
                    after = Id::default();
                }
                known = Instant::now();
            }
        }
    }

    fn key(&self, to: Option<u64>) -> String {
        let namespace = &self.namespace;
        to.map_or_else(|| format!("{{{namespace}}}:words"), |hub| format!("{{{namespace}}}:words:{hub:016x}"))
    }
}

/// The id of a word in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    time: u64,
    number: u64,
}

impl Id {
    fn next(self) -> Option<Self> {
        Some(Id { number: self.number.checked_add(1)?, ..self })
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, number) = text.split_once('-').ok_or(())?;
        Ok(Id { time: time.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time, self.number)
    }
}

/// The id after which new words come. The smallest one if there is no stream.
async fn end_of(line: &Line, key: &str) -> Result<Id, Failure> {
    let mut info: Cmd = redis::cmd("XINFO");
    info.arg("STREAM").arg(key);
    let parts = match line.ask(info).await {
        Ok(Value::Array(parts)) => parts,
        Err(Refused::Said(error)) if error.to_string().contains("no such key") => Vec::new(),
        Err(refused) => return Err(line.why(refused)),
        Ok(_) => Vec::new(),
    };
    let mut parts = parts.into_iter();
    while let Some(name) = parts.next() {
        match (name, parts.next()) {
            (Value::BulkString(name), Some(Value::BulkString(id))) if name == b"last-generated-id" => {
                return Ok(String::from_utf8_lossy(&id).parse().unwrap_or_default());
            }
            _ => {}
        }
    }
    Ok(Id::default())
}

/// The words in an answer to XREAD.
fn words_in(read: Value) -> impl Iterator<Item = (Vec<u8>, String, Vec<u8>)> {
    let streams = if let Value::Array(streams) = read { streams } else { Vec::new() };
    streams.into_iter().flat_map(words_of)
}

/// The words in the part of an answer that is about one stream, each with the stream and its id. An entry of another
/// form has no bytes.
fn words_of(stream: Value) -> Vec<(Vec<u8>, String, Vec<u8>)> {
    let Value::Array(mut parts) = stream else { return Vec::new() };
    let (Some(Value::Array(entries)), Some(Value::BulkString(key))) = (parts.pop(), parts.pop()) else {
        return Vec::new();
    };
    let word = |entry: Value| {
        let Value::Array(mut parts) = entry else { return None };
        let (fields, Some(Value::BulkString(id))) = (parts.pop(), parts.pop()) else { return None };
        let bytes = match fields {
            Some(Value::Array(mut fields)) => match fields.pop() {
                Some(Value::BulkString(bytes)) => bytes,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Some((key.clone(), String::from_utf8_lossy(&id).into_owned(), bytes))
    };
    entries.into_iter().filter_map(word).collect()
}
