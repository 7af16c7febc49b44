//! The list of attached hosts, for operators.

use super::attachment::Attachment;
use super::HubSide;
use crate::context::attached::AttachedHost;

impl HubSide {
    /// Answers those who ask which hosts are attached.
    pub(super) fn list_hosts(&mut self) {
        for tell in self.context.hosts.take() {
            let mut found = Vec::new();
            for attachment in self.attached.values().filter(|attachment| !attachment.half_open()) {
                let mut host = listed(attachment, self.now);
                if let Some(session) = self.sessions.get(&attachment.session) {
                    host.requests = session.waiting.len() as u64;
                    host.request_bytes = session.waiting.bytes() as u64;
                    host.unanswered = session.unanswered() as u64;
                }
                found.push(host);
            }
            tell(found);
        }
    }

    /// Notes at the end of a turn for which hosts something waits.
    pub(super) fn note_behind(&mut self) {
        let any_waits = self.sessions.any_waits();
        for attachment in self.attached.values_mut() {
            let waits = !attachment.events.is_empty()
                || attachment.out.len() > 0
                || (any_waits && self.sessions.has_waiting(&attachment.session));
            attachment.figures.note_waits(waits, self.now);
        }
    }
}

fn listed(attachment: &Attachment, now: u64) -> AttachedHost {
    AttachedHost {
        name: attachment.name.clone(),
        number: attachment.host,
        process: attachment.process.pid,
        user: attachment.process.uid,
        version: attachment.version,
        attached_ms: now.saturating_sub(attachment.figures.since),
        adopted: attachment.figures.adopted,
        takes_events: attachment.events.is_wanted(),
        events: attachment.events.len() as u64,
        questions: attachment.questions.len() as u64,
        unsent: attachment.out.len() as u64,
        behind_ms: attachment.figures.behind_ms(now),
        ..AttachedHost::default()
    }
}
