//! Compression of messages to WebSocket clients (RFC 7692). Each message is compressed by itself, without the context
//! of earlier messages.
//!
//! So the compressed frame of a message is the same for all clients that agreed to compression. It is made once and
//! kept with the message, and no client needs a compressor of its own.

use super::ws_frames::Header;
use crate::hub::Form;
use miniz_oxide::deflate::core::{compress, create_comp_flags_from_zip_params, CompressorOxide};
use miniz_oxide::deflate::core::{TDEFLFlush, TDEFLStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Payloads shorter than this many bytes are not compressed: they shrink by a few bytes, if at all.
pub const SHORT: usize = 128;
/// Payloads longer than this many bytes are not compressed: all connections of a thread wait while it compresses one.
const LONG: usize = 1 << 20;
/// The level of compression, of ten. `benches/README.md` has the cost and the savings of the others.
const LEVEL: i32 = 4;
/// The empty block at the end of a message's compressed bytes, which is not sent (RFC 7692, section 7.2.1).
const FLUSHED: &[u8] = &[0, 0, 0xff, 0xff];
/// A buffer that has grown beyond this many bytes is freed after the message.
const KEPT: usize = 128 * 1024;

/// A pool of compressors. Each takes some 300 KB, and making one takes longer than compressing a message.
#[derive(Default)]
pub struct Deflater {
    idle: Mutex<Vec<Compressor>>,
}

partial_debug!(Deflater);

struct Compressor {
    state: Box<CompressorOxide>,
    out: Vec<u8>,
}

impl Deflater {
    /// Makes one more compressor. Making one takes more stack than a host's thread may have. So a thread with stack to
    /// spare calls this, once for each thread that will compress.
    pub fn prepare(&self) {
        let compressor = Compressor::new();
        self.idle().push(compressor);
    }

    /// A payload as a compressed frame. The form is empty if compression does not pay.
    pub(crate) fn frame(&self, binary: bool, payload: &[u8]) -> Form {
        if payload.len() > LONG {
            return Form::plain(Vec::new());
        }
        let frame = self.deflate(payload, |deflated| {
            // To save less than a sixteenth is not worth the work of inflating it.
            let header = Header::deflated(binary, deflated.len());
            let worth_it = deflated.len() < payload.len() - payload.len() / 16;
            worth_it.then(|| [header.as_bytes(), deflated].concat())
        });
        Form::plain(frame.flatten().unwrap_or_default())
    }

    /// Compresses a message and passes the result on. `None`: it could not be compressed.
    pub(crate) fn deflate<T>(&self, payload: &[u8], and_then: impl FnOnce(&[u8]) -> T) -> Option<T> {
        // There is one for each thread, unless a panic dropped it.
        let idle = self.idle().pop();
        let mut compressor = idle.unwrap_or_else(Compressor::new);
        let done = compressor.deflate(payload).map(and_then);
        if compressor.out.len() > KEPT {
            compressor.out = Vec::new();
        }
        self.idle().push(compressor);
        done
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Compressor>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compressor {
    fn new() -> Self {
        let raw = create_comp_flags_from_zip_params(LEVEL, 0, 0);
        Compressor { state: Box::new(CompressorOxide::new(raw)), out: Vec::new() }
    }

    fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        // Bytes that do not shrink are stored, with a few bytes of overhead for each 31 KB.
        let most = payload.len() + payload.len() / 8 + 64;
        if self.out.len() < most {
            self.out.resize(most, 0);
        }
        // After a full flush the next message does not refer to this one.
        let (status, read, written) = compress(&mut self.state, payload, &mut self.out, TDEFLFlush::Full);
        if status != TDEFLStatus::Okay || read < payload.len() || written == self.out.len() {
            // There was more than enough room, so this does not happen. If it did, the rest of this message would come
            // out before the next one.
            self.state.reset();
            return None;
        }
        self.out[..written].strip_suffix(FLUSHED)
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
