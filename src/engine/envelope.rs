//! The form of the entries of a log that many hubs share: the name of the entry, then its body.
//!
//! ```text
//! u8 version | u8 kind | u64 hub | u64 counter | u32 attempt | body
//! ```
//!
//! All numbers are little-endian. A form that older hubs must not pass over gets a new version: they stop there and say
//! so. An act of a kind that a hub does not know is passed over: the hub can't do it, and the messages behind it count.

use super::contract::{EntryId, Fence, LogId};
use super::entry::{short, Entry, Fields};
use super::hub_name;
use crate::hub::{Act, Epoch, Link, MAX_LINKS};
use std::fmt;

const VERSION: u8 = 1;
/// The version of the beginnings and ends of streams. A hub that does not know them must not pass over them: its clients
/// would wait for ever.
const MARKS: u8 = 2;
/// The version of messages that one client does not get. A hub that does not know them would send them to that client.
const EXCEPTS: u8 = 3;
/// The kinds of bodies.
const ENTRY: u8 = 1;
const FENCE: u8 = 2;
const HEARTBEAT: u8 = 3;
const ACT: u8 = 4;
const ENDS: u8 = 5;
/// The bit that stands in a link's last number if the link is lossy. No log comes to such a number.
const LOSSY: u64 = 1 << 63;
/// The same for acts.
const ACTS: u64 = 1 << 62;

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body<'a> {
    /// A message, or the clearing of a channel's history.
    Entry(Entry<'a>),
    Fence(Fence),
    /// A sign that its hub can append, and can read the log. `None`: it says nothing more.
    Heartbeat(Option<Sign<'a>>),
    /// What all other hubs are to do.
    Act(Act<'a>),
    /// The last numbers of channels, for hubs that find only the later entries in the log.
    Ends(Known<'a>),
}

/// What a heartbeat says of its hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sign<'a> {
    /// For how many milliseconds it is good. 0: its hub ends.
    pub(crate) good_ms: u32,
    /// The hub's [name](hub_name) for operators. Older hubs say none.
    pub(crate) name: Option<&'a str>,
}

/// The last numbers of channels, as a hub knew them when it had applied the entry `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known<'a> {
    /// The hub's epoch. After a loss the numbers may belong to entries that the log does not have.
    pub(crate) epoch: Epoch,
    pub(crate) until: u64,
    /// No other channel had a message after this number.
    pub(crate) floor: u64,
    /// The empty name stands for the broadcasts.
    pub(crate) channels: Vec<(u64, &'a str)>,
}

/// The reason why an entry can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A later version of libpush wrote it. The number is the version of its form.
    Newer(u8),
    /// It is not an entry of libpush.
    Malformed,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Newer(form) => write!(f, "a later version of libpush wrote it (form {form}); update this hub"),
            Unreadable::Malformed => f.write_str("libpush did not write it; use an engine_namespace of your own"),
        }
    }
}

/// Encodes an entry.
pub(crate) fn write(id: EntryId, body: &Body<'_>) -> Vec<u8> {
    let kind = match body {
        Body::Entry(_) => ENTRY,
        Body::Fence(_) => FENCE,
        Body::Heartbeat(_) => HEARTBEAT,
        Body::Act(_) => ACT,
        Body::Ends(_) => ENDS,
    };
    let mut bytes = vec![version_of(body), kind];
    bytes.extend_from_slice(&id.hub.to_le_bytes());
    bytes.extend_from_slice(&id.counter.to_le_bytes());
    bytes.extend_from_slice(&id.attempt.to_le_bytes());
    match body {
        Body::Entry(entry) => entry.write(&mut bytes),
        Body::Fence(fence) => write_fence(fence, &mut bytes),
        Body::Heartbeat(None) => {}
        Body::Heartbeat(Some(Sign { good_ms, name })) => {
            bytes.extend_from_slice(&good_ms.to_le_bytes());
            name.iter().for_each(|name| short(&mut bytes, name));
        }
        Body::Act(act) => act.write(&mut bytes),
        Body::Ends(Known { epoch, until, floor, channels }) => {
            short(&mut bytes, epoch.as_str());
            bytes.extend_from_slice(&until.to_le_bytes());
            Entry::Ends { floor: *floor, channels: channels.clone() }.write(&mut bytes);
        }
    }
    bytes
}

/// Sets the attempt in an encoded entry, before the entry is appended over another connection.
pub(crate) fn set_attempt(bytes: &mut [u8], attempt: u32) {
    if let Some(place) = bytes.get_mut(18..22) {
        place.copy_from_slice(&attempt.to_le_bytes());
    }
}

/// Sets the counter in an encoded entry, when its hub gives it one.
pub(crate) fn set_counter(bytes: &mut [u8], counter: u64) {
    if let Some(place) = bytes.get_mut(10..18) {
        place.copy_from_slice(&counter.to_le_bytes());
    }
}

/// True for an entry with the last numbers of channels.
pub(crate) fn is_ends(bytes: &[u8]) -> bool {
    bytes.starts_with(&[VERSION, ENDS])
}

/// Reads an entry.
pub(crate) fn read(bytes: &[u8]) -> Result<(EntryId, Body<'_>), Unreadable> {
    match bytes.first() {
        Some(&(VERSION | MARKS | EXCEPTS)) => read_fields(Fields(&bytes[1..])).ok_or(Unreadable::Malformed),
        Some(&version) if version > EXCEPTS => Err(Unreadable::Newer(version)),
        _ => Err(Unreadable::Malformed),
    }
}

/// Reads the name of an entry from its beginning.
#[cfg(feature = "redis")]
pub(crate) fn read_id(bytes: &[u8]) -> Option<EntryId> {
    let mut fields = Fields(bytes);
    if !matches!(fields.take(2)?[0], VERSION | MARKS | EXCEPTS) {
        return None;
    }
    read_name(&mut fields)
}

/// The first version that has such an entry.
fn version_of(body: &Body<'_>) -> u8 {
    match body {
        Body::Entry(Entry::Message(logged)) if logged.noted.except.is_some() => EXCEPTS,
        Body::Entry(Entry::Message(logged)) if logged.noted.mark.is_some() => MARKS,
        _ => VERSION,
    }
}

fn read_name(fields: &mut Fields<'_>) -> Option<EntryId> {
    let (hub, counter) = (fields.u64()?, fields.u64()?);
    let attempt = u32::from_le_bytes(fields.take(4)?.try_into().ok()?);
    Some(EntryId { hub, counter, attempt })
}

fn read_fields(mut fields: Fields<'_>) -> Option<(EntryId, Body<'_>)> {
    let kind = fields.take(1)?[0];
    let id = read_name(&mut fields)?;
    let body = match kind {
        ENTRY => match Entry::read(fields.0)? {
            entry @ (Entry::Message(_) | Entry::Cleared { .. }) => Body::Entry(entry),
            _ => return None,
        },
        FENCE => Body::Fence(read_fence(&mut fields)?),
        HEARTBEAT if fields.0.is_empty() => Body::Heartbeat(None),
        // Later versions may say more behind what is read here, as this one says more than earlier ones read. A name that
        // none can be is none: it must not make a hub stop.
        HEARTBEAT => {
            let good_ms = fields.u32()?;
            Body::Heartbeat(Some(Sign { good_ms, name: fields.short().filter(|name| hub_name::fits(name)) }))
        }
        ACT => Body::Act(Act::read(fields.0)?),
        ENDS => {
            let (epoch, until) = (Epoch::from_text(fields.short()?)?, fields.u64()?);
            let Entry::Ends { floor, channels } = Entry::read(fields.0)? else { return None };
            Body::Ends(Known { epoch, until, floor, channels })
        }
        _ => return None,
    };
    Some((id, body))
}

fn write_fence(fence: &Fence, into: &mut Vec<u8>) {
    short(into, fence.epoch.as_str());
    into.extend_from_slice(&fence.log.0);
    for link in &fence.chain {
        short(into, link.epoch.as_str());
        let (lossy, acts) = (if link.lossy { LOSSY } else { 0 }, if link.acts { ACTS } else { 0 });
        into.extend_from_slice(&(link.last | lossy | acts).to_le_bytes());
    }
}

fn read_fence(fields: &mut Fields<'_>) -> Option<Fence> {
    let epoch = Epoch::from_text(fields.short()?)?;
    let log = LogId(fields.take(16)?.try_into().ok()?);
    let mut chain = Vec::new();
    while !fields.0.is_empty() {
        let (epoch, last) = (Epoch::from_text(fields.short()?)?, fields.u64()?);
        let (lossy, acts) = (last & LOSSY != 0, last & ACTS != 0);
        chain.push(Link { epoch, last: last & !(LOSSY | ACTS), lossy, acts });
    }
    (chain.len() <= MAX_LINKS).then_some(Fence { epoch, log, chain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::Logged;
    use crate::hub::{ClientId, Mark, Noted};

    fn all() -> Vec<Body<'static>> {
        let epoch = |text| Epoch::from_text(text).unwrap();
        let noted = Noted {
            channel: "news",
            event: None,
            key: None,
            binary: true,
            mark: None,
            origin: None,
            except: None,
            data: b"hello",
        };
        let excepting = Noted { except: Some(ClientId::from_bytes([9; 16])), ..noted };
        let link = Link { epoch: epoch("b"), last: ACTS - 1, lossy: false, acts: false };
        let lossy = Link { lossy: true, ..link.clone() };
        let acts = Link { acts: true, ..link.clone() };
        let end = Noted { mark: Some(Mark::End), binary: false, data: b"", ..noted };
        vec![
            Body::Entry(Entry::Message(Logged { time_ms: 5, more: false, noted })),
            Body::Entry(Entry::Message(Logged { time_ms: 5, more: false, noted: end })),
            Body::Entry(Entry::Message(Logged { time_ms: 5, more: false, noted: excepting })),
            Body::Entry(Entry::Cleared { channel: "news" }),
            Body::Fence(Fence { epoch: epoch("a"), log: LogId([3; 16]), chain: vec![] }),
            Body::Fence(Fence { epoch: epoch("a"), log: LogId([3; 16]), chain: vec![link, lossy, acts] }),
            Body::Heartbeat(None),
            Body::Heartbeat(Some(Sign { good_ms: 0, name: None })),
            Body::Heartbeat(Some(Sign { good_ms: u32::MAX, name: Some("web-1:9099") })),
            Body::Act(Act::Disconnect { user: "ada", code: 4403, reason: "" }),
            Body::Act(Act::Revoke { user: "ada", channels: "news.*", reason: "moved" }),
            Body::Act(Act::Later(200)),
            Body::Ends(Known { epoch: epoch("a"), until: 0, floor: 0, channels: vec![] }),
            Body::Ends(Known { epoch: epoch("a"), until: 9, floor: 3, channels: vec![(7, ""), (u64::MAX, "\u{e4}")] }),
        ]
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        for (place, body) in all().into_iter().enumerate() {
            let id = EntryId { hub: 7, counter: u64::MAX, attempt: 1 };
            let mut bytes = write(id, &body);
            // The second is an end, the third leaves a client out.
            assert_eq!(bytes[0], [1, 2, 3].get(place).copied().unwrap_or(1), "what is not new, older hubs read, too");
            assert_eq!(read(&bytes), Ok((id, body.clone())));
            set_attempt(&mut bytes, 9);
            assert_eq!(read(&bytes), Ok((EntryId { attempt: 9, ..id }, body)));
        }
    }

    /// Hubs that know no names read a version, a kind, the entry's name and the time, and nothing behind that.
    #[test]
    fn the_name_of_a_hub_stands_behind_what_older_hubs_read_and_a_wrong_one_is_none() {
        let id = EntryId { hub: 7, counter: 1, attempt: 1 };
        let beat = |name| Body::Heartbeat(Some(Sign { good_ms: 3000, name }));
        let (older, newer) = (write(id, &beat(None)), write(id, &beat(Some("web-1:9099"))));
        assert!(newer.starts_with(&older) && newer.len() == older.len() + 11);
        assert_eq!(read(&[&newer[..], &[9, 9]].concat()), Ok((id, beat(Some("web-1:9099")))), "later ones say more");
        let long = "a".repeat(hub_name::MAX + 1);
        for wrong in ["", "a b", "a\n", "\u{e4}", "\"", "\u{202e}a", &long] {
            assert_eq!(read(&write(id, &beat(Some(wrong)))), Ok((id, beat(None))), "{wrong:?}");
        }
        for rest in [&[9, b'a'][..], &[1, 0xff], &[255]] {
            assert_eq!(read(&[&older[..], rest].concat()), Ok((id, beat(None))), "{rest:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_entry_are_refused_and_never_cause_a_panic() {
        let id = EntryId { hub: 7, counter: 1, attempt: 1 };
        for body in all() {
            let bytes = write(id, &body);
            for len in 0..bytes.len() {
                assert_ne!(read(&bytes[..len]), Ok((id, body.clone())));
            }
        }
        let mut bytes = write(id, &Body::Heartbeat(None));
        bytes[0] = 4;
        assert_eq!(read(&bytes), Err(Unreadable::Newer(4)));
        bytes[0] = 0;
        assert_eq!(read(&bytes), Err(Unreadable::Malformed));
        let ends = write(id, &Body::Entry(Entry::Ends { floor: 0, channels: vec![] }));
        assert_eq!(read(&ends), Err(Unreadable::Malformed), "only a log on disk has these");
        let nobody = write(id, &Body::Act(Act::Disconnect { user: "", code: 4403, reason: "" }));
        assert_eq!(read(&nobody), Err(Unreadable::Malformed), "no call makes it");
    }
}
