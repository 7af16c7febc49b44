//! The NDJSON stream: each line is a JSON object, and a heartbeat is an empty line.

use super::{chunk, json};
use crate::hub::{Epoch, Form, Message};

/// An empty line. Readers of NDJSON skip it.
pub fn heartbeat(framed: bool) -> &'static [u8] {
    if framed {
        b"1\r\n\n\r\n"
    } else {
        b"\n"
    }
}

/// A message as a line.
pub fn form(message: &Message, epoch: &Epoch) -> Form {
    line(&json::message(message, epoch))
}

/// An object as a line.
pub fn line(object: &[u8]) -> Form {
    let mut line = Vec::with_capacity(object.len() + 1);
    line.extend_from_slice(object);
    line.push(b'\n');
    chunk::framed(&line)
}

/// The line that says why the stream ends, and after how many milliseconds to come back if there is such advice.
pub fn close(code: u16, reason: &str, retry_ms: Option<u64>) -> Form {
    line(&json::close(code, reason, retry_ms))
}
