//! The drain. No new connections are accepted, and the clients are sent away evenly over the given time. Each client is
//! told a delay of its own after which it may come back, so their return is spread too.

use crate::events::{Event, EventKind};
use crate::framing::close::Close;
use crate::limits::Peer;
use crate::shard::connection::conn::{Conn, Phase, Token};
use crate::shard::Shard;

/// In a drain that is no longer than this, all clients are told at once.
const AT_ONCE_MS: u64 = 100;
/// The longest time between two clients of a shard that are sent away. Few clients, or a drain without end, are no
/// reason to wait longer.
const PACE_MS: u64 = 50;
/// The last quarter of a drain, but no more than this, is left to the clients told last for reading their outbox.
const TAIL_MS: u64 = 500;
/// How long clients that have everything may take to end the connection.
const LINGER_MS: u64 = 500;
/// How often to look for the next client.
const STEP_MS: u64 = 25;

/// The end of a shard's service.
#[derive(Debug, Default)]
pub(in crate::shard) struct Shutdown {
    /// Clients are being sent away, or have been.
    drain: Option<Drain>,
    /// The thread is to end.
    pub(in crate::shard) ends: bool,
}

impl Shutdown {
    /// Whether clients are being sent away, or have been.
    pub(in crate::shard) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// The drain, if it is not over.
    fn under_way(&self) -> Option<&Drain> {
        self.drain.as_ref().filter(|drain| !drain.done)
    }

    /// Begins a drain, or changes the end of a drain that has begun.
    fn begin(&mut self, until: u64) {
        if !self.drain.as_ref().is_some_and(|drain| drain.done) {
            let leaving = Vec::new();
            let drain = Drain { until, began: None, spread_ms: 0, total: 0, leaving, told_at: None, done: false };
            self.drain = Some(drain);
        }
    }

    /// Milliseconds until the drain must be looked at.
    pub(in crate::shard) fn due_in(&self, now: u64) -> Option<u64> {
        Some(self.under_way()?.until.saturating_sub(now).clamp(1, STEP_MS))
    }

    /// The next client to send away, if its time has come.
    fn next_to_leave(&mut self, now: u64) -> Option<Token> {
        let drain = self.drain.as_mut()?;
        let told = drain.total - drain.leaving.len();
        if told >= drain.due(now) {
            return None;
        }
        drain.leaving.pop()
    }
}

/// Where a shard's drain stands.
#[derive(Debug)]
pub(in crate::shard) struct Drain {
    until: u64,
    /// When the first was sent away. Published messages were delivered before.
    began: Option<u64>,
    spread_ms: u64,
    total: usize,
    /// The clients that are still to be sent away.
    leaving: Vec<Token>,
    /// When the last client was told.
    told_at: Option<u64>,
    done: bool,
}

impl Drain {
    /// The number of clients that should have been sent away by now.
    fn due(&self, now: u64) -> usize {
        let elapsed = now - self.began.unwrap_or(now);
        if elapsed >= self.spread_ms || now >= self.until {
            return self.total;
        }
        // The first goes at once.
        (1 + (self.total as u64 * elapsed / self.spread_ms) as usize).min(self.total)
    }
}

/// The time over which clients are spread, if the drain has this much time.
fn spread_ms(time: u64, clients: usize) -> u64 {
    if time <= AT_ONCE_MS {
        return 0;
    }
    let tail = (time / 4).clamp(AT_ONCE_MS / 2, TAIL_MS);
    (time - tail).min(clients.saturating_sub(1) as u64 * PACE_MS)
}

/// Whether the connection can be closed now without a loss. That is so if all its bytes lie in the socket of a process
/// on this machine that sends nothing.
fn has_all(conn: &Conn) -> bool {
    let reads_only = conn.format.transport().is_chunked();
    let is_told = conn.phase == Phase::Closing && conn.outbox.is_none();
    is_told && reads_only && conn.socket.as_ref().and_then(Peer::of) == Some(Peer::Unix)
}

impl Shard {
    /// Begins a drain, or changes the end of a drain that has begun.
    pub(in crate::shard) fn begin_drain(&mut self, until: u64) {
        self.registry.close_listeners();
        self.shutdown.begin(until);
    }

    /// Whether clients are being sent away, or have been.
    pub(in crate::shard) fn draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// Part of a turn: sends clients away when their time has come. `more`: published messages are not delivered yet,
    /// and come first. Messages of clients do not come first, or they could hold up the drain.
    pub(in crate::shard) fn go_on_draining(&mut self, more: bool) {
        let now = self.turn.now;
        match self.shutdown.under_way() {
            Some(drain) if drain.began.is_some() || !more || now >= drain.until => {}
            _ => return,
        }
        self.plan();
        while let Some(token) = self.shutdown.next_to_leave(now) {
            if let Some(index) = self.find(token) {
                self.send_away(index);
            }
        }
        if self.shutdown.drain.as_ref().is_some_and(|drain| drain.leaving.is_empty()) {
            // Clients that were catching up may be done. Clients that the host handed over since go at once.
            let late: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
            late.into_iter().for_each(|index| self.send_away(index));
            self.end_drain();
        }
    }

    /// Makes the plan: the clients, and the time over which they are sent away. It is made once.
    fn plan(&mut self) {
        let now = self.turn.now;
        let Some(drain) = self.shutdown.drain.as_mut().filter(|drain| drain.began.is_none()) else { return };
        drain.began = Some(now);
        let token = |(index, conn): (usize, &Conn)| Token { index: index as u32, generation: conn.generation };
        drain.leaving = self.conns.iter().filter(|(_, conn)| conn.phase != Phase::Closing).map(token).collect();
        drain.total = drain.leaving.len();
        drain.spread_ms = spread_ms(drain.until.saturating_sub(now), drain.total);
    }

    /// Tells a client to come back later. A client that is catching up is told when it is done.
    pub(in crate::shard) fn send_away(&mut self, index: u32) {
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
        let now = self.turn.now;
        let Some(drain) = &mut self.shutdown.drain else { return };
        let (until, told_at) = (drain.until, *drain.told_at.get_or_insert(now));
        // A client that has everything has a moment to end the connection itself. Others have until the time is over.
        let all_sent = || self.conns.iter().all(|(index, _)| !self.waits_for_room(index as u32));
        let over = now >= until
            || (now >= told_at + LINGER_MS && all_sent())
            || self.conns.iter().all(|(_, conn)| has_all(conn));
        if !self.conns.is_empty() && !over {
            return;
        }
        self.shutdown.drain.iter_mut().for_each(|drain| drain.done = true);
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
