//! Clients that publish. If the host is to check their messages first (`client_publish=host`), it is asked, and the
//! messages wait for its answers.

use super::checks::ClientMessage;
use super::push_v1::Answer;
use crate::config::ClientPublish;
use crate::dialect::push::replies;
use crate::dialect::push::requests::{self, ClientPublication, Refused};
use crate::error::{Error, Kind};
use crate::events::{Event, EventKind, Publishing, NOBODY_ANSWERS};
use crate::framing::message;
use crate::grant::Grant;
use crate::hub::{self, user_of, OnSettled, Outgoing, Placing, Publication};
use crate::shard::connection::conn::{RequestId, Token};
use crate::shard::turn::command::Command;
use crate::shard::Shard;
use crate::sys::clock;
use bytes::Bytes;
use std::sync::Arc;

/// The codes of errors that may pass.
pub(super) const BUSY: &str = "busy";
pub(super) const SYSTEM: &str = "system";
/// The code of a message that comes while the server ends.
pub(super) const DRAINING: &str = "draining";
/// The error about a message that there is no room for.
pub(super) const NO_ROOM: &str = "too many messages of clients wait for the host (option inbox_total); try again later";
/// The error about a message that is to leave its own connection out, for which there is no id.
const NO_RANDOM: &str = "the system has no random bits";
/// The error about a message that may have been published.
const IN_DOUBT: &str = "the log has not answered in time; the message may have been published, or may be published \
                        later; with a key it is safe to send it again";

impl Shard {
    /// A client publishes. The answer may come later.
    pub(in crate::shard) fn publish_live(
        &mut self,
        index: u32,
        reference: Option<u64>,
        asked: &ClientPublication<'_>,
    ) -> Answer {
        let grant = self.conns[index as usize].grant.as_deref();
        let channel = &*asked.channel;
        self.check_publish(grant, channel)?;
        let data = requests::payload(&asked.data, asked.base64)?;
        let (event, key, binary) = (asked.event.as_deref(), asked.key.as_deref(), asked.base64);
        let except = match asked.echo {
            true => None,
            false => Some(self.side.client_ids.own(index).ok_or(Refused::new(SYSTEM, NO_RANDOM))?),
        };
        let publication = Publication { event, key, binary, except, ..Publication::new(channel, &data) };
        publication.check(self.config().max_message, false).map_err(refused)?;
        let of = self.token(index);
        let asks = self.config().client_publish_of(channel) == ClientPublish::AskHost;
        let before = self.questions.checks.of_connection(of);
        if !asks && before == 0 {
            return self.publish_now(of, reference, &publication, self.user(grant).as_deref());
        }
        if asks && !self.context.events.wants(EventKind::Publish) {
            let (status, message) = NOBODY_ANSWERS;
            self.reply(index, reference, replies::refused(status, message, Some(channel)));
            return Ok(None);
        }
        self.check_room_for_question(index)?;
        if self.context.inboxes.waiting() >= self.config().inbox_total {
            return Err(Refused::new(BUSY, NO_ROOM));
        }
        let message = ClientMessage {
            channel: channel.into(),
            data: Bytes::copy_from_slice(&data),
            event: event.map(Box::from),
            key: key.map(Box::from),
            binary,
            except,
        };
        let event = asks.then(|| self.question(index, &message));
        let asked = event.as_ref().map(|_| self.questions.last);
        let ends_at = self.turn.now + self.config().call_timeout_ms;
        self.questions.checks.add(of, asked, ends_at, reference, message);
        self.count_checks();
        if let Some(event) = event {
            // The host may look at the numbers as soon as it has the event.
            self.handle.metrics.publish_checks.add(1);
            self.tell(event);
        }
        Ok(None)
    }

    /// The next question to the host: about a message.
    fn question(&mut self, index: u32, message: &ClientMessage) -> Event {
        self.questions.last += 1;
        let rest = Publishing { event: message.event.clone(), key: message.key.clone() };
        Event {
            request: RequestId { shard: self.handle.number, count: self.questions.last }.to_number(),
            channel: Some(message.channel.clone()),
            data: message.data.clone(),
            binary: message.binary,
            publishing: Some(Box::new(rest)),
            ..self.event(index, EventKind::Publish)
        }
    }

    /// Whether a client with this grant may publish to a channel now.
    pub(super) fn check_publish(&self, grant: Option<&Grant>, channel: &str) -> Result<(), Refused> {
        let granted = grant.filter(|grant| !grant.is_open());
        let allowed = match granted {
            Some(grant) => grant.gives_publish(channel, self.config.user_channel),
            None => {
                self.config().client_publish_of(channel) != ClientPublish::Granted
                    && !(self.config.user_channel && user_of(channel).is_some())
            }
        };
        // The connection ends soon, if it has not ended already.
        let has_ended = granted.and_then(Grant::expires_at).is_some_and(|at| at <= clock::unix_seconds());
        if allowed && !has_ended {
            return Ok(());
        }
        Err(Refused::new("publish", "not allowed"))
    }

    pub(super) fn user(&self, grant: Option<&Grant>) -> Option<Arc<str>> {
        grant.and_then(|grant| grant.user()).cloned()
    }

    /// Publishes a client's message, which was checked. The answer to the client may come later.
    pub(super) fn publish_now(
        &self,
        to: Token,
        reference: Option<u64>,
        publication: &Publication<'_>,
        user: Option<&str>,
    ) -> Answer {
        let channel = publication.channel;
        let key = publication.key.map(|key| hub::Key::Client(user.unwrap_or(""), key));
        let span = self.context.hub.begin_span(publication);
        let outgoing = Outgoing { channel, key, message: message(publication), span };
        if !self.context.hub.lasts_first() {
            let published = self.context.hub.publish(outgoing, self.turn.now).map_err(refused)?;
            return Ok(Some(self.published(channel, (0, published.seq))));
        }
        let (handle, name) = (self.handle.clone(), Box::from(channel));
        let on_settled: OnSettled = Box::new(move |settled| {
            // `None`: nobody knows what became of it. The client may send it again with its key.
            let seq = settled.places.first().map(|published| published.seq).filter(|_| !settled.unknown);
            let place = seq.map(|seq| (settled.epoch, seq));
            handle.tell(Command::Published { to, reference, channel: name, place });
        });
        if let Placing::Now(settled) =
            self.context.hub.submit(vec![outgoing], None, self.turn.now, Some(on_settled)).map_err(refused)?
        {
            let seq = settled.places.first().map_or(0, |published| published.seq);
            return Ok(Some(self.published(channel, (settled.epoch, seq))));
        }
        Ok(None)
    }

    /// Tells a client where its message is: the index of the epoch, and the number. `None`: nobody knows.
    pub(in crate::shard) fn settle_publish(
        &mut self,
        index: u32,
        reference: Option<u64>,
        channel: &str,
        place: Option<(u32, u64)>,
    ) {
        let answer = match place {
            Some(place) => self.published(channel, place),
            None => replies::error("timeout", IN_DOUBT, Some(channel)),
        };
        self.reply(index, reference, answer);
    }

    fn published(&self, channel: &str, (epoch, seq): (u32, u64)) -> Vec<u8> {
        replies::published(channel, &self.context.hub.epoch_at(epoch), seq)
    }
}

/// The error of a message that is not published, for its client. Only `malformed` and `too_large` say that the client
/// need not send it again.
pub(super) fn refused(error: Error) -> Refused {
    let code = match error.kind() {
        Kind::Invalid => "malformed",
        Kind::TooLarge => "too_large",
        Kind::Busy | Kind::Limit => BUSY,
        Kind::Timeout => return Refused::new("timeout", IN_DOUBT),
        // The reasons of all others are the operator's, and in the log.
        Kind::Closed => return Refused::new(DRAINING, "the server is going away; the message is not published"),
        Kind::System | Kind::Config | Kind::NotFound | Kind::Descriptor | Kind::Unsupported => {
            return Refused::new(SYSTEM, "the server can't keep messages now");
        }
    };
    Refused::new(code, error.to_string())
}
