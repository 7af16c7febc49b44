//! The host's calls. Each is checked here, and becomes a frame for the hub.

use super::queue::{Content, Reply, Waiter, AWAY};
use super::{Attached, OFF, ON};
use crate::api::{
    check_head, check_send, checked_close, checked_refusal, checked_revocation, no_user_channels, MAX_BATCH,
};
use crate::attach::wire::{self, FromHost};
use crate::config::Auth;
use crate::error::{Error, Kind};
use crate::grant::{Grant, Handover};
use crate::hub::Placed;
use crate::hub::{check_text, Epoch, Publication, Replacement};
use crate::metrics::Stats;
use crate::sys::passing::MAX_PASSED;
use crate::users::{self, Users};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Instant;

impl Attached {
    /// Publishes, and waits for the position.
    pub(crate) fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        self.check(publication, false)?;
        placed(self.ask(|number| FromHost::Publish { number, publication: *publication })?)
    }

    /// Publishes without waiting.
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
            Reply::Batched { seqs, epoch_index } if seqs.len() == publications.len() => {
                Ok(seqs.into_iter().map(|seq| Placed { seq, subscribers: 0, epoch_index }).collect())
            }
            _ => Err(unexpected_reply()),
        }
    }

    pub(crate) fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        self.check_batch(publications)?;
        // Nobody would hear that the hub can't publish the batch. A caller that waits for the answer may try a larger
        // batch: whether the hub can publish it depends on its subscribers.
        let max = self.link.limits.max_batch.load(Ordering::Relaxed);
        if publications.len() > max {
            let text = format!("a batch without an answer has at most {max} messages (the hub's option mailbox)");
            return Err(Error::new(Kind::TooLarge, text));
        }
        self.leave(|number| FromHost::Batch { number, publications: publications.to_vec() })
    }

    /// True if the option `auth` is `none` here. The hub leaves that decision to its hosts.
    pub(crate) fn anybody_may(&self) -> bool {
        self.link.config.get().auth == Auth::None
    }

    /// Queues the connection. If others follow at once, they are sent together. What is known of the socket is not sent: the
    /// hub finds it out for itself. But an older hub would not look for TLS in the kernel.
    pub(crate) fn adopt(&self, fd: OwnedFd, connection: Handover<'_>) -> Result<(), (Error, OwnedFd)> {
        let Handover { head, grant, followed, checked } = connection;
        let since = if checked.tls.is_some() { wire::ENCRYPTED_BY_KERNEL } else { wire::OLDEST };
        if self.add_adopt(fd, head, grant, since)? >= MAX_PASSED || !followed {
            self.flush();
        }
        Ok(())
    }

    /// Queues a connection for a hub that speaks at least version `since`. Returns how many wait now.
    fn add_adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>, since: u16) -> Result<usize, (Error, OwnedFd)> {
        if let Err(error) = check_head(head) {
            return Err((error, fd));
        }
        let mut frame = Vec::with_capacity(head.len() + 64);
        let request = FromHost::Adopt { grant, head };
        request.write(&mut frame);
        let timeout = self.link.timeout();
        self.link.queue().add_adopt(frame, request.since().max(since), fd, timeout)
    }

    pub(crate) fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.link.limits.max_send.load(Ordering::Relaxed))?;
        self.tell(Content::OfThisHub, &FromHost::Send { connection, binary, data })
    }

    pub(crate) fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        checked_close(code, reason)?;
        self.tell(Content::OfThisHub, &FromHost::Close { connection, code, reason })
    }

    pub(crate) fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisHub, &FromHost::Allow { request, grant })
    }

    pub(crate) fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        checked_refusal(status, reason)?;
        self.tell(Content::OfThisHub, &FromHost::Deny { request, status, reason })
    }

    pub(crate) fn answer_call(&self, request: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.link.limits.max_send.load(Ordering::Relaxed))?;
        self.tell(Content::OfThisHub, &FromHost::Answer { request, binary, data })
    }

    pub(crate) fn allow_publish(&self, request: u64, instead: Option<&Replacement<'_>>) -> Result<(), Error> {
        let max_message = self.link.limits.max_message.load(Ordering::Relaxed);
        instead.map_or(Ok(()), |instead| instead.check(max_message))?;
        self.tell(Content::OfThisHub, &FromHost::AllowPublish { request, instead: instead.copied() })
    }

    pub(crate) fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        check_text("user", user, 255)?;
        checked_close(code, reason)?;
        self.command(&FromHost::Disconnect { user, code, reason, number: None })
    }

    pub(crate) fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        checked_revocation(user, channel, reason)?;
        self.command(&FromHost::Revoke { user, channel, reason, number: None })
    }

    pub(crate) fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        self.tell(Content::OfThisHub, &FromHost::Renew { connection, grant })
    }

    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        match self.query(&|number| FromHost::Stats { number })? {
            Reply::Stats(mut stats) => {
                stats.logs_dropped = self.link.log.dropped();
                Ok(*stats)
            }
            other => placed(other).map(|_| Stats::default()),
        }
    }

    pub(crate) fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        match self.query(&|number| FromHost::Users { number, channel, after, limit: limit as u32, time_ms: None })? {
            Reply::Users(users) if users.page.len() <= limit && users.page.iter().all(|user| *user.name > *after) => {
                Ok(users)
            }
            _ => Err(unexpected_reply()),
        }
    }

    /// The position of a message, in the form that clients see.
    pub(crate) fn position(&self, placed: &Placed) -> String {
        self.link.queue().epoch(placed.epoch_index).map_or_else(String::new, |epoch: &Epoch| epoch.position(placed.seq))
    }

    /// The position of a sequence number in the hub's present epoch. Empty if no epoch is known.
    pub(crate) fn position_now(&self, seq: u64) -> String {
        self.link.queue().present_epoch().map_or_else(String::new, |epoch| epoch.position(seq))
    }

    /// True if the hub has said that its users have channels of their own.
    pub(crate) fn users_have_channels(&self) -> bool {
        // Without a hub nobody knows what the next one says. It checks the grant again.
        self.link.limits.user_channel.load(Ordering::Relaxed) == ON && self.link.queue().is_attached()
    }

    fn check(&self, publication: &Publication<'_>, broadcast: bool) -> Result<(), Error> {
        publication.check(self.link.limits.max_message.load(Ordering::Relaxed), broadcast)?;
        // The hub checks it again. If none is there, nobody knows what the next one says.
        let is_off = publication.to_user && self.link.limits.user_channel.load(Ordering::Relaxed) == OFF;
        if is_off && self.link.queue().is_attached() {
            return Err(no_user_channels());
        }
        Ok(())
    }

    fn check_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        if publications.len() > MAX_BATCH {
            return Err(Error::invalid(format!("a batch has at most {MAX_BATCH} messages")));
        }
        let check = |(index, publication): (usize, &Publication<'_>)| {
            self.check(publication, false).map_err(|error| error.of_message(index))
        };
        publications.iter().enumerate().try_for_each(check)
    }

    /// Queues a request without waiting for its answer. While other requests are in flight, it is sent when they are
    /// answered, or a moment later by the thread. So many small requests share a system call on both sides.
    fn leave<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<(), Error> {
        let mut queue = self.link.queue();
        queue.add_request(request)?;
        let taken_over = if queue.nothing_in_flight() { queue.flush() } else { queue.is_forgotten() };
        if taken_over {
            self.link.wake.signal();
        }
        Ok(())
    }

    /// Sends a request, and waits for the answer.
    fn ask<'a>(&self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<Reply, Error> {
        let waiter = Arc::new(Waiter::default());
        let timeout = self.link.timeout();
        let until = Instant::now() + timeout;
        let number = {
            let mut queue = self.link.queue();
            if queue.is_away(timeout) {
                return Err(Error::new(Kind::Busy, AWAY));
            }
            queue.add_awaited(request, waiter.clone(), until)?
        };
        self.flush();
        match waiter.wait(timeout) {
            Some(answer) => answer,
            // The answer may have come just now.
            None => self.link.queue().give_up(number, &waiter),
        }
    }

    /// Like [`Self::ask`], for requests that only ask. They share one copy of the code.
    fn query<'a>(&self, request: &dyn Fn(u64) -> FromHost<'a>) -> Result<Reply, Error> {
        self.ask(request)
    }

    fn tell(&self, content: Content, frame: &FromHost<'_>) -> Result<(), Error> {
        self.link.queue().add(frame, content)?;
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
            // The socket is full or broken, or the hub does not answer. The thread `push-attached` takes over.
            self.link.wake.signal();
        }
    }
}

fn placed(answer: Reply) -> Result<Placed, Error> {
    match answer {
        Reply::Published(placed) => Ok(placed),
        Reply::Batched { .. } | Reply::Stats(_) | Reply::Users(_) => Err(unexpected_reply()),
    }
}

/// A hub that answers a request with another kind of answer is not a hub of this library.
fn unexpected_reply() -> Error {
    Error::new(Kind::System, "the hub has sent an answer that does not fit the request")
}
