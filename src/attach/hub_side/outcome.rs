//! The outcomes of hosts' requests, as hosts are told.

use crate::attach::wire::FromHub;
use crate::error::{Error, Kind};
use crate::hub::Published;

/// The outcome of a request, kept to answer it again.
#[derive(Debug)]
pub(super) enum Outcome {
    Published {
        seq: u64,
        subscribers: u32,
    },
    /// The messages of a batch have consecutive numbers: the first one, and how many. It is small, since thousands of
    /// outcomes are kept.
    Consecutive {
        first: u64,
        count: u32,
    },
    /// Numbers that do not follow each other. Some messages were published before, with the same keys.
    Batched(Box<[u64]>),
    Failed(Kind, Box<str>),
}

impl Outcome {
    pub(super) fn failed(error: &Error) -> Self {
        Outcome::Failed(error.kind(), error.to_string().into())
    }

    pub(super) fn batched(seqs: Vec<u64>) -> Self {
        match seqs[..] {
            [first, ..] if seqs.iter().zip(first..).all(|(seq, expected)| *seq == expected) => {
                Outcome::Consecutive { first, count: seqs.len() as u32 }
            }
            _ => Outcome::Batched(seqs.into()),
        }
    }

    /// The bytes that it takes beside its entry. It takes no more than on the wire.
    pub(super) fn weight(&self) -> usize {
        match self {
            Outcome::Published { .. } | Outcome::Consecutive { .. } => 0,
            Outcome::Batched(seqs) => size_of_val::<[u64]>(seqs),
            Outcome::Failed(_, text) => text.len(),
        }
    }

    pub(super) fn write(&self, number: u64, into: &mut Vec<u8>) {
        match self {
            Outcome::Published { seq, subscribers } => {
                FromHub::Published { number, seq: *seq, subscribers: *subscribers }.write(into);
            }
            Outcome::Consecutive { first, count } => {
                let seqs = (*first..).take(*count as usize).collect();
                FromHub::Batched { number, seqs }.write(into);
            }
            Outcome::Batched(seqs) => FromHub::Batched { number, seqs: seqs.to_vec() }.write(into),
            Outcome::Failed(kind, text) => FromHub::Failed { number, kind: *kind, text }.write(into),
        }
    }
}

/// The type of a request. Each type has its own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Message,
    Broadcast,
    Batch,
}

impl Shape {
    /// The answer, made from the positions of its messages.
    pub(super) fn answer(self, places: &[Published]) -> Outcome {
        match (self, places) {
            (Shape::Message | Shape::Broadcast, [published, ..]) => {
                Outcome::Published { seq: published.seq, subscribers: published.subscribers }
            }
            _ => Outcome::batched(places.iter().map(|published| published.seq).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_kept_by_its_first_number() {
        assert!(matches!(Outcome::batched((7..8192).collect()), Outcome::Consecutive { first: 7, count: 8185 }));
        for seqs in [vec![], vec![5], vec![5, 6, 7], vec![5, 7], vec![5, 3, 6]] {
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            Outcome::batched(seqs.clone()).write(1, &mut written);
            FromHub::Batched { number: 1, seqs }.write(&mut expected);
            assert_eq!(written, expected);
        }
    }
}
