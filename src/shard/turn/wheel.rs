//! One timer wheel a shard, for all its connections: a deadline costs eight bytes, moving it later costs nothing.
//!
//! A connection stands in the wheel at most once that counts. When its slot comes up and its deadline has moved on
//! meanwhile, it is put into the slot of the new one: activity just writes the deadline.

use crate::shard::connection::conn::Token;

/// Milliseconds between two slots.
pub(in crate::shard) const TICK_MS: u64 = 100;
/// Slots; a deadline further away than they reach is looked at in between.
const SLOTS: usize = 1024;

/// A time in ticks since the shard began.
pub(in crate::shard) type Tick = u32;

/// Tokens by the tick at which to look at them.
#[derive(Debug)]
pub(in crate::shard) struct Wheel {
    slots: Vec<Vec<Token>>,
    /// The last tick that was looked at.
    now: Tick,
    began_ms: u64,
    count: usize,
    /// No slot before this one has anything: where to look for the next.
    soonest: Tick,
}

impl Wheel {
    pub(in crate::shard) fn new(now_ms: u64) -> Self {
        Wheel { slots: vec![Vec::new(); SLOTS], now: 0, began_ms: now_ms, count: 0, soonest: 0 }
    }

    /// The tick of a time, rounded up: never early.
    pub(in crate::shard) fn tick_at(&self, ms: u64) -> Tick {
        (ms.saturating_sub(self.began_ms).div_ceil(TICK_MS)) as Tick
    }

    /// Milliseconds until a tick; 0: it is over.
    pub(in crate::shard) fn ms_until(&self, tick: Tick, now_ms: u64) -> u64 {
        (self.began_ms + u64::from(tick) * TICK_MS).saturating_sub(now_ms)
    }

    /// Looks at a token again at a tick, or as near to it as the slots reach: never at once, and never a round too far.
    /// A caller that asked for a later tick asks again then.
    pub(in crate::shard) fn insert(&mut self, token: Token, at: Tick) -> Tick {
        let at = at.clamp(self.now + 1, self.now + SLOTS as Tick - 1);
        self.slots[at as usize % SLOTS].push(token);
        self.count += 1;
        self.soonest = self.soonest.min(at);
        at
    }

    /// The tokens of the next slot that is due, with its tick; they are to be handed back to [`Self::recycle`].
    pub(in crate::shard) fn due(&mut self, now_ms: u64) -> Option<(Tick, Vec<Token>)> {
        let reached = (now_ms.saturating_sub(self.began_ms) / TICK_MS) as Tick;
        while self.now < reached {
            self.now += 1;
            let slot = &mut self.slots[self.now as usize % SLOTS];
            if !slot.is_empty() {
                self.count -= slot.len();
                return Some((self.now, std::mem::take(slot)));
            }
        }
        None
    }

    /// Keeps a small slot's memory for its next round, and lets go of that of a large one.
    pub(in crate::shard) fn recycle(&mut self, tick: Tick, mut tokens: Vec<Token>) {
        let slot = &mut self.slots[tick as usize % SLOTS];
        if slot.is_empty() && slot.capacity() == 0 && tokens.capacity() <= 64 {
            tokens.clear();
            *slot = tokens;
        }
    }

    /// Milliseconds until something may be due; `None` when nothing is waited for.
    pub(in crate::shard) fn next_in(&mut self, now_ms: u64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let from = self.soonest.max(self.now + 1);
        let mut ticks = from..self.now + SLOTS as Tick;
        self.soonest = ticks.find(|tick| !self.slots[*tick as usize % SLOTS].is_empty())?;
        let at = self.began_ms + u64::from(self.soonest) * TICK_MS;
        Some(at.saturating_sub(now_ms).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_up_at_their_tick() {
        let mut wheel = Wheel::new(1000);
        let token = Token { index: 1, generation: 1 };
        assert_eq!(wheel.next_in(1000), None);
        let at = wheel.insert(token, wheel.tick_at(1450));
        assert_eq!(at, 5);
        assert_eq!(wheel.next_in(1000), Some(500));
        assert!(wheel.due(1499).is_none());
        let (tick, tokens) = wheel.due(1500).unwrap();
        assert_eq!((tick, tokens.len()), (5, 1));
        wheel.recycle(tick, tokens);
        assert_eq!(wheel.next_in(1500), None);
    }

    #[test]
    fn what_is_far_away_comes_up_within_a_round() {
        let mut wheel = Wheel::new(0);
        let at = wheel.insert(Token { index: 1, generation: 1 }, 10_000);
        assert_eq!(at, SLOTS as Tick - 1);
        let (tick, tokens) = wheel.due(u64::from(at) * TICK_MS).unwrap();
        assert_eq!((tick, tokens.len()), (at, 1));
        assert_eq!(wheel.insert(tokens[0], 10_000), at + SLOTS as Tick - 1);
    }

    #[test]
    fn what_is_overdue_comes_next() {
        let mut wheel = Wheel::new(0);
        assert!(wheel.due(5000).is_none());
        assert_eq!(wheel.insert(Token { index: 1, generation: 1 }, 3), 51);
    }
}
