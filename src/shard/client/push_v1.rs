//! The subprotocol `push.v1.json`: the requests of a WebSocket client on a live connection.

use crate::auth::Decision;
use crate::dialect::push::replies;
use crate::dialect::push::requests::{self, ClientPublication, ClientRequest, Refused};
use crate::error::Kind;
use crate::events::EventKind;
use crate::framing::{message, ws_frames};
use crate::hub::{self, check_channel, user_of, Cut, Join, OnSettled, Outgoing, Placing, Publication, Request, Start};
use crate::metrics::Reason;
use crate::shard::connection::conn::Flags;
use crate::shard::turn::command::Command;
use crate::shard::Shard;
use bytes::Bytes;
use std::sync::Arc;

/// The answer to a client's request. `None`: there is none, or it comes later.
pub(in crate::shard) type Answer = Result<Option<Vec<u8>>, Refused>;

/// The error about a message that may have been published.
const IN_DOUBT: &str = "the log has not answered in time; the message may have been published, or may be published \
                        later; with a key it is safe to send it again";

impl Shard {
    /// Carries out a client's request and answers it. An error is answered too, and the connection goes on.
    pub(in crate::shard) fn push_v1(&mut self, index: u32, text: &[u8]) {
        let (reference, request) = ClientRequest::read(text);
        let request = match request {
            Ok(request) => request,
            Err(refused) => return self.reply_error(index, reference, None, refused),
        };
        if let Err(refused) = self.check_not_of_user(&request) {
            return self.reply_error(index, reference, request.channel(), refused);
        }
        let answer = match &request {
            ClientRequest::Subscribe { channel, since, last } => {
                self.subscribe_live(index, channel, since.as_deref(), *last)
            }
            ClientRequest::Unsubscribe { channel } => self.unsubscribe_live(index, channel),
            ClientRequest::Publish(publication) => self.publish_live(index, reference, publication),
            ClientRequest::Message { data, base64 } => self.message_live(index, data, *base64),
            ClientRequest::Call { data, base64 } => self.call_live(index, reference, data, *base64),
            ClientRequest::Token { .. } if !self.count_token(index) => return,
            ClientRequest::Token { token } => self.renew_by_token(index, token),
            ClientRequest::Ping => Ok(Some(replies::pong())),
        };
        match answer {
            Ok(Some(answer)) => self.reply(index, reference, answer),
            Ok(None) => {}
            Err(refused) => self.reply_error(index, reference, request.channel(), refused),
        }
    }

    fn subscribe_live(&mut self, index: u32, channel: &str, since: Option<&str>, last: Option<u64>) -> Answer {
        check_channel(channel).map_err(|error| Refused::new("channel", error.to_string()))?;
        let conn = &self.conns[index as usize];
        if !conn.is(Flags::LIVE) {
            return Err(Refused::new("catching_up", "missed messages of this connection are still being sent"));
        }
        if conn.grant.as_ref().is_some_and(|grant| !grant.gives(channel, self.config.user_channel)) {
            return Err(Refused::new("channel", "not allowed"));
        }
        let start = requests::start(since, last)?;
        let known = self.context.hub.channel_id(channel);
        if known.is_some_and(|id| self.subscriptions.channels.is_on(conn, index, id)) {
            return Err(Refused::new("subscribed", "subscribed already; unsubscribe first to begin elsewhere"));
        }
        let (count, max) = (conn.subs.len(), self.config().max_channels);
        if count >= max && count - self.given_channels(index) >= max {
            let message = format!("more than {max} channels (option max_channels)");
            return Err(Refused::new("channels", message));
        }
        let shared = self.context.clone();
        let request = Request {
            shard: self.handle.number,
            names: &[channel],
            start,
            limit: self.config.outbox,
            broadcasts: false,
            // The connection is live on other channels: it can't be held back for this one. Of a stream nothing is cut.
            cut: if start == Start::Beginning { Cut::Tail } else { Cut::Head },
            join: Join::Always,
        };
        self.subscriptions.subscribe(&shared.hub, &request);
        #[cfg(test)]
        if let Some(meanwhile) = self.subscriptions.meanwhile.take() {
            meanwhile(&shared.hub);
        }
        self.count_gaps();
        let token = self.token(index);
        self.reach_replay();
        let is_there = self.find(token).is_some_and(|index| self.conns[index as usize].is(Flags::LIVE));
        if !is_there || self.subscriptions.replay.wait {
            self.subscriptions.abandon();
            if !is_there {
                return Ok(None);
            }
            return Err(Refused::new("behind", "the server has not reached that position yet; try again"));
        }
        if !self.subscriptions.replay.complete {
            let message = "more is kept of this channel than fits into a live connection (option outbox); open a \
                           connection whose URL has this channel and since=start";
            return Err(Refused::new("since", message));
        }
        self.subscriptions.replay.tell_passed_ends();
        let joined = self.subscriptions.replay.position;
        // First come messages of the other channels up to there: the position below counts for all channels.
        let aside = self.subscriptions.set_aside();
        self.deliver_until(joined);
        self.subscriptions.put_back(aside);
        if self.find(token).is_none_or(|index| !self.conns[index as usize].is(Flags::LIVE)) {
            return Ok(None);
        }
        self.subscriptions.reclaim();
        self.subscriptions.join(&mut self.conns, index);
        self.tell_of_channel(index, EventKind::Subscribe, || Arc::from(channel));
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        self.transmit(index, &pieces);
        // This comes after the replay: a client that stores the position has everything before it.
        Ok(Some(replies::subscribed(channel, &self.encoder.epoch().position(joined))))
    }

    fn unsubscribe_live(&mut self, index: u32, channel: &str) -> Answer {
        let known = self.context.hub.channel_id(channel);
        if !known.is_some_and(|id| self.subscriptions.channels.leave_one(&mut self.conns, index, id)) {
            return Err(Refused::new("not_subscribed", "not subscribed"));
        }
        self.tell_of_channel(index, EventKind::Unsubscribe, || Arc::from(channel));
        Ok(Some(replies::unsubscribed(channel)))
    }

    fn publish_live(&mut self, index: u32, reference: Option<u64>, asked: &ClientPublication<'_>) -> Answer {
        let (channel, base64) = (&*asked.channel, asked.base64);
        let (event, key) = (asked.event.as_deref(), asked.key.as_deref());
        let allowed = match &self.conns[index as usize].grant {
            Some(grant) => grant.gives_publish(channel, self.config.user_channel),
            None => self.config().client_publish && !(self.config.user_channel && user_of(channel).is_some()),
        };
        if !allowed {
            return Err(Refused::new("publish", "not allowed"));
        }
        let data = requests::payload(&asked.data, base64)?;
        let publication = Publication { event, key, binary: base64, ..Publication::new(channel, &data) };
        let refused = |error: crate::error::Error| {
            let code = match error.kind() {
                Kind::TooLarge => "too_large",
                Kind::Busy => "busy",
                // The reason is the operator's, and in the log.
                Kind::System => return Refused::new("system", "the server can't keep messages now"),
                _ => "malformed",
            };
            Refused::new(code, error.to_string())
        };
        publication.check(self.config().max_message, false).map_err(refused)?;
        let user = self.conns[index as usize].grant.as_ref().and_then(|grant| grant.user()).cloned();
        let key = key.map(|key| hub::Key::Client(user.as_deref().unwrap_or(""), key));
        let span = self.context.hub.begin_span(&publication);
        let outgoing = Outgoing { channel, key, message: message(&publication), span };
        if !self.context.hub.lasts_first() {
            let published = self.context.hub.publish(outgoing, self.turn.now).map_err(refused)?;
            return Ok(Some(self.published(channel, (0, published.seq))));
        }
        let (handle, to, name) = (self.handle.clone(), self.token(index), Box::from(channel));
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

    fn message_live(&mut self, index: u32, data: &str, base64: bool) -> Answer {
        let data = requests::payload(data, base64)?;
        self.tell_message(index, Bytes::copy_from_slice(&data), base64);
        Ok(None)
    }

    /// A new token in time: the connection goes on with its rights.
    fn renew_by_token(&mut self, index: u32, token: &str) -> Answer {
        let conn = &self.conns[index as usize];
        if conn.is(Flags::ADOPTED) {
            return Err(Refused::new("token", "the host decides what this connection may do"));
        }
        let grant = match self.context.authority().decide(Some(token)) {
            Ok(Decision::Granted(grant)) => grant,
            Ok(_) => return Err(Refused::new("token", "this server takes no tokens (option auth)")),
            Err(refusal) => return Err(Refused::new("token", refusal.message)),
        };
        if conn.grant.as_ref().and_then(|old| old.user()) != grant.user() {
            return Err(Refused::new("user", "the token is another user's; open a connection for that one"));
        }
        let grant = match &conn.grant {
            Some(old) => grant.without_taken_from(old),
            None => grant,
        };
        let expires_at = grant.expires_at().unwrap_or(0);
        let token = self.token(index);
        self.renew(index, grant);
        Ok(self.find(token).map(|_| replies::token(expires_at)))
    }

    pub(in crate::shard) fn reply(&mut self, index: u32, reference: Option<u64>, answer: Vec<u8>) {
        self.transmit_bytes(index, ws_frames::text(&replies::with_ref(answer, reference)));
    }

    fn reply_error(&mut self, index: u32, reference: Option<u64>, channel: Option<&str>, refused: Refused) {
        let Refused { code, message } = refused;
        let reason = if code == "channels" { Reason::MaxChannels } else { Reason::ClientRequest };
        let text = format_args!("a request of push.v1.json is refused: {code}: {message}");
        self.note_refusal(self.client(index), reason, text);
        self.reply(index, reference, replies::error(code, &message, channel));
    }
}
