//! Records that are written together, and the requests that wait for them.

use crate::hub::{Bell, Pending};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the writer gathers records, if messages are delivered before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// With `engine_sync=always`: the longest time to gather, and the divisor that gives the share of a sync's duration.
const GATHER_AT_MOST: Duration = Duration::from_millis(2);
const GATHER_SHARE: u32 = 2;
/// If not all callers came in time: the number of syncs until the writer waits for all of them again.
const PAUSE: u32 = 16;

/// The bytes of a piece of small records. A larger one would leave the CPU's cache before it is written.
const PIECE: usize = 256 << 10;
/// How many written pieces keep their memory.
const SPARES: usize = 8;

/// The records and requests that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) waiting: Batch,
    /// Bytes that the writer has taken and not written yet.
    pub(super) taken: usize,
    /// The memory of requests that wait for a sync.
    pub(super) unsettled: usize,
    /// Empty pieces that have memory.
    pub(super) spares: Vec<Vec<u8>>,
    /// True if the file `state` says that the log is complete. The writer takes that back before a message is added.
    pub(super) quiet: bool,
    /// The time since which a publisher waits for that.
    pub(super) wanted_since: Option<Instant>,
    /// True if the writer sleeps. `gathers` says what ends its gathering.
    pub(super) sleeps: bool,
    pub(super) gathers: Option<Enough>,
    pub(super) failed: Option<Arc<str>>,
    pub(super) stopping: bool,
    /// The time since which the writer waits for the disk.
    pub(super) works_since: Option<Instant>,
    /// The time at which the writer ends although not all is written.
    pub(super) give_up_at: Option<Instant>,
    /// The number of the last message that is written.
    pub(super) written: u64,
}

/// Records that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Each piece has complete records. Small records are added to the last piece while it has room, unless that is one
    /// large record.
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) open: bool,
    pub(super) bytes: usize,
    /// The number of the last message.
    pub(super) last: u64,
    /// Requests that are done when all this is synced.
    pub(super) pending: VecDeque<Pending>,
    /// The number of these requests for which a caller waits.
    pub(super) awaited: usize,
    /// Wakes the callers whose threads wait. A batch keeps it when its content is written and others come: by then the
    /// callers before have been woken.
    pub(super) bell: Arc<Bell>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.pending.is_empty()
    }
}

/// The amounts at which the writer stops gathering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enough {
    pub(super) bytes: usize,
    pub(super) awaited: usize,
}

/// How long the writer gathers, and the number of awaited requests at which it stops earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gather {
    pub(super) time: Duration,
    pub(super) awaited: usize,
    /// The number of syncs until it waits for all callers again. It is more than 0 after they have not come in time.
    pause: u32,
}

impl Gather {
    /// For messages that are delivered before they are written.
    pub(super) const BEHIND: Gather = Gather { time: GATHER, awaited: usize::MAX, pause: 0 };
    /// For messages that wait for a sync, before the first sync.
    pub(super) const NONE: Gather = Gather { time: Duration::ZERO, awaited: 0, pause: 0 };

    /// After a sync that took so long, for so many awaited requests, while so many others came.
    ///
    /// Callers that are answered often publish again at once. All of them together are those that are answered now and
    /// those that came during the sync. If the writer did not wait for the first, the two groups would take turns: each
    /// request would then wait for the rest of one sync and for another sync.
    ///
    /// But waiting helps only if they come soon. Where the disk is faster than the threads can be woken, or where
    /// callers do not publish again, they don't. Then the writer waits for as many as were served, which mostly are
    /// there, and tries again later.
    pub(super) fn after(self, took: Duration, served: usize, came: usize) -> Self {
        let all_came = served >= self.awaited;
        let pause = match self.pause {
            0 if all_came => 0,
            0 => PAUSE,
            syncs => syncs - 1,
        };
        let awaited = if pause == 0 { served + came } else { served };
        let time = if awaited > 1 { (took / GATHER_SHARE).min(GATHER_AT_MOST) } else { Duration::ZERO };
        Gather { time, awaited, pause }
    }

    /// Gathers so many requests, however long that takes.
    #[cfg(test)]
    pub(super) fn until(awaited: usize) -> Self {
        Gather { time: Duration::from_secs(60), awaited, pause: 0 }
    }
}

impl Batch {
    pub(super) fn is(&self, enough: Enough) -> bool {
        self.bytes >= enough.bytes || self.awaited >= enough.awaited
    }
}

impl Buffer {
    /// The bytes of everything in memory.
    pub(super) fn held(&self) -> usize {
        self.waiting.bytes + self.taken + self.unsettled
    }

    /// The piece that gets the next small record, which has at most this many bytes.
    pub(super) fn piece(&mut self, bytes: usize) -> &mut Vec<u8> {
        let waiting = &mut self.waiting;
        let has_room = |piece: &Vec<u8>| piece.len() + bytes <= PIECE;
        if !waiting.open || !waiting.pieces.last().is_some_and(has_room) {
            waiting.pieces.push(self.spares.pop().unwrap_or_default());
            waiting.open = true;
        }
        let last = waiting.pieces.len() - 1;
        let piece = &mut waiting.pieces[last];
        piece.reserve(bytes);
        piece
    }

    /// Keeps the memory of written pieces for later records. A piece that is used again needs no new pages, and mostly
    /// is in the CPU's cache.
    pub(super) fn keep_spares(&mut self, written: &mut Vec<Vec<u8>>) {
        while self.spares.len() < SPARES {
            let Some(mut piece) = written.pop() else { break };
            if piece.capacity() <= 2 * PIECE {
                piece.clear();
                self.spares.push(piece);
            }
        }
    }
}
