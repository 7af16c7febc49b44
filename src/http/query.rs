//! The query of a URL: names and values, and what a subscriber asks for in them.

use super::refusal::Refusal;
use crate::config::Config;
use crate::hub::check_channel;
use crate::transport::Transport;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::hash::BuildHasher;

/// The most that `last=` may ask for.
const MAX_LAST: usize = 10_000;
/// Up to so many channels each is compared with all others.
const FEW: usize = 64;

/// Names and values, decoded (URL Standard, section 5.1). What needs no decoding, as mostly, is borrowed without a look
/// at each byte: this is on the path of every client that comes.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        if memchr::memchr2(b'%', b'+', pair.as_bytes()).is_some() {
            return form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.into(), value.into())
    })
}

/// What a subscriber's query asks for.
#[derive(Debug, Default)]
pub(crate) struct Query<'b> {
    pub(crate) channels: Vec<Cow<'b, str>>,
    /// Where each of them stands, once they are more than a few.
    places: Option<Box<Places>>,
    pub(super) since: Option<Cow<'b, str>>,
    /// What a client has seen, by the names that clients use which can't set headers.
    pub(super) last_event_id: Option<Cow<'b, str>>,
    pub(super) last: Option<usize>,
    pub(super) json: Option<bool>,
    pub(super) transport: Option<Transport>,
    pub(super) token: Option<Cow<'b, str>>,
    /// It does not wait for what comes: `wait=0`.
    pub(super) at_once: bool,
}

/// Finds channels by their names. Clients choose these: the hash is seeded.
#[derive(Debug, Default)]
struct Places {
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Places {
    /// Takes in what has been added since.
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
    pub(crate) fn read(query: &'b str, config: &Config) -> Result<Self, Refusal> {
        let mut asked = Query::default();
        for (name, value) in pairs(query) {
            match &*name {
                "channel" => asked.add_channel(value, config)?,
                "since" => asked.since = Some(value).filter(|value| !value.is_empty()),
                "last" => {
                    let count = value.parse().ok().filter(|count| (1..=MAX_LAST).contains(count));
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
                "wait" if value == "0" => asked.at_once = true,
                "wait" => return Err(Refusal::malformed("wait", "wait must be 0")),
                name if is_last_event_id(name) => asked.last_event_id = Some(value).filter(|value| !value.is_empty()),
                // Cache busters and the like are other people's business.
                _ => {}
            }
        }
        Ok(asked)
    }

    fn add_channel(&mut self, name: Cow<'b, str>, config: &Config) -> Result<(), Refusal> {
        // What is not UTF-8 was replaced by this character, which nobody needs in a name.
        if name.contains('\u{fffd}') {
            return Err(Refusal::malformed("channel", "channel: not UTF-8"));
        }
        check_channel(&name).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
        if self.has_channel(&name) {
            return Ok(());
        }
        if self.channels.len() >= config.max_channels {
            let message = format!("more than {} channels (option max_channels)", config.max_channels);
            return Err(Refusal::malformed("channels", message));
        }
        self.channels.push(name);
        Ok(())
    }

    fn has_channel(&mut self, name: &str) -> bool {
        if self.channels.len() <= FEW {
            return self.channels.iter().any(|known| known == name);
        }
        // Thousands compared with each other would take a thread tens of milliseconds.
        let places = self.places.get_or_insert_default();
        places.note_new(&self.channels);
        places.has(name, &self.channels)
    }
}

/// `lastEventId`, as event-source-polyfill and reconnecting-eventsource say it, or the header's name, as others do.
fn is_last_event_id(name: &str) -> bool {
    ["lastEventId", "Last-Event-ID", "last_event_id"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Builder;

    #[test]
    fn each_channel_counts_once_however_many_there_are() {
        let mut builder = Builder::default();
        builder.set("max_channels", "1000").unwrap();
        let names: Vec<String> = (0..1000).map(|n| format!("c{n}")).collect();
        let twice = names.iter().flat_map(|name| [name, name]).chain(names.iter().rev());
        let query: Vec<String> = twice.map(|name| format!("channel={name}")).collect();
        let query = query.join("&");
        let config = builder.config();
        assert_eq!(Query::read(&query, config).unwrap().channels, names, "once, in the order of the first");
        let error = Query::read(&format!("{query}&channel=more"), config).unwrap_err();
        assert_eq!((error.status, error.code), (400, "channels"));
    }

    #[test]
    fn pairs_are_those_of_the_url_standard() {
        // Every string of up to six of these, which are all that matters to a query.
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
