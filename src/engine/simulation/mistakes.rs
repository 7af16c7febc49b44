//! Mistakes that are planted around the code under test. The simulation must find each of them.

use super::World;
use crate::engine::contract::{Answer, Ask, EntryId, Fence, Tailed};
use crate::engine::entry::{Entry, Logged};
use crate::engine::envelope::{self, Body, Known};
use crate::hub::{Epoch, GapPosition, Hub, Item, Noted, Position, Replay};
use std::collections::{HashMap, HashSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A hub resumes a client's position by its number, whatever its epoch is.
    ResumesByNumber,
    /// A hub goes on reading by the number alone, and does not check which entry has that number.
    ReadsByNumber,
    /// A hub notices neither fences nor that the log is another one.
    IgnoresFences,
    /// An entry that is appended again counts as another entry, for the log and for the hubs.
    ResendIsNew,
    /// The log does not compare keys.
    KeysAreForgotten,
    /// Ages count by the hub's own clock.
    AgeByOtherClock,
    /// A client that is ahead of its hub is told of a gap, and does not wait.
    NoPatience,
    /// Live clients are not told of a loss.
    SilentBreak,
    /// A hub does not tell the others of messages that it has read and the log has lost.
    KeepsLossesToItself,
    /// Shards pass acts over.
    ForgetsActs,
    /// A hub takes the acts in its history for new ones.
    OldActsAreNew,
    /// Last numbers count also for later entries, which they do not know of.
    EndsForLater,
    /// Last numbers count also if the log has lost entries since they were listed.
    EndsOfEarlierEpoch,
    /// Last numbers that were left out do not raise the floor.
    EndsWithoutFloor,
    /// Shards pass the ends of streams over.
    ForgetsEnds,
    /// A hub does not read which client a message leaves out.
    ForgetsExcepts,
    /// The gaps of what a hub has dropped stand among the messages.
    GapsAmongMessages,
    /// Each of these gaps has the position where it ends.
    GapsWithTheirEnds,
}

/// The entries and the fence that a hub is made to believe in.
#[derive(Debug, Default)]
pub(super) struct Fooled {
    entries: HashMap<u64, EntryId>,
    asked: u64,
    fence: Option<(u64, Fence)>,
    epoch: Option<Epoch>,
    heard: HashSet<(u64, u64, u64)>,
}

/// Plants the mistakes of the log itself.
pub(super) fn plant(world: &mut World) {
    world.log.recognises_entries = world.mistake != Some(Mistake::ResendIsNew);
    world.log.recognises_keys = world.mistake != Some(Mistake::KeysAreForgotten);
}

pub(super) fn asked(fooled: &mut Fooled, ask: Ask) -> Ask {
    if let Ask::Identify { number } = &ask {
        fooled.asked = *number;
    }
    ask
}

pub(super) fn answered(mistake: Option<Mistake>, mut answer: Answer, fooled: &mut Fooled) -> Answer {
    match (mistake, &mut answer) {
        (Some(Mistake::ReadsByNumber), Answer::Identity(identity)) => {
            identity.entry = fooled.entries.get(&fooled.asked).copied().or(identity.entry);
        }
        (Some(Mistake::KeepsLossesToItself), Answer::Identity(identity)) => {
            let links = identity.fence.iter_mut().flat_map(|(_, fence)| &mut fence.chain);
            links.for_each(|link| link.lossy = false);
        }
        (Some(Mistake::IgnoresFences), Answer::Identity(identity)) => {
            identity.entry = fooled.entries.get(&fooled.asked).copied().or(identity.entry);
            let mut fence = fooled.fence.clone().or(identity.fence.clone());
            fence.iter_mut().for_each(|(_, fence)| fence.log = identity.log);
            identity.fence.clone_from(&fence);
            fooled.fence = fence;
        }
        (Some(Mistake::EndsOfEarlierEpoch), Answer::Identity(identity)) => {
            fooled.epoch = identity.fence.as_ref().map(|(_, fence)| fence.epoch.clone());
        }
        (Some(Mistake::EndsOfEarlierEpoch), Answer::Tail(items)) => {
            items.iter_mut().for_each(|item| fooled.renew(item));
        }
        (Some(Mistake::OldActsAreNew), Answer::Identity(identity)) => identity.end = identity.first.max(1) - 1,
        (Some(Mistake::IgnoresFences | Mistake::ReadsByNumber), Answer::Tail(items)) => {
            for item in items {
                fooled.hear(item, mistake);
            }
        }
        (Some(Mistake::ForgetsExcepts), Answer::Tail(items)) => items.iter_mut().for_each(forget_except),
        (Some(Mistake::ResendIsNew), Answer::Tail(items)) => {
            items.iter_mut().for_each(|item| fooled.disguise(item));
        }
        _ => {}
    }
    answer
}

impl Fooled {
    fn hear(&mut self, item: &mut Tailed, mistake: Option<Mistake>) {
        match item {
            Tailed::Entry { number, bytes } => {
                let id = envelope::read(bytes).map(|(id, _)| id).unwrap();
                self.entries.insert(*number, id);
            }
            Tailed::Fence { number, id } => {
                self.entries.insert(*number, *id);
                if mistake == Some(Mistake::IgnoresFences) && self.fence.is_some() {
                    let bytes = envelope::write(*id, &Body::Heartbeat(None));
                    *item = Tailed::Entry { number: *number, bytes };
                }
            }
            Tailed::Idle { .. } => {}
        }
    }

    /// Writes the present epoch into an entry with last numbers.
    fn renew(&self, item: &mut Tailed) {
        let (Tailed::Entry { bytes, .. }, Some(epoch)) = (item, &self.epoch) else { return };
        let (id, Body::Ends(known)) = envelope::read(bytes).unwrap() else { return };
        *bytes = envelope::write(id, &Body::Ends(Known { epoch: epoch.clone(), ..known }));
    }

    /// Gives an entry another name if the hub has read it under another number.
    fn disguise(&mut self, item: &mut Tailed) {
        let Tailed::Entry { number, bytes } = item else { return };
        let (id, _) = envelope::read(bytes).unwrap();
        let again =
            self.heard.iter().any(|(hub, counter, at)| (*hub, *counter) == (id.hub, id.counter) && at != number);
        self.heard.insert((id.hub, id.counter, *number));
        if again {
            bytes[10..18].copy_from_slice(&(id.counter + (*number << 32)).to_le_bytes());
        }
    }
}

/// Makes a message one for all clients.
fn forget_except(item: &mut Tailed) {
    let Tailed::Entry { bytes, .. } = item else { return };
    let (id, Body::Entry(Entry::Message(logged))) = envelope::read(bytes).unwrap() else { return };
    let noted = Noted { except: None, ..logged.noted };
    *bytes = envelope::write(id, &Body::Entry(Entry::Message(Logged { noted, ..logged })));
}

/// The last numbers that a hub writes down.
pub(super) fn known(mistake: Option<Mistake>, mut known: Known<'_>) -> Known<'_> {
    match mistake {
        Some(Mistake::EndsForLater) => known.until = u64::MAX,
        Some(Mistake::EndsWithoutFloor) => known.floor = 0,
        _ => {}
    }
    known
}

/// The wall clock's time from which ages are counted.
pub(super) fn wall(mistake: Option<Mistake>, wall: u64, own: u64) -> u64 {
    if mistake == Some(Mistake::AgeByOtherClock) {
        own.saturating_sub(50_000)
    } else {
        wall
    }
}

/// The position with which a client comes.
pub(super) fn position(mistake: Option<Mistake>, position: Option<String>, hub: &Hub) -> Option<String> {
    if mistake != Some(Mistake::ResumesByNumber) {
        return position;
    }
    let text = position?;
    let number = Position::parse(&text).unwrap().seq.min(hub.seq());
    Some(hub.present_epoch().position(number))
}

/// What a client is sent that may be cut off in the middle: the positions of the gaps.
pub(super) fn tell_gaps(mistake: Option<Mistake>, replay: &mut Replay) -> Vec<GapPosition> {
    match mistake {
        Some(Mistake::GapsAmongMessages) => {
            let next = replay.items.iter().skip(1).map(Item::seq).chain([0]);
            let gaps = replay.items.iter().zip(next).filter(|(item, _)| item.is_gap());
            let before = gaps.map(|(gap, next)| gap.seq().checked_sub(u64::from(next == gap.seq())));
            before.map(|seq| seq.map_or(GapPosition::Elsewhere, GapPosition::Behind)).collect()
        }
        Some(Mistake::GapsWithTheirEnds) => {
            replay.tell_gaps_first();
            replay.items.iter().filter(|item| item.is_gap()).map(|item| GapPosition::Behind(item.seq())).collect()
        }
        _ => replay.tell_gaps_first(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::run;
    use super::*;

    /// Asserts that a mistake is found within so many schedules.
    fn is_found(mistake: Mistake, within: u64) {
        // A schedule that does not come to rest does not prove that the mistake was found.
        let told = |seed| run(seed, Some(mistake), false).err().filter(|why| !why.contains("rest"));
        let found = (0..within).find_map(|seed| Some((seed, told(seed)?)));
        let (seed, why) = found.unwrap_or_else(|| panic!("{mistake:?} is not found in {within} schedules"));
        println!("{mistake:?} is found by seed {seed}: {why}");
    }

    #[test]
    fn a_position_that_is_resumed_by_its_number_alone_is_found() {
        is_found(Mistake::ResumesByNumber, 200);
    }

    #[test]
    fn a_hub_that_goes_on_by_the_number_alone_is_found() {
        is_found(Mistake::ReadsByNumber, 200);
    }

    #[test]
    fn a_fence_that_is_ignored_is_found() {
        is_found(Mistake::IgnoresFences, 200);
    }

    #[test]
    fn a_resend_that_is_not_recognised_is_found() {
        is_found(Mistake::ResendIsNew, 200);
    }

    #[test]
    fn a_key_that_counts_on_one_hub_only_is_found() {
        is_found(Mistake::KeysAreForgotten, 200);
    }

    #[test]
    fn an_age_that_is_counted_by_another_clock_is_found() {
        is_found(Mistake::AgeByOtherClock, 200);
    }

    #[test]
    fn a_gap_for_a_client_that_is_ahead_is_found() {
        is_found(Mistake::NoPatience, 400);
    }

    #[test]
    fn a_loss_that_other_hubs_are_not_told_of_is_found() {
        is_found(Mistake::KeepsLossesToItself, 2000);
    }

    #[test]
    fn acts_that_are_passed_over_are_found() {
        is_found(Mistake::ForgetsActs, 200);
    }

    #[test]
    fn ends_that_are_passed_over_are_found() {
        is_found(Mistake::ForgetsEnds, 200);
    }

    #[test]
    fn messages_for_all_that_should_leave_a_client_out_are_found() {
        is_found(Mistake::ForgetsExcepts, 200);
    }

    #[test]
    fn gaps_among_the_messages_are_found() {
        is_found(Mistake::GapsAmongMessages, 200);
    }

    #[test]
    fn gaps_with_the_positions_of_their_ends_are_found() {
        is_found(Mistake::GapsWithTheirEnds, 200);
    }

    #[test]
    fn an_end_that_stays_when_its_stream_goes_on_is_found() {
        use crate::hub::planted;
        let broken = || (0..200).find_map(|seed| run(seed, None, false).err());
        let why = planted::with(planted::Mistake::OldEndStays, broken);
        assert!(why.is_some_and(|why| why.contains("hub")), "it is not found in 200 schedules");
    }

    #[test]
    fn acts_of_the_history_that_are_done_again_are_found() {
        is_found(Mistake::OldActsAreNew, 200);
    }

    #[test]
    fn last_numbers_that_count_for_later_entries_are_found() {
        is_found(Mistake::EndsForLater, 4000);
    }

    #[test]
    fn last_numbers_of_a_log_that_is_over_are_found() {
        is_found(Mistake::EndsOfEarlierEpoch, 4000);
    }

    #[test]
    fn last_numbers_that_are_left_out_and_not_told_are_found() {
        is_found(Mistake::EndsWithoutFloor, 4000);
    }

    #[test]
    fn a_loss_that_live_clients_are_not_told_of_is_found() {
        is_found(Mistake::SilentBreak, 200);
    }
}
