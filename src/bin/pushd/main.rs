//! The hub as a process of its own, for hosts that consist of many processes, or that restart while their clients stay.
//!
//! Exit codes: 0 after SIGTERM or SIGINT, 1 if it could not start, 2 if its arguments or options were wrong. With -t: 0 if
//! the options are good, else 2.
#![forbid(unsafe_code)]

mod lines;

use lines::{log, say, Form};
use push::engine;
use push::error::Kind;
use push::log::{Level, LogTo};
use push::number;
use push::process::{self, Signal};
use push::server::Readiness;
use push::{Builder, Error, Server};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
pushd [-c FILE.toml] [-o NAME=VALUE]... [-d SECONDS] [--log-format=FORM]
pushd -t [-c FILE.toml] [-o NAME=VALUE]...
pushd log [-q] DIRECTORY

The hub of libpush as a process. Hosts use their option attach to attach to the
address in its option attach_listen.

    -c FILE        read options from a file
    -o NAME=VALUE  set one option; later ones win
    -d SECONDS     the time over which clients are sent away at the end (5)
    -t             check the options and the files that they name, and end: 0 if all
                   is good, else 2. It does not start a hub, and disturbs none
    --log-format=FORM  the form of the lines that it logs: \"plain\" without time,
                   \"text\" or \"json\" with time (plain)
    -h             show this text
    -V             show the version

It logs to stderr. SIGHUP makes it read FILE again; options that can change while
it runs take effect then. SIGTERM and SIGINT end it, and a second one ends it at
once. It takes over the sockets of a service manager: one named \"attach\" for
hosts, and those named \"listen\" for subscribers.

\"log\" prints the entries of the log in a directory (option engine) and checks
them all; with -q it prints only what it found.
";

const LOG_FORMAT: &str = "--log-format";

/// The arguments, parsed.
struct Called {
    builder: Builder,
    drain: Duration,
}

/// The cause of an exit code other than 0.
enum Failure {
    Usage(String),
    Start(Error),
    /// The options, or the files that they name, are wrong. Only -t asks.
    Checked(Error),
    /// It can't wait for signals, so only SIGKILL could end it.
    Signals(io::Error),
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| answer(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            say(Level::Error, format_args!("{text}\npushd: -h shows the usage"));
            ExitCode::from(2)
        }
        Err(Failure::Signals(error)) => {
            say(Level::Error, format_args!("can't wait for signals: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Checked(error)) => {
            say(Level::Error, format_args!("{error}"));
            ExitCode::from(2)
        }
        Err(Failure::Start(error)) => {
            say(Level::Error, format_args!("{error}"));
            ExitCode::from(if error.kind() == Kind::Config { 2 } else { 1 })
        }
    }
}

fn arguments() -> Result<Vec<String>, Failure> {
    let text = |argument: std::ffi::OsString| {
        argument.into_string().map_err(|argument| Failure::Usage(format!("{argument:?} is not UTF-8")))
    };
    std::env::args_os().skip(1).map(text).collect()
}

fn answer(arguments: &[String]) -> Result<(), Failure> {
    let text = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["-h" | "--help"] => USAGE,
        ["-V" | "--version"] => concat!("pushd ", env!("CARGO_PKG_VERSION"), "\n"),
        ["log", directory] if directory != "-q" => return show(directory, true),
        ["log", "-q", directory] => return show(directory, false),
        ["log", ..] => return Err(Failure::Usage("pushd log: DIRECTORY is missing".into())),
        _ => {
            set_form(arguments)?;
            return if flags(arguments).contains(&"-t") { check(arguments) } else { run(arguments) };
        }
    };
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn show(directory: &str, entries: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match engine::show_log(Path::new(directory), entries, &mut out) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == Kind::Closed => Ok(()),
        shown => shown.map_err(Failure::Start),
    }
}

/// The flags, without the values of those that have one.
fn flags(arguments: &[String]) -> Vec<&str> {
    let (mut found, mut arguments) = (Vec::new(), arguments.iter());
    while let Some(flag) = arguments.next() {
        found.push(&**flag);
        if matches!(&**flag, "-c" | "-o" | "-d") {
            arguments.next();
        }
    }
    found
}

/// Sets the form of the lines, before any is written.
fn set_form(arguments: &[String]) -> Result<(), Failure> {
    for flag in flags(arguments) {
        let Some(form) = flag.strip_prefix(LOG_FORMAT) else { continue };
        let form = form.strip_prefix('=').and_then(Form::read);
        form.ok_or_else(|| Failure::Usage(format!("{LOG_FORMAT}=FORM: {} is expected", lines::FORMS)))?.set();
    }
    Ok(())
}

/// Checks the options as a start does. It takes no sockets of a service manager, which may give them only to the hub.
fn check(arguments: &[String]) -> Result<(), Failure> {
    let wrong = |failure| match failure {
        Failure::Start(error) => Failure::Checked(error),
        other => other,
    };
    let builder = read(arguments).map_err(wrong)?.builder;
    check_role(&builder)?;
    Server::check(&builder).map_err(Failure::Checked)?;
    let sockets =
        if listens(&builder) { "" } else { ", if a service manager passes the sockets: they name no address" };
    say(Level::Info, format_args!("the options are good{sockets}"));
    Ok(())
}

/// Checks that the options are those of a hub that is a program.
fn check_role(builder: &Builder) -> Result<(), Failure> {
    let config = builder.config();
    if config.attach.is_some() {
        return Err(Failure::Usage("option attach: pushd is a hub; hosts attach to its attach_listen".into()));
    }
    if config.log != LogTo::Callback || config.log_fd.is_some() {
        let text = "options log and log_fd: pushd logs to stderr (--log-format); they are for programs that load the \
                    library";
        return Err(Failure::Usage(text.into()));
    }
    Ok(())
}

/// True if clients or hosts can connect.
fn listens(builder: &Builder) -> bool {
    let config = builder.config();
    let for_clients = !config.listen.is_empty() || !builder.listen_sockets.is_empty();
    for_clients || config.attach_listen.is_some() || builder.attach_socket.is_some()
}

fn read(arguments: &[String]) -> Result<Called, Failure> {
    let mut called = Called { builder: Builder::default(), drain: Duration::from_secs(5) };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
        if flag == "-t" {
            continue;
        }
        if flag.starts_with(LOG_FORMAT) {
            continue;
        }
        if !["-c", "-o", "-d"].contains(&&**flag) {
            return Err(Failure::Usage(format!("unknown argument {flag:?}")));
        }
        let value = arguments.next().ok_or_else(|| Failure::Usage(format!("{flag} needs a value")))?;
        match &**flag {
            "-c" => called.builder.load(Path::new(value)).map_err(Failure::Start)?,
            "-o" => {
                let (name, value) =
                    value.split_once('=').ok_or_else(|| Failure::Usage(format!("-o {value:?} is not NAME=VALUE")))?;
                called.builder.set(name.trim(), value).map_err(Failure::Start)?;
            }
            _ => {
                let seconds = number::read(value)
                    .ok_or_else(|| Failure::Usage(format!("-d {value:?} is not a number of seconds")))?;
                called.drain = Duration::from_secs(seconds);
            }
        }
    }
    Ok(called)
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    // This comes before any other thread exists that could get a signal.
    process::block_signals();
    let Called { mut builder, drain } = read(arguments)?;
    check_role(&builder)?;
    for (name, socket) in process::inherited_sockets().map_err(Failure::Start)? {
        match &*name {
            // With two of them, the first would be closed, and connections to it refused.
            "attach" if builder.attach_socket.is_some() => {
                return Err(Failure::Usage(
                    "two sockets are named \"attach\"; one is allowed (FileDescriptorName= in units)".into(),
                ));
            }
            "attach" => builder.attach_socket = Some(Arc::new(socket)),
            "listen" => builder.listen_sockets.push(Arc::new(socket)),
            _ => return Err(Failure::Usage(format!("a socket is named {name:?}; allowed are attach and listen"))),
        }
    }
    if !listens(&builder) {
        let text = "options listen and attach_listen are both none, so neither clients nor hosts could connect";
        return Err(Failure::Usage(text.into()));
    }
    builder.on_log = Some(Arc::new(|level, line| log(level, format_args!("{line}"))));
    if let Err(error) = process::raise_descriptors() {
        log(Level::Warn, format_args!("can't raise the limit of descriptors: {error}"));
    }
    let server = Server::start(builder).map_err(Failure::Start)?;
    let readiness = server.readiness();
    if readiness.changes() {
        let readiness = readiness.clone();
        // Signals are taken meanwhile. The thread ends with the process.
        std::thread::spawn(move || tell_readiness(&readiness));
    } else {
        tell_manager(process::notify("READY=1"));
    }
    let signal = loop {
        match process::next_signal() {
            Ok(Signal::Reload) => reload(&server, &readiness, arguments),
            Ok(Signal::End(signal)) => break signal,
            Err(error) => return Err(Failure::Signals(error)),
        }
    };
    log(Level::Info, format_args!("{signal}: ending within {} s", drain.as_secs()));
    tell_manager(process::notify("STOPPING=1"));
    // A second signal means that the drain should not go on. The thread ends with the process.
    std::thread::spawn(|| {
        while let Ok(signal) = process::next_signal() {
            if signal != Signal::Reload {
                std::process::exit(0);
            }
        }
    });
    server.stop(drain);
    Ok(())
}

/// Tells the service manager when the hub has read the log that it shares with others, and from then on how it is with
/// that log.
fn tell_readiness(readiness: &Readiness) {
    const LOOK: Duration = Duration::from_secs(1);
    let mut said = String::new();
    let mut ready = false;
    loop {
        let was_ready = std::mem::replace(&mut ready, readiness.wait(LOOK));
        let state = state(readiness);
        if state != said || ready != was_ready {
            let begins = if ready && !was_ready { "READY=1\n" } else { "" };
            tell_manager(process::notify(&format!("{begins}STATUS={state}")));
            said = state;
        }
        if ready {
            std::thread::sleep(LOOK);
        }
    }
}

/// How it is with the log, in one line: a second one would be read as another variable of the manager's protocol.
fn state(readiness: &Readiness) -> String {
    let failure = readiness.failure().map(|why| format!("engine: {}", why.replace('\n', " ")));
    failure.unwrap_or_else(|| "the hub follows its log".to_owned())
}

/// Reads the options again, in the order of the arguments. If any is wrong, none changes.
fn reload(server: &Server, readiness: &Readiness, arguments: &[String]) {
    log(Level::Info, format_args!("SIGHUP: reading options again"));
    // A hub that has not read its log is not ready, and does not become so by this.
    let was_ready = readiness.wait(Duration::ZERO);
    if was_ready {
        tell_manager(process::notify_reloading());
    }
    // The server logs its own errors.
    let done = match read(arguments) {
        Ok(called) => server.reload(&called.builder).map(drop).map_err(|error| error.to_string()),
        Err(failure) => {
            server.note_unread_options();
            Err(unread(match failure {
                Failure::Usage(text) => text,
                Failure::Start(error) | Failure::Checked(error) => error.to_string(),
                Failure::Signals(error) => error.to_string(),
            }))
        }
    };
    let begins = if was_ready { "READY=1\n" } else { "" };
    let ends = if readiness.changes() { format!("; {}", state(readiness)) } else { String::new() };
    tell_manager(process::notify(&match done {
        Ok(()) => format!("{begins}STATUS=options reloaded{ends}"),
        // The text must be one line: a second one would be read as another variable of the protocol.
        Err(text) => format!("{begins}STATUS=options not reloaded: {}{ends}", text.replace('\n', " ")),
    }));
}

fn unread(text: String) -> String {
    log(Level::Error, format_args!("the options are not reloaded and stay as they were: {text}"));
    text
}

fn tell_manager(told: io::Result<()>) {
    if let Err(error) = told {
        log(Level::Warn, format_args!("NOTIFY_SOCKET: {error}"));
    }
}
