//! What time brings: heartbeats, polls that end empty, clients that do not answer.

use crate::http::refusal::Refusal;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::turn::run::EXPIRE_MS;
use crate::shard::turn::wheel::Tick;
use crate::shard::Shard;
use crate::sys::clock;
use crate::sys::socket::{self, Probes};
use crate::transport::close::Close;
use crate::transport::poll::Note;
use crate::transport::Transport;
use crate::transport::{sse, stream, ws_frames, Format};
use bytes::Bytes;

/// How often a grant that ends is held against the clock: it is the wall clock's time, which may be set, or go on while
/// the machine sleeps.
const LOOK_MS: u64 = 10_000;

impl Conn {
    /// When its grant ends, in seconds since 1970, if that would end the connection: one that ends already has its time
    /// for that.
    fn ends_at(&self) -> Option<i64> {
        let grant = self.grant.as_ref().filter(|_| self.phase != Phase::Closing);
        grant.and_then(|grant| grant.expires_at())
    }
}

impl Shard {
    /// Looks at a connection again after some time, whatever it was waiting for before.
    pub(in crate::shard) fn schedule(&mut self, index: u32, after_ms: u64) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let mut at_ms = self.now + after_ms;
        if let Some(ends_at) = conn.ends_at() {
            let left = u64::try_from(ends_at - clock::unix_seconds()).unwrap_or(0);
            at_ms = at_ms.min(self.now.saturating_add(left.saturating_mul(1000)));
        }
        conn.deadline = self.timers.wheel.tick_at(at_ms);
        let look_at = self.look_at(index);
        let conn = &mut self.conns[index as usize];
        // An entry in an earlier slot will be moved when that comes up.
        if conn.wheel_at == 0 || conn.wheel_at > look_at {
            let token = Token { index, generation: conn.generation };
            conn.wheel_at = self.timers.wheel.insert(token, look_at);
        }
    }

    /// When to come upon a connection in the wheel: at its deadline, or to see whether its grant has ended meanwhile.
    fn look_at(&self, index: u32) -> Tick {
        let conn = &self.conns[index as usize];
        match conn.ends_at() {
            Some(_) => conn.deadline.min(self.timers.wheel.tick_at(self.now + LOOK_MS)),
            None => conn.deadline,
        }
    }

    pub(in crate::shard) fn run_timers(&mut self) {
        while let Some((tick, tokens)) = self.timers.wheel.due(self.now) {
            for &token in &tokens {
                let Some(index) = self.find(token) else { continue };
                let conn = &mut self.conns[index as usize];
                if conn.wheel_at != tick {
                    continue;
                }
                conn.wheel_at = 0;
                let has_ended = conn.ends_at().is_some_and(|at| at <= clock::unix_seconds());
                if has_ended {
                    self.close(index, Close::NOT_ALLOWED);
                } else if conn.deadline > tick {
                    let look_at = self.look_at(index);
                    self.conns[index as usize].wheel_at = self.timers.wheel.insert(token, look_at);
                } else {
                    self.timer(index);
                }
            }
            self.timers.wheel.recycle(tick, tokens);
        }
        if self.number == 0 && self.now >= self.timers.expires_at {
            let more = self.context.hub.expire(self.now);
            // The rest in the next turn.
            self.timers.expires_at = if more { self.now } else { self.now + EXPIRE_MS };
        }
        self.resume_listeners();
    }

    fn timer(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.outbox.is_some() && matches!(conn.phase, Phase::Closing | Phase::Head) && !conn.is(Flags::STUCK) {
            // It takes its last bytes, slowly. It has its time anew as long as it does.
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

    /// A request did not come in time. Who sent a part of one is told; who sent nothing, or has had an answer, is not.
    fn head_timeout(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        if conn.unread.is_some() && !conn.is(Flags::KEEP_ALIVE) {
            return self.refuse_half_read(index, &Refusal::timeout());
        }
        if !conn.is(Flags::KEEP_ALIVE) {
            self.note_refusal(self.client(index), Reason::Timeout, format_args!("nothing came within head_timeout"));
        }
        self.drop_conn(index);
    }

    fn heartbeat(&mut self, index: u32, transport: Transport) {
        let conn = &mut self.conns[index as usize];
        if conn.outbox.is_some() {
            // It has not taken anything for a whole interval: it will not come back to life.
            if conn.is(Flags::STUCK) {
                conn.code = Close::STUCK.code;
                self.log_close(index, transport, &Close::STUCK);
                self.note_slow(index);
                return self.drop_conn(index);
            }
            conn.flags.insert(Flags::STUCK);
        } else if conn.is(Flags::PAUSED) || conn.is(Flags::HELD) || conn.is(Flags::THROTTLED) {
            // We do not read from it: its answers may be there.
            conn.flags.remove(Flags::UNANSWERED);
        } else if conn.is(Flags::UNANSWERED) {
            return self.close(index, Close::NO_PONG);
        } else if transport != Transport::WebSocket && self.has_vanished(index) {
            let conn = &mut self.conns[index as usize];
            conn.code = Close::VANISHED.code;
            self.log_close(index, transport, &Close::VANISHED);
            return self.drop_conn(index);
        } else {
            let conn = &mut self.conns[index as usize];
            let framed = conn.is(Flags::CHUNKS);
            let beat = match transport {
                Transport::WebSocket => ws_frames::PING,
                Transport::Stream => stream::heartbeat(framed),
                Transport::Sse | Transport::Poll => sse::heartbeat(framed),
            };
            conn.flags.set(Flags::UNANSWERED, transport == Transport::WebSocket);
            self.transmit_bytes(index, Bytes::from_static(beat));
        }
        let Some(conn) = self.conns.get(index as usize) else { return };
        let wait = if conn.is(Flags::UNANSWERED) { self.config().ping_timeout_ms } else { self.heartbeat_ms() };
        self.schedule(index, wait);
    }

    /// Whether a client that sends nothing is gone with its network. It owes an acknowledgement at least, for the last
    /// heartbeat, which is no longer ago than an interval. TCP itself would go on for a quarter of an hour; and
    /// TCP_USER_TIMEOUT would also end those that live and only do not read for a while.
    fn has_vanished(&self, index: u32) -> bool {
        let config = self.config();
        let silence = (config.heartbeat_ms + config.heartbeat_ms / 4).max(config.ping_timeout_ms);
        socket::unacknowledged_ms(&self.conns[index as usize].fd).is_some_and(|ms| ms >= silence)
    }

    /// How the kernel finds out that the client of a poll is gone, to which nothing is sent while it waits.
    pub(in crate::shard) fn probes(&self) -> Probes {
        const COUNT: u64 = 3;
        let seconds = |ms: u64| ms.div_ceil(1000);
        let config = self.config();
        Probes {
            idle: seconds(config.heartbeat_ms),
            interval: seconds(config.ping_timeout_ms / COUNT).max(1),
            count: COUNT,
        }
    }

    /// The same for a connection of the host's. That costs system calls, so it is done only where the poll waits for
    /// longer than it takes to find out.
    pub(in crate::shard) fn probe_adopted(&self, index: u32) {
        let (config, conn) = (self.config(), &self.conns[index as usize]);
        let waits_long = config.poll_timeout_ms > config.heartbeat_ms + config.ping_timeout_ms;
        if conn.is(Flags::ADOPTED) && waits_long {
            socket::set_probes(&conn.fd, self.probes());
        }
    }

    /// The heartbeat's interval, a little shorter each time by chance: those who came together spread out.
    pub(in crate::shard) fn heartbeat_ms(&mut self) -> u64 {
        let interval = self.config().heartbeat_ms;
        interval - u64::from(self.random()) % (interval / 8).max(1)
    }

    /// Some number, for spreading what would else come together.
    pub(in crate::shard) fn random(&mut self) -> u32 {
        // Xorshift: any spread will do.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 17;
        self.jitter ^= self.jitter << 5;
        self.jitter
    }

    /// Something came from the client: it lives.
    pub(in crate::shard) fn heard(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        if conn.is(Flags::UNANSWERED) {
            conn.flags.remove(Flags::UNANSWERED);
            let wait = self.heartbeat_ms();
            self.schedule(index, wait);
        }
    }

    /// A poll's time is over: 200 with no messages and the position, up to which there was nothing; perhaps with the
    /// advice when to come back.
    pub(in crate::shard) fn answer_empty(&mut self, index: u32, note: Note) {
        debug_assert_eq!(self.conns[index as usize].format, Format::Poll);
        // What the mailbox still holds has a greater number than this must have: so take the one of the last turn.
        let position = self.conns[index as usize].joined.max(self.delivery.delivered);
        self.answer(index, &[], position, note);
    }
}
