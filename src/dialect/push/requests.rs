//! The requests of clients of `push.v1.json`.

use crate::dialect::members::{self, Member, Members};
use crate::hub::{Position, Start};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use std::borrow::Cow;
use Member::{Base64, Channel, Data, Echo, Event, Key, Last, Pattern, Presence, Ref, Since, Type};

/// A client's request.
#[derive(Debug)]
pub(crate) enum ClientRequest<'a> {
    Subscribe(ClientSubscription<'a>),
    Unsubscribe { name: Cow<'a, str>, by_pattern: bool },
    Publish(ClientPublication<'a>),
    Message { data: Cow<'a, str>, base64: bool },
    Call { data: Cow<'a, str>, base64: bool },
    Token { token: Cow<'a, str> },
    Ping,
}

/// A channel or pattern that a client wants.
#[derive(Debug)]
pub(crate) struct ClientSubscription<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) by_pattern: bool,
    pub(crate) since: Option<Cow<'a, str>>,
    pub(crate) last: Option<u64>,
    /// True: the client wants to know who is there.
    pub(crate) follows: bool,
}

/// A message that a client publishes.
#[derive(Debug)]
pub(crate) struct ClientPublication<'a> {
    pub(crate) channel: Cow<'a, str>,
    pub(crate) data: Cow<'a, str>,
    pub(crate) event: Option<Cow<'a, str>>,
    pub(crate) key: Option<Cow<'a, str>>,
    pub(crate) base64: bool,
    /// False: the connection that publishes it does not get it.
    pub(crate) echo: bool,
}

/// The reason why a request is not done: a word for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
}

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Refused { code, message: message.into() }
    }
}

impl<'a> ClientRequest<'a> {
    /// Reads a client's text: first its type and its number, then the members that requests of this type have. The
    /// number is for the answer, also if the rest is refused.
    pub(crate) fn read(text: &'a [u8]) -> (Option<u64>, Result<Self, Refused>) {
        let refused = |why| Refused::new("malformed", format!("not a request of push.v1.json: {why}"));
        match members::read(text, &[Type, Ref]) {
            Ok(mut given) => {
                let request = given.needed(Type).and_then(|tag| Self::parse(&tag, text));
                (given.number(Ref), request.map_err(refused))
            }
            Err(why) => (None, Err(refused(why))),
        }
    }

    fn parse(tag: &str, text: &'a [u8]) -> Result<Self, String> {
        let read = |wanted: &[Member]| members::read(text, wanted);
        Ok(match tag {
            "subscribe" => {
                let mut given = read(&[Channel, Since, Last, Pattern, Presence])?;
                let (name, by_pattern) = channel_or_pattern(&mut given)?;
                let (since, last, follows) = (given.text(Since), given.number(Last), given.flag(Presence));
                Self::Subscribe(ClientSubscription { name, by_pattern, since, last, follows })
            }
            "unsubscribe" => {
                let (name, by_pattern) = channel_or_pattern(&mut read(&[Channel, Pattern])?)?;
                Self::Unsubscribe { name, by_pattern }
            }
            "publish" => {
                let mut given = read(&[Channel, Data, Event, Key, Base64, Echo])?;
                let (event, key, base64) = (given.text(Event), given.text(Key), given.flag(Base64));
                let echo = given.flag_unless_false(Echo);
                let (channel, data) = (given.needed(Channel)?, given.needed(Data)?);
                Self::Publish(ClientPublication { channel, data, event, key, base64, echo })
            }
            "message" => {
                let mut given = read(&[Data, Base64])?;
                let base64 = given.flag(Base64);
                Self::Message { data: given.needed(Data)?, base64 }
            }
            "call" => {
                let mut given = read(&[Ref, Data, Base64])?;
                let base64 = given.flag(Base64);
                given.number(Ref).ok_or("ref is missing; the answer has it")?;
                Self::Call { data: given.needed(Data)?, base64 }
            }
            "token" => Self::Token { token: read(&[Member::Token])?.needed(Member::Token)? },
            "ping" => Self::Ping,
            other => {
                let allowed = "subscribe, unsubscribe, publish, message, call, token and ping";
                return Err(format!("there is no type {other:.60}; the types are {allowed}"));
            }
        })
    }

    /// The channel or pattern that an error about this request names.
    pub(crate) fn channel(&self) -> Option<&str> {
        match self {
            Self::Subscribe(ClientSubscription { name, .. }) | Self::Unsubscribe { name, .. } => Some(name),
            Self::Publish(publication) => Some(&publication.channel),
            Self::Message { .. } | Self::Call { .. } | Self::Token { .. } | Self::Ping => None,
        }
    }
}

/// The channel of a request, or its pattern. True: it is a pattern.
fn channel_or_pattern<'a>(given: &mut Members<'a>) -> Result<(Cow<'a, str>, bool), String> {
    match (given.text(Channel), given.text(Pattern)) {
        (Some(channel), None) => Ok((channel, false)),
        (None, Some(pattern)) => Ok((pattern, true)),
        (Some(_), Some(_)) => Err("channel and pattern are given; a request has one of them".into()),
        (None, None) => Err("channel is missing, or pattern".into()),
    }
}

/// The place where a subscription begins.
pub(crate) fn start(since: Option<&str>, last: Option<u64>) -> Result<Start<'_>, Refused> {
    match (since, last) {
        (Some("start"), _) => Ok(Start::Beginning),
        (Some(since), _) => Position::parse(since)
            .map(Start::Since)
            .ok_or(Refused::new("position", "since must be a position that was sent before, or: start")),
        (None, Some(count)) if (1..=10_000).contains(&count) => Ok(Start::Last(count as usize)),
        (None, Some(_)) => Err(Refused::new("last", "last must be a number from 1 to 10000")),
        (None, None) => Ok(Start::New),
    }
}

/// The bytes of a payload that came as text, or as base64.
pub(crate) fn payload(data: &str, base64: bool) -> Result<Cow<'_, [u8]>, Refused> {
    if !base64 {
        return Ok(Cow::Borrowed(data.as_bytes()));
    }
    STANDARD.decode(data).map(Cow::Owned).map_err(|_| Refused::new("base64", "data is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_an_object_with_a_type_that_is_known() {
        let (_, ask) =
            ClientRequest::read(br#" {"last":3,"other":[{"type":"ping"}],"channel":"a","type":"subscribe"}"#);
        let by_name = |ask: Result<ClientRequest<'static>, Refused>| match ask {
            Ok(ClientRequest::Subscribe(ClientSubscription {
                name,
                by_pattern,
                since: None,
                last,
                follows: false,
            })) => (name.into_owned(), by_pattern, last),
            other => panic!("{other:?}"),
        };
        assert_eq!(by_name(ask), ("a".into(), false, Some(3)));
        let (_, ask) = ClientRequest::read(br#"{"type":"subscribe","channel":null,"pattern":"a*"}"#);
        assert_eq!(by_name(ask), ("a*".into(), true, None));
        let (_, ask) = ClientRequest::read(br#"{"type":"unsubscribe","pattern":"a*"}"#);
        assert!(matches!(ask, Ok(ClientRequest::Unsubscribe { name, by_pattern: true }) if name == "a*"));
        assert!(
            matches!(ClientRequest::read(br#"{"type":"ping","channel":7}"#), (None, Ok(ClientRequest::Ping))),
            "it knows no channel"
        );
        for (wrong, why) in [
            (&br#"["ping"]"#[..], "an object is expected"),
            (br#"["subscribe","a"]"#, "an object is expected"),
            (br#""ping""#, "an object is expected"),
            (br#"{"type":{"ping":null}}"#, "type must be a text"),
            (br#"{"type":"ping","type":"ping"}"#, "type is given twice"),
            (br#"{"channel":"a"}"#, "type is missing"),
            (br#"{"type":"subscribe"}"#, "channel is missing, or pattern"),
            (br#"{"type":"unsubscribe"}"#, "channel is missing, or pattern"),
            (
                br#"{"type":"subscribe","channel":"a","pattern":"news.*"}"#,
                "channel and pattern are given; a request has one of them",
            ),
            (
                br#"{"type":"unsubscribe","pattern":"news.*","channel":"a"}"#,
                "channel and pattern are given; a request has one of them",
            ),
            (br#"{"type":"subscribe","pattern":["news.*"]}"#, "pattern must be a text"),
            (br#"{"type":"ping","ref":"7"}"#, "ref must be a whole number"),
            (br#"{"type":"ping","ref":-7}"#, "ref must be a whole number"),
            (br#"{"type":"ping","ref":18446744073709551616}"#, "ref must be a whole number"),
            (
                br#"{"type":"pings"}"#,
                "there is no type pings; the types are subscribe, unsubscribe, publish, message, call, token and ping",
            ),
            (br#"{"type":"publish","channel":"a","data":"x","echo":0}"#, "echo must be true or false"),
            (br#"{"type":"call","data":"x"}"#, "ref is missing; the answer has it"),
            (br#"{"type":"call","ref":1}"#, "data is missing"),
            (br#"{"type":"subscribe","channel":"a","presence":1}"#, "presence must be true or false"),
            (br#"{"type":"ping"} {}"#, "not valid JSON, or nested too deep, at line 1, column 17"),
            (br#"{"type":"ping","x":[}"#, "not valid JSON, or nested too deep, at line 1, column 21"),
        ] {
            let Refused { code, message: said } = ClientRequest::read(wrong).1.unwrap_err();
            assert_eq!(code, "malformed");
            let text = String::from_utf8_lossy(wrong);
            assert_eq!(said.strip_prefix("not a request of push.v1.json: "), Some(why), "{text}");
        }
    }

    #[test]
    fn a_client_gets_what_it_publishes_unless_it_says_that_it_does_not_want_to() {
        for (member, expected) in
            [("", true), (r#","echo":true"#, true), (r#","echo":null"#, true), (r#","echo":false"#, false)]
        {
            let text = format!(r#"{{"type":"publish","channel":"a","data":"x"{member}}}"#);
            let Ok(ClientRequest::Publish(publication)) = ClientRequest::read(text.as_bytes()).1 else {
                panic!("{text}")
            };
            assert_eq!(publication.echo, expected, "{text}");
        }
    }

    #[test]
    fn a_client_follows_who_is_there_if_it_says_so() {
        for (member, expected) in [
            ("", false),
            (r#","presence":true"#, true),
            (r#","presence":null"#, false),
            (r#","presence":false"#, false),
        ] {
            let text = format!(r#"{{"type":"subscribe","channel":"a"{member}}}"#);
            let Ok(ClientRequest::Subscribe(subscription)) = ClientRequest::read(text.as_bytes()).1 else {
                panic!("{text}")
            };
            assert_eq!(subscription.follows, expected, "{text}");
        }
    }

    #[test]
    fn a_request_may_have_a_number_also_if_it_is_refused() {
        for (text, number) in [
            (&br#"{"ref":7,"type":"ping"}"#[..], Some(7)),
            (br#"{"type":"ping","ref":18446744073709551615}"#, Some(u64::MAX)),
            (br#"{"type":"ping","ref":null}"#, None),
            (br#"{"type":"publish","ref":8}"#, Some(8)),
            (br#"{"type":"pings","ref":9}"#, Some(9)),
            (br#"{"ref":10}"#, Some(10)),
            (br#"{"type":7,"ref":11}"#, None),
        ] {
            assert_eq!(ClientRequest::read(text).0, number, "{}", String::from_utf8_lossy(text));
        }
    }
}
