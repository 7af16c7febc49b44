//! Writes logs, breaks them in every way, and reads them again.

mod ahead;
mod ends;
mod faults;

use super::disk::Disk;
use super::memory::Memory;
use super::opening::{Unwritten, Written};
use super::reading::{self, Found, Step};
use super::record;
use super::state::BOOT;
use super::writing::Kept;
use crate::engine::entry::{write_message, Entry};
use crate::hub::{Ends, Noted};
use std::sync::Arc;

const BOOT_ONE: [u8; BOOT] = [b'1'; BOOT];
const BOOT_TWO: [u8; BOOT] = [b'2'; BOOT];
const KEPT: Kept = Kept { age_ms: u64::MAX / 2, bytes: u64::MAX / 2 };

/// The content of a log, as text: `number channel data`, or `number cleared channel`.
type Shown = Vec<String>;

fn noted<'a>(channel: &'a str, data: &'a [u8]) -> Noted<'a> {
    Noted { channel, event: None, key: None, binary: false, mark: None, origin: None, except: None, data }
}

fn message(number: u64, data: &str, more: bool, into: &mut Vec<u8>) {
    record::append(into, number, |into| write_message(1000, more, &noted("c", data.as_bytes()), into));
}

fn show(step: Step<'_>, into: &mut Shown) {
    match step {
        Step::Entry { number, entry: Entry::Message(logged), .. } => {
            let data = String::from_utf8_lossy(logged.noted.data);
            into.push(format!("{number} {} {data}", logged.noted.channel));
        }
        Step::Entry { number, entry: Entry::Cleared { channel }, .. } => {
            into.push(format!("{number} cleared {channel}"))
        }
        _ => {}
    }
}

fn read(disk: &Memory) -> Result<(Shown, Found), String> {
    let mut shown = Vec::new();
    let found = reading::read(disk, "log", &mut |step| show(step, &mut shown)).map_err(|error| error.to_string())?;
    Ok((shown, found))
}

fn unwritten(disk: &Memory, boot: [u8; BOOT]) -> (Shown, Unwritten) {
    let mut shown = Vec::new();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let unwritten = Unwritten::read(disk, None, "log".into(), boot, &mut |step| show(step, &mut shown)).unwrap();
    (shown, unwritten)
}

fn begin(disk: &Memory, kept: Kept) -> Written {
    begin_with(disk, kept, false)
}

/// With `engine_sync=always`, or without.
fn begin_with(disk: &Memory, kept: Kept, always: bool) -> Written {
    unwritten(disk, BOOT_ONE).1.begin(kept, always, &Ends::unknown, 1000).unwrap()
}

impl Written {
    fn append(&mut self, bytes: &mut [u8], last: u64) -> std::io::Result<()> {
        self.append_at(1000, bytes, last)
    }

    fn append_at(&mut self, now_ms: u64, bytes: &mut [u8], last: u64) -> std::io::Result<()> {
        self.appender.append(&mut [bytes], last, &Ends::unknown, now_ms)
    }

    /// As the writer closes it.
    fn close(&mut self) {
        self.appender.close(1000).unwrap();
        self.state.close(self.appender.last()).unwrap();
    }

    /// Appends a message.
    fn publish(&mut self, data: &str) -> std::io::Result<()> {
        self.publish_batch(&[data])
    }

    /// Appends the messages of one batch.
    fn publish_batch(&mut self, batch: &[&str]) -> std::io::Result<()> {
        self.publish_at(1000, batch)
    }

    fn publish_at(&mut self, now_ms: u64, batch: &[&str]) -> std::io::Result<()> {
        let (mut bytes, first) = (Vec::new(), self.appender.last() + 1);
        for (index, data) in batch.iter().enumerate() {
            message(first + index as u64, data, index + 1 < batch.len(), &mut bytes);
        }
        self.append_at(now_ms, &mut bytes, first + batch.len() as u64 - 1)
    }

    fn clear(&mut self, channel: &str) {
        let (mut bytes, last) = (Vec::new(), self.appender.last());
        record::append(&mut bytes, last, |into| Entry::Cleared { channel }.write(into));
        self.append(&mut bytes, last).unwrap();
    }
}

/// A log with three messages and a batch of two. There is a sync in between, and the log may be closed.
fn five(closed: bool) -> (Memory, Shown) {
    let disk = Memory::default();
    let mut log = begin(&disk, KEPT);
    log.publish("one").unwrap();
    log.publish("two").unwrap();
    log.appender.sync(true).unwrap();
    log.publish_batch(&["three", "four"]).unwrap();
    log.appender.sync(true).unwrap();
    log.publish("five").unwrap();
    if closed {
        log.close();
    }
    (disk, ["1 c one", "2 c two", "3 c three", "4 c four", "5 c five"].map(String::from).to_vec())
}

#[test]
fn a_log_is_read_as_it_was_written_and_goes_on_where_it_was_closed() {
    let (disk, mut all) = five(true);
    let (shown, first) = unwritten(&disk, BOOT_TWO);
    assert_eq!(shown, all);
    assert_eq!((first.last(), first.lineage().1.len()), (5, 0), "the same epoch, after the same number");
    let mut log = first.begin(KEPT, false, &Ends::unknown, 1000).unwrap();
    log.publish("six").unwrap();
    log.clear("c");
    log.close();
    all.extend(["6 c six", "6 cleared c"].map(String::from));
    let (shown, again) = unwritten(&disk, BOOT_TWO);
    assert_eq!((shown, again.last()), (all, 6));
    assert_eq!(disk.segments().len(), 2);
    // A segment without messages is replaced at the next start.
    for _ in 0..3 {
        begin(&disk, KEPT).close();
        assert_eq!(disk.segments().len(), 3);
    }
}

#[test]
fn an_end_in_disorder_begins_a_new_epoch_at_a_number_of_its_own() {
    let (disk, all) = five(false);
    let (shown, first) = unwritten(&disk, BOOT_ONE);
    let (epoch, chain) = first.lineage();
    assert_eq!((shown, first.last(), chain.len()), (all, 6, 1));
    assert!(chain[0].last == 5 && chain[0].lossy && chain[0].epoch != epoch && chain[0].fence() == 6);
    let mut log = first.begin(KEPT, false, &Ends::unknown, 1000).unwrap();
    log.publish("seven").unwrap();
    let (shown, second) = unwritten(&disk, BOOT_ONE);
    assert_eq!(shown.last().unwrap(), "7 c seven");
    assert_eq!(second.lineage().1.iter().map(|link| link.last).collect::<Vec<_>>(), [5, 7]);
}

#[test]
fn what_the_file_state_says_counts_in_the_same_boot_and_for_the_same_end_only() {
    use super::state::Whole;
    let chain = |disk: &Memory, boot| unwritten(disk, boot).1.lineage().1;
    let (disk, _) = five(false);
    let mut log = begin(&disk, KEPT);
    log.publish("seven").unwrap();
    log.state.tell(Whole::UpTo(7)).unwrap();
    assert_eq!(chain(&disk, BOOT_ONE).len(), 1, "nothing is missing: the epoch goes on");
    assert_eq!(chain(&disk, BOOT_TWO).len(), 2, "after another boot nobody knows");
    log.publish("eight").unwrap();
    assert_eq!(chain(&disk, BOOT_ONE).len(), 2, "more came");
    log.state.tell(Whole::UpTo(8)).unwrap();
    log.state.tell(Whole::Unknown).unwrap();
    assert!(chain(&disk, BOOT_ONE)[1].lossy);
    log.state.tell(Whole::UpTo(8)).unwrap();
    // This was never synced, on purpose: a loss of power undoes it.
    log.appender.sync(true).unwrap();
    disk.power_loss(&mut |_| 0);
    assert!(chain(&disk, BOOT_ONE)[1].lossy);
}

#[test]
fn wherever_the_end_is_cut_what_is_whole_is_read_and_the_rest_is_cut_off() {
    let (disk, all) = five(true);
    let name = disk.segments().remove(0);
    let len = disk.read(&name).unwrap().len();
    let (mut torn, mut damaged) = (0, 0);
    for cut in 0..len {
        let disk = disk.copy();
        disk.edit(&name, |bytes| bytes.truncate(cut));
        let (shown, found) = match read(&disk) {
            Ok(read) => read,
            Err(error) => {
                assert!(error.contains(&name) && error.contains("header is not all there"), "{cut}: {error}");
                damaged += 1;
                continue;
            }
        };
        assert!(all.starts_with(&shown) && !found.closed, "{cut}: {shown:?}");
        assert_ne!(shown.len(), 3, "{cut}: half a batch");
        assert_eq!(found.last, shown.len() as u64);
        torn += usize::from(found.torn.is_some());
        // The log goes on, and is complete from then on.
        let mut log = begin(&disk, KEPT);
        log.publish("next").unwrap();
        log.close();
        let (again, found) = read(&disk).unwrap();
        assert!(
            again.starts_with(&shown) && again.len() == shown.len() + 1 && found.torn.is_none(),
            "{cut}: {again:?}"
        );
    }
    assert!(torn > len / 2 && damaged > 20, "{torn} {damaged} of {len}");
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_with_its_place_and_never_another_message() {
    let (disk, all) = five(true);
    let name = disk.segments().remove(0);
    let bytes = disk.read(&name).unwrap();
    let close = bytes.len() - record::HEAD - 9;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let disk = disk.copy();
            disk.edit(&name, |bytes| bytes[at] ^= 1 << bit);
            match read(&disk) {
                Ok((shown, found)) => {
                    // Damage in the last record itself looks like the end of a killed hub.
                    assert!(at >= close, "byte {at}, bit {bit}: {shown:?}");
                    assert!(shown == all && !found.closed);
                }
                Err(error) => {
                    let place = error.split("byte ").nth(1).and_then(|rest| rest.split(':').next());
                    let place: usize = place.unwrap().parse().unwrap();
                    assert!(place <= at && error.starts_with(&format!("log/{name}: ")), "byte {at}: {error}");
                    assert!(error.contains("start again") || error.contains("format"), "{error}");
                }
            }
            assert_eq!(disk.read(&name).unwrap().len(), bytes.len(), "nothing was changed");
        }
    }
}

#[test]
fn a_flipped_bit_in_what_was_not_synced_is_a_torn_end() {
    let (disk, all) = five(false);
    let name = disk.segments().remove(0);
    let len = disk.read(&name).unwrap().len();
    disk.edit(&name, |bytes| bytes[len - 2] ^= 1);
    let (shown, found) = read(&disk).unwrap();
    assert_eq!(shown, all[..4]);
    assert!(found.torn.is_some());
}

#[test]
fn a_segment_that_is_missing_or_strange_is_an_error_that_names_it() {
    let disk = Memory::default();
    for n in 0..4 {
        let mut log = begin(&disk, KEPT);
        log.publish(&format!("m{n}")).unwrap();
        log.close();
    }
    let names = disk.segments();
    assert_eq!(names.len(), 4);
    let without = disk.copy();
    without.remove(&names[0]).unwrap();
    assert_eq!(read(&without).unwrap().0, ["2 c m1", "3 c m2", "4 c m3"], "the oldest may go: they do, by their age");
    let without = disk.copy();
    without.remove(&names[1]).unwrap();
    let error = read(&without).unwrap_err();
    assert!(error.contains(&names[2]) && error.contains("what was between them is missing"), "{error}");
    // The end of a segment in the middle.
    let cut = disk.copy();
    cut.edit(&names[1], |bytes| bytes.truncate(bytes.len() - 40));
    assert!(read(&cut).unwrap_err().contains(&names[1]));
    for format in [2, 5] {
        let before = disk.copy();
        names.iter().for_each(|name| before.edit(name, |bytes| bytes[8] = format));
        assert_eq!(read(&before).unwrap().0.len(), 4, "a log of a version before is read");
    }
    for format in [1, 3] {
        let other = disk.copy();
        other.edit(&names[3], |bytes| bytes[8] = format);
        let error = read(&other).unwrap_err();
        assert!(
            error.contains(&format!("has format {format}")) && error.contains("reads formats 2, 5 and 8"),
            "{error}"
        );
    }
    let renamed = disk.copy();
    let bytes = renamed.read(&names[3]).unwrap();
    renamed.remove(&names[3]).unwrap();
    renamed.create(&super::segment::name(9), &|_| bytes.clone()).unwrap();
    assert!(read(&renamed).unwrap_err().contains("its name is not the number"));
}

#[test]
fn old_segments_go_as_a_whole_and_the_ends_of_channels_stay() {
    let disk = Memory::default();
    let kept = Kept { age_ms: 1000, bytes: 400_000 };
    let mut log = begin(&disk, kept);
    let text = "x".repeat(1000);
    for n in 1..=2000u64 {
        let mut bytes = Vec::new();
        message(n, &text, false, &mut bytes);
        let ends = |first| Ends { channels: vec![(3, "quiet".into()), (first - 1, "c".into())], floor: 2 };
        log.appender.append(&mut [&mut bytes], n, &ends, 1000).unwrap();
        log.appender.drop_old(1000).unwrap();
        assert!(log.appender.bytes() <= 400_000 + 1200, "{}", log.appender.bytes());
    }
    let (mut ends, mut first) = (Vec::new(), 0);
    let found = reading::read(&disk, "log", &mut |step| match step {
        Step::First(number) => first = number,
        Step::Entry { entry: Entry::Ends { floor, channels }, .. } => {
            assert_eq!(floor, 2);
            ends.extend(channels.iter().map(|(number, name)| (*number, name.to_string())));
        }
        _ => {}
    });
    assert!(found.unwrap().segments.len() > 3 && first > 1500, "{first}");
    let expected = [(first - 1, "c".to_string()), (3, "quiet".to_string())];
    assert_eq!(ends, expected, "of the channels that had messages before the log begins, and once");
    log.appender.drop_old(5000).unwrap();
    assert_eq!(disk.segments().len(), 1, "all but the one that is written are too old");
}
