//! The thread that writes log lines to a descriptor of the host (option `log_fd`). It alone waits for a slow reader.

use super::By;
use crate::log::{Line, Log, LINES};
use crate::sys::output::{Output, MAX_AT_ONCE};
use crossbeam::channel::{select, Receiver};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long a line waits for a reader that has kept up so far. A reader that does not keep up gets no time: the lines
/// behind would wait as well.
const PAUSE: Duration = Duration::from_millis(200);

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
    /// The last line was not written.
    is_behind: bool,
    /// Only a part of the last line was written.
    is_amid: bool,
}

impl Writer {
    pub(super) fn new(lines: Receiver<Line>, stop: Receiver<By>, output: Output, log: Log) -> Self {
        Writer { lines, stop, output, log, is_behind: false, is_amid: false }
    }

    /// Writes lines until it is told to end. Then it still writes those that wait. The descriptor is closed after that.
    pub(super) fn run(mut self) {
        let until = loop {
            select! {
                recv(self.lines) -> line => if let Ok(line) = line { self.tell(&line, None) },
                recv(self.stop) -> until => break until.ok().flatten(),
            }
        };
        // A thread that is left over may still log.
        for _ in 0..LINES {
            let Ok(line) = self.lines.try_recv() else { break };
            self.tell(&line, until);
        }
    }

    /// Writes a line, or counts it as dropped.
    fn tell(&mut self, line: &Line, until: By) {
        // The rest of a line that was cut off is not written any more. The next line begins on a line of its own.
        let begin = if self.is_amid { "\n" } else { "" };
        let bytes = begin.to_owned() + &line.written(MAX_AT_ONCE - begin.len());
        let written = self.write(bytes.as_bytes(), until);
        self.is_behind = written < bytes.len();
        if self.is_behind {
            self.is_amid |= written > 0;
            self.log.drop_line(line);
        } else {
            self.is_amid = false;
        }
    }

    /// Writes bytes, and returns how many were written. A pipe and a file mostly take all of them at once.
    fn write(&self, bytes: &[u8], until: By) -> usize {
        // A socket says by itself that it is full. Of anything else this is asked before.
        let mut may_try = self.output.never_waits();
        let mut done = 0;
        while done < bytes.len() && (may_try || self.output.wait(self.pause(until))) {
            match self.output.write(&bytes[done..]) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && may_try => may_try = false,
                Err(_) => break,
            }
        }
        done
    }

    /// How long the reader may keep a line waiting.
    fn pause(&self, until: By) -> Duration {
        match until {
            _ if self.is_behind => Duration::ZERO,
            None => PAUSE,
            Some(until) => until.saturating_duration_since(Instant::now()).min(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Level, Sink};
    use crossbeam::channel::{bounded, Sender};
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// A log that is written to a descriptor. The thread does not run: [`Writer::run`] does its work.
    fn writer(fd: &impl AsRawFd) -> (Log, Writer, Sender<By>) {
        let (lines, lines_out) = bounded(LINES);
        let (stop, stop_out) = bounded(1);
        let log = Log::new(Some(Sink::Thread(lines)), Level::Info);
        let output = Output::duplicate(fd.as_raw_fd()).unwrap();
        (log.clone(), Writer::new(lines_out, stop_out, output, log), stop)
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
        let (mut reader, file) = std::io::pipe().unwrap();
        let (log, writer, stop) = writer(&file);
        drop(file);
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
        let (mut reader, file) = std::io::pipe().unwrap();
        let (log, writer, stop) = writer(&file);
        for n in 0..LINES {
            log.line(Level::Info, format_args!("{n} {}", "x".repeat(200)));
        }
        let (again, _) = (writer.lines.clone(), drop(file));
        finish(writer, &stop);
        assert!(again.is_empty());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let written = text.lines().count() as u64;
        assert!(written > 100 && text.ends_with("x\n"), "{written}");
        assert_eq!(log.dropped(), LINES as u64 - written);

        let (reader, file) = std::io::pipe().unwrap();
        drop(reader);
        let (log, writer, stop) = super::tests::writer(&file);
        log.line(Level::Info, format_args!("nobody reads"));
        finish(writer, &stop);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn the_next_line_says_how_many_were_dropped_and_begins_a_line() {
        let (mut reader, mut file) = UnixStream::pair().unwrap();
        let (log, mut writer, _stop) = writer(&file);
        // The socket is full, but for a part of a line.
        file.set_nonblocking(true).unwrap();
        while file.write(&[b'-'; 1024]).is_ok() {}
        log.line(Level::Info, format_args!("dropped"));
        let line = writer.lines.recv().unwrap();
        writer.tell(&line, None);
        assert!(writer.is_behind && log.dropped() == 1);
        // A part of a line that was written before.
        writer.is_amid = true;
        let mut some = vec![0; 1 << 20];
        while reader.read(&mut some).unwrap() == some.len() {}
        reader.set_nonblocking(true).unwrap();
        while reader.read(&mut some).is_ok() {}
        log.line(Level::Info, format_args!("written"));
        let line = writer.lines.recv().unwrap();
        writer.tell(&line, None);
        let len = reader.read(&mut some).unwrap();
        let text = std::str::from_utf8(&some[..len]).unwrap();
        assert!(text.starts_with('\n'), "{text:?}");
        assert!(text.ends_with(" libpush: info: written (lines dropped before this one: 1)\n"), "{text:?}");
        assert!(!writer.is_behind && !writer.is_amid);
    }
}
