//! The first frame of a host.

use super::attachment::Attachment;
use super::{refuse, version_text, End, HubSide};
use crate::attach::wire::{self, FromHub, Hello, RefusedBecause};
use crate::grant::Grant;
use crate::log::Level;
use std::sync::Arc;

impl HubSide {
    /// Welcomes a host, or refuses it.
    pub(super) fn hello(&mut self, id: u64, hello: &Hello<'_>) -> Result<(), End> {
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
        let Some(host) = self.router.names.host(hello.name, id) else {
            return refused(attachment, RefusedBecause::Full, "the hub has seen too many different host names".into());
        };
        let Some((session, before)) = self.sessions.enter(hello.session, attachment.process.uid, id) else {
            return refused(attachment, RefusedBecause::NotAllowed, "this session belongs to another user".into());
        };
        (attachment.host, attachment.name) = (host, hello.name.into());
        (attachment.session, attachment.version) = (hello.session, hello.version);
        attachment.grants.open = Arc::new(Grant::open().of_host(host));
        let out = attachment.out.tail();
        let epoch = context.hub.epoch_at(self.epoch);
        FromHub::Welcome {
            epoch: epoch.as_str(),
            done: session.done,
            max_message: api.max_message() as u64,
            max_send: api.max_send() as u64,
            max_batch: (hello.version >= wire::NAMES_MAX_BATCH).then(|| context.config.get().mailbox as u64),
            life: (hello.version >= wire::NAMES_LIFE).then_some(self.life),
            user_channel: (hello.version >= wire::USER_CHANNELS).then(|| api.users_have_channels()),
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
}
