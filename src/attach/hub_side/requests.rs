//! The requests of attached hosts.

use super::{End, HubSide};
use crate::api::Api;
use crate::attach::wire::{self, FromHost, Malformed};
use crate::context::client::Client;
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::log::Level;
use crate::sys::socket;
use crate::users;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

/// Reads of one attachment in a row, before the others have their turn.
const READS: usize = 16;
/// The time after which a request that could not be done is tried again.
const AGAIN_MS: u64 = 1;

/// The result of a request.
pub(super) enum Done {
    /// It was done, or waits beside the inbox.
    Yes,
    /// It can't be done now, and is tried again soon.
    Later,
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        End::Fault(malformed.to_string())
    }
}

/// Refuses a grant that names the channels of users, which are the library's. Its host has checked that as well, unless it
/// did not know yet which hub it would attach to.
fn checked(api: &Api, grant: &Grant) -> Result<(), Error> {
    if api.users_have_channels() {
        return grant.check_names();
    }
    Ok(())
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
                    // A shard has too much to do, or the host has more requests unanswered than it may. Until then the
                    // host waits, and then its callers do. Nothing is lost.
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
        let (host, session, api) = (attachment.host, attachment.session, self.api.clone());
        let command = request.command();
        match request {
            FromHost::Hello(hello) if half_open => self.hello(id, &hello)?,
            FromHost::Hello(_) => return Err(End::Fault("it sent a second hello frame".into())),
            _ if half_open => return Err(End::Fault("its first frame is not a hello".into())),
            FromHost::Publish { .. }
            | FromHost::Broadcast { .. }
            | FromHost::Batch { .. }
            | FromHost::Stats { .. }
            | FromHost::Users { .. } => return self.numbered(id, &request, frame),
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
                let allowed = match checked(&api, &grant) {
                    Ok(()) => api.allow(request, grant.of_host(host)),
                    // The client need not wait for nothing.
                    wrong => api.deny(request, 403, "the host's grant is not valid").and(wrong),
                };
                self.note_failed(id, "letting a client in", allowed);
            }
            FromHost::Deny { request, status, reason } => {
                self.note_failed(id, "refusing a client", api.deny(request, status, reason));
            }
            FromHost::Answer { request, binary, data } => match api.answer_call(request, data, binary) {
                Err(error) if error.kind() == Kind::Busy => return Ok(Done::Later),
                answered => self.note_failed(id, "answering a call", answered),
            },
            FromHost::AllowPublish { request, instead } => match api.allow_publish(request, instead.as_ref()) {
                Err(error) if error.kind() == Kind::Busy => return Ok(Done::Later),
                // Its client need not wait for nothing. A replacement may have become too large with a reload.
                Err(error) if error.kind() != Kind::NotFound => {
                    let denied = api.deny(request, 503, "the host's replacement is not valid");
                    self.note_failed(id, "publishing what a client has sent", denied.and(Err(error)));
                }
                allowed => self.note_failed(id, "publishing what a client has sent", allowed),
            },
            // The host sends it again if it lost its connection before it had the answer.
            _ if command.is_some_and(|number| self.sessions.has_done_command(&session, number)) => {}
            FromHost::Disconnect { user, code, reason, .. } => {
                let done = api.disconnect_user(user, code, reason);
                self.note_failed_for(Client::default().with_user(Some(user)), id, "disconnecting a user", done);
            }
            FromHost::Revoke { user, channel, reason, .. } => {
                let done = api.revoke_channel(user, channel, reason);
                self.note_failed_for(Client::default().with_user(Some(user)), id, "revoking a channel", done);
            }
            FromHost::Renew { connection, grant } => {
                let renewed = match checked(&api, &grant) {
                    Ok(()) => api.renew(connection, grant),
                    // It must not go on with the rights that the host wanted to replace.
                    wrong => api.close(connection, 4403, "the host's grant is not valid").and(wrong),
                };
                self.note_failed_for(Client::numbered(connection), id, "renewing a grant", renewed);
            }
            FromHost::Credit { events } => {
                attachment.give_credit(events, &self.context.events, self.router.bound);
                self.note_wants_events();
            }
        }
        command.iter().for_each(|number| self.sessions.note_command(&session, *number));
        Ok(Done::Yes)
    }

    /// Takes a request that is answered.
    fn numbered(&mut self, id: u64, request: &FromHost<'_>, frame: &[u8]) -> Result<Done, End> {
        #[cfg(test)]
        if let FromHost::Publish { publication, .. } = request {
            super::panic_tests::maybe_panic(publication.data);
        }
        if let FromHost::Users { channel, after, limit, .. } = request {
            // The library has checked it in the host. It goes on to other hubs, in which texts have a bound.
            users::check(channel, after, *limit as usize).map_err(|error| End::Fault(error.to_string()))?;
        }
        let Some(attachment) = self.attached.get(&id) else { return Ok(Done::Yes) };
        if request.is_free() && attachment.version >= wire::ANSWERS_AT_ONCE {
            return self.ask(id, request);
        }
        let session = attachment.session;
        self.in_order(&session, request, frame)
    }

    /// Counts and logs a request of an attached host that the hub could not do.
    pub(super) fn note_failed(&self, id: impl Into<Option<u64>>, what: &str, done: Result<(), Error>) {
        self.note_failed_for(Client::default(), id.into(), what, done);
    }

    /// The same for a request about one client.
    fn note_failed_for(&self, client: Client<'_>, id: impl Into<Option<u64>>, what: &str, done: Result<(), Error>) {
        let Err(error) = done else { return };
        let context = &self.context;
        context.metrics.undone.fetch_add(1, Ordering::Relaxed);
        // A connection may end at any time. So a request about one that has gone is no fault.
        let (level, kind) = match error.kind() {
            Kind::NotFound => (Level::Debug, "an attached host's request about what has gone"),
            _ => (Level::Warn, "an attached host's request that was not done"),
        };
        let attachment = id.into().and_then(|id| self.attached.get(&id));
        let whom =
            attachment.map_or("a process that has gone".to_owned(), |host| format!("process {}", host.process.pid));
        let text = format_args!("attach: {what} for {whom} failed: {error}");
        client.log(&context.log, level, kind, text);
    }

    fn adopt(&mut self, id: u64, frame: &[u8], fd: Option<std::os::fd::OwnedFd>) -> Result<(), End> {
        let Some(attachment) = self.attached.get_mut(&id).filter(|attachment| !attachment.half_open()) else {
            return Err(End::Fault("its first frame is not a hello".into()));
        };
        let FromHost::Adopt { grant, head } = FromHost::read(frame)? else { return Ok(()) };
        let fd = fd.ok_or_else(|| End::Fault("it sent a frame without its descriptor".into()))?;
        // The host has checked the descriptor. But the client may have gone since, and the host may not be our library.
        let known = match socket::check_connected_stream(fd.as_raw_fd()) {
            Ok(known) => known,
            Err(text) => {
                let pid = attachment.process.pid;
                let text = format_args!("a descriptor from process {pid} is refused: {text}");
                self.note_bad_handover(Client::of(&fd).granted(grant.as_ref()), text);
                return Ok(());
            }
        };
        if let Err(error) = grant.as_ref().map_or(Ok(()), |grant| checked(&self.api, grant)) {
            let pid = attachment.process.pid;
            let text = format_args!("process {pid} has handed over a client with a grant that can't be: {error}");
            self.note_bad_handover(Client::of(&fd).granted(grant.as_ref()), text);
            self.api.refuse_unserved(&fd, head, &Refusal::forbidden("denied", "the host's grant is not valid"));
            return Ok(());
        }
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
        attachment.figures.adopted += 1;
        self.api.adopt_or_refuse(fd, head, grant, known);
        Ok(())
    }
}
