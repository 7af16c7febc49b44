//! The NDJSON stream: each line is a JSON object, and a heartbeat is an empty line.

use super::chunk;
use crate::hub::Form;

/// An empty line. Readers of NDJSON skip it.
pub fn heartbeat(framed: bool) -> &'static [u8] {
    if framed {
        b"1\r\n\n\r\n"
    } else {
        b"\n"
    }
}

/// An object as a line.
pub fn line(object: &[u8]) -> Form {
    let mut line = Vec::with_capacity(object.len() + 1);
    line.extend_from_slice(object);
    line.push(b'\n');
    chunk::framed(&line)
}
