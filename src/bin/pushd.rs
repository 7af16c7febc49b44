//! The hub as a process of its own: for hosts that are many processes, or that restart while their clients stay.
//!
//! Exit codes: 0 after SIGTERM or SIGINT, 1 when it could not start, 2 when it was called wrongly.
#![forbid(unsafe_code)]

use push::error::Kind;
use push::log::Level;
use push::process::{self, Signal};
use push::{Builder, Error, Server};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
pushd [-c FILE.toml] [-o NAME=VALUE]... [-d SECONDS]

The hub of libpush as a process: hosts attach to its attach_listen with the option attach.

    -c FILE        options from a file
    -o NAME=VALUE  one option; later ones win
    -d SECONDS     over how long clients are sent away when it stops (5)
    -h             this text
    -V             the version

It logs to stderr. SIGHUP reads FILE again, and options that can change while it
runs do. SIGTERM and SIGINT end it, a second one at once. Sockets of a service
manager are taken over: one named \"attach\" for hosts, those named \"listen\" for
subscribers.
";

/// What it was called with.
struct Called {
    builder: Builder,
    drain: Duration,
}

/// Why it ends with another code than 0.
enum Failure {
    Usage(String),
    Start(Error),
    /// It could not be ended but by SIGKILL.
    Signals(io::Error),
}

fn main() -> ExitCode {
    // Before any thread is there that could get them.
    process::block_signals();
    match arguments().and_then(|arguments| answer(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            log(format_args!("{text}\npushd: -h shows how to call it"));
            ExitCode::from(2)
        }
        Err(Failure::Signals(error)) => {
            log(format_args!("signals can't be waited for: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Start(error)) => {
            log(format_args!("{error}"));
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
        _ => return run(arguments),
    };
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Not `eprintln!`, which panics when nobody reads the log any more, or its disk is full: no reason to end.
fn log(line: fmt::Arguments) {
    let _ = writeln!(io::stderr(), "pushd: {line}");
}

fn read(arguments: &[String]) -> Result<Called, Failure> {
    let mut called = Called { builder: Builder::default(), drain: Duration::from_secs(5) };
    let mut arguments = arguments.iter();
    while let Some(flag) = arguments.next() {
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
                let seconds =
                    value.parse().map_err(|_| Failure::Usage(format!("-d {value:?} is not a number of seconds")))?;
                called.drain = Duration::from_secs(seconds);
            }
        }
    }
    Ok(called)
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let Called { mut builder, drain } = read(arguments)?;
    if builder.config().attach.is_some() {
        return Err(Failure::Usage("option attach: pushd is a hub; hosts attach to its attach_listen".into()));
    }
    for (name, socket) in process::inherited_sockets().map_err(Failure::Start)? {
        match &*name {
            // The first would be closed, and whoever connects to it refused.
            "attach" if builder.attach_socket.is_some() => {
                return Err(Failure::Usage("two sockets named \"attach\"; one is allowed".into()));
            }
            "attach" => builder.attach_socket = Some(Arc::new(socket)),
            "listen" => builder.listen_sockets.push(Arc::new(socket)),
            _ => return Err(Failure::Usage(format!("a socket named {name:?}; attach and listen are known"))),
        }
    }
    let config = builder.config();
    let for_clients = !config.listen.is_empty() || !builder.listen_sockets.is_empty();
    if !for_clients && config.attach_listen.is_none() && builder.attach_socket.is_none() {
        let text = "options listen and attach_listen: both are none, so neither clients nor hosts could connect";
        return Err(Failure::Usage(text.into()));
    }
    builder.on_log = Some(Arc::new(|level, line| {
        let level = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        log(format_args!("{level}: {line}"));
    }));
    if let Err(error) = process::raise_descriptors() {
        log(format_args!("warning: the limit of descriptors stays as it is: {error}"));
    }
    let server = Server::start(builder).map_err(Failure::Start)?;
    tell_manager(process::notify("READY=1"));
    let signal = loop {
        match process::next_signal() {
            Ok(Signal::Reload) => reload(&server, arguments),
            Ok(Signal::End(signal)) => break signal,
            Err(error) => return Err(Failure::Signals(error)),
        }
    };
    log(format_args!("info: {signal}: ending within {} s", drain.as_secs()));
    tell_manager(process::notify("STOPPING=1"));
    // Whoever asks twice does not want to wait. The thread ends with the process.
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

/// Reads the options again, in the order that it was called with. With any that are wrong all stays as it is.
fn reload(server: &Server, arguments: &[String]) {
    log(format_args!("info: SIGHUP: reading options again"));
    tell_manager(process::notify_reloading());
    // The server tells of its own errors.
    let done = match read(arguments) {
        Ok(called) => server.reload(&called.builder).map(drop).map_err(|error| error.to_string()),
        Err(Failure::Usage(text)) => Err(unread(text)),
        Err(Failure::Start(error)) => Err(unread(error.to_string())),
        Err(Failure::Signals(error)) => Err(unread(error.to_string())),
    };
    tell_manager(process::notify(&match done {
        Ok(()) => "READY=1\nSTATUS=options reloaded".into(),
        // One line: what follows another would be read as more of the protocol.
        Err(text) => format!("READY=1\nSTATUS=options not reloaded: {}", text.replace('\n', " ")),
    }));
}

fn unread(text: String) -> String {
    log(format_args!("error: options not reloaded, all stays as it was: {text}"));
    text
}

fn tell_manager(told: io::Result<()>) {
    if let Err(error) = told {
        log(format_args!("warning: NOTIFY_SOCKET: {error}"));
    }
}
