//! Reads the content of a log with `pushd log`, and judges whether clients were told exactly that.

use super::ledger::Files;
use super::pushd;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A position: an epoch, and a number in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id {
    pub epoch: String,
    pub number: u64,
}

impl Id {
    pub fn parse(text: &str) -> Self {
        let (epoch, number) = text.rsplit_once('-').unwrap_or_else(|| panic!("{text:?} is no position"));
        Id { epoch: epoch.into(), number: number.parse().unwrap() }
    }

    pub fn text(&self) -> String {
        format!("{}-{}", self.epoch, self.number)
    }
}

/// A message or a gap that a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A message, by its mark.
    Message {
        channel: String,
        id: Id,
        mark: String,
    },
    Gap {
        channel: String,
        id: Id,
    },
}

impl Told {
    pub fn id(&self) -> &Id {
        match self {
            Told::Message { id, .. } | Told::Gap { id, .. } => id,
        }
    }

    fn channel(&self) -> &str {
        match self {
            Told::Message { channel, .. } | Told::Gap { channel, .. } => channel,
        }
    }
}

/// The content of a log: its messages by their numbers, each with its channel and mark.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub messages: BTreeMap<u64, (String, String)>,
    /// The last number of each epoch that has ended.
    ends: HashMap<String, u64>,
    /// True if messages may have been lost at these ends.
    lossy: bool,
    pub closed: bool,
    pub torn: bool,
}

impl Truth {
    /// Reads a log, which must not be damaged. `lossy` is true if messages may be lost where an epoch has ended.
    pub fn read(directory: &Path, lossy: bool) -> Self {
        let shown = pushd::run(&["log", directory.to_str().unwrap()]);
        let text = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let (entries, about) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        let mut truth = Truth { lossy, ..Truth::default() };
        for line in entries.lines() {
            // SEGMENT:OFFSET NUMBER TIME "CHANNEL" … "<mark MARK>…"
            let number = line.split(' ').nth(1).unwrap().parse().unwrap();
            if let (Some(channel), Some(mark)) = (line.split('"').nth(1), marks(line.as_bytes()).pop()) {
                assert!(truth.messages.insert(number, (channel.into(), mark)).is_none(), "number {number} twice");
            }
        }
        for end in about.split(", before it ").skip(1) {
            let (epoch, last) = end.split_once(" up to ").unwrap();
            truth.ends.insert(epoch.into(), last.parse().unwrap());
        }
        truth.closed = about.contains("; closed cleanly");
        truth.torn = about.contains("; the end is incomplete");
        truth
    }

    /// The numbers at which clients must be told of a gap.
    pub fn fences(&self) -> BTreeSet<u64> {
        self.ends.values().filter(|_| self.lossy).map(|last| last + 1).collect()
    }

    /// The marks of all messages.
    pub fn marks(&self) -> BTreeSet<&str> {
        self.messages.values().map(|(_, mark)| &**mark).collect()
    }

    /// True if the log has the message that was published at a position. False if it was rightly lost: its number is
    /// after the last one of its epoch. A publisher that repeats a lost message may get the same number again, in the
    /// next epoch.
    pub fn knows(&self, id: &Id, mark: &str) -> Result<bool, String> {
        let is_beyond = self.ends.get(&id.epoch).is_some_and(|last| id.number > *last);
        if is_beyond && self.lossy {
            return Ok(false);
        }
        match self.messages.get(&id.number) {
            Some((_, at_its_place)) if at_its_place == mark && !is_beyond => Ok(true),
            _ => Err(format!("{mark} is not in the log at {}, where no gap is told", id.text())),
        }
    }

    /// Judges what a client was told that first came with a position: all messages that the log has of a channel since
    /// then, once and in order, and a gap at each place where messages may be missing, and nowhere else.
    pub fn judge(&self, from: &Id, channel: &str, told: &[Told]) -> Result<(), String> {
        let fences = self.fences();
        let mut at = from.number.min(self.ends.get(&from.epoch).copied().unwrap_or(u64::MAX));
        // The number of a message that the client got, and that the log does not have.
        let mut lost = (at < from.number).then_some(from.number);
        for told in told.iter().filter(|told| told.channel() == channel) {
            let number = told.id().number;
            let untold = |up_to: u64| {
                let mut between = self.messages.range(at + 1..up_to.max(at + 1)).filter(|(_, (of, _))| of == channel);
                between.next().map_or(Ok(()), |(number, _)| Err(format!("{channel}: number {number} was not told")))
            };
            let gaps = |up_to: u64| match fences.range(at + 1..up_to.max(at + 1)).next() {
                Some(fence) => Err(format!("{channel}: no gap was told at {fence}")),
                None => Ok(()),
            };
            match told {
                Told::Gap { .. } => {
                    // All but the last of the gaps that several channels have there have the position before. A client
                    // that is cut off between them is told of all of them again.
                    let is_there = |fence: &u64| number == *fence || number + 1 == *fence;
                    if lost.is_none() && fences.contains(&at) && is_there(&at) && !fences.contains(&(at + 1)) {
                        continue;
                    }
                    let Some(fence) = fences.range(at + 1..).next().copied().filter(is_there) else {
                        return Err(format!("{channel}: a gap at {number}, after {at}: nothing is missing there"));
                    };
                    untold(fence)?;
                    gaps(fence)?;
                    (at, lost) = (fence, None);
                }
                Told::Message { id, mark, .. } => {
                    if number <= lost.unwrap_or(at) {
                        return Err(format!("{channel}: {mark} came as {}, after {at} and {lost:?}", id.text()));
                    }
                    if !self.knows(id, mark)? {
                        lost = Some(number);
                        continue;
                    }
                    if let Some(lost) = lost {
                        return Err(format!("{channel}: {lost} was lost, and no gap was told before {mark}"));
                    }
                    untold(number)?;
                    gaps(number)?;
                    at = number;
                }
            }
        }
        let rest = self.messages.range(at + 1..).find(|(_, (of, _))| of == channel);
        if let Some((number, _)) = rest {
            return Err(format!("{channel}: number {number} was not told at the end"));
        }
        match fences.range(at + 1..).next() {
            Some(fence) => Err(format!("{channel}: no gap was told at {fence}, at the end")),
            None => Ok(()),
        }
    }

    /// Checks that each position stands for one message.
    pub fn one_each<'a>(seen: impl Iterator<Item = (&'a Id, &'a str)>) -> Result<(), String> {
        let mut known: HashMap<&Id, &str> = HashMap::new();
        for (id, mark) in seen {
            let first = known.entry(id).or_insert(mark);
            if *first != mark {
                return Err(format!("{} stands for {first} and for {mark}", id.text()));
            }
        }
        Ok(())
    }
}

/// The beginning of each message, before its mark. It is so long that the numbers and checksums of a log, which are
/// searched as well, have it nowhere by chance.
const OPENING: &str = "<mark ";

/// The beginning of the message with a mark.
pub fn marked(mark: &str) -> String {
    format!("{OPENING}{mark}>")
}

/// The marks in some bytes.
pub fn marks(bytes: &[u8]) -> Vec<String> {
    let openings = bytes.windows(OPENING.len()).enumerate().filter(|(_, window)| *window == OPENING.as_bytes());
    let parts = openings.map(|(at, _)| &bytes[at + OPENING.len()..]);
    let mark = |part: &[u8]| {
        let end = part.iter().take(40).position(|byte| *byte == b'>')?;
        std::str::from_utf8(&part[..end]).ok().map(str::to_owned)
    };
    parts.filter_map(mark).collect()
}

/// The marks of the messages in segments.
pub fn marks_of(files: &Files) -> Vec<String> {
    let segments = files.iter().filter(|(name, _)| name.ends_with(".log"));
    segments.flat_map(|(_, bytes)| marks(bytes)).collect()
}

mod tests {
    use super::*;

    fn id(epoch: &str, number: u64) -> Id {
        Id { epoch: epoch.into(), number }
    }

    fn message(epoch: &str, number: u64, mark: &str) -> Told {
        Told::Message { channel: "a".into(), id: id(epoch, number), mark: mark.into() }
    }

    fn gap(number: u64) -> Told {
        Told::Gap { channel: "a".into(), id: id("two", number) }
    }

    /// Three messages; the fourth was lost; a fence; two more.
    fn truth() -> Truth {
        let message = |(number, mark): (u64, &str)| (number, ("a".to_owned(), mark.to_owned()));
        let messages = [(1, "p1"), (2, "p2"), (3, "p3"), (5, "p5"), (6, "p6")].map(message).into();
        Truth { messages, ends: [("one".to_owned(), 3)].into(), lossy: true, ..Truth::default() }
    }

    /// The messages and gaps of a client that saw the lost message.
    fn told() -> Vec<Told> {
        let before = [message("one", 2, "p2"), message("one", 3, "p3"), message("one", 4, "p4")];
        before.into_iter().chain([gap(4), message("two", 5, "p5"), message("two", 6, "p6")]).collect()
    }

    #[test]
    fn a_mark_is_found_among_other_bytes_and_these_are_none() {
        assert_eq!(marks(b"\0<mark p1.2>...<mark p2>\xff"), ["p1.2", "p2"]);
        assert_eq!(marks(b"<p\r\0\0\0\x01\x10M>, <mark p3 without an end"), [""; 0]);
    }

    #[test]
    fn the_judge_is_content_with_what_is_right() {
        let truth = truth();
        let all = told();
        truth.judge(&id("one", 1), "a", &all).unwrap();
        let without_lost: Vec<Told> = all.iter().filter(|told| told.id().number != 4).cloned().collect();
        assert!(truth.judge(&id("one", 1), "a", &without_lost).is_err());
        truth.judge(&id("one", 4), "a", &all[3..]).unwrap();
        truth.judge(&id("two", 4), "a", &all[4..]).unwrap();
        truth.judge(&id("two", 6), "a", &[]).unwrap();
        assert_eq!((truth.knows(&id("one", 3), "p3"), truth.knows(&id("one", 4), "p4")), (Ok(true), Ok(false)));
        // A lost message that was published again and got the same number.
        let again = [message("one", 5, "p5"), gap(4), message("two", 5, "p5"), message("two", 6, "p6")];
        truth.judge(&id("one", 3), "a", &again).unwrap();
        let untold: Vec<Told> = again.iter().filter(|told| **told != gap(4)).cloned().collect();
        assert!(truth.judge(&id("one", 3), "a", &untold).is_err());
    }

    #[test]
    fn the_judge_finds_whatever_is_missing_doubled_or_out_of_order() {
        let truth = truth();
        let verdict = |told: &[Told]| truth.judge(&id("one", 1), "a", told);
        for at in 0..told().len() {
            let mut without = told();
            let removed = without.remove(at);
            // Only the lost message may be left out.
            assert_eq!(verdict(&without).is_ok(), removed.id().number == 4 && removed != gap(4), "without {removed:?}");
            let mut twice = told();
            twice.insert(at, removed.clone());
            assert_eq!(verdict(&twice).is_ok(), removed == gap(4), "twice: {removed:?}");
            if at > 0 {
                let mut exchanged = told();
                exchanged.swap(at - 1, at);
                assert!(verdict(&exchanged).is_err(), "exchanged: {removed:?}");
            }
            let mut more = told();
            more.insert(at, gap(2));
            assert!(verdict(&more).is_err(), "a gap before {removed:?}");
            let mut other = told();
            if let Told::Message { mark, .. } = &mut other[at] {
                mark.push('x');
                assert_eq!(verdict(&other).is_ok(), at == 2, "another in place of {removed:?}");
            }
        }
        assert!(truth.knows(&id("one", 3), "p4").is_err(), "what is not in the log, and stood before its end");
        assert!(truth.knows(&id("two", 7), "p7").is_err(), "the same, in the present epoch");
        let (one, other) = (id("one", 1), id("one", 2));
        assert!(Truth::one_each([(&one, "p1"), (&other, "p2"), (&one, "p1")].into_iter()).is_ok());
        assert!(Truth::one_each([(&one, "p1"), (&other, "p2"), (&one, "p3")].into_iter()).is_err());
    }
}
