//! The query of a URL: its names and values, and the parameters of a subscriber.

use super::refusal::Refusal;
use super::request::NamedBy;
use crate::config::Config;
use crate::framing::Transport;
use crate::hub::{check_channel, check_pattern, is_the_librarys, user_of, ClientId};
use crate::number;
use crate::presence::is_version;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::hash::BuildHasher;

/// The largest value of `last=`.
const MAX_LAST: usize = 10_000;
/// The `presence` of a client that follows who is there, and knows nothing yet.
const FOLLOWS: &str = "1";
/// Up to this number of channels, each is compared with all others.
const FEW: usize = 64;

/// Names and values, decoded (URL Standard, section 5.1). A pair that needs no decoding is borrowed, which is the usual
/// case. This code runs for every client.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        if memchr::memchr2(b'%', b'+', pair.as_bytes()).is_some() {
            return form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.into(), value.into())
    })
}

/// The parameters of a subscriber's query.
#[derive(Debug, Default)]
pub(crate) struct Query<'b> {
    pub(crate) channels: Vec<Cow<'b, str>>,
    /// The positions of the channels in `channels`, once there are more than a few.
    places: Option<Box<Places>>,
    /// Patterns, checked and without repetitions.
    pub(crate) patterns: Vec<Cow<'b, str>>,
    pub(super) since: Option<Cow<'b, str>>,
    /// The last event that a client has seen, under the names used by clients that can't set headers.
    pub(super) last_event_id: Option<Cow<'b, str>>,
    pub(super) last: Option<usize>,
    pub(super) json: Option<bool>,
    pub(super) transport: Option<Transport>,
    pub(super) token: Option<Cow<'b, str>>,
    /// The id that the client has chosen.
    client: Option<Cow<'b, str>>,
    /// It follows who is there: a version that it knows, or `1`.
    follows: Option<Cow<'b, str>>,
    /// True for `wait=0`: a poll does not wait for messages.
    pub(super) at_once: bool,
}

/// Finds channels by their names. Clients choose the names, so the hash is seeded.
#[derive(Debug, Default)]
struct Places {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Places {
    /// Adds the channels that came since the last call.
    fn note_new(&mut self, channels: &[Cow<'_, str>]) {
        let hash = |place: &u32| self.hasher.hash_one(&*channels[*place as usize]);
        for place in self.table.len() as u32..channels.len() as u32 {
            self.table.insert_unique(hash(&place), place, hash);
        }
    }

    fn has(&self, name: &str, channels: &[Cow<'_, str>]) -> bool {
        self.table.find(self.hasher.hash_one(name), |place| channels[*place as usize] == name).is_some()
    }
}

impl<'b> Query<'b> {
    pub(crate) fn read(query: &'b str, config: &Config, named_by: NamedBy<'b>) -> Result<Self, Refusal> {
        let mut asked = Query::default();
        let mut is_granted = false;
        if let NamedBy::Grant(grant) = named_by {
            is_granted = true;
            asked.channels.extend(grant.at_once_now().map(Cow::Borrowed));
            check_count(asked.channels.len(), config)?;
        }
        for (name, value) in pairs(query) {
            match &*name {
                "channel" | "pattern" if is_granted => {}
                "channel" => asked.add_channel(value, config)?,
                "pattern" => asked.add_pattern(value, config)?,
                "since" => asked.since = Some(value).filter(|value| !value.is_empty()),
                "last" => {
                    let count = number::read(&value).filter(|count| (1..=MAX_LAST).contains(count));
                    let message = "last must be a number from 1 to 10000";
                    asked.last = Some(count.ok_or_else(|| Refusal::malformed("last", message))?);
                }
                "format" => {
                    asked.json = Some(match &*value {
                        "json" => true,
                        "raw" => false,
                        _ => return Err(Refusal::malformed("format", "format must be raw or json")),
                    });
                }
                "transport" => {
                    asked.transport = Some(match &*value {
                        "ws" => Transport::WebSocket,
                        "sse" => Transport::Sse,
                        "stream" => Transport::Stream,
                        "poll" => Transport::Poll,
                        _ => {
                            let message = "transport must be ws, sse, stream or poll";
                            return Err(Refusal::malformed("transport", message));
                        }
                    });
                }
                "token" => asked.token = Some(value).filter(|value| !value.is_empty()),
                "client" => asked.client = Some(value).filter(|value| !value.is_empty()),
                "presence" => asked.follows = follows(value)?,
                "wait" if value == "0" => asked.at_once = true,
                "wait" => return Err(Refusal::malformed("wait", "wait must be 0")),
                name if is_last_event_id(name) => asked.last_event_id = Some(value).filter(|value| !value.is_empty()),
                // Other parameters, such as cache busters, are ignored.
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The id that the client has chosen, and whether what it names is ignored, since it is none. An error would end an
    /// EventSource for good, and nothing but the client's own messages depends on the id.
    pub(super) fn client(&self, transport: Transport) -> Result<(Option<ClientId>, bool), Refusal> {
        match self.client.as_deref().map(ClientId::parse) {
            None => Ok((None, false)),
            Some(Some(id)) => Ok((Some(id), false)),
            Some(None) if transport == Transport::Sse => Ok((None, true)),
            Some(None) => Err(Refusal::malformed("client", ClientId::wrong("client"))),
        }
    }

    /// What the client knows of who is there, if it follows that. Raw frames have no place for the answer.
    pub(super) fn follows(&mut self, transport: Transport, json: bool) -> Result<Option<Cow<'b, str>>, Refusal> {
        if self.follows.is_some() && transport == Transport::WebSocket && !json {
            let message = "presence=1 over a WebSocket needs the subprotocol push.v1.json";
            return Err(Refusal::malformed("presence", message));
        }
        Ok(self.follows.take())
    }

    fn add_channel(&mut self, name: Cow<'b, str>, config: &Config) -> Result<(), Refusal> {
        // Bytes that are not UTF-8 were replaced by this character. No channel name needs it.
        if name.contains('\u{fffd}') {
            return Err(Refusal::malformed("channel", "channel: not UTF-8"));
        }
        check_channel(&name).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
        if config.user_channel && user_of(&name).is_some() {
            return Err(Refusal::forbidden("channel", is_the_librarys(&name)));
        }
        if self.has_channel(&name) {
            return Ok(());
        }
        check_count(self.channels.len() + 1, config)?;
        self.channels.push(name);
        Ok(())
    }

    fn add_pattern(&mut self, text: Cow<'b, str>, config: &Config) -> Result<(), Refusal> {
        let wrong = |message: String| Refusal::malformed("pattern", message);
        let max = config.max_patterns;
        if max == 0 {
            let message = "nobody may subscribe to patterns here (option max_patterns); name channels with channel=";
            return Err(wrong(message.into()));
        }
        if text.contains('\u{fffd}') {
            return Err(wrong("pattern: not UTF-8".into()));
        }
        check_pattern(&text).map_err(|(code, message)| match code {
            "channel" => Refusal::forbidden(code, message),
            _ => wrong(message),
        })?;
        if self.patterns.contains(&text) {
            return Ok(());
        }
        if self.patterns.len() == max {
            let message = format!("more than {max} patterns (option max_patterns)");
            return Err(Refusal::malformed("patterns", message));
        }
        self.patterns.push(text);
        Ok(())
    }

    fn has_channel(&mut self, name: &str) -> bool {
        if self.channels.len() <= FEW {
            return self.channels.iter().any(|known| known == name);
        }
        // Comparing thousands of names with each other would take tens of milliseconds.
        let places = self.places.get_or_insert_default();
        places.note_new(&self.channels);
        places.has(name, &self.channels)
    }
}

/// Reads `presence=`.
fn follows(value: Cow<'_, str>) -> Result<Option<Cow<'_, str>>, Refusal> {
    match &*value {
        "0" => Ok(None),
        text if text == FOLLOWS || is_version(text) => Ok(Some(value)),
        _ => {
            let message = "presence must be 1 or 0, or in a poll the presence of the answer before";
            Err(Refusal::malformed("presence", message))
        }
    }
}

fn check_count(count: usize, config: &Config) -> Result<(), Refusal> {
    if count > config.max_channels {
        let message = format!("more than {} channels (option max_channels)", config.max_channels);
        return Err(Refusal::malformed("channels", message));
    }
    Ok(())
}

/// `lastEventId` is used by event-source-polyfill and reconnecting-eventsource; other clients use the header's name.
fn is_last_event_id(name: &str) -> bool {
    ["lastEventId", "Last-Event-ID", "last_event_id"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Builder;

    #[test]
    fn repeated_channels_count_once() {
        let mut builder = Builder::default();
        builder.set("max_channels", "1000").unwrap();
        let names: Vec<String> = (0..1000).map(|n| format!("c{n}")).collect();
        let twice = names.iter().flat_map(|name| [name, name]).chain(names.iter().rev());
        let query: Vec<String> = twice.map(|name| format!("channel={name}")).collect();
        let query = query.join("&");
        let config = builder.config();
        assert_eq!(
            Query::read(&query, config, NamedBy::Request).unwrap().channels,
            names,
            "once, in the order of the first"
        );
        let error = Query::read(&format!("{query}&channel=more"), config, NamedBy::Request).unwrap_err();
        assert_eq!((error.status, &*error.code), (400, "channels"));
    }

    #[test]
    fn a_client_follows_who_is_there_by_a_word_that_is_understood() {
        let config = Config::default();
        let read = |value: &str, transport, json| {
            let query = format!("channel=a&presence={value}");
            let code = |refusal: Refusal| refusal.code.to_string();
            let mut asked = Query::read(&query, &config, NamedBy::Request).map_err(code)?;
            let follows = asked.follows(transport, json).map_err(code)?;
            Ok::<Option<String>, String>(follows.map(Cow::into_owned))
        };
        for transport in Transport::ALL {
            assert_eq!(read("0", transport, false), Ok(None));
            for value in ["1", "abc0-17"] {
                assert_eq!(read(value, transport, true), Ok(Some(value.into())));
                let is_raw = transport == Transport::WebSocket;
                assert_eq!(read(value, transport, false).is_err(), is_raw, "{transport:?}");
            }
        }
        for wrong in ["", "2", "true", "yes", "01", "-1", "a-", "A-1", "a-1-2", "%31-", "a%20-1"] {
            assert_eq!(read(wrong, Transport::Poll, true), Err("presence".into()), "{wrong}");
        }
    }

    #[test]
    fn pairs_are_decoded_as_in_the_url_standard() {
        // Every string of up to six of these parts. No other characters matter in a query.
        let alphabet = ["&", "=", "%", "+", "2", "b", "\u{e9}"];
        let mut queries = vec![String::new()];
        for _ in 0..6 {
            let longer = queries.iter().flat_map(|query| alphabet.map(|next| format!("{query}{next}")));
            queries = queries.iter().cloned().chain(longer).collect();
            queries.sort();
            queries.dedup();
        }
        assert!(queries.len() > 100_000);
        for query in queries {
            let known: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
            assert_eq!(pairs(&query).collect::<Vec<_>>(), known, "{query}");
        }
    }
}
