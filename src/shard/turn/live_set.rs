//! Which connections of a shard live, for threads that are not its own.
//!
//! The slab belongs to the shard's thread alone. So that `push_send` can say at once that a connection is gone, the
//! generation of every slot stands here too, in a table that grows by segments and never moves.

use crate::shard::connection::conn::Token;
use once_cell::race::OnceBox;
use std::sync::atomic::{AtomicU32, Ordering};

const SEGMENT: usize = 4096;
/// Sixteen million connections a shard.
const SEGMENTS: usize = 4096;

/// Generations of live slots; 0 is nobody.
pub(crate) struct LiveSet {
    segments: Box<[OnceBox<[AtomicU32; SEGMENT]>]>,
}

impl LiveSet {
    pub(in crate::shard) fn new() -> Self {
        LiveSet { segments: (0..SEGMENTS).map(|_| OnceBox::new()).collect() }
    }

    /// How many slots there can be.
    pub(in crate::shard) const CAPACITY: usize = SEGMENT * SEGMENTS;

    /// Notes that a slot is this connection's; for the shard's thread.
    pub(in crate::shard) fn enter(&self, token: Token) {
        if let Some(segment) = self.segments.get(token.index as usize / SEGMENT) {
            let segment = segment.get_or_init(|| Box::new([const { AtomicU32::new(0) }; SEGMENT]));
            segment[token.index as usize % SEGMENT].store(token.generation, Ordering::Relaxed);
        }
    }

    /// Notes that a slot is nobody's; for the shard's thread.
    pub(in crate::shard) fn leave(&self, index: u32) {
        self.enter(Token { index, generation: 0 });
    }

    /// Whether the connection lives, as far as this thread can know.
    pub(crate) fn contains(&self, token: Token) -> bool {
        let segment = self.segments.get(token.index as usize / SEGMENT).and_then(OnceBox::get);
        segment
            .is_some_and(|segment| segment[token.index as usize % SEGMENT].load(Ordering::Relaxed) == token.generation)
    }
}

impl std::fmt::Debug for LiveSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSet").finish_non_exhaustive()
    }
}
