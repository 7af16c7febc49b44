//! What attached hosts ask for.

use super::attachment::Attachment;
use super::sessions::Answer;
use super::{refuse, version_text, End, HubSide};
use crate::attach::wire::{self, FromHost, FromHub, Hello, Malformed, RefusedBecause};
use crate::context::client::Client;
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::hub::{Origin, Placed};
use crate::log::Level;
use crate::sys::socket;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// How many reads one attachment may have in a row, before others get their turn.
const READS: usize = 16;
/// After which time a request is tried again that could not be done.
const AGAIN_MS: u64 = 1;

/// What became of a request.
enum Done {
    /// It was done.
    Yes,
    /// A mailbox is full, or the shards have yet to answer: the same in a moment. It is the host that waits, and then
    /// its publishers: nothing is lost.
    Later,
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::Fault(malformed.to_string())
    }
}

impl HubSide {
    /// Reads what an attachment has sent, and does it.
    pub(super) fn serve(&mut self, id: u64) -> Result<(), End> {
        // Taken out, so that its frames can be read while it is changed.
        let Some(mut inbox) = self.attached.get_mut(&id).map(|attachment| std::mem::take(&mut attachment.inbox)) else {
            return Ok(());
        };
        let served = self.serve_from(id, &mut inbox);
        if let Some(attachment) = self.attached.get_mut(&id) {
            attachment.inbox = inbox;
        }
        served
    }

    fn serve_from(&mut self, id: u64, inbox: &mut crate::attach::inbox::Inbox) -> Result<(), End> {
        let mut ended = false;
        for _ in 0..READS {
            loop {
                let Some(attachment) = self.attached.get_mut(&id) else { return Ok(()) };
                attachment.again_at = None;
                if attachment.choked() {
                    return Ok(());
                }
                let max = if attachment.half_open() { wire::MAX_HELLO } else { wire::MAX_FRAME };
                let Some(frame) = inbox.frame(max)? else { break };
                let len = wire::framed_len(frame);
                if FromHost::is_adopt(frame) {
                    // Copied: it would stay borrowed while its descriptor is taken out of the inbox. Heads are small.
                    let frame = frame.to_vec();
                    let fd = inbox.next_fd();
                    self.adopt(id, &frame, fd)?;
                } else if let Done::Later = self.request(id, frame)? {
                    if let Some(attachment) = self.attached.get_mut(&id) {
                        attachment.again_at = Some(self.now + AGAIN_MS);
                    }
                    return Ok(());
                }
                inbox.drop_frame(len);
            }
            if ended {
                return Err(End::Gone);
            }
            if inbox.too_many_fds() {
                return Err(End::Fault("descriptors that no frame speaks of".into()));
            }
            let Some(attachment) = self.attached.get_mut(&id) else { return Ok(()) };
            match inbox.read(&attachment.socket) {
                Ok(0) => ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    attachment.unread = false;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(End::Fault("more descriptors at once than are allowed".into()));
                }
                Err(error) if socket::out_of_resources(&error) => {
                    // Whose descriptors are missing nobody knows: those that came are not taken for others, either.
                    let pid = attachment.peer.pid;
                    self.note_resources(format_args!(
                        "process {pid} is let go, and connections that it was handing over are lost: {error}"
                    ));
                    return Err(End::Gone);
                }
                Err(_) => return Err(End::Gone),
            }
        }
        Ok(())
    }

    fn request(&mut self, id: u64, frame: &[u8]) -> Result<Done, End> {
        let request = FromHost::read(frame)?;
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(Done::Yes) };
        let half_open = attachment.half_open();
        let (host, api) = (attachment.host, self.api.clone());
        match request {
            FromHost::Hello(hello) if half_open => self.hello(id, &hello)?,
            FromHost::Hello(_) => return Err(End::Fault("a second hello".into())),
            _ if half_open => return Err(End::Fault("no hello".into())),
            FromHost::Publish { number, publication } => {
                #[cfg(test)]
                super::panic_tests::maybe_panic(publication.data);
                let publish = |origin| api.publish_of(origin, &publication).map(placed);
                return self.numbered(id, number, single, publish);
            }
            FromHost::Broadcast { number, publication } => {
                let publish = |origin| api.broadcast_of(origin, &publication).map(placed);
                return self.numbered(id, number, single, publish);
            }
            FromHost::Batch { number, publications } => {
                let publish = |origin| {
                    let published = api.publish_batch_of(origin, &publications)?;
                    Ok(Answer::batched(published.iter().map(|published| published.seq).collect()))
                };
                // Of messages that had been published before, by their keys, the log of an earlier hub says nothing.
                let recalled = |seqs: &[u64]| {
                    let last = seqs.last().copied().unwrap_or(0);
                    let all = seqs.iter().copied().chain(std::iter::repeat(last));
                    Answer::batched(all.take(publications.len()).collect())
                };
                return self.numbered(id, number, recalled, publish);
            }
            FromHost::Adopt { .. } => return Err(End::Fault("no descriptor".into())),
            // The host was told that these are on their way, and hears nothing more of them.
            FromHost::Send { connection, binary, data } => match api.send(connection, data, binary) {
                Err(error) if error.kind() == Kind::Busy => return Ok(Done::Later),
                sent => self.tell_undone_for(Client::numbered(connection), id, "a message to a connection", sent),
            },
            FromHost::Close { connection, code, reason } => {
                let closed = api.close(connection, code, reason);
                self.tell_undone_for(Client::numbered(connection), id, "closing a connection", closed);
            }
            FromHost::Allow { request, grant } => {
                self.tell_undone(id, "letting a client in", api.allow(request, grant.of_host(host)));
            }
            FromHost::Deny { request, status, reason } => {
                self.tell_undone(id, "refusing a client", api.deny(request, status, reason));
            }
            FromHost::Disconnect { user, code, reason } => {
                self.tell_undone_for(
                    Client::default().with_user(Some(user)),
                    id,
                    "disconnecting a user",
                    api.disconnect_user(user, code, reason),
                );
            }
            FromHost::Revoke { user, channel, reason } => {
                self.tell_undone_for(
                    Client::default().with_user(Some(user)),
                    id,
                    "revoking a channel",
                    api.revoke_channel(user, channel, reason),
                );
            }
            FromHost::Renew { connection, grant } => {
                let renewed = api.renew(connection, grant);
                self.tell_undone_for(Client::numbered(connection), id, "renewing a grant", renewed);
            }
            FromHost::Stats { number } => {
                FromHub::Stats { number, json: api.collect_stats().json().as_bytes() }.write(attachment.out.tail());
            }
            FromHost::Users { number, channel, after, limit } => {
                // Nobody waits for the shards but this host.
                let waiter = attachment.present.get_or_insert_with(|| api.present(channel));
                let Some(present) = waiter.take() else { return Ok(Done::Later) };
                attachment.present = None;
                let users = present.count(after, limit as usize);
                FromHub::Users { number, users }.write(attachment.out.tail());
            }
            FromHost::Credit { events } => {
                attachment.give_credit(events, &self.context.events, self.event_bound);
                self.note_wishes();
            }
        }
        Ok(Done::Yes)
    }

    /// Does what has a number, once. `recalled` makes the answer of the numbers of messages that an earlier hub has
    /// published for it.
    fn numbered(
        &mut self,
        id: u64,
        number: u64,
        recalled: impl FnOnce(&[u64]) -> Answer,
        publish: impl FnOnce(Origin) -> Result<Answer, Error>,
    ) -> Result<Done, End> {
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(Done::Yes) };
        let Some(session) = self.sessions.get(&attachment.session) else {
            return Err(End::Fault("its session is gone".into()));
        };
        if number <= session.done {
            // Sent again before it knew; its answer went out with the welcome.
            return Ok(Done::Yes);
        }
        let origin = Origin { session: attachment.session, uid: attachment.peer.uid, number };
        let done = match session.recall(number) {
            Some(seqs) => Ok(recalled(seqs)),
            None => publish(origin),
        };
        let (answer, failed) = match done {
            Ok(answer) => (answer, Ok(())),
            // A log that can't be written heals, or its operator ends the hub. What the host was told is on its way
            // waits in its own queue until then.
            Err(error) if matches!(error.kind(), Kind::Busy | Kind::System) => return Ok(Done::Later),
            Err(error) => (Answer::failed(&error), Err(error)),
        };
        answer.write(number, attachment.out.tail());
        session.keep(number, answer);
        // Whether anybody waits for the answer only the host knows.
        self.tell_undone(id, "publishing", failed);
        Ok(Done::Yes)
    }

    /// Counts and logs what an attached host has asked for and the hub could not do.
    fn tell_undone(&self, id: u64, what: &str, done: Result<(), Error>) {
        self.tell_undone_for(Client::default(), id, what, done);
    }

    /// The same where it is about one client.
    fn tell_undone_for(&self, client: Client<'_>, id: u64, what: &str, done: Result<(), Error>) {
        let Err(error) = done else { return };
        let context = &self.context;
        context.metrics.undone.fetch_add(1, Ordering::Relaxed);
        // A connection may end at any time: to speak of one that has gone is no fault.
        let (level, kind) = match error.kind() {
            Kind::NotFound => (Level::Debug, "an attached host's request about what has gone"),
            _ => (Level::Warn, "an attached host's request that was not done"),
        };
        let pid = self.attached.get(&id).map_or(0, |attachment| attachment.peer.pid);
        let text = format_args!("attach: {what}, for process {pid}, was not done: {error}");
        client.log(&context.log, level, kind, text);
    }

    fn hello(&mut self, id: u64, hello: &Hello<'_>) -> Result<(), End> {
        let api = self.api.clone();
        let context = &self.context;
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(()) };
        let turned_away = |attachment: &Attachment, because, text: String| {
            refuse(&attachment.socket, because, &text);
            Err(End::Fault(text))
        };
        if !wire::speaks(hello.version) {
            return turned_away(attachment, RefusedBecause::Version, version_text(hello.version));
        }
        if hello.name.is_empty() || hello.name.len() > 64 {
            return turned_away(attachment, RefusedBecause::NotAllowed, "a host's name has 1 to 64 bytes".into());
        }
        let Some(host) = self.names.host(hello.name, id) else {
            return turned_away(attachment, RefusedBecause::Full, "too many names of hosts".into());
        };
        let Some((session, before)) = self.sessions.enter(hello.session, attachment.peer.uid, id) else {
            return turned_away(attachment, RefusedBecause::NotAllowed, "the session is another user's".into());
        };
        attachment.host = host;
        (attachment.session, attachment.version) = (hello.session, hello.version);
        attachment.open_grant = Arc::new(Grant::open(context.config.get().client_publish).of_host(host));
        let out = attachment.out.tail();
        FromHub::Welcome {
            epoch: context.hub.epoch().as_str(),
            done: session.done,
            max_message: api.max_message() as u64,
            max_send: api.max_send() as u64,
            max_batch: (hello.version >= wire::NAMES_MAX_BATCH).then(|| context.config.get().mailbox as u64),
        }
        .write(out);
        // Of another life of the hub the host lacks nothing that this one has.
        if hello.epoch == context.hub.epoch().as_str() {
            session.repeat(hello.answered, out);
        }
        let peer = attachment.peer;
        self.log(Level::Info, format_args!("attach: {:?}, process {} of user {}", hello.name, peer.pid, peer.uid));
        if let Some(before) = before {
            self.end(before, &End::Gone);
        }
        self.note_wishes();
        Ok(())
    }

    fn adopt(&mut self, id: u64, frame: &[u8], fd: Option<std::os::fd::OwnedFd>) -> Result<(), End> {
        let Some(attachment) = self.attached.get_mut(&id).filter(|attachment| !attachment.half_open()) else {
            return Err(End::Fault("no hello".into()));
        };
        let FromHost::Adopt { grant, head } = FromHost::read(frame)? else { return Ok(()) };
        let fd = fd.ok_or_else(|| End::Fault("a frame without its descriptor".into()))?;
        // The host has looked, but the client may have gone since; and who says that it was our library?
        let delays = match socket::check_connected_stream(fd.as_raw_fd()) {
            Ok(delays) => delays,
            Err(text) => {
                let pid = attachment.peer.pid;
                let text = format_args!("what process {pid} has handed over is refused: {text}");
                self.note_bad_handover(Client::of(&fd).granted(grant.as_ref()), text);
                return Ok(());
            }
        };
        let grant = match grant.map(|grant| grant.of_host(attachment.host)) {
            None if attachment.version < wire::MEANS_NO_GRANT && !self.api.anybody_may() => {
                let pid = attachment.peer.pid;
                let text = format_args!("process {pid} has handed a client over without a grant (option auth)");
                self.note_bad_handover(Client::of(&fd), text);
                self.api.refuse_unserved(&fd, head, &Refusal::forbidden("denied", "the host has granted nothing"));
                return Ok(());
            }
            None => attachment.open_grant.clone(),
            Some(grant) => attachment.latest_grant.share(grant),
        };
        self.api.adopt_or_refuse(fd, head, grant, delays);
        Ok(())
    }
}

fn single(seqs: &[u64]) -> Answer {
    Answer::Published { seq: seqs.last().copied().unwrap_or(0), subscribers: 0 }
}

fn placed(published: Placed) -> Answer {
    Answer::Published { seq: published.seq, subscribers: published.subscribers }
}
