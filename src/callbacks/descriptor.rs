//! The thread that writes log lines to a descriptor of the host (option `log_fd`). It alone waits for a slow reader.

use super::By;
use crate::log::{Line, Log, LINES};
use crate::sys::output::{Output, MAX_AT_ONCE};
use crossbeam::channel::{select, Receiver, TryRecvError};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long the thread waits for a slow reader until it looks whether it is to end.
const SLICE: Duration = Duration::from_millis(200);
/// How long it waits before it tries again what was not taken although there seemed to be room.
const RETRY: Duration = Duration::from_millis(10);

/// How late the thread may be at the end.
pub(super) const SLACK: Duration = Duration::from_secs(1);

/// The thread's work.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Receiver<Line>,
    /// Tells it to end, and by when.
    stop: Receiver<By>,
    output: Output,
    /// It counts the lines that can't be written.
    log: Log,
    /// By when it has to end, once it was told to.
    end: Option<By>,
    /// The lines that are missing after the last one that was written.
    lost: u64,
    /// Only a part of the last line was written.
    is_amid: bool,
}

impl Writer {
    pub(super) fn new(lines: Receiver<Line>, stop: Receiver<By>, output: Output, log: Log) -> Self {
        Writer { lines, stop, output, log, end: None, lost: 0, is_amid: false }
    }

    /// Writes lines until it is told to end. Then it still writes those that wait. The descriptor is closed after that.
    ///
    /// A slow reader gets all the time that there is, and the other lines wait in the channel meanwhile. When that is
    /// full, the log drops lines.
    pub(super) fn run(mut self) {
        while self.end.is_none() {
            select! {
                recv(self.lines) -> line => if let Ok(line) = line { self.tell(line) },
                // Nobody is left who could tell it: it ends at once.
                recv(self.stop) -> by => self.end = Some(by.unwrap_or_else(|_| Some(Instant::now()))),
            }
        }
        // A thread that is left over may still log.
        for _ in 0..LINES {
            let Ok(line) = self.lines.try_recv() else { break };
            self.tell(line);
        }
        if let Some(line) = self.log.last_line(self.lost) {
            self.put(&line);
        }
    }

    /// Writes a line, or counts it as dropped. The lines behind it wait already, so the number of those that are missing
    /// goes with the next line that is written, and not with the next one that is logged.
    fn tell(&mut self, mut line: Line) {
        line.lost += self.lost;
        self.lost = if self.put(&line) { 0 } else { line.lost + 1 };
        if self.lost > 0 {
            self.log.count_dropped();
        }
    }

    /// Writes a line. False: it was not written, or only a part of it.
    fn put(&mut self, line: &Line) -> bool {
        // The rest of a line that was cut off is not written any more. The next line begins on a line of its own.
        let begin = if self.is_amid { "\n" } else { "" };
        let bytes = begin.to_owned() + &line.written(MAX_AT_ONCE - begin.len());
        let written = self.write(bytes.as_bytes());
        let is_whole = written == bytes.len();
        self.is_amid = !is_whole && (self.is_amid || written > 0);
        is_whole
    }

    /// Writes bytes, and returns how many were written. A pipe and a file mostly take all of them at once.
    fn write(&mut self, bytes: &[u8]) -> usize {
        // A socket says by itself that it is full. Of anything else this is asked before.
        let mut may_try = self.output.never_waits();
        let mut done = 0;
        while done < bytes.len() && (may_try || self.wait()) {
            match self.output.write(&bytes[done..]) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && may_try => may_try = false,
                // Somebody else was faster, or there is room for less than this.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.left().is_zero() => {
                    std::thread::sleep(RETRY);
                }
                Err(_) => break,
            }
        }
        done
    }

    /// Waits until the reader takes bytes. False: the server ends, and the time for that is over.
    fn wait(&mut self) -> bool {
        loop {
            let left = self.left();
            match self.output.wait(left.min(SLICE)) {
                Ok(true) => return true,
                Ok(false) if !left.is_zero() => {}
                Ok(false) | Err(_) => return false,
            }
        }
    }

    /// How long the reader may still keep the thread waiting.
    fn left(&mut self) -> Duration {
        if self.end.is_none() {
            self.end = match self.stop.try_recv() {
                Ok(by) => Some(by),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Some(Instant::now())),
            };
        }
        let by = self.end.flatten();
        by.map_or(Duration::MAX, |by| by.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Level, Sink};
    use crate::shard::panic_tests::common::until;
    use crossbeam::channel::{bounded, Sender};
    use std::io::{PipeReader, PipeWriter, Read, Write};
    use std::os::fd::AsRawFd;

    /// A log that is written to a descriptor. The thread does not run: [`Writer::run`] does its work.
    fn writer(fd: &impl AsRawFd) -> (Log, Writer, Sender<By>) {
        let (lines, lines_out) = bounded(LINES);
        let (stop, stop_out) = bounded(1);
        let log = Log::new(Some(Sink::Thread(lines)), Level::Info);
        let output = Output::duplicate(fd.as_raw_fd()).unwrap();
        (log.clone(), Writer::new(lines_out, stop_out, output, log), stop)
    }

    /// The same with a pipe, and the end from which it is read.
    fn piped() -> (PipeReader, Log, Writer, Sender<By>) {
        let (reader, file) = std::io::pipe().unwrap();
        let (log, writer, stop) = writer(&file);
        (reader, log, writer, stop)
    }

    /// Writes what waits, and ends.
    fn finish(writer: Writer, stop: &Sender<By>) {
        // A thread of a test does not block SIGPIPE, but Rust's programs ignore it.
        stop.send(Some(Instant::now())).unwrap();
        writer.run();
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn each_line_is_one_write_with_its_time_and_level() {
        let (mut reader, log, writer, stop) = piped();
        log.line(Level::Warn, format_args!("first"));
        log.line(Level::Info, format_args!("{}", "ü".repeat(10_000)));
        finish(writer, &stop);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        assert!(lines.len() == 2 && lines[0].ends_with("Z libpush: warning: first\n"), "{lines:?}");
        humantime::parse_rfc3339(lines[0].split(' ').next().unwrap()).unwrap();
        assert!(lines[1].len() <= MAX_AT_ONCE && lines[1].ends_with("ü…\n"), "{}", lines[1]);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn a_full_pipe_and_one_without_a_reader_take_no_time_and_the_lines_are_counted() {
        let (mut reader, log, writer, stop) = piped();
        for n in 0..LINES {
            log.line(Level::Info, format_args!("{n} {}", "x".repeat(200)));
        }
        let again = writer.lines.clone();
        finish(writer, &stop);
        assert!(again.is_empty());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let written = text.lines().count() as u64;
        assert!(written > 100 && text.ends_with("x\n"), "{written}");
        assert_eq!(log.dropped(), LINES as u64 - written);

        // A child that another test starts has the reader as well, until it runs its program.
        until("a line is not counted that nobody reads", || {
            let (reader, log, writer, stop) = piped();
            drop(reader);
            log.line(Level::Info, format_args!("nobody reads"));
            finish(writer, &stop);
            log.dropped() == 1
        });
    }

    /// A pipe without room, and the number of bytes in it.
    fn full_pipe() -> (PipeReader, PipeWriter, usize) {
        let (reader, mut file) = std::io::pipe().unwrap();
        let (mut len, output) = (0, Output::duplicate(file.as_raw_fd()).unwrap());
        while output.wait(Duration::ZERO).unwrap() {
            len += file.write(&[b'-'; MAX_AT_ONCE]).unwrap();
        }
        (reader, file, len)
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn lines_wait_for_a_slow_reader() {
        let (mut reader, file, filled) = full_pipe();
        let (log, writer, stop) = writer(&file);
        drop(file);
        for n in 0..3 {
            log.line(Level::Info, format_args!("{n}"));
        }
        let thread = std::thread::spawn(move || writer.run());
        // Longer than it looks away.
        std::thread::sleep(SLICE * 2);
        assert_eq!(log.dropped(), 0);
        reader.read_exact(&mut vec![0; filled]).unwrap();
        stop.send(Some(Instant::now() + Duration::from_secs(60))).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        thread.join().unwrap();
        let ends: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!((ends.as_slice(), log.dropped()), (&["0", "1", "2"][..], 0), "{text}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn a_reader_has_all_the_time_of_the_stop() {
        for time in [Some(Duration::from_secs(60)), None] {
            let (mut reader, file, filled) = full_pipe();
            let (log, writer, stop) = writer(&file);
            drop(file);
            log.line(Level::Info, format_args!("a"));
            log.line(Level::Info, format_args!("stopped"));
            stop.send(time.map(|time| Instant::now() + time)).unwrap();
            let thread = std::thread::spawn(move || writer.run());
            std::thread::sleep(SLICE * 3);
            reader.read_exact(&mut vec![0; filled]).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            thread.join().unwrap();
            assert!(text.ends_with("info: stopped\n") && text.lines().count() == 2, "{text}");
            assert_eq!(log.dropped(), 0);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn the_end_says_what_did_not_fit_into_the_channel() {
        let (mut reader, log, writer, stop) = piped();
        for n in 0..LINES + 3 {
            log.line(Level::Info, format_args!("{n}"));
        }
        stop.send(Some(Instant::now() + Duration::from_secs(60))).unwrap();
        let thread = std::thread::spawn(move || writer.run());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        thread.join().unwrap();
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.ends_with("warning: the log ends here (lines dropped before this one: 3)\n"), "{text}");
        assert_eq!(log.dropped(), 3);
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn a_line_that_waits_already_hears_of_the_end() {
        let (_reader, file, _) = full_pipe();
        let (log, writer, stop) = writer(&file);
        log.line(Level::Info, format_args!("under way"));
        let (again, (ended, end)) = (writer.lines.clone(), bounded(1));
        std::thread::spawn(move || {
            writer.run();
            ended.send(())
        });
        while !again.is_empty() {
            std::thread::yield_now();
        }
        // Without that it would wait for ever.
        stop.send(Some(Instant::now())).unwrap();
        assert_eq!((end.recv_timeout(Duration::from_secs(60)), log.dropped()), (Ok(()), 1));
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn the_next_line_that_is_written_says_how_many_were_dropped_and_begins_a_line() {
        let (mut reader, file, filled) = full_pipe();
        let (log, mut writer, _stop) = writer(&file);
        for text in ["dropped", "dropped too", "written", "no note"] {
            log.line(Level::Info, format_args!("{text}"));
        }
        let tell = |writer: &mut Writer| {
            let line = writer.lines.recv().unwrap();
            writer.tell(line);
        };
        writer.end = Some(Some(Instant::now()));
        tell(&mut writer);
        tell(&mut writer);
        assert_eq!((writer.lost, log.dropped()), (2, 2));
        // A part of a line that was written before.
        writer.is_amid = true;
        reader.read_exact(&mut vec![0; filled]).unwrap();
        tell(&mut writer);
        tell(&mut writer);
        drop((writer, file));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 3 && lines[0].is_empty(), "{text:?}");
        assert!(lines[1].ends_with(" libpush: info: written (lines dropped before this one: 2)"), "{text:?}");
        assert!(lines[2].ends_with(" libpush: info: no note"), "{text:?}");
    }
}
