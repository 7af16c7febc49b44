//! The tail: a read that waits for new entries, on a connection of its own.

use super::super::contract::Tailed;
use super::super::envelope::{self, Body};
use super::super::shared::connection::Failure;
use super::dial::Line;
use super::log::{Log, Script};
use super::serving::number;
use futures_util::future::join;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Duration;
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
/// Each read is followed by the question whether the log is still the same one, and the server handles both in this
/// order. The entries of a read count only if the answer is yes.
pub(super) async fn follow(
    line: Line,
    log: Arc<Log>,
    mut after: u64,
    pieces: mpsc::Sender<Vec<Tailed>>,
    timeout: Duration,
    most: usize,
) -> Failure {
    let mut count = FIRST;
    // The first read does not wait, so the hub soon knows that it has everything.
    let mut wait = None;
    loop {
        let Ok(place) = pieces.reserve().await else { return Failure("the hub has gone".to_owned()) };
        let read = line.ask(read(&log, after, count, wait));
        let (read, check) = join(read, line.ask(log.call(Script::Check))).await;
        let (read, mut check) = match (read, log.read(check)) {
            (Ok(read), Ok(check)) => (read, check),
            (Err(refused), _) => return line.why(refused),
            (_, Err(wrong)) => return wrong.why(&line),
        };
        let end = match check.next() {
            Some(Value::BulkString(text)) => number(&text).unwrap_or(0),
            _ => 0,
        };
        if end < after {
            let server = &line.server;
            return Failure(format!("the log on Redis {server} ends at {end}, and was read up to {after} before"));
        }
        let (mut items, bytes) = match items(read) {
            Ok(items) => items,
            Err(id) => return log.foreign(&id),
        };
        if !items.is_empty() {
            count = (count * BYTES / bytes.max(1)).min(count * 4).clamp(1, most);
        }
        if let Some(Tailed::Entry { number, .. } | Tailed::Fence { number, .. }) = items.last() {
            after = *number;
        }
        wait = (after >= end).then_some(WAIT.min(timeout / 4));
        if wait.is_some() {
            items.push(Tailed::Idle { end: after });
        }
        if !items.is_empty() {
            place.send(items);
        }
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

/// The entries in an answer to XREAD, and how many bytes they have. The error is the id of an entry of another program.
fn items(value: Value) -> Result<(Vec<Tailed>, usize), String> {
    let entries = match value {
        Value::Array(streams) => match streams.into_iter().next() {
            Some(Value::Array(mut stream)) => stream.pop(),
            _ => None,
        },
        _ => None,
    };
    let (mut items, mut bytes) = (Vec::new(), 0);
    if let Some(Value::Array(entries)) = entries {
        for entry in entries {
            let (item, size) = item(entry)?;
            items.push(item);
            bytes += size;
        }
    }
    Ok((items, bytes))
}

fn item(entry: Value) -> Result<(Tailed, usize), String> {
    let Value::Array(mut parts) = entry else { return Err(String::new()) };
    let (fields, id) = (parts.pop(), parts.pop());
    let Some(Value::BulkString(id)) = id else { return Err(String::new()) };
    let foreign = || String::from_utf8_lossy(&id).into_owned();
    let number = number_of_id(&id).ok_or_else(foreign)?;
    let Some(Value::Array(mut fields)) = fields else { return Err(foreign()) };
    let (value, name) = (fields.pop(), fields.pop());
    match (name, value, fields.is_empty()) {
        (Some(Value::BulkString(name)), Some(Value::BulkString(bytes)), true) => match &name[..] {
            b"e" => {
                let size = bytes.len();
                Ok((Tailed::Entry { number, bytes }, size))
            }
            b"f" => match envelope::read(&bytes) {
                Ok((id, Body::Fence(_))) => Ok((Tailed::Fence { number, id }, bytes.len())),
                // The hub says of it that a newer version has written it, or that nobody can read it.
                _ => Ok((Tailed::Entry { number, bytes }, 0)),
            },
            _ => Err(foreign()),
        },
        _ => Err(foreign()),
    }
}

/// The number in the id of an entry. Ours end with `-0`.
pub(super) fn number_of_id(id: &[u8]) -> Option<u64> {
    number(id.strip_suffix(b"-0")?)
}
