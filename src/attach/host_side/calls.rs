//! The host's calls: each is checked here, and becomes a frame for the hub.

use super::queue::{Answer, Content, Waiter, AWAY};
use super::Attached;
use crate::api::{check_head, check_send, checked_close, checked_refusal, checked_revocation, MAX_BATCH};
use crate::attach::wire::FromHost;
use crate::config::Auth;
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::hub::Placed;
use crate::hub::{check_text, Epoch, Publication};
use crate::metrics::Stats;
use crate::sys::passing::MAX_PASSED;
use crate::users::{self, Users};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

impl Attached {
    /// Publishes, and waits for the position.
    pub(crate) fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication, false)?;
        placed(self.ask(|number| FromHost::Publish { number, publication: *publication })?)
    }

    /// Publishes, and does not wait.
    pub(crate) fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.check(publication, false)?;
        self.leave(|number| FromHost::Publish { number, publication: *publication })
    }

    pub(crate) fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication, true)?;
        let publication = Publication { channel: "", ..*publication };
        placed(self.ask(|number| FromHost::Broadcast { number, publication })?)
    }

    pub(crate) fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.check(publication, true)?;
        let publication = Publication { channel: "", ..*publication };
        self.leave(|number| FromHost::Broadcast { number, publication })
    }

    pub(crate) fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        self.check_batch(publications)?;
        match self.ask(|number| FromHost::Batch { number, publications: publications.to_vec() })? {
            // The caller has room for as many as it asked for.
            Answer::Batched(seqs, life) if seqs.len() == publications.len() => {
                Ok(seqs.into_iter().map(|seq| Placed { seq, subscribers: 0, life }).collect())
            }
            _ => Err(not_understood()),
        }
    }

    pub(crate) fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        self.check_batch(publications)?;
        // Nobody would hear that the hub can't publish it. Who waits for the answer may have luck: it depends on who
        // listens.
        let max = self.link.max_batch.load(Ordering::Relaxed);
        if publications.len() > max {
            let text = format!("a batch without an answer has at most {max} messages (the hub's option mailbox)");
            return Err(Error::new(Kind::TooLarge, text));
        }
        self.leave(|number| FromHost::Batch { number, publications: publications.to_vec() })
    }

    /// Whether the option `auth` was set to `none` here: the hub leaves it to its hosts.
    pub(crate) fn anybody_may(&self) -> bool {
        self.link.config.get().auth == Auth::None
    }

    /// `_delays` is for the hub to find out: it does not travel.
    pub(crate) fn adopt(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        _delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        self.add_adopt(fd, head, grant)?;
        self.flush();
        Ok(())
    }

    /// Leaves it to be sent with those that follow at once.
    pub(crate) fn adopt_more(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        _delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        if self.add_adopt(fd, head, grant)? >= MAX_PASSED {
            self.flush();
        }
        Ok(())
    }

    /// Says how many wait now.
    fn add_adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<usize, (Error, OwnedFd)> {
        if let Err(error) = check_head(head) {
            return Err((error, fd));
        }
        let mut frame = Vec::with_capacity(head.len() + 64);
        FromHost::Adopt { grant, head }.write(&mut frame);
        let timeout = self.link.timeout();
        self.link.queue().add_adopt(frame, fd, timeout)
    }

    pub(crate) fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.link.max_send.load(Ordering::Relaxed))?;
        self.tell(Content::OfThisLife, &FromHost::Send { connection, binary, data })
    }

    pub(crate) fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        checked_close(code, reason)?;
        self.tell(Content::OfThisLife, &FromHost::Close { connection, code, reason })
    }

    pub(crate) fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisLife, &FromHost::Allow { request, grant })
    }

    pub(crate) fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        checked_refusal(status, reason)?;
        self.tell(Content::OfThisLife, &FromHost::Deny { request, status, reason })
    }

    pub(crate) fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        check_text("user", user, 255)?;
        checked_close(code, reason)?;
        self.command(&FromHost::Disconnect { user, code, reason })
    }

    pub(crate) fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        checked_revocation(user, channel, reason)?;
        self.command(&FromHost::Revoke { user, channel, reason })
    }

    pub(crate) fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisLife, &FromHost::Renew { connection, grant })
    }

    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        match self.look(&|number| FromHost::Stats { number })? {
            Answer::Stats(mut stats) => {
                stats.logs_dropped = self.link.log.dropped();
                Ok(*stats)
            }
            other => placed(other).map(|_| Stats::default()),
        }
    }

    pub(crate) fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        match self.look(&|number| FromHost::Users { number, channel, after, limit: limit as u32 })? {
            Answer::Users(users) if users.page.len() <= limit && users.page.iter().all(|user| *user.name > *after) => {
                Ok(users)
            }
            _ => Err(not_understood()),
        }
    }

    /// The position of a message as clients see it.
    pub(crate) fn position(&self, placed: &Placed) -> String {
        self.link.queue().life(placed.life).map_or_else(String::new, |epoch: &Epoch| epoch.position(placed.seq))
    }

    /// The position of a number in the hub's present life.
    pub(crate) fn position_now(&self, seq: u64) -> String {
        self.link.queue().present_life().map_or_else(String::new, |epoch| epoch.position(seq))
    }

    fn check(&self, publication: &Publication<'_>, broadcast: bool) -> Result<(), Error> {
        publication.check(self.link.max_message.load(Ordering::Relaxed), broadcast)
    }

    fn check_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        if publications.len() > MAX_BATCH {
            return Err(Error::invalid(format!("a batch has at most {MAX_BATCH} messages")));
        }
        publications.iter().try_for_each(|publication| self.check(publication, false))
    }

    /// Leaves a request whose answer nobody waits for. While others are under way it goes when they are answered, so
    /// that many small ones share a system call on both sides.
    fn leave<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<(), Error> {
        let mut queue = self.link.queue();
        queue.add_request(request, None)?;
        if queue.nothing_in_flight() && queue.flush() {
            self.link.wake.signal();
        }
        Ok(())
    }

    /// Leaves a request, and waits for the answer.
    fn ask<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<Answer, Error> {
        let waiter = Arc::new(Waiter::default());
        let timeout = self.link.timeout();
        let number = {
            let mut queue = self.link.queue();
            if queue.is_away(timeout) {
                return Err(Error::new(Kind::Busy, AWAY));
            }
            queue.add_request(request, Some(waiter.clone()))?
        };
        self.flush();
        match waiter.wait(timeout) {
            Some(answer) => answer,
            // It may have come just now.
            None => self.link.queue().give_up(number, &waiter),
        }
    }

    /// As [`Self::ask`], for requests that only ask: they share one copy of the code.
    fn look<'a>(&self, request: &dyn Fn(u64) -> FromHost<'a>) -> Result<Answer, Error> {
        self.ask(request)
    }

    fn tell(&self, content: Content, frame: &FromHost<'_>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        self.link.queue().add(bytes, content)?;
        self.flush();
        Ok(())
    }

    fn command(&self, command: &FromHost<'_>) -> Result<(), Error> {
        self.link.queue().add_command(command)?;
        self.flush();
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub(crate) fn flush(&self) {
        let mut queue = self.link.queue();
        if queue.flush() || queue.has_stuck_connections() {
            // The socket is full, or broken, or the hub does not answer: the thread sees to it.
            self.link.wake.signal();
        }
    }
}

fn placed(answer: Answer) -> Result<Placed, Error> {
    match answer {
        Answer::Published(placed) => Ok(placed),
        Answer::Batched(..) | Answer::Stats(_) | Answer::Users(_) => Err(not_understood()),
    }
}

/// The hub answers each request with its own kind of answer, or is not one.
fn not_understood() -> Error {
    Error::new(Kind::System, "the hub's answer is not understood")
}
