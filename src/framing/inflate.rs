//! Inflates compressed messages of WebSocket clients (RFC 7692, section 7.2.2). Each is inflated when all of it is
//! there.

use super::close::Close;
use miniz_oxide::inflate::core::{decompress, inflate_flags, DecompressorOxide};
use miniz_oxide::inflate::TINFLStatus;

/// The end of a flush, which senders leave out.
const FLUSHED: &[u8] = &[0, 0, 0xff, 0xff];
/// A message may have this many blocks, and one more for each [`BLOCK`] bytes. A block of ten bits can ask for tables
/// that take two microseconds to build.
const BLOCKS: usize = 64;
const BLOCK: usize = 16;
/// Most messages inflate to less than this many bytes. [`Inflater::trim`] frees a buffer that has grown larger.
const KEPT: usize = 64 * 1024;

/// The buffers for inflating. They are reused for each message.
#[derive(Default)]
pub struct Inflater {
    state: Box<DecompressorOxide>,
    /// The message, and after it the remains of earlier ones.
    out: Vec<u8>,
}

partial_debug!(Inflater);

impl Inflater {
    /// The most bytes that a compressed message may have if it inflates to `max_message` bytes. Bytes that can't be
    /// compressed grow a little, and each flush adds five bytes.
    pub fn most(max_message: usize) -> usize {
        max_message.saturating_add(max_message / 4).saturating_add(1024)
    }

    /// Inflates a message. A message that would exceed `max_message` costs no more than one of exactly that size.
    pub fn message(&mut self, deflated: &[u8], max_message: usize) -> Result<&[u8], Close> {
        let len = self.inflate(deflated, max_message)?;
        Ok(&self.out[..len])
    }

    /// Frees the memory that only a large message needed.
    pub fn trim(&mut self) {
        if self.out.len() > KEPT {
            self.out = Vec::new();
        }
    }

    fn inflate(&mut self, deflated: &[u8], max_message: usize) -> Result<usize, Close> {
        const FLAGS: u32 = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
            | inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
            | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        // One byte more than allowed, so that the largest allowed message does not fill the buffer.
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
                    // A sender may set BFINAL on a block and go on at the next byte (section 7.2.3.4).
                    TINFLStatus::Done => self.state.init(),
                    _ => return Err(Close::CORRUPT),
                }
                // A flush is an empty block without tables. It is not counted, since each fragment may end with one.
                let flush = written == 0 && (4..=5).contains(&read);
                if matches!(status, TINFLStatus::BlockBoundary | TINFLStatus::Done) && !flush {
                    blocks = blocks.checked_sub(1).ok_or(Close::CORRUPT)?;
                }
            }
            // The input ends between two blocks, so nothing is missing.
            if self.state.block_boundary_state().is_some() {
                return Ok(len);
            }
        }
        Err(Close::CORRUPT)
    }
}

#[cfg(test)]
#[path = "inflate_tests.rs"]
mod tests;
