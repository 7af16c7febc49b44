//! The subprotocol `push.v1.json`: what a WebSocket client asks for on a live connection, and the answers.

use crate::auth::Decision;
use crate::error::Kind;
use crate::http::members::{self, Member};
use crate::hub::{self, check_channel, Cut, Join, Outgoing, Position, Publication, Request, Start};
use crate::metrics::Reason;
use crate::shard::connection::conn::Flags;
use crate::shard::Shard;
use crate::transport::message;
use crate::transport::{json, ws_frames};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bytes::Bytes;
use std::borrow::Cow;
use Member::{Base64, Channel, Data, Event, Key, Last, Since, Type};

/// A client's request.
#[derive(Debug)]
pub(crate) enum Ask<'a> {
    Subscribe(Subscribe<'a>),
    Unsubscribe(Cow<'a, str>),
    Publish(Publish<'a>),
    Message(Message<'a>),
    Token(Cow<'a, str>),
    Ping,
}

#[derive(Debug)]
pub(crate) struct Subscribe<'a> {
    channel: Cow<'a, str>,
    since: Option<Cow<'a, str>>,
    last: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Publish<'a> {
    channel: Cow<'a, str>,
    pub(crate) data: Cow<'a, str>,
    event: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    pub(crate) base64: bool,
}

#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) data: Cow<'a, str>,
    pub(crate) base64: bool,
}

/// Why something asked for is not done: a word for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Refused(&'static str, Cow<'static, str>);

impl<'a> Ask<'a> {
    /// Reads a client's text: first of what type it is, then what requests of that type have.
    pub(crate) fn read(text: &'a [u8]) -> Result<Self, Refused> {
        Ask::parse(text).map_err(|why| Refused("malformed", format!("not a request of push.v1.json: {why}").into()))
    }

    fn parse(text: &'a [u8]) -> Result<Self, String> {
        let read = |wanted: &[Member]| members::read(text, wanted);
        let tag = read(&[Type])?.needed(Type)?;
        Ok(match &*tag {
            "subscribe" => {
                let mut given = read(&[Channel, Since, Last])?;
                let (since, last) = (given.text(Since), given.number(Last));
                Ask::Subscribe(Subscribe { channel: given.needed(Channel)?, since, last })
            }
            "unsubscribe" => Ask::Unsubscribe(read(&[Channel])?.needed(Channel)?),
            "publish" => {
                let mut given = read(&[Channel, Data, Event, Key, Base64])?;
                let (event, key, base64) = (given.text(Event), given.text(Key), given.flag(Base64));
                Ask::Publish(Publish { channel: given.needed(Channel)?, data: given.needed(Data)?, event, key, base64 })
            }
            "message" => {
                let mut given = read(&[Data, Base64])?;
                let base64 = given.flag(Base64);
                Ask::Message(Message { data: given.needed(Data)?, base64 })
            }
            "token" => Ask::Token(read(&[Member::Token])?.needed(Member::Token)?),
            "ping" => Ask::Ping,
            other => {
                let allowed = "subscribe, unsubscribe, publish, message, token and ping";
                return Err(format!("there is no type {other:.60}; the types are {allowed}"));
            }
        })
    }
}

impl Shard {
    /// Does what a client asks, and answers. An error is answered too; the connection goes on.
    pub(in crate::shard) fn push_v1(&mut self, index: u32, text: &[u8]) {
        let ask = match Ask::read(text) {
            Ok(ask) => ask,
            Err(refused) => return self.reply_error(index, None, refused),
        };
        let (channel, result) = match &ask {
            Ask::Subscribe(Subscribe { channel, since, last }) => {
                (Some(channel), self.subscribe_live(index, channel, since.as_deref(), *last))
            }
            Ask::Unsubscribe(channel) => (Some(channel), self.unsubscribe_live(index, channel)),
            Ask::Publish(Publish { channel, data, event, key, base64 }) => {
                let parts = (data.as_ref(), event.as_deref(), key.as_deref(), *base64);
                (Some(channel), self.publish_live(index, channel, parts))
            }
            Ask::Message(Message { data, base64 }) => (None, self.message_live(index, data, *base64)),
            Ask::Token(_) if !self.count_token(index) => return,
            Ask::Token(token) => (None, self.renew_by_token(index, token)),
            Ask::Ping => {
                self.reply(index, br#"{"type":"pong"}"#);
                (None, Ok(()))
            }
        };
        if let Err(refused) = result {
            self.reply_error(index, channel.map(|channel| &**channel), refused);
        }
    }

    fn subscribe_live(
        &mut self,
        index: u32,
        channel: &str,
        since: Option<&str>,
        last: Option<u64>,
    ) -> Result<(), Refused> {
        check_channel(channel).map_err(|error| Refused("channel", error.to_string().into()))?;
        let conn = &self.conns[index as usize];
        if !conn.is(Flags::LIVE) {
            return Err(Refused("catching_up", "the connection's first channels are not caught up yet".into()));
        }
        if conn.grant.as_ref().is_some_and(|grant| !grant.allows(channel)) {
            return Err(Refused("channel", "not allowed".into()));
        }
        let start = match (since, last) {
            (Some(since), _) => Start::Since(
                Position::parse(since)
                    .ok_or(Refused("position", "since must be a position that was sent before".into()))?,
            ),
            (None, Some(count)) if (1..=10_000).contains(&count) => Start::Last(count as usize),
            (None, Some(_)) => return Err(Refused("last", "last must be a number from 1 to 10000".into())),
            (None, None) => Start::New,
        };
        let known = self.context.hub.channel_id(channel);
        if known.is_some_and(|id| self.channels.is_on(conn, index, id)) {
            return Err(Refused("subscribed", "subscribed already; unsubscribe first to begin elsewhere".into()));
        }
        let count = conn.subs.len();
        if count >= self.config().max_channels {
            let message = format!("more than {count} channels (option max_channels)");
            return Err(Refused("channels", message.into()));
        }
        let shared = self.context.clone();
        let request = Request {
            shard: self.number,
            names: &[channel],
            start,
            limit: self.config.outbox,
            broadcasts: false,
            // The connection is live on other channels: it can't be held back for this one.
            cut: Cut::Head,
            join: Join::Always,
        };
        shared.hub.subscribe(&request, &mut self.recovery.replay, &mut self.recovery.channels);
        #[cfg(test)]
        if let Some(meanwhile) = self.recovery.meanwhile.take() {
            meanwhile(&shared.hub);
        }
        self.count_gaps();
        let joined = self.recovery.replay.position;
        // First what the mailbox holds of the other channels up to there: the position below speaks for all of them.
        let token = self.token(index);
        let (replay, ids) = (std::mem::take(&mut self.recovery.replay), std::mem::take(&mut self.recovery.channels));
        // Given up until that is done, so that the hub hears of it if a panic comes in between.
        self.channels.abandon(&ids);
        self.deliver_until(joined);
        (self.recovery.replay, self.recovery.channels) = (replay, ids);
        if self.find(token).is_none_or(|index| !self.conns[index as usize].is(Flags::LIVE)) {
            return Ok(());
        }
        self.channels.reclaim(&self.recovery.channels);
        self.channels.join(&mut self.conns, index, &self.recovery.channels, joined);
        let mut pieces = Vec::new();
        self.add_replay(index, &mut pieces);
        self.transmit(index, &pieces);
        // After the replay: who stores this position has everything before it.
        self.reply(index, &subscribed(channel, &shared.hub.epoch().position(joined)));
        Ok(())
    }

    fn unsubscribe_live(&mut self, index: u32, channel: &str) -> Result<(), Refused> {
        let known = self.context.hub.channel_id(channel);
        if !known.is_some_and(|id| self.channels.leave_one(&mut self.conns, index, id)) {
            return Err(Refused("not_subscribed", "not subscribed".into()));
        }
        let mut reply = br#"{"type":"unsubscribed","channel":"#.to_vec();
        json::string(channel, &mut reply);
        reply.push(b'}');
        self.reply(index, &reply);
        Ok(())
    }

    fn publish_live(
        &mut self,
        index: u32,
        channel: &str,
        (data, event, key, base64): (&str, Option<&str>, Option<&str>, bool),
    ) -> Result<(), Refused> {
        let allowed = match &self.conns[index as usize].grant {
            Some(grant) => grant.allows_publish(channel),
            None => self.config().client_publish,
        };
        if !allowed {
            return Err(Refused("publish", "not allowed".into()));
        }
        let data = payload(data, base64)?;
        let publication = Publication { event, key, binary: base64, ..Publication::new(channel, &data) };
        let refused = |error: crate::error::Error| {
            let code = match error.kind() {
                Kind::TooLarge => "too_large",
                Kind::Busy => "busy",
                // The reason is the operator's, and in the log.
                Kind::System => return Refused("system", "the server can't keep messages now".into()),
                _ => "malformed",
            };
            Refused(code, error.to_string().into())
        };
        publication.check(self.config().max_message, false).map_err(refused)?;
        let user = self.conns[index as usize].grant.as_ref().and_then(|grant| grant.user()).cloned();
        let key = key.map(|key| hub::Key::Client(user.as_deref().unwrap_or(""), key));
        let outgoing = Outgoing { channel, key, message: message(&publication) };
        let published = self.context.hub.publish(outgoing, self.now).map_err(refused)?;
        let mut reply = br#"{"type":"published","channel":"#.to_vec();
        json::string(channel, &mut reply);
        reply.extend_from_slice(br#","id":""#);
        self.context.hub.epoch().write_position(published.seq, &mut reply);
        reply.extend_from_slice(br#""}"#);
        self.reply(index, &reply);
        Ok(())
    }

    fn message_live(&mut self, index: u32, data: &str, base64: bool) -> Result<(), Refused> {
        let data = payload(data, base64)?;
        self.tell_message(index, Bytes::copy_from_slice(&data), base64);
        Ok(())
    }

    /// A new token in time: the connection goes on with what that allows.
    fn renew_by_token(&mut self, index: u32, token: &str) -> Result<(), Refused> {
        let conn = &self.conns[index as usize];
        if conn.is(Flags::ADOPTED) {
            return Err(Refused("token", "what this connection may, the host decides".into()));
        }
        let grant = match self.context.authority().decide(Some(token)) {
            Ok(Decision::Granted(grant)) => grant,
            Ok(_) => return Err(Refused("token", "nobody needs a token here".into())),
            Err(refusal) => return Err(Refused("token", refusal.message)),
        };
        if conn.grant.as_ref().and_then(|old| old.user()) != grant.user() {
            return Err(Refused("user", "the token is another user's; open a connection for that one".into()));
        }
        let grant = match &conn.grant {
            Some(old) => grant.without_taken_from(old),
            None => grant,
        };
        let expires_at = grant.expires_at().unwrap_or(0);
        let token = self.token(index);
        self.renew(index, grant);
        if self.find(token).is_some() {
            self.reply(index, format!(r#"{{"type":"token","expires":{expires_at}}}"#).as_bytes());
        }
        Ok(())
    }

    fn reply(&mut self, index: u32, object: &[u8]) {
        self.transmit_bytes(index, ws_frames::text(object));
    }

    fn reply_error(&mut self, index: u32, channel: Option<&str>, Refused(code, message): Refused) {
        let reason = if code == "channels" { Reason::MaxChannels } else { Reason::ClientRequest };
        let text = format_args!("a request of push.v1.json is refused: {code}: {message}");
        self.note_refusal(self.client(index), reason, text);
        let mut reply = br#"{"type":"error","code":""#.to_vec();
        reply.extend_from_slice(code.as_bytes());
        reply.extend_from_slice(br#"","message":"#);
        json::string(&message, &mut reply);
        if let Some(channel) = channel {
            reply.extend_from_slice(br#","channel":"#);
            json::string(channel, &mut reply);
        }
        reply.push(b'}');
        self.reply(index, &reply);
    }
}

/// `subscribed`, with the position reached.
pub(in crate::shard) fn subscribed(channel: &str, position: &str) -> Vec<u8> {
    let mut reply = br#"{"type":"subscribed","channel":"#.to_vec();
    json::string(channel, &mut reply);
    reply.extend_from_slice(br#","id":""#);
    reply.extend_from_slice(position.as_bytes());
    reply.extend_from_slice(br#""}"#);
    reply
}

/// The bytes of a payload that came as text, or as base64.
pub(crate) fn payload(data: &str, base64: bool) -> Result<Cow<'_, [u8]>, Refused> {
    if !base64 {
        return Ok(Cow::Borrowed(data.as_bytes()));
    }
    STANDARD.decode(data).map(Cow::Owned).map_err(|_| Refused("base64", "data is not base64".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_object_with_a_type_that_is_known() {
        let ask = Ask::read(br#" {"last":3,"other":[{"type":"ping"}],"channel":"a","type":"subscribe"}"#);
        assert!(matches!(ask, Ok(Ask::Subscribe(Subscribe { channel, since: None, last: Some(3) })) if channel == "a"));
        assert!(matches!(Ask::read(br#"{"type":"ping","channel":7}"#), Ok(Ask::Ping)), "it knows no channel");
        for (wrong, why) in [
            (&br#"["ping"]"#[..], "an object is expected"),
            (br#"["subscribe","a"]"#, "an object is expected"),
            (br#""ping""#, "an object is expected"),
            (br#"{"type":{"ping":null}}"#, "type must be a text"),
            (br#"{"type":"ping","type":"ping"}"#, "type is there twice"),
            (br#"{"channel":"a"}"#, "type is missing"),
            (br#"{"type":"subscribe"}"#, "channel is missing"),
            (
                br#"{"type":"pings"}"#,
                "there is no type pings; the types are subscribe, unsubscribe, publish, message, token and ping",
            ),
            (br#"{"type":"ping"} {}"#, "it is not JSON, or nested too deep, at line 1, column 17"),
            (br#"{"type":"ping","x":[}"#, "it is not JSON, or nested too deep, at line 1, column 21"),
        ] {
            let Refused(code, said) = Ask::read(wrong).unwrap_err();
            assert_eq!(code, "malformed");
            let text = String::from_utf8_lossy(wrong);
            assert_eq!(said.strip_prefix("not a request of push.v1.json: "), Some(why), "{text}");
        }
    }
}
