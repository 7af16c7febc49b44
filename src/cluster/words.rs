//! The words: questions, and parts of answers. What comes is not trusted.

use super::ages::Sent;
use crate::engine::contract::MAX_WORD;
use crate::engine::entry::{short, Fields};
use crate::hub::{check_channel, MAX_CHANNEL};
use crate::users::MAX_USERS;
use std::str;

/// Later versions may say things in other words. They are passed over, and counted.
const VERSION: u8 = 1;

const QUESTION: u8 = 1;
const PART: u8 = 2;

const USERS: u8 = 1;
const CHANNELS: u8 = 2;
const CHANNEL: u8 = 3;
const STATS: u8 = 4;

/// The largest figure in an answer. No hub counts as far, and the sum of a few does not overflow.
pub(super) const MAX_COUNT: u64 = 1 << 60;
/// The largest answer of a hub, in bytes.
pub(crate) const MAX_ANSWER: usize = 512 << 10;
/// The bytes of an answer in one word.
const PART_BYTES: usize = MAX_WORD - 64;
/// The most parts of an answer.
const MAX_PARTS: u16 = MAX_ANSWER.div_ceil(PART_BYTES) as u16;

/// A question to all hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question<'a> {
    /// The users on a channel: at most `limit` of them, beginning after a name, and how many there are.
    Users {
        channel: &'a str,
        after: &'a str,
        limit: u32,
    },
    /// Channels whose names begin with a prefix, at most `limit`.
    Channels {
        prefix: &'a str,
        limit: u32,
    },
    /// One channel.
    Channel {
        name: &'a str,
    },
    Stats,
}

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// `id`: random bits that name the question. `asker`: the hub that asks.
    Question { id: u64, asker: u64, sent: Sent, question: Question<'a> },
    /// Part `at` of the `of` parts of a hub's answer.
    Part { id: u64, hub: u64, at: u16, of: u16, bytes: &'a [u8] },
}

/// The reason why a word can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Malformed,
    /// Of a later version of libpush.
    Newer,
}

/// The words of an answer.
pub(crate) fn parts(id: u64, hub: u64, answer: &[u8]) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = if answer.is_empty() { vec![&[]] } else { answer.chunks(PART_BYTES).collect() };
    let of = pieces.len() as u16;
    let part = |(at, bytes): (usize, &&[u8])| Said::Part { id, hub, at: at as u16, of, bytes }.write();
    pieces.iter().enumerate().map(part).collect()
}

impl<'a> Said<'a> {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut into = vec![VERSION];
        match self {
            Said::Question { id, asker, sent, question } => {
                into.push(QUESTION);
                into.extend_from_slice(&id.to_le_bytes());
                into.extend_from_slice(&asker.to_le_bytes());
                into.extend_from_slice(&sent.at.to_le_bytes());
                into.extend_from_slice(&sent.patience.to_le_bytes());
                question.write(&mut into);
            }
            Said::Part { id, hub, at, of, bytes } => {
                into.push(PART);
                into.extend_from_slice(&id.to_le_bytes());
                into.extend_from_slice(&hub.to_le_bytes());
                into.extend_from_slice(&at.to_le_bytes());
                into.extend_from_slice(&of.to_le_bytes());
                into.extend_from_slice(bytes);
            }
        }
        into
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Wrong> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) if version > VERSION => return Err(Wrong::Newer),
            _ => return Err(Wrong::Malformed),
        }
        let mut fields = Fields(&bytes[1..]);
        let kind = fields.u8().ok_or(Wrong::Malformed)?;
        match kind {
            QUESTION => {
                let (id, asker) = fields.u64().zip(fields.u64()).ok_or(Wrong::Malformed)?;
                let (at, patience) = fields.u64().zip(fields.u32()).ok_or(Wrong::Malformed)?;
                Ok(Said::Question { id, asker, sent: Sent { at, patience }, question: Question::read(fields)? })
            }
            PART => read_part(fields).ok_or(Wrong::Malformed),
            _ => Err(Wrong::Newer),
        }
    }
}

fn read_part(mut fields: Fields<'_>) -> Option<Said<'_>> {
    let (id, hub, at, of) = (fields.u64()?, fields.u64()?, fields.u16()?, fields.u16()?);
    let good = at < of && of <= MAX_PARTS && fields.0.len() <= PART_BYTES;
    good.then_some(Said::Part { id, hub, at, of, bytes: fields.0 })
}

impl<'a> Question<'a> {
    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Question::Users { channel, after, limit } => {
                into.push(USERS);
                short(into, channel);
                short(into, after);
                into.extend_from_slice(&limit.to_le_bytes());
            }
            Question::Channels { prefix, limit } => {
                into.push(CHANNELS);
                short(into, prefix);
                into.extend_from_slice(&limit.to_le_bytes());
            }
            Question::Channel { name } => {
                into.push(CHANNEL);
                short(into, name);
            }
            Question::Stats => into.push(STATS),
        }
    }

    fn read(mut fields: Fields<'a>) -> Result<Self, Wrong> {
        let kind = fields.u8().ok_or(Wrong::Malformed)?;
        let read = match kind {
            USERS => read_users(&mut fields),
            CHANNELS => fields.short().zip(fields.u32()).map(|(prefix, limit)| Question::Channels { prefix, limit }),
            CHANNEL => fields.short().map(|name| Question::Channel { name }),
            STATS => Some(Question::Stats),
            _ => return Err(Wrong::Newer),
        };
        let good = |question: &Question<'_>| match question {
            Question::Users { channel, limit, .. } => check_channel(channel).is_ok() && *limit as usize <= MAX_USERS,
            Question::Channels { prefix, limit } => prefix.len() <= MAX_CHANNEL && *limit as usize <= MAX_USERS,
            Question::Channel { name } => check_channel(name).is_ok(),
            Question::Stats => true,
        };
        read.filter(|question| fields.0.is_empty() && good(question)).ok_or(Wrong::Malformed)
    }
}

fn read_users<'a>(fields: &mut Fields<'a>) -> Option<Question<'a>> {
    Some(Question::Users { channel: fields.short()?, after: fields.short()?, limit: fields.u32()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Said<'static>> {
        let sent = Sent { at: u64::MAX - 1, patience: 7 };
        let ask = |question| Said::Question { id: 1, asker: u64::MAX, sent, question };
        vec![
            ask(Question::Users { channel: "a", after: "", limit: 0 }),
            ask(Question::Users { channel: "a", after: "\u{e4}", limit: MAX_USERS as u32 }),
            ask(Question::Channels { prefix: "", limit: 1001 }),
            ask(Question::Channel { name: "news" }),
            ask(Question::Stats),
            Said::Part { id: 7, hub: 8, at: 0, of: 1, bytes: b"" },
            Said::Part { id: 7, hub: 8, at: MAX_PARTS - 1, of: MAX_PARTS, bytes: b"answer" },
        ]
    }

    #[test]
    fn words_are_read_as_they_were_written_and_others_are_refused() {
        for said in all() {
            let bytes = said.write();
            assert_eq!(Said::read(&bytes), Ok(said));
            (0..bytes.len()).for_each(|len| assert_ne!(Said::read(&bytes[..len]), Ok(said)));
        }
        let stretched = |said: Said<'_>| [said.write(), vec![0]].concat();
        let question = |question| Said::Question { id: 1, asker: 2, sent: Sent::default(), question };
        for bad in [
            vec![],
            vec![0, 1],
            vec![VERSION],
            stretched(question(Question::Stats)),
            question(Question::Users { channel: "", after: "", limit: 1 }).write(),
            question(Question::Users { channel: "a", after: "", limit: MAX_USERS as u32 + 1 }).write(),
            Said::Part { id: 7, hub: 8, at: 1, of: 1, bytes: b"" }.write(),
            Said::Part { id: 7, hub: 8, at: 0, of: 0, bytes: b"" }.write(),
            Said::Part { id: 7, hub: 8, at: 0, of: MAX_PARTS + 1, bytes: b"" }.write(),
        ] {
            assert_eq!(Said::read(&bad), Err(Wrong::Malformed), "{bad:?}");
        }
        for newer in [vec![VERSION + 1], vec![VERSION, 99], [&question(Question::Stats).write()[..30], &[99]].concat()]
        {
            assert_eq!(Said::read(&newer), Err(Wrong::Newer), "{newer:?}");
        }
    }

    #[test]
    fn garbage_causes_no_panic() {
        let mut random = crate::engine::log_model::Random(1);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
            if bytes.len() > 1 {
                (bytes[0], bytes[1]) = (VERSION, random.below(4) as u8);
            }
            let _ = Said::read(&bytes);
        }
    }

    #[test]
    fn an_answer_of_any_size_is_in_parts_that_are_words() {
        for len in [0, 1, PART_BYTES, PART_BYTES + 1, MAX_ANSWER] {
            let answer = vec![7; len];
            let words = parts(1, 2, &answer);
            let mut again = Vec::new();
            for (expected, word) in words.iter().enumerate() {
                assert!(word.len() <= MAX_WORD);
                let Ok(Said::Part { id: 1, hub: 2, at, of, bytes }) = Said::read(word) else { panic!("{len}") };
                assert_eq!((usize::from(at), usize::from(of)), (expected, words.len()));
                again.extend_from_slice(bytes);
            }
            assert_eq!(again, answer);
        }
    }
}
