//! A disk that loses its power, or whose syncs fail. `ledger.c` records what a program did to the files of a directory,
//! and when it synced them. After a loss of power, bytes that were not synced may be there, or not, or in part.
//!
//! After a sync that failed, the kernel no longer writes the bytes that it could not write. Reads still return them. A
//! later sync succeeds without them. So only a program that writes them again has them on the disk.

use super::chance::Chance;
use super::content::{Change, Content, Done, Loss};
use super::Place;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// The kind of an entry without effect.
const IDLE: u8 = b'-';

/// Files by their names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The library that writes the ledger, compiled for this run of the tests.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/ledger.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&path).arg(source);
        assert!(compile.args(["-ldl", "-lpthread"]).status().unwrap().success());
        path
    })
}

/// The environment of a program that has its log on such a disk.
pub fn environment(place: &Place) -> Vec<(String, String)> {
    let path = |name: &str| place.0.join(name).display().to_string();
    let variables = [
        ("LD_PRELOAD", library().display().to_string()),
        ("DISK_DIRECTORY", place.log().display().to_string()),
        ("DISK_LEDGER", path("ledger")),
        ("DISK_SYNC_US", "20000".into()),
        ("DISK_BOOT", path("boot")),
        ("DISK_FAULTS", path("faults")),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Makes calls on the disk fail from now on, with `EIO`.
pub fn set_faults(place: &Place, calls: &[&str]) {
    let lines: String = calls.iter().map(|call| format!("{call} {}\n", libc::EIO)).collect();
    // It is renamed, so that the library always finds all of it.
    let (unfinished, faults) = (place.0.join("faults.new"), place.0.join("faults"));
    std::fs::write(&unfinished, lines).unwrap();
    std::fs::rename(unfinished, faults).unwrap();
}

/// Ends these faults.
pub fn clear_faults(place: &Place) {
    let _ = std::fs::remove_file(place.0.join("faults"));
}

/// Gives the present boot of the machine a new name.
pub fn boot_anew(place: &Place, chance: &mut Chance) {
    let name: String = (0..36).map(|_| char::from(b'a' + chance.below(26) as u8)).collect();
    std::fs::write(place.0.join("boot"), name).unwrap();
}

/// A change of the directory.
#[derive(Debug, Clone)]
enum Naming {
    New(String, usize),
    Rename(String, String),
    Remove(String),
}

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    namings: Vec<(u64, Naming)>,
}

impl Disk {
    /// A disk on which these files are synced.
    pub fn with(files: Files) -> Self {
        let mut disk = Disk::default();
        for (name, synced) in files {
            disk.names.insert(name, disk.contents.len());
            disk.contents.push(Content { cached: synced.clone(), synced, since: Vec::new() });
        }
        disk.synced_names = disk.names.clone();
        disk
    }

    /// The disk as the first program that uses it has left it so far.
    pub fn so_far(place: &Place) -> Self {
        let mut disk = Disk::default();
        disk.follow(&std::fs::read(place.0.join("ledger")).unwrap_or_default());
        disk
    }

    /// Follows the ledger of a program that was killed.
    pub fn follow_ledger(&mut self, place: &Place) {
        let ledger = place.0.join("ledger");
        let before_last = self.follow(&std::fs::read(&ledger).unwrap_or_default());
        let _ = std::fs::remove_file(&ledger);
        self.agree_with(&place.log(), before_last);
    }

    /// Returns the disk before the last entry.
    fn follow(&mut self, ledger: &[u8]) -> Self {
        // Changes by earlier programs come before all changes by this one.
        self.contents.iter_mut().flat_map(|content| &mut content.since).for_each(|done| done.number = 0);
        self.namings.iter_mut().for_each(|(number, _)| *number = 0);
        let entries = entries(ledger);
        let mut handles = BTreeMap::new();
        let mut before_last = None;
        for (number, entry) in entries.iter().enumerate() {
            if number + 1 == entries.len() {
                before_last = Some(self.clone());
            }
            let number = number as u64 + 1;
            let file = handles.get(&entry.handle).copied();
            let file = || file.unwrap_or_else(|| panic!("entry {number} is about no file: {entry:?}"));
            let change = |change| Done::new(number, change);
            match entry.kind {
                b'O' => {
                    let name = entry.text();
                    let file = *self.names.entry(name.clone()).or_insert_with(|| {
                        self.contents.push(Content::default());
                        self.namings.push((number, Naming::New(name, self.contents.len() - 1)));
                        self.contents.len() - 1
                    });
                    if entry.offset == 1 {
                        self.contents[file].since.push(change(Change::Cut(0)));
                    }
                    handles.insert(entry.handle, file);
                }
                b'W' => {
                    let (at, bytes) = (entry.offset as usize, entry.bytes.to_vec());
                    self.contents[file()].since.push(change(Change::Write { at, bytes }));
                }
                b'T' => self.contents[file()].since.push(change(Change::Cut(entry.offset as usize))),
                b'S' => self.contents[file()].sync(entry.offset),
                b'E' => self.contents[file()].fail_sync(entry.offset),
                b'R' => {
                    let text = entry.text();
                    let (from, to) = text.split_once('\0').unwrap();
                    if let Some(file) = self.names.remove(from) {
                        self.names.insert(to.into(), file);
                    }
                    self.namings.push((number, Naming::Rename(from.into(), to.into())));
                }
                b'U' => {
                    self.names.remove(&entry.text());
                    self.namings.push((number, Naming::Remove(entry.text())));
                }
                b'D' => {
                    let (synced, later) = self.namings.drain(..).partition(|(at, _)| *at <= entry.offset);
                    self.namings = later;
                    let synced: Vec<(u64, Naming)> = synced;
                    synced.iter().for_each(|(_, naming)| naming.apply(&mut self.synced_names));
                }
                IDLE => {}
                kind => panic!("an entry of the kind {kind}"),
            }
        }
        before_last.unwrap_or_else(|| self.clone())
    }

    /// The files as the ledger has them.
    fn files(&self) -> Files {
        let content = |file: &usize| self.contents[*file].read(self.contents[*file].since.len());
        self.names.iter().map(|(name, file)| (name.clone(), content(file))).collect()
    }

    /// Takes back what the directory shows not to have been done of the last call: the program may have been killed
    /// before it, or in the middle of it. Panics if the directory differs by more. Then the program has changed a file
    /// in a way that the ledger does not record.
    fn agree_with(&mut self, directory: &Path, before_last: Self) {
        let found = read_directory(directory);
        let (with, without) = (self.files(), before_last.files());
        if found == with {
            return;
        }
        if found == without {
            *self = before_last;
            return;
        }
        let differ = |(name, bytes): &(&String, &Vec<u8>)| with.get(*name) != Some(*bytes);
        let different: Vec<_> = found.iter().filter(differ).collect();
        let [(name, bytes)] = different[..] else { panic!("{:?} differ from the ledger", found.keys()) };
        let in_part = match (with.get(name), without.get(name)) {
            (Some(with), Some(without)) => bytes_in_part(bytes, with, without),
            _ => None,
        };
        let done = in_part.unwrap_or_else(|| panic!("{name} is not what the ledger says"));
        self.contents[self.names[name]].shorten_last(done);
    }

    /// The content that is there for sure.
    pub fn synced(&self) -> Files {
        self.synced_names.iter().map(|(name, file)| (name.clone(), self.contents[*file].synced.clone())).collect()
    }

    /// The content after a loss of power.
    pub fn fail(&self, loss: Loss, chance: &mut Chance) -> Files {
        let mut names = self.synced_names.clone();
        let count = match loss {
            Loss::Everything => 0,
            Loss::Nothing => self.namings.len(),
            Loss::Ends | Loss::Sectors => chance.below(self.namings.len() + 1),
        };
        // File systems keep the order of the changes of a directory.
        self.namings[..count].iter().for_each(|(_, naming)| naming.apply(&mut names));
        names.into_iter().map(|(name, file)| (name, self.contents[file].survives(loss, chance))).collect()
    }
}

/// The end of what the last write has written, if it was done in part: up to there is what it writes, and behind that
/// what was there.
fn bytes_in_part(found: &[u8], with: &[u8], without: &[u8]) -> Option<usize> {
    let done = found.iter().zip(with).take_while(|(found, with)| found == with).count();
    (found[done..] == *without.get(done..).unwrap_or_default()).then_some(done)
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Naming::New(name, file) => drop(names.insert(name.clone(), *file)),
            Naming::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Naming::Remove(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Debug)]
struct Entry<'a> {
    kind: u8,
    handle: u32,
    offset: u64,
    bytes: &'a [u8],
}

impl Entry<'_> {
    fn text(&self) -> String {
        String::from_utf8(self.bytes.to_vec()).unwrap()
    }
}

/// The entries of a ledger. The last one may be torn. An entry of a call that failed becomes idle, so that the numbers
/// of the others stay.
fn entries(mut ledger: &[u8]) -> Vec<Entry<'_>> {
    let mut found: Vec<Entry<'_>> = Vec::new();
    while ledger.len() >= 17 {
        let length = u32::from_le_bytes(ledger[13..17].try_into().unwrap()) as usize;
        let Some(bytes) = ledger.get(17..17 + length) else { break };
        let (kind, handle) = (ledger[0], u32::from_le_bytes(ledger[1..5].try_into().unwrap()));
        let offset = u64::from_le_bytes(ledger[5..13].try_into().unwrap());
        found.push(Entry { kind, handle, offset, bytes });
        ledger = &ledger[17 + length..];
    }
    let idle = || Entry { kind: IDLE, handle: 0, offset: 0, bytes: &[] };
    for at in 0..found.len() {
        match found[at].kind {
            b'F' => found[at - 1] = idle(),
            b'P' => {
                let length = found[at].offset as usize;
                found[at - 1].bytes = &found[at - 1].bytes[..length];
            }
            _ => continue,
        }
        found[at] = idle();
    }
    found
}

/// All files of a directory.
pub fn read_directory(directory: &Path) -> Files {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    std::fs::read_dir(directory).map(|entries| entries.map(read).collect()).unwrap_or_default()
}

/// Makes these the only files of a directory. Returns what they are then.
pub fn write_directory(directory: &Path, files: &Files) -> Files {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir(directory).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(directory.join(name), bytes).unwrap());
    name_itself(&directory.join("state"));
    read_directory(directory)
}

/// The file `state` names itself by its inode and its birth, and a loss of power changes neither. Here the file is a new
/// one, so its name for itself is put right, unless it is damaged.
fn name_itself(state: &Path) {
    let Ok(mut bytes) = std::fs::read(state) else { return };
    let mut sealed = bytes.clone();
    seal_state(&mut sealed);
    if bytes.len() < 12 || sealed != bytes {
        return;
    }
    let metadata = std::fs::metadata(state).unwrap();
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let itself = metadata.ino().rotate_left(32) ^ born.as_nanos() as u64;
    let at = bytes.len() - 12;
    bytes[at..at + 8].copy_from_slice(&itself.to_le_bytes());
    seal_state(&mut bytes);
    // In place.
    std::fs::write(state, bytes).unwrap();
}

/// Puts the right checksum behind the content of a file `state`.
pub fn seal_state(bytes: &mut [u8]) {
    if let Some((content, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(content).to_le_bytes();
    }
}

#[test]
fn the_last_call_of_a_program_that_was_killed_may_not_have_been_made() {
    let place = Place::new();
    let entry = |kind: u8, handle: u32, offset: u64, bytes: &[u8]| {
        let length = bytes.len() as u32;
        [&[kind][..], &handle.to_le_bytes(), &offset.to_le_bytes(), &length.to_le_bytes(), bytes].concat()
    };
    let (open, cut) = (entry(b'O', 1, 0, b"a"), entry(b'T', 1, 2, b""));
    let before = Files::from([("a".into(), b"12345".to_vec())]);
    for last in [&cut, &entry(b'W', 1, 5, b"67"), &entry(b'R', 0, 0, b"a\0b"), &entry(b'U', 0, 0, b"a")] {
        write_directory(&place.log(), &before);
        std::fs::write(place.0.join("ledger"), [&open[..], last].concat()).unwrap();
        let mut disk = Disk::with(before.clone());
        disk.follow_ledger(&place);
        // The next program goes on with what is there.
        assert_eq!(disk.files(), before);
    }
    // It may be a write that was made in part, over bytes that were there.
    let over = entry(b'W', 1, 1, b"abcde");
    for found in [&b"12345"[..], b"1ab45", b"1abcd", b"1abcde"] {
        write_directory(&place.log(), &Files::from([("a".into(), found.to_vec())]));
        std::fs::write(place.0.join("ledger"), [&open[..], &over].concat()).unwrap();
        let mut disk = Disk::with(before.clone());
        disk.follow_ledger(&place);
        assert_eq!(disk.files()["a"], found);
    }
    write_directory(&place.log(), &before);
    // But only the last one.
    std::fs::write(place.0.join("ledger"), [&open[..], &cut, &entry(b'W', 1, 2, b"c")].concat()).unwrap();
    let place = std::panic::AssertUnwindSafe(place);
    assert!(std::panic::catch_unwind(|| Disk::with(before).follow_ledger(&place)).is_err());
}
