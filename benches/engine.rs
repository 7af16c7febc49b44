//! Measures a log on disk (`engine=file:…`). Each figure has its floor beside it, measured in the same rounds. Prints
//! one line of JSON.
//!
//!     engine caller|throughput|always|start DIRECTORY
//!
//! - caller: the CPU time that publishing takes on the calling thread, with the log and without one
//! - throughput: messages a second from one thread until they are in the log; the same without a log; and the same bytes
//!   in bare writes
//! - always: messages a second of 64 threads that wait for their positions (`engine_sync=always`); of a bare write and
//!   fdatasync for each 64 messages; and of 64 threads that wait for the same with nothing but a lock
//! - start: the time of a start with 1,000,000 messages, and of reading and checksumming the same files
//!
//! `make bench` runs it (benches/README.md). It creates the directory, and removes its log in the end.

use push::hub::Publication;
use push::{Builder, Kind, Server};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const PAYLOAD: [u8; 100] = [b'x'; 100];
/// The bytes of the record of such a message in the channel `news`: its payload, the name, and 27 bytes.
const RECORD: usize = 131;
const ROUNDS: usize = 5;
const PUBLISHERS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, directory] = &arguments[..] else {
        // `cargo bench` runs all benchmarks, this one without a directory.
        println!("engine caller|throughput|always|start DIRECTORY");
        return;
    };
    let place = Path::new(directory).join("log");
    fs::create_dir_all(directory).unwrap();
    match &**what {
        "caller" => caller(&place),
        "throughput" => throughput(&place),
        "always" => always(&place),
        "start" => start(&place),
        other => panic!("{other}: caller, throughput, always, or start"),
    }
    let _ = fs::remove_dir_all(&place);
}

fn server(place: Option<&Path>, more: &[(&str, &str)]) -> Server {
    let mut builder = Builder::default();
    let engine = place.map_or("memory".to_owned(), |place| format!("file:{}", place.display()));
    for (name, value) in [("listen", "none"), ("threads", "1"), ("engine", &*engine)].iter().chain(more) {
        builder.set(name, value).unwrap();
    }
    Server::start(builder).unwrap()
}

fn empty(place: &Path) {
    let _ = fs::remove_dir_all(place);
}

fn post(server: &Server, count: usize) {
    let publication = Publication::new("news", &PAYLOAD);
    for _ in 0..count {
        while let Err(error) = server.post(&publication) {
            assert_eq!(error.kind(), Kind::Busy, "{error}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of both figures, and of the first over the second.
fn medians(rounds: Vec<(f64, f64)>) -> (f64, f64, f64) {
    let of = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
    (of(|round| round.0), of(|round| round.1), of(|round| round.0 / round.1))
}

/// CPU time of this thread, in nanoseconds. The kernel brings it up to date when the thread sleeps.
fn cpu_ns() -> f64 {
    std::thread::sleep(Duration::from_millis(1));
    let account = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    account.split(' ').next().unwrap().parse().unwrap()
}

fn caller(place: &Path) {
    const BATCH: usize = 50_000;
    empty(place);
    let (memory, file) = (server(None, &[]), server(Some(place), &[("engine_buffer", "256MB")]));
    let cpu = |server: &Server| {
        let before = cpu_ns();
        post(server, BATCH);
        let ns = (cpu_ns() - before) / BATCH as f64;
        // The log is written in this time, so the next batch begins at rest.
        std::thread::sleep(Duration::from_millis(100));
        ns
    };
    let (_, _) = (cpu(&memory), cpu(&file));
    let rounds = (0..4 * ROUNDS).map(|_| {
        let memory_ns = cpu(&memory);
        (cpu(&file), memory_ns)
    });
    let (ns, memory_ns, over) = medians(rounds.collect());
    println!("{{\"caller_ns\":{ns:.1},\"caller_memory_ns\":{memory_ns:.1},\"caller_over_memory\":{over:.3}}}");
    memory.stop(Duration::ZERO);
    file.stop(Duration::ZERO);
}

/// The files of a log.
fn segments(place: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect()
}

fn size(place: &Path) -> usize {
    segments(place).iter().map(|path| fs::metadata(path).unwrap().len() as usize).sum()
}

fn throughput(place: &Path) {
    const COUNT: usize = 500_000;
    let logged = || {
        empty(place);
        let server = server(Some(place), &[("engine_retention_bytes", "1GB")]);
        let began = Instant::now();
        post(&server, COUNT);
        while size(place) < COUNT * RECORD {
            std::thread::sleep(Duration::from_millis(1));
        }
        let seconds = began.elapsed().as_secs_f64();
        server.stop(Duration::ZERO);
        COUNT as f64 / seconds
    };
    let bare = || {
        empty(place);
        fs::create_dir(place).unwrap();
        let mut file = File::create(place.join("bare")).unwrap();
        let piece = vec![b'x'; 64 << 10];
        let began = Instant::now();
        let mut left = COUNT * RECORD;
        while left > 0 {
            let len = left.min(piece.len());
            file.write_all(&piece[..len]).unwrap();
            left -= len;
        }
        COUNT as f64 / began.elapsed().as_secs_f64()
    };
    // Whatever a log does, it can't be faster than the hub that numbers and keeps the messages.
    let memory = || {
        let server = server(None, &[]);
        let began = Instant::now();
        post(&server, COUNT);
        let rate = COUNT as f64 / began.elapsed().as_secs_f64();
        server.stop(Duration::ZERO);
        rate
    };
    let rounds: Vec<(f64, f64, f64)> = (0..ROUNDS).map(|_| (logged(), memory(), bare())).collect();
    let of = |pick: fn(&(f64, f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
    println!(
        "{{\"throughput_per_s\":{:.0},\"throughput_memory_per_s\":{:.0},\"throughput_bare_per_s\":{:.0},\
         \"throughput_over_bare\":{:.3},\"throughput_memory_over_bare\":{:.3},\"throughput_over_memory\":{:.3}}}",
        of(|round| round.0),
        of(|round| round.1),
        of(|round| round.2),
        of(|round| round.0 / round.2),
        of(|round| round.1 / round.2),
        of(|round| round.0 / round.1)
    );
}

/// How long each of the rates of `always` is measured.
const TIME: Duration = Duration::from_millis(1500);

fn always(place: &Path) {
    let fresh = || {
        empty(place);
        fs::create_dir(place).unwrap();
        File::create(place.join("bare")).unwrap()
    };
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|_| {
            empty(place);
            [published(place), synced(fresh()), committed(fresh())]
        })
        .collect();
    let of = |pick: fn(&[f64; 3]) -> f64| median(rounds.iter().map(pick).collect());
    println!(
        "{{\"always_per_s\":{:.0},\"always_bare_per_s\":{:.0},\"always_over_bare\":{:.3},\"always_over_group\":{:.3}}}",
        of(|round| round[0]),
        of(|round| round[1]),
        of(|round| round[0] / round[1]),
        of(|round| round[0] / round[2]),
    );
}

/// What `publish` does a second, if 64 threads call it and wait.
fn by_all(publish: impl Fn() + Sync) -> f64 {
    let began = Instant::now();
    let one = || {
        let mut count = 0;
        while began.elapsed() < TIME {
            publish();
            count += 1;
        }
        count
    };
    let count: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PUBLISHERS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    count as f64 / began.elapsed().as_secs_f64()
}

fn published(place: &Path) -> f64 {
    let server = server(Some(place), &[("engine_sync", "always")]);
    let rate = by_all(|| {
        server.publish(&Publication::new("news", &PAYLOAD)).unwrap();
    });
    server.stop(Duration::ZERO);
    rate
}

/// One thread that writes and syncs 64 records at once. Nobody waits for it.
fn synced(mut file: File) -> f64 {
    let (piece, began, mut count) = (vec![b'x'; PUBLISHERS * RECORD], Instant::now(), 0);
    while began.elapsed() < TIME {
        file.write_all(&piece).unwrap();
        file.sync_data().unwrap();
        count += PUBLISHERS;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// A bare group commit: 64 threads add a record each and wait, and one thread syncs them. Like the log's thread it waits
/// half the time of a sync for the threads that it has woken. The kernel's part is the same as with the log.
fn committed(mut file: File) -> f64 {
    #[derive(Default)]
    struct Records {
        waiting: Vec<u8>,
        added: usize,
        synced: usize,
        ended: bool,
    }
    let (records, came, synced) = (Mutex::new(Records::default()), Condvar::new(), Condvar::new());
    let sync = || {
        let (mut took, mut awaited) = (Duration::ZERO, 0);
        loop {
            let guard = came.wait_while(records.lock().unwrap(), |all| all.waiting.is_empty() && !all.ended).unwrap();
            let few = |all: &mut Records| all.added - all.synced < awaited;
            let (mut all, _) = came.wait_timeout_while(guard, took / 2, few).unwrap();
            if all.waiting.is_empty() {
                return;
            }
            let (piece, added) = (std::mem::take(&mut all.waiting), all.added);
            awaited = added - all.synced;
            drop(all);
            file.write_all(&piece).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            took = began.elapsed();
            records.lock().unwrap().synced = added;
            synced.notify_all();
        }
    };
    let add = || {
        let mut all = records.lock().unwrap();
        all.waiting.extend_from_slice(&[b'x'; RECORD]);
        all.added += 1;
        let (mine, waiting) = (all.added, all.added - all.synced);
        if waiting == 1 || waiting == PUBLISHERS {
            came.notify_one();
        }
        drop(synced.wait_while(all, |all| all.synced < mine).unwrap());
    };
    std::thread::scope(|scope| {
        scope.spawn(sync);
        let rate = by_all(add);
        records.lock().unwrap().ended = true;
        came.notify_one();
        rate
    })
}

fn start(place: &Path) {
    const COUNT: usize = 1_000_000;
    empty(place);
    let options = [("engine_retention_bytes", "1GB")];
    let first = server(Some(place), &options);
    post(&first, COUNT);
    first.stop(Duration::ZERO);
    let started = || {
        let began = Instant::now();
        let server = server(Some(place), &options);
        let ms = began.elapsed().as_secs_f64() * 1e3;
        assert_eq!(server.stats().unwrap().seq, COUNT as u64);
        server.stop(Duration::ZERO);
        ms
    };
    let read = || {
        let began = Instant::now();
        let sum: u32 =
            segments(place).iter().map(|path| crc32fast::hash(&fs::read(path).unwrap())).fold(0, |a, b| a ^ b);
        std::hint::black_box(sum);
        began.elapsed().as_secs_f64() * 1e3
    };
    let (_, _) = (started(), read());
    let (start_ms, read_ms, over) = medians((0..ROUNDS).map(|_| (started(), read())).collect());
    println!("{{\"log_start_ms\":{start_ms:.1},\"log_read_ms\":{read_ms:.1},\"log_start_over_read\":{over:.2}}}");
}
