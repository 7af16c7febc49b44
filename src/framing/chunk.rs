//! Chunks of HTTP/1.1 bodies (RFC 9112, section 7.1).

use crate::hub::Form;
use std::io::Write;

/// The chunk that ends a body.
pub const END: &[u8] = b"0\r\n\r\n";

/// A part of a body in a chunk's framing. The result can also give the part without the framing.
pub fn framed(part: &[u8]) -> Form {
    let mut bytes = Vec::with_capacity(part.len() + 12);
    // Writing into a Vec does not fail.
    let _ = write!(bytes, "{:x}\r\n", part.len());
    let before = bytes.len();
    bytes.extend_from_slice(part);
    bytes.extend_from_slice(b"\r\n");
    Form::framed(bytes, before, 2)
}
