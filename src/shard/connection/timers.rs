//! Timers: heartbeats, polls that end empty, clients that do not answer.

use crate::framing::close::Close;
use crate::framing::poll::Note;
use crate::framing::Transport;
use crate::http::refusal::Refusal;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::turn::run::EXPIRE_MS;
use crate::shard::turn::wheel::Tick;
use crate::shard::Shard;
use crate::sys::clock;
use crate::sys::socket;
use bytes::Bytes;

/// How often the end of a grant is compared with the clock. That is the wall clock, which may be set, and goes on while
/// the machine sleeps.
const LOOK_MS: u64 = 10_000;

impl Conn {
    /// When its grant ends, in seconds since 1970. `None`: the grant has no end, or the connection is closing already.
    fn ends_at(&self) -> Option<i64> {
        let grant = self.grant.as_ref().filter(|_| self.phase != Phase::Closing);
        grant.and_then(|grant| grant.expires_at())
    }
}

impl Shard {
    /// Sets a connection's timer anew.
    pub(in crate::shard) fn schedule(&mut self, index: u32, after_ms: u64) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let mut at_ms = self.turn.now + after_ms;
        if let Some(ends_at) = conn.ends_at() {
            let left = u64::try_from(ends_at - clock::unix_seconds()).unwrap_or(0);
            at_ms = at_ms.min(self.turn.now.saturating_add(left.saturating_mul(1000)));
        }
        conn.timer.deadline = self.timers.wheel.tick_at(at_ms);
        let look_at = self.look_at(index);
        let conn = &mut self.conns[index as usize];
        // An entry in an earlier slot will be moved when that comes up.
        if conn.timer.wheel_at == 0 || conn.timer.wheel_at > look_at {
            let token = Token { index, generation: conn.generation };
            conn.timer.wheel_at = self.timers.wheel.insert(token, look_at);
        }
    }

    /// When the wheel comes to a connection: at its deadline, or earlier to see whether its grant has ended.
    fn look_at(&self, index: u32) -> Tick {
        let conn = &self.conns[index as usize];
        match conn.ends_at() {
            Some(_) => conn.timer.deadline.min(self.timers.wheel.tick_at(self.turn.now + LOOK_MS)),
            None => conn.timer.deadline,
        }
    }

    pub(in crate::shard) fn run_timers(&mut self) {
        while let Some((tick, tokens)) = self.timers.wheel.due(self.turn.now) {
            for &token in &tokens {
                let Some(index) = self.find(token) else { continue };
                let conn = &mut self.conns[index as usize];
                if conn.timer.wheel_at != tick {
                    continue;
                }
                conn.timer.wheel_at = 0;
                let has_ended = conn.ends_at().is_some_and(|at| at <= clock::unix_seconds());
                if has_ended {
                    // Nothing of it is published any more.
                    self.forget_checks(token);
                    self.close(index, Close::NOT_ALLOWED);
                } else if conn.timer.deadline > tick {
                    let look_at = self.look_at(index);
                    self.conns[index as usize].timer.wheel_at = self.timers.wheel.insert(token, look_at);
                } else {
                    self.timer(index);
                }
            }
            self.timers.wheel.recycle(tick, tokens);
        }
        self.end_late_messages();
        if self.handle.number == 0 && self.turn.now >= self.timers.expires_at {
            let more = self.context.hub.expire(self.turn.now);
            // The shard that has seen them last may be gone, or the grace is another one by now.
            self.context.presence.expire(self.turn.now);
            // The rest in the next turn.
            self.timers.expires_at = if more { self.turn.now } else { self.turn.now + EXPIRE_MS };
        }
        self.resume_listeners();
    }

    fn timer(&mut self, index: u32) {
        let waits = self.waits_for_room(index);
        let conn = &mut self.conns[index as usize];
        if waits && matches!(conn.phase, Phase::Closing | Phase::Head) && !conn.is(Flags::STUCK) {
            // The client takes its last bytes slowly. Its time begins anew as long as it takes some.
            conn.flags.insert(Flags::STUCK);
            return self.schedule(index, self.config().close_timeout_ms);
        }
        match conn.phase {
            Phase::Closing => self.drop_conn(index),
            Phase::Head => self.head_timeout(index),
            Phase::Asked => self.ask_timeout(index),
            Phase::Open(Transport::Poll) => self.answer_empty(index, Note::None),
            Phase::Open(transport) => self.heartbeat(index, transport),
        }
    }

    /// A request did not come in time. A client that sent a part of one is told. One that sent nothing is not.
    pub(in crate::shard) fn head_timeout(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        if conn.received.unread.is_some() && !conn.is(Flags::KEEP_ALIVE) {
            return self.refuse_half_read(index, &Refusal::timeout());
        }
        if !conn.is(Flags::KEEP_ALIVE) {
            self.note_refusal(self.client(index), Reason::Timeout, format_args!("nothing came within head_timeout"));
        }
        self.drop_conn(index);
    }

    pub(in crate::shard) fn heartbeat(&mut self, index: u32, transport: Transport) {
        if self.side.sinks.is_worn(index, self.conns[index as usize].socket.as_ref()) {
            return self.needs_new_keys(index, "it is time for new keys");
        }
        let waits = self.waits_for_room(index);
        let conn = &mut self.conns[index as usize];
        // While we do not read from it, its answers may be there. It gets heartbeats nevertheless: proxies on the way
        // must not take it for idle, and one that has gone is found only by writing.
        let is_read = !(conn.is(Flags::PAUSED) || conn.is(Flags::HELD) || conn.is(Flags::THROTTLED));
        if waits {
            // It has not taken anything for a whole interval: it will not come back to life.
            if conn.is(Flags::STUCK) {
                conn.code = Close::STUCK.code;
                self.log_close(index, transport, &Close::STUCK);
                self.note_slow(index);
                return self.drop_conn(index);
            }
            conn.flags.insert(Flags::STUCK);
        } else if is_read && conn.is(Flags::UNANSWERED) {
            return self.close(index, Close::NO_PONG);
        } else if (!is_read || transport != Transport::WebSocket) && self.has_vanished(index) {
            let conn = &mut self.conns[index as usize];
            conn.code = Close::VANISHED.code;
            self.log_close(index, transport, &Close::VANISHED);
            return self.drop_conn(index);
        } else {
            let conn = &mut self.conns[index as usize];
            let framed = conn.is(Flags::CHUNKS);
            let beat = transport.heartbeat(framed);
            conn.flags.set(Flags::UNANSWERED, is_read && transport == Transport::WebSocket);
            self.transmit_bytes(index, Bytes::from_static(beat));
        }
        let Some(conn) = self.conns.get(index as usize) else { return };
        let wait = if conn.is(Flags::UNANSWERED) { self.config().ping_timeout_ms } else { self.heartbeat_ms() };
        self.schedule(index, wait);
    }

    /// Whether a client that sends nothing, or from which nothing is read, is gone with its network. It owes an
    /// acknowledgement at least, for the last heartbeat, which is no longer ago than an interval. TCP itself would go on
    /// for a quarter of an hour; and TCP_USER_TIMEOUT would also end those that live and only do not read for a while.
    fn has_vanished(&self, index: u32) -> bool {
        let config = self.config();
        let silence = (config.heartbeat_ms + config.heartbeat_ms / 4).max(config.ping_timeout_ms);
        self.socket_of(index).and_then(socket::unacknowledged_ms).is_some_and(|ms| ms >= silence)
    }

    /// Has the kernel find out that the client of a poll is gone, on a connection of the host's. That costs system calls,
    /// so it is done only where the poll waits for longer than it takes to find out.
    pub(in crate::shard) fn probe_adopted(&self, index: u32) {
        let (config, conn) = (self.config(), &self.conns[index as usize]);
        let waits_long = config.poll_timeout_ms > config.heartbeat_ms + config.ping_timeout_ms;
        if conn.is(Flags::ADOPTED) && waits_long {
            self.socket_of(index).into_iter().for_each(|fd| socket::set_probes(fd, self.config().probes()));
        }
    }

    /// The heartbeat's interval, shorter by a small random part. So clients that came together spread out.
    pub(in crate::shard) fn heartbeat_ms(&mut self) -> u64 {
        let interval = self.config().heartbeat_ms;
        interval - u64::from(self.random()) % (interval / 8).max(1)
    }

    /// A random number, for spreading things in time.
    pub(in crate::shard) fn random(&mut self) -> u32 {
        // Xorshift: any spread will do.
        let jitter = &mut self.timers.jitter;
        *jitter ^= *jitter << 13;
        *jitter ^= *jitter >> 17;
        *jitter ^= *jitter << 5;
        *jitter
    }

    /// Something came from the client, so it is still there.
    pub(in crate::shard) fn heard(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.is(Flags::UNANSWERED) {
            conn.flags.remove(Flags::UNANSWERED);
            let wait = self.heartbeat_ms();
            self.schedule(index, wait);
        }
    }
}
