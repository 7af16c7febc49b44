//! The requests of attached hosts.

use super::attachment::Attachment;
use super::outcome::{Outcome, Shape};
use super::{refuse, version_text, End, HubSide};
use crate::api::Api;
use crate::attach::wire::{self, FromHost, FromHub, Hello, Malformed, RefusedBecause};
use crate::attach::MAX_IN_FLIGHT;
use crate::context::client::Client;
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::hub::{OnSettled, Origin, Placed, Placing, Publication};
use crate::log::Level;
use crate::sys::socket;
use crate::users;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Reads of one attachment in a row, before the others have their turn.
const READS: usize = 16;
/// The time after which a request that could not be done is tried again.
const AGAIN_MS: u64 = 1;

/// The result of a request.
enum Done {
    /// It was done.
    Yes,
    /// A mailbox is full, or the shards have not answered yet. The request is tried again soon. Until then the host
    /// waits, and then its publishers do. Nothing is lost.
    Later,
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::Fault(malformed.to_string())
    }
}

impl HubSide {
    /// Reads the frames of an attachment, and does what they ask.
    pub(super) fn serve(&mut self, id: u64) -> Result<(), End> {
        // The inbox is taken out, so that its frames can be read while the attachment is changed.
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
                    // The frame is copied, since its descriptor is taken out of the same inbox. Request heads are
                    // small.
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
                return Err(End::Fault("it sent descriptors without frames".into()));
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
                    return Err(End::Fault("it sent more descriptors at once than are allowed".into()));
                }
                Err(error) if socket::out_of_resources(&error) => {
                    // Nobody knows which frames lack their descriptors. So the rest is not used, or it might go to the
                    // wrong frames.
                    let pid = attachment.process.pid;
                    self.note_resources(format_args!(
                        "process {pid} is disconnected, and connections that it was handing over are lost: {error}"
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
        if request.only_asks() && self.sessions.get(&attachment.session).is_some_and(|session| session.unanswered() > 0)
        {
            // Answers come in the order of the requests.
            return Ok(Done::Later);
        }
        match request {
            FromHost::Hello(hello) if half_open => self.hello(id, &hello)?,
            FromHost::Hello(_) => return Err(End::Fault("it sent a second hello frame".into())),
            _ if half_open => return Err(End::Fault("its first frame is not a hello".into())),
            FromHost::Publish { number, publication } => {
                #[cfg(test)]
                super::panic_tests::maybe_panic(publication.data);
                return self.numbered(id, number, Shape::Message, &[publication]);
            }
            FromHost::Broadcast { number, publication } => {
                return self.numbered(id, number, Shape::Broadcast, &[publication]);
            }
            FromHost::Batch { number, publications } => {
                return self.numbered(id, number, Shape::Batch, &publications);
            }
            FromHost::Adopt { .. } => return Err(End::Fault("it sent a frame without its descriptor".into())),
            // The host was told that these are on their way. It gets no further answer.
            FromHost::Send { connection, binary, data } => match api.send(connection, data, binary) {
                Err(error) if error.kind() == Kind::Busy => return Ok(Done::Later),
                sent => self.note_failed_for(Client::numbered(connection), id, "sending to a connection", sent),
            },
            FromHost::Close { connection, code, reason } => {
                let closed = api.close(connection, code, reason);
                self.note_failed_for(Client::numbered(connection), id, "closing a connection", closed);
            }
            FromHost::Allow { request, grant } => {
                self.note_failed(id, "letting a client in", api.allow(request, grant.of_host(host)));
            }
            FromHost::Deny { request, status, reason } => {
                self.note_failed(id, "refusing a client", api.deny(request, status, reason));
            }
            FromHost::Disconnect { user, code, reason } => {
                self.note_failed_for(
                    Client::default().with_user(Some(user)),
                    id,
                    "disconnecting a user",
                    api.disconnect_user(user, code, reason),
                );
            }
            FromHost::Revoke { user, channel, reason } => {
                self.note_failed_for(
                    Client::default().with_user(Some(user)),
                    id,
                    "revoking a channel",
                    api.revoke_channel(user, channel, reason),
                );
            }
            FromHost::Renew { connection, grant } => {
                let renewed = api.renew(connection, grant);
                self.note_failed_for(Client::numbered(connection), id, "renewing a grant", renewed);
            }
            FromHost::Stats { number } => {
                FromHub::Stats { number, json: api.collect_stats().json().as_bytes() }.write(attachment.out.tail());
            }
            FromHost::Users { number, channel, after, limit } => {
                // The library has checked it in the host. It goes on to other hubs, in which texts have a bound.
                users::check(channel, after, limit as usize).map_err(|error| End::Fault(error.to_string()))?;
                let Some(users) = attachment.count_users(&api, channel, after, limit as usize) else {
                    return Ok(Done::Later);
                };
                FromHub::Users { number, users }.write(attachment.out.tail());
            }
            FromHost::Credit { events } => {
                attachment.give_credit(events, &self.context.events, self.event_bound);
                self.note_wants_events();
            }
        }
        Ok(Done::Yes)
    }

    /// Does a numbered request that publishes, once.
    fn numbered(&mut self, id: u64, number: u64, shape: Shape, publications: &[Publication<'_>]) -> Result<Done, End> {
        let api = self.api.clone();
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(Done::Yes) };
        let session = attachment.session;
        let is_ready = self.context.shared.as_ref().is_none_or(|shared| shared.status.is_ready());
        if !is_ready && self.now < self.patient_until {
            // What other hubs did for it may stand in what this hub has still to read.
            return Ok(Done::Later);
        }
        if is_ready && self.sessions.has_to_recollect(&session) {
            let present = self.context.hub.breaks();
            if present != self.epoch {
                // The numbers that it would get are of another epoch than the host knows.
                self.go_on_in(present);
                return Ok(Done::Yes);
            }
            if !self.sessions.recollect(&session) {
                return Err(End::Fault("the session is another user's".into()));
            }
        }
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(Done::Yes) };
        let Some(session) = self.sessions.get(&attachment.session) else {
            return Err(End::Fault("its session is gone".into()));
        };
        if number <= session.done {
            // The host sent it again before it had the answer. That answer went out with the welcome.
            return Ok(Done::Yes);
        }
        if session.unanswered() >= MAX_IN_FLIGHT {
            return Ok(Done::Later);
        }
        let origin = Origin { session: attachment.session, uid: attachment.process.uid, number };
        let done = match session.recall(number) {
            // A log that has broken meanwhile may have lost it.
            Some(_) if self.context.hub.breaks() != self.epoch => {
                self.go_on_in(self.context.hub.breaks());
                return Ok(Done::Yes);
            }
            // A batch of which the log has only the begin is submitted again. The log recognises the messages it has.
            Some(request) if request.is_whole || !api.lasts_first() => {
                Ok(Some(recalled(&api, shape, publications, &request.seqs().collect::<Vec<u64>>())))
            }
            _ if api.lasts_first() => {
                let (settled, session) = (self.settled.clone(), attachment.session);
                let on_settled: OnSettled = Box::new(move |done| settled.add(session, number, done));
                let broadcast = shape == Shape::Broadcast;
                api.submit_of(origin, publications, broadcast, on_settled).map(|placing| match placing {
                    Placing::Now(settled) => Some(shape.answer(&settled.places)),
                    Placing::Later => None,
                })
            }
            _ => publish_now(&api, origin, shape, publications).map(Some),
        };
        let (answer, failed) = match done {
            Ok(None) => {
                session.take(number, shape);
                return Ok(Done::Yes);
            }
            Ok(Some(answer)) => (answer, Ok(())),
            // A log that can't be written recovers, or its operator ends the hub. A log that is closed takes nothing more
            // from this hub. Messages wait in the host's queue, for the next hub if need be.
            Err(error) if matches!(error.kind(), Kind::Busy | Kind::System | Kind::Closed) => return Ok(Done::Later),
            Err(error) => (Outcome::failed(&error), Err(error)),
        };
        session.answer(number, answer, attachment.out.tail());
        // Only the host knows whether a caller waits for the answer, so the failure is logged here as well.
        self.note_failed(id, "publishing", failed);
        Ok(Done::Yes)
    }

    /// Counts and logs a request of an attached host that the hub could not do.
    fn note_failed(&self, id: u64, what: &str, done: Result<(), Error>) {
        self.note_failed_for(Client::default(), id, what, done);
    }

    /// The same for a request about one client.
    fn note_failed_for(&self, client: Client<'_>, id: u64, what: &str, done: Result<(), Error>) {
        let Err(error) = done else { return };
        let context = &self.context;
        context.metrics.undone.fetch_add(1, Ordering::Relaxed);
        // A connection may end at any time. So a request about one that has gone is no fault.
        let (level, kind) = match error.kind() {
            Kind::NotFound => (Level::Debug, "an attached host's request about what has gone"),
            _ => (Level::Warn, "an attached host's request that was not done"),
        };
        let pid = self.attached.get(&id).map_or(0, |attachment| attachment.process.pid);
        let text = format_args!("attach: {what} for process {pid} failed: {error}");
        client.log(&context.log, level, kind, text);
    }

    fn hello(&mut self, id: u64, hello: &Hello<'_>) -> Result<(), End> {
        let present = self.context.hub.breaks();
        if present != self.epoch {
            self.go_on_in(present);
        }
        let api = self.api.clone();
        let context = &self.context;
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(()) };
        let refused = |attachment: &Attachment, because, text: String| {
            refuse(&attachment.socket, because, &text);
            Err(End::Fault(text))
        };
        if !wire::speaks(hello.version) {
            return refused(attachment, RefusedBecause::Version, version_text(hello.version));
        }
        if hello.name.is_empty() || hello.name.len() > 64 {
            return refused(attachment, RefusedBecause::NotAllowed, "a host's name has 1 to 64 bytes".into());
        }
        let Some(host) = self.names.host(hello.name, id) else {
            return refused(attachment, RefusedBecause::Full, "the hub has seen too many different host names".into());
        };
        let Some((session, before)) = self.sessions.enter(hello.session, attachment.process.uid, id) else {
            return refused(attachment, RefusedBecause::NotAllowed, "this session belongs to another user".into());
        };
        attachment.host = host;
        (attachment.session, attachment.version) = (hello.session, hello.version);
        attachment.grants.open = Arc::new(Grant::open(context.config.get().client_publish).of_host(host));
        let out = attachment.out.tail();
        let epoch = context.hub.epoch_at(self.epoch);
        FromHub::Welcome {
            epoch: epoch.as_str(),
            done: session.done,
            max_message: api.max_message() as u64,
            max_send: api.max_send() as u64,
            max_batch: (hello.version >= wire::NAMES_MAX_BATCH).then(|| context.config.get().mailbox as u64),
        }
        .write(out);
        // These are of this epoch, or without numbers. A hub that has just begun has none.
        session.repeat(hello.answered, out);
        let process = attachment.process;
        self.log(
            Level::Info,
            format_args!("attach: host {:?} is attached (process {}, user {})", hello.name, process.pid, process.uid),
        );
        if let Some(before) = before {
            self.end(before, &End::Gone);
        }
        self.note_wants_events();
        Ok(())
    }

    fn adopt(&mut self, id: u64, frame: &[u8], fd: Option<std::os::fd::OwnedFd>) -> Result<(), End> {
        let Some(attachment) = self.attached.get_mut(&id).filter(|attachment| !attachment.half_open()) else {
            return Err(End::Fault("its first frame is not a hello".into()));
        };
        let FromHost::Adopt { grant, head } = FromHost::read(frame)? else { return Ok(()) };
        let fd = fd.ok_or_else(|| End::Fault("it sent a frame without its descriptor".into()))?;
        // The host has checked the descriptor. But the client may have gone since, and the host may not be our library.
        let delays = match socket::check_connected_stream(fd.as_raw_fd()) {
            Ok(delays) => delays,
            Err(text) => {
                let pid = attachment.process.pid;
                let text = format_args!("a descriptor from process {pid} is refused: {text}");
                self.note_bad_handover(Client::of(&fd).granted(grant.as_ref()), text);
                return Ok(());
            }
        };
        let grant = match grant.map(|grant| grant.of_host(attachment.host)) {
            None if attachment.version < wire::MEANS_NO_GRANT && !self.api.anybody_may() => {
                let pid = attachment.process.pid;
                let text = format_args!("process {pid} has handed over a client without a grant (option auth)");
                self.note_bad_handover(Client::of(&fd), text);
                self.api.refuse_unserved(&fd, head, &Refusal::forbidden("denied", "the host has granted nothing"));
                return Ok(());
            }
            None => attachment.grants.open.clone(),
            Some(grant) => attachment.grants.latest.share(grant),
        };
        self.api.adopt_or_refuse(fd, head, grant, delays);
        Ok(())
    }
}

fn publish_now(api: &Api, origin: Origin, shape: Shape, publications: &[Publication<'_>]) -> Result<Outcome, Error> {
    match (shape, publications) {
        (Shape::Message, [publication]) => api.publish_of(origin, publication).map(placed),
        (Shape::Broadcast, [publication]) => api.broadcast_of(origin, publication).map(placed),
        _ => {
            let published = api.publish_batch_of(origin, publications)?;
            Ok(Outcome::batched(published.iter().map(|published| published.seq).collect()))
        }
    }
}

/// The answer that an earlier hub would have given.
fn recalled(api: &Api, shape: Shape, publications: &[Publication<'_>], seqs: &[u64]) -> Outcome {
    let last = seqs.last().copied().unwrap_or(0);
    match shape {
        Shape::Message | Shape::Broadcast => Outcome::Published { seq: last, subscribers: 0 },
        Shape::Batch if seqs.len() == publications.len() => Outcome::batched(seqs.to_vec()),
        // The log does not have again what had been published before, by its key. The keys are in it.
        Shape::Batch => {
            let mut left = seqs.iter().copied().peekable();
            let place = |known: Option<u64>| match known {
                Some(seq) => left.next_if_eq(&seq).unwrap_or(seq),
                None => left.next().unwrap_or(last),
            };
            Outcome::batched(api.known(publications).into_iter().map(place).collect())
        }
    }
}

fn placed(published: Placed) -> Outcome {
    Outcome::Published { seq: published.seq, subscribers: published.subscribers }
}
