//! The content of a file on a disk whose power may fail: the bytes that are synced, and the changes since then.

use super::chance::Chance;

/// The bytes that a disk writes as a whole.
const SECTOR: usize = 512;

/// Which of the bytes that were not synced are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Everything,
    /// The end of each file: all writes after one of them, and a part of that one.
    Ends,
    /// Any sectors.
    Sectors,
    /// None of them, since the kernel has just written everything.
    Nothing,
}

impl Loss {
    pub const ALL: [Loss; 4] = [Loss::Everything, Loss::Ends, Loss::Sectors, Loss::Nothing];
}

/// A file, whatever its name is.
#[derive(Debug, Default, Clone)]
pub struct Content {
    pub synced: Vec<u8>,
    /// The bytes that a read returned at the last sync. They differ from `synced` if a sync has failed before.
    pub cached: Vec<u8>,
    /// The changes since the last sync.
    pub since: Vec<Done>,
}

#[derive(Debug, Clone)]
pub struct Done {
    /// The number of its entry in the ledger.
    pub number: u64,
    change: Change,
    /// True if the kernel no longer writes it, since a sync has failed.
    dropped: bool,
}

impl Done {
    pub fn new(number: u64, change: Change) -> Self {
        Done { number, change, dropped: false }
    }
}

#[derive(Debug, Clone)]
pub enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

impl Content {
    /// Syncs the changes up to an entry of the ledger.
    pub fn sync(&mut self, up_to: u64) {
        let count = self.since.iter().take_while(|done| done.number <= up_to).count();
        (self.synced, self.cached) = (self.after(count, None), self.read(count));
        self.since.drain(..count);
    }

    /// The kernel could not write the changes up to an entry of the ledger, and does not try again.
    pub fn fail_sync(&mut self, up_to: u64) {
        self.since.iter_mut().filter(|done| done.number <= up_to).for_each(|done| done.dropped = true);
    }

    /// The last write ended before this place.
    pub fn shorten_last(&mut self, end: usize) {
        match self.since.last_mut().map(|done| &mut done.change) {
            Some(Change::Write { at, bytes }) => bytes.truncate(end.saturating_sub(*at)),
            last => panic!("the last change is no write: {last:?}"),
        }
    }

    /// The bytes that a read returns after the first changes.
    pub fn read(&self, count: usize) -> Vec<u8> {
        let mut bytes = self.cached.clone();
        self.since[..count].iter().for_each(|done| done.change.apply(&mut bytes));
        bytes
    }

    /// The bytes on the disk after the first changes were written, and so many bytes of the change after them.
    fn after(&self, count: usize, part: Option<usize>) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        self.since[..count].iter().filter(|done| !done.dropped).for_each(|done| done.change.apply(&mut bytes));
        if let (Some(part), Some(Change::Write { at, bytes: written })) = (part, self.written(count)) {
            Change::Write { at: *at, bytes: written[..part].to_vec() }.apply(&mut bytes);
        }
        bytes
    }

    /// A change that the kernel may write.
    fn written(&self, at: usize) -> Option<&Change> {
        self.since.get(at).filter(|done| !done.dropped).map(|done| &done.change)
    }

    pub fn survives(&self, loss: Loss, chance: &mut Chance) -> Vec<u8> {
        match loss {
            Loss::Everything => self.synced.clone(),
            Loss::Nothing => self.after(self.since.len(), None),
            Loss::Ends => {
                let count = chance.below(self.since.len() + 1);
                let part = match self.written(count) {
                    Some(Change::Write { bytes, .. }) => Some(chance.below(bytes.len() + 1)),
                    _ => None,
                };
                self.after(count, part)
            }
            Loss::Sectors => {
                let mut bytes = self.synced.clone();
                for Done { change, .. } in self.since.iter().filter(|done| !done.dropped) {
                    let Change::Write { at, bytes: written } = change else {
                        if chance.below(2) == 0 {
                            change.apply(&mut bytes);
                        }
                        continue;
                    };
                    let mut from = 0;
                    while from < written.len() {
                        let to = (from + SECTOR - (at + from) % SECTOR).min(written.len());
                        if chance.below(2) == 0 {
                            Change::Write { at: at + from, bytes: written[from..to].to_vec() }.apply(&mut bytes);
                        }
                        from = to;
                    }
                }
                bytes
            }
        }
    }
}

impl Change {
    fn apply(&self, into: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                if into.len() < at + bytes.len() {
                    into.resize(at + bytes.len(), 0);
                }
                into[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Cut(length) => into.resize(*length, 0),
        }
    }
}
