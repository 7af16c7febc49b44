//! Fences in the log, and the copies that are made of them before it is trimmed.
//!
//! Fences have a subject of their own within the stream. So one request reads the last fence, and one request that
//! names the last message of that subject replaces it. Before everything up to the last fence is trimmed, the fence is
//! copied to the end of the log. A copy takes a number, and readers of the log ignore it. It names the number that the
//! fence had, so the fence is the same.

use super::super::contract::{EntryId, Fence};
use super::super::envelope::{self, Body};
use super::super::shared::connection::Failure;
use super::appending::swap;
use super::session::{code, Refusal, Session, Stored};
use async_nats::HeaderMap;

/// The header of a copy: the fence's number, and a name of the copy's own.
pub(super) const COPY: &str = "Push-Fence-Copy";
/// The number of messages that may be removed one by one to make room for a copy.
const ROOM: u64 = 64;

/// The last fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    /// The number that it had when it was written.
    pub(super) number: u64,
    pub(super) fence: Fence,
    /// The number of its latest copy, or its own.
    at: u64,
    bytes: Vec<u8>,
}

/// Reads the last fence.
pub(super) async fn last(session: &Session) -> Result<Option<Last>, Failure> {
    let Some(stored) = session.last(&session.names.fences).await? else { return Ok(None) };
    let (number, server) = (stored.number, &session.server);
    read(stored).map(Some).ok_or_else(|| {
        let subject = &session.names.fences;
        Failure(format!(
            "message {number} of `{subject}` at the NATS server {server} is no fence that this version reads"
        ))
    })
}

fn read(stored: Stored) -> Option<Last> {
    let Ok((_, Body::Fence(fence))) = envelope::read(&stored.bytes) else { return None };
    let number = match header(&stored.headers, COPY) {
        Some(copy) => copy.split(' ').next()?.parse().ok()?,
        None => stored.number,
    };
    Some(Last { number, fence, at: stored.number, bytes: stored.bytes })
}

/// A header's value, from the bytes of all headers.
fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let pairs = headers.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// The name that a copy has among entries, from the value of its header.
pub(super) fn name_of_copy(value: &str) -> EntryId {
    let hub = value.split(' ').nth(1).and_then(|name| u64::from_str_radix(name, 16).ok()).unwrap_or(0);
    EntryId { hub, counter: 1, attempt: 0 }
}

/// The name of a message that is a copy.
pub(super) fn copy_id(stored: &Stored) -> Option<EntryId> {
    header(&stored.headers, COPY).map(name_of_copy)
}

/// Appends a fence, if the last fence has this number. 0: there is none.
pub(super) async fn fence(session: &Session, expected: u64, fence: &Fence) -> Result<bool, Failure> {
    let last = last(session).await?;
    if last.as_ref().map_or(0, |last| last.number) != expected {
        return Ok(false);
    }
    let bytes = envelope::write(fence.id(), &Body::Fence(fence.clone()));
    let at = last.map_or(0, |last| last.at);
    let swapped = swap(session, &session.names.fences, at, HeaderMap::new(), bytes).await;
    Ok(swapped.map_err(|refusal| session.failure("take a fence", refusal))?.is_some())
}

/// Removes the messages before a number. The last fence stays.
pub(super) async fn trim(session: &Session, before: u64, random: u64) -> Result<(), Failure> {
    let state = session.info().await?.state;
    // The last message stays, so that there is one to go on from.
    let before = before.min(state.last_seq);
    if before <= state.first_seq {
        return Ok(());
    }
    if let Some(last) = last(session).await?.filter(|last| last.at < before) {
        if !copy(session, &last, before, random).await? {
            // Another hub has made a copy or a fence. The next trim removes the rest.
            return Ok(());
        }
    }
    session.purge(before).await
}

/// Appends a copy of the fence. False: it is not the last one any more.
async fn copy(session: &Session, last: &Last, before: u64, random: u64) -> Result<bool, Failure> {
    let mut room = 0;
    loop {
        let mut headers = HeaderMap::new();
        headers.insert(COPY, format!("{} {:016x}", last.number, random));
        match swap(session, &session.names.fences, last.at, headers, last.bytes.clone()).await {
            Ok(appended) => return Ok(appended.is_some()),
            // In a stream that is full, messages behind the fence go first.
            Err(Refusal::Said(why, _)) if code::FULL.contains(&why) && room < ROOM => {
                room += 1;
                let number = last.at + room;
                if number >= before {
                    return Ok(false);
                }
                session.delete(number).await?;
            }
            Err(refusal) => return Err(session.failure("take a copy of the fence", refusal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::contract::LogId;
    use super::*;
    use crate::hub::Epoch;

    #[test]
    fn a_copy_has_the_number_of_its_fence_and_a_name_of_its_own() {
        let fence = Fence { epoch: Epoch::from_random(3), log: LogId([1; 16]), chain: vec![] };
        let bytes = envelope::write(fence.id(), &Body::Fence(fence.clone()));
        let stored = |headers: &str| Stored {
            subject: String::new(),
            number: 9,
            headers: headers.to_owned(),
            bytes: bytes.clone(),
        };
        let last = |number| Last { number, fence: fence.clone(), at: 9, bytes: bytes.clone() };
        assert_eq!(read(stored("NATS/1.0\r\nX: y\r\n\r\n")), Some(last(9)));
        assert_eq!(read(stored("NATS/1.0\r\nPush-Fence-Copy: 4 00000000000000ff\r\n\r\n")), Some(last(4)));
        assert_eq!(read(stored("NATS/1.0\r\nPush-Fence-Copy: x\r\n\r\n")), None);
        assert_eq!(name_of_copy("4 00000000000000ff").hub, 255);
        let other = Stored { bytes: b"hello".to_vec(), ..stored("") };
        assert_eq!(read(other), None);
    }
}
