//! The drain: no new connections, and those there are are sent away evenly over the time given, each with a delay of
//! its own after which to come back. So neither they nor their return are a storm.

use crate::events::{Event, EventKind};
use crate::limits::Peer;
use crate::shard::connection::conn::{Conn, Phase, Token};
use crate::shard::Shard;
use crate::transport::close::Close;
use crate::transport::Format;

/// Up to this a drain is no time to spread anybody over: all are told at once.
const AT_ONCE_MS: u64 = 100;
/// At most this long after the one before, the next client of a shard is sent away: a few clients, or a drain without
/// end, are no reason to wait.
const PACE_MS: u64 = 50;
/// Of the drain's end, a quarter but no more than this is for those told last to take what waits for them.
const TAIL_MS: u64 = 500;
/// How long clients that have everything may take to end the connection.
const LINGER_MS: u64 = 500;
/// How often to look who is next.
const STEP_MS: u64 = 25;

/// Where a shard's drain stands.
#[derive(Debug)]
pub(in crate::shard) struct Drain {
    until: u64,
    /// When the first was sent away; not before what was published has been delivered.
    began: Option<u64>,
    spread_ms: u64,
    total: usize,
    /// Those still to be sent away.
    leaving: Vec<Token>,
    /// When the last was.
    told_at: Option<u64>,
    done: bool,
}

impl Drain {
    /// How many should have been sent away by now.
    fn due(&self, now: u64) -> usize {
        let elapsed = now - self.began.unwrap_or(now);
        if elapsed >= self.spread_ms || now >= self.until {
            return self.total;
        }
        // The first goes at once.
        (1 + (self.total as u64 * elapsed / self.spread_ms) as usize).min(self.total)
    }
}

/// Over how long clients are spread when there is this much time.
fn spread_ms(time: u64, clients: usize) -> u64 {
    if time <= AT_ONCE_MS {
        return 0;
    }
    let tail = (time / 4).clamp(AT_ONCE_MS / 2, TAIL_MS);
    (time - tail).min(clients.saturating_sub(1) as u64 * PACE_MS)
}

/// Whether nothing that its client was sent can be lost if the connection is closed now: all of it lies in the socket
/// of a process of this machine, that sends nothing.
fn has_all(conn: &Conn) -> bool {
    let reads_only = matches!(conn.format, Format::SseRaw | Format::SseJson | Format::Stream);
    let is_told = conn.phase == Phase::Closing && conn.outbox.is_none();
    is_told && reads_only && Peer::of(&conn.fd) == Some(Peer::Unix)
}

impl Shard {
    /// Begins a drain, or gives one that has begun another end.
    pub(in crate::shard) fn begin_drain(&mut self, until: u64) {
        self.close_listeners();
        if self.drain.as_ref().is_some_and(|drain| drain.done) {
            return;
        }
        let leaving = Vec::new();
        self.drain = Some(Drain { until, began: None, spread_ms: 0, total: 0, leaving, told_at: None, done: false });
    }

    /// Whether clients are being sent away, or have been.
    pub(in crate::shard) fn draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Milliseconds until the drain must be looked at.
    pub(in crate::shard) fn drain_in(&self) -> Option<u64> {
        let drain = self.drain.as_ref().filter(|drain| !drain.done)?;
        Some(drain.until.saturating_sub(self.now).clamp(1, STEP_MS))
    }

    /// Part of a turn: sends away whose time it is. `more`: what was published is not delivered yet, and comes first;
    /// what clients still send does not, or they could hold it up.
    pub(in crate::shard) fn go_on_draining(&mut self, more: bool) {
        let now = self.now;
        match &self.drain {
            Some(drain) if !drain.done && (drain.began.is_some() || !more || now >= drain.until) => {}
            _ => return,
        }
        self.plan();
        while let Some(token) = self.next_to_leave() {
            if let Some(index) = self.find(token) {
                self.send_away(index);
            }
        }
        if self.drain.as_ref().is_some_and(|drain| drain.leaving.is_empty()) {
            // Who was catching up has perhaps caught up; who has come by the host since goes at once.
            let late: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
            late.into_iter().for_each(|index| self.send_away(index));
            self.end_drain();
        }
    }

    /// Settles who goes when, once.
    fn plan(&mut self) {
        let now = self.now;
        let Some(drain) = self.drain.as_mut().filter(|drain| drain.began.is_none()) else { return };
        drain.began = Some(now);
        let token = |(index, conn): (usize, &Conn)| Token { index: index as u32, generation: conn.generation };
        drain.leaving = self.conns.iter().filter(|(_, conn)| conn.phase != Phase::Closing).map(token).collect();
        drain.total = drain.leaving.len();
        drain.spread_ms = spread_ms(drain.until.saturating_sub(now), drain.total);
    }

    fn next_to_leave(&mut self) -> Option<Token> {
        let now = self.now;
        let drain = self.drain.as_mut()?;
        let told = drain.total - drain.leaving.len();
        if told >= drain.due(now) {
            return None;
        }
        drain.leaving.pop()
    }

    /// Tells a client to come back later. Who is catching up is told when it has.
    fn send_away(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index as usize) else { return };
        let catching_up = conn.outbox.as_ref().is_some_and(|outbox| outbox.catch_up.is_some());
        if conn.phase == Phase::Closing || catching_up {
            return;
        }
        let close = Close::going_away(self.advised_delay());
        self.close(index, close);
    }

    /// After how many milliseconds to come back: the option `retry`, and up to as much again by chance.
    pub(in crate::shard) fn advised_delay(&mut self) -> u64 {
        let retry = self.config().retry_ms;
        retry + u64::from(self.random()) % (retry + 1)
    }

    /// Ends the drain when everybody is gone or the time is over.
    fn end_drain(&mut self) {
        let now = self.now;
        let Some(drain) = &mut self.drain else { return };
        let told_at = *drain.told_at.get_or_insert(now);
        // Who has everything may end the connection itself, for a moment; who has not, until the time is over.
        let all_sent = || self.conns.iter().all(|(_, conn)| conn.outbox.is_none());
        let over = now >= drain.until
            || (now >= told_at + LINGER_MS && all_sent())
            || self.conns.iter().all(|(_, conn)| has_all(conn));
        if !self.conns.is_empty() && !over {
            return;
        }
        drain.done = true;
        self.drop_all();
        let shared = self.context.clone();
        shared.drained.one_more(|| self.tell(Event::of_server(EventKind::Drained)));
    }

    /// Ends all connections as they are.
    pub(in crate::shard) fn drop_all(&mut self) {
        let left: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
        left.into_iter().for_each(|index| self.drop_conn(index));
        self.tell_leaves();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(time: u64, clients: usize) -> Drain {
        Drain {
            until: 1000 + time,
            began: Some(1000),
            spread_ms: spread_ms(time, clients),
            total: clients,
            leaving: Vec::new(),
            told_at: None,
            done: false,
        }
    }

    #[test]
    fn clients_are_spread_evenly_over_the_time() {
        let drain = drain(10_000, 1000);
        assert_eq!(drain.spread_ms, 9500);
        let sent: Vec<usize> = (0..=4).map(|quarter| drain.due(1000 + quarter * 9500 / 4)).collect();
        assert_eq!(sent, [1, 251, 501, 751, 1000]);
    }

    #[test]
    fn little_time_or_few_clients_are_not_spread() {
        assert_eq!(drain(0, 1000).due(1000), 1000);
        assert_eq!(drain(100, 1000).due(1000), 1000);
        assert_eq!(drain(10_000, 1).due(1000), 1);
        assert_eq!(spread_ms(u64::from(u32::MAX), 4), 150, "a drain without end is not awaited");
        assert_eq!(spread_ms(101, 1000), 51);
        assert_eq!(drain(101, 10).due(1101), 10, "nobody is left when the time is over");
    }
}
