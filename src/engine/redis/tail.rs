//! The tail: a read that waits for new entries, on a connection of its own.

use super::super::contract::Tailed;
use super::super::envelope::{self, Body};
use super::super::shared::connection::Failure;
use super::dial::Line;
use super::log::{Log, Script, MARK};
use super::serving::number;
use futures_util::future::join;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// About how many bytes are read at once, and the most entries.
const BYTES: usize = 1 << 20;
const MOST: usize = 1024;
/// The most bytes of one answer, if all of its entries are as large as messages may be: those before were small, and
/// Redis bounds an answer only by the number of entries.
const LARGEST: usize = 64 << 20;
/// How many entries are read first, when nobody knows how large they are.
const FIRST: usize = 16;
/// The longest time that the server waits for an entry before it says that there is none.
const WAIT: Duration = Duration::from_secs(1);

/// How many entries are read at once at most, if messages may have that many bytes.
pub(super) fn most(max_message: usize) -> usize {
    (LARGEST / max_message.max(1)).clamp(FIRST, MOST)
}

/// Reads the log from a number on, until that is no longer possible. Says why.
///
/// A reader must not take entries of another life of the log for those of this one. There are two ways to know:
///
/// - A look is a read that does not wait, followed by the question whether the log is still the same one. The server
///   handles both in this order, so the entries count if the answer is yes. The first reads are looks, until all that was
///   in the log has been read; and so is one read in each [`WAIT`], which also says how far the log goes.
/// - Later entries are appended after a look. If they are of this life, they have its mark. So a read that waits for
///   them needs no question, which would double the server's work for each hub and hold the entries up.
pub(super) async fn follow(
    line: Line,
    log: Arc<Log>,
    mut after: u64,
    pieces: mpsc::Sender<Vec<Tailed>>,
    timeout: Duration,
    most: usize,
) -> Failure {
    let (wait, mark) = (WAIT.min(timeout / 4), log.mark());
    let mut count = FIRST;
    // The end of the log at the last look, and its time.
    let mut looked: Option<(u64, Instant)> = None;
    loop {
        let Ok(place) = pieces.reserve().await else { return Failure("the hub has gone".to_owned()) };
        let follows = looked.is_some_and(|(end, at)| after >= end && at.elapsed() < wait);
        let read = line.ask(read(&log, after, count, follows.then_some(wait)));
        let (read, end) = match follows {
            true => (read.await, None),
            false => {
                let (read, check) = join(read, line.ask(log.call(Script::Check))).await;
                match log.read(check) {
                    Ok(mut check) => (read, Some(end_in(check.next()))),
                    Err(wrong) => return wrong.why(&line),
                }
            }
        };
        let read = match read {
            Ok(read) => read,
            Err(refused) => return line.why(refused),
        };
        if let Some(end) = end {
            if end < after {
                let server = &line.server;
                return Failure(format!("the log on Redis {server} ends at {end}, and was read up to {after} before"));
            }
            looked = Some((end, Instant::now()));
        }
        let read = match items(read) {
            Ok(read) => read,
            Err(id) => return log.foreign(&id),
        };
        if follows && !read.marks.iter().all(|other| *other == mark.as_bytes()) {
            return log.another();
        }
        let mut items = read.items;
        if !items.is_empty() {
            count = (count * BYTES / read.bytes.max(1)).min(count * 4).clamp(1, most);
        }
        if let Some(Tailed::Entry { number, .. } | Tailed::Fence { number, .. }) = items.last() {
            after = *number;
        }
        if end.is_some_and(|end| after >= end) {
            items.push(Tailed::Idle { end: after });
        }
        if !items.is_empty() {
            place.send(items);
        }
    }
}

fn end_in(check: Option<Value>) -> u64 {
    match check {
        Some(Value::BulkString(text)) => number(&text).unwrap_or(0),
        _ => 0,
    }
}

fn read(log: &Log, after: u64, count: usize, wait: Option<Duration>) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command.arg("COUNT").arg(count);
    if let Some(wait) = wait {
        // 0 would be for ever.
        command.arg("BLOCK").arg(wait.as_millis().max(1) as u64);
    }
    command.arg("STREAMS").arg(log.stream()).arg(format!("{after}-0"));
    command
}

/// An answer to XREAD.
#[derive(Default)]
struct Read {
    items: Vec<Tailed>,
    /// The marks of lives in the items, each once if they stand together.
    marks: Vec<Vec<u8>>,
    /// How many bytes the items have.
    bytes: usize,
}

/// Reads an answer to XREAD. The error is the id of an entry of another program.
fn items(value: Value) -> Result<Read, String> {
    let entries = match value {
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(mut stream)) => stream.pop(),
            _ => None,
        },
        _ => None,
    };
    let mut read = Read::default();
    if let Some(Value::Array(entries)) = entries {
        for entry in entries {
            let (item, mark, size) = item(entry)?;
            read.items.push(item);
            read.bytes += size;
            if read.marks.last() != Some(&mark) {
                read.marks.push(mark);
            }
        }
    }
    Ok(read)
}

/// An entry, the mark of its life, and how many bytes it has.
fn item(entry: Value) -> Result<(Tailed, Vec<u8>, usize), String> {
    let Value::Array(mut parts) = entry else { return Err(String::new()) };
    let (fields, id) = (parts.pop(), parts.pop());
    let Some(Value::BulkString(id)) = id else { return Err(String::new()) };
    let foreign = || String::from_utf8_lossy(&id).into_owned();
    let number = number_of_id(&id).ok_or_else(foreign)?;
    let Some(Value::Array(mut fields)) = fields else { return Err(foreign()) };
    let (value, name) = (fields.pop(), fields.pop());
    match (name, value, fields.is_empty()) {
        (Some(Value::BulkString(mut name)), Some(Value::BulkString(bytes)), true) if name.len() == 1 + MARK => {
            let (mark, size) = (name.split_off(1), bytes.len());
            match &name[..] {
                b"e" => Ok((Tailed::Entry { number, bytes }, mark, size)),
                b"f" => match envelope::read(&bytes) {
                    Ok((id, Body::Fence(_))) => Ok((Tailed::Fence { number, id }, mark, size)),
                    // The hub says of it that a newer version has written it, or that nobody can read it.
                    _ => Ok((Tailed::Entry { number, bytes }, mark, size)),
                },
                _ => Err(foreign()),
            }
        }
        _ => Err(foreign()),
    }
}

/// The number in the id of an entry. Ours end with `-0`.
pub(super) fn number_of_id(id: &[u8]) -> Option<u64> {
    number(id.strip_suffix(b"-0")?)
}
