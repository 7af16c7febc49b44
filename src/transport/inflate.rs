//! Compressed messages of WebSocket clients (RFC 7692, section 7.2.2), inflated when all of one is there.

use super::close::Close;
use miniz_oxide::inflate::core::{decompress, inflate_flags, DecompressorOxide};
use miniz_oxide::inflate::TINFLStatus;
use std::fmt;

/// A flush's end, which senders leave away.
const FLUSHED: &[u8] = &[0, 0, 0xff, 0xff];
/// How many blocks a message may have, beside one for each so many bytes. Each may begin with tables that take two
/// microseconds to build, though ten bits are enough to ask for them.
const BLOCKS: usize = 64;
const BLOCK: usize = 16;
/// What messages mostly inflate to; a buffer that has grown larger is given back.
const KEPT: usize = 64 * 1024;

/// Room for inflating, which no message owns.
#[derive(Default)]
pub struct Inflater {
    state: Box<DecompressorOxide>,
    /// The message, and beyond it what earlier ones have left.
    out: Vec<u8>,
}

impl Inflater {
    /// How long a message that inflates to `max_message` bytes may be. What can't be compressed grows, by little, or by
    /// five bytes with each flush.
    pub fn most(max_message: usize) -> usize {
        max_message.saturating_add(max_message / 4).saturating_add(1024)
    }

    /// Inflates a message. One that would be larger than `max_message` costs no more than one that is as large.
    pub fn message(&mut self, deflated: &[u8], max_message: usize) -> Result<&[u8], Close> {
        let len = self.inflate(deflated, max_message)?;
        Ok(&self.out[..len])
    }

    /// Gives memory back that only a large message needs.
    pub fn trim(&mut self) {
        if self.out.len() > KEPT {
            self.out = Vec::new();
        }
    }

    fn inflate(&mut self, deflated: &[u8], max_message: usize) -> Result<usize, Close> {
        const FLAGS: u32 = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
            | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        // One more than may be: so a message that ends there has not filled it.
        let most = max_message.saturating_add(1);
        let mut room = most.min(1024.max(deflated.len().saturating_mul(4)));
        let mut blocks = BLOCKS + deflated.len() / BLOCK;
        let mut len = 0;
        self.state.init();
        for input in [deflated, FLUSHED] {
            let mut rest = input;
            loop {
                if self.out.len() < room {
                    self.out.reserve_exact(room - self.out.len());
                    self.out.resize(room, 0);
                }
                let (status, read, written) = decompress(&mut self.state, rest, &mut self.out[..room], len, FLAGS);
                rest = &rest[read..];
                len += written;
                if len > max_message {
                    return Err(Close::TOO_LARGE);
                }
                match status {
                    TINFLStatus::NeedsMoreInput => break,
                    TINFLStatus::HasMoreOutput if room < most => room = most.min(2 * room),
                    TINFLStatus::BlockBoundary => {}
                    TINFLStatus::Done if rest.is_empty() => return Ok(len),
                    // A sender may end blocks with BFINAL, and go on at the next byte (section 7.2.3.4).
                    TINFLStatus::Done => self.state.init(),
                    _ => return Err(Close::CORRUPT),
                }
                // A flush is an empty block without tables, and there may be one in each fragment.
                let flush = written == 0 && (4..=5).contains(&read);
                if matches!(status, TINFLStatus::BlockBoundary | TINFLStatus::Done) && !flush {
                    blocks = blocks.checked_sub(1).ok_or(Close::CORRUPT)?;
                }
            }
            // Between two blocks: nothing is missing.
            if self.state.block_boundary_state().is_some() {
                return Ok(len);
            }
        }
        Err(Close::CORRUPT)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
