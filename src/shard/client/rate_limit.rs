//! The rate limit for clients' messages (option `client_rate`). A client that sends more is not read until its time has
//! come: it feels backpressure, and nothing is lost. Only clients that sent something lately are remembered.

use crate::framing::close::Close;
use crate::limits::Bucket;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Flags, Token};
use crate::shard::Shard;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How far ahead of the rate a client may be. One read brings thousands of messages at once; a client that sends them
/// in good faith is not told to wait for longer than this.
const MAX_AHEAD_MS: u64 = 10_000;
/// The part of a client's second that a token takes, in microseconds, at any rate. A signature is verified for it: the
/// work of hundreds of messages.
const TOKEN_US: u64 = 100_000;
/// The same for a pattern on a live connection: thousands of channels may be looked at for it.
const SEARCH_US: u64 = 10_000;
/// How often those are forgotten that have sent nothing lately.
const SWEEP_MS: u64 = 1000;

/// The clients of a shard that send.
#[derive(Debug, Default)]
pub(in crate::shard) struct Senders {
    /// By slot, with the generation that tells a connection from the slot's next tenant.
    buckets: FxHashMap<u32, (u32, Bucket)>,
    swept_at: u64,
    /// Those that are left unread, by the time at which that ends.
    waiting: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Senders {
    /// Milliseconds until somebody may be read again.
    pub(in crate::shard) fn next_in(&self, now: u64) -> Option<u64> {
        self.waiting.peek().map(|Reverse((until, ..))| until.saturating_sub(now).max(1))
    }

    fn sweep(&mut self, now: u64) {
        if now >= self.swept_at + SWEEP_MS {
            self.swept_at = now;
            self.buckets.retain(|_, (_, bucket)| !bucket.is_over(now));
            // A crowd that sent must not keep its room for ever.
            if self.buckets.capacity() > 1024 && self.buckets.len() * 8 < self.buckets.capacity() {
                self.buckets.shrink_to(self.buckets.len() * 2);
            }
        }
    }
}

impl Shard {
    /// Counts a message or ping of a client; false: it was one too many, and the connection is closed.
    pub(in crate::shard) fn count_sent(&mut self, index: u32) -> bool {
        let (rate, now) = (self.config().client_rate, self.turn.now);
        self.charge(index, |bucket| bucket.count(rate, now))
    }

    /// Counts the cost of a token, beside the message that carries it.
    pub(in crate::shard) fn count_token(&mut self, index: u32) -> bool {
        let now = self.turn.now;
        self.charge(index, |bucket| bucket.spend(TOKEN_US, now))
    }

    /// Counts the cost of a pattern that is subscribed to, beside the message that asks for it.
    pub(in crate::shard) fn count_search(&mut self, index: u32) -> bool {
        let now = self.turn.now;
        self.charge(index, |bucket| bucket.spend(SEARCH_US, now))
    }

    fn charge(&mut self, index: u32, count: impl FnOnce(&mut Bucket) -> u64) -> bool {
        let (rate, now) = (self.config().client_rate, self.turn.now);
        if rate == 0 {
            return true;
        }
        self.side.limits.senders.sweep(now);
        let token = self.token(index);
        let (generation, bucket) = self.side.limits.senders.buckets.entry(index).or_default();
        if *generation != token.generation {
            (*generation, *bucket) = (token.generation, Bucket::default());
        }
        let ahead_ms = count(bucket);
        if ahead_ms > MAX_AHEAD_MS {
            self.handle.metrics.refusal(Reason::ClientRate);
            let reason = "too many messages a second (option client_rate)".into();
            self.close(index, Close { reason, ..Close::TOO_SLOW });
            return false;
        }
        let conn = &mut self.conns[index as usize];
        if ahead_ms > 0 && !conn.is(Flags::THROTTLED) {
            conn.flags.insert(Flags::THROTTLED);
            self.side.limits.senders.waiting.push(Reverse((now + ahead_ms, index, token.generation)));
        }
        true
    }

    /// Reads again from clients when their time has come.
    pub(in crate::shard) fn resume_senders(&mut self) {
        while let Some(Reverse((until, index, generation))) = self.side.limits.senders.waiting.peek().copied() {
            if until > self.turn.now {
                return;
            }
            self.side.limits.senders.waiting.pop();
            let Some(index) = self.find(Token { index, generation }) else { continue };
            // It may have sent more since it was noted.
            let ahead_ms =
                self.side.limits.senders.buckets.get(&index).map_or(0, |(_, bucket)| bucket.ahead_ms(self.turn.now));
            if ahead_ms > 0 {
                self.side.limits.senders.waiting.push(Reverse((self.turn.now + ahead_ms, index, generation)));
                continue;
            }
            self.conns[index as usize].flags.remove(Flags::THROTTLED);
            self.give_time(index);
            self.read_again(index);
        }
    }
}
