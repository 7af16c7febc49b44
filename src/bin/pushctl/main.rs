//! A hub from the command line: what is on it, which client is slow, and what to do about it. It asks the control API.
//!
//! Exit codes: 0, 1 if the hub refuses or can't be reached, 2 if the arguments are wrong.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod completion;
mod hub;
mod lists;
mod tail;
mod text;
mod tls;
mod top;

use arguments::{Call, Called};
use hub::{Address, Hub};
use std::env::VarError;
use std::io::{self, Write};
use std::process::ExitCode;

/// The place of the control API of a hub that a service manager runs.
const USUAL_ADDRESS: &str = "unix:/run/pushd/control.sock";

/// The cause of an exit code other than 0.
#[derive(Debug)]
enum Failure {
    Usage(String),
    Hub(String),
}

/// The standard output. If nobody reads it any more, the program ends without a word. If it can't be written, that is a
/// failure: what was asked is done, and only a part of it is shown.
#[derive(Debug)]
struct Out;

impl Out {
    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                self.note(&format!("the output can't be written: {error}"));
                std::process::exit(1);
            }
        }
    }

    /// Writes a remark, which is no part of the output.
    fn note(&self, text: &str) {
        let _ = writeln!(io::stderr(), "pushctl: {text}");
    }
}

fn main() -> ExitCode {
    let failure = match arguments::read(std::env::args_os().skip(1)).and_then(run) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::Usage(text) => {
            Out.note(&format!("{}\npushctl: -h shows the usage", text::clean(&text)));
            ExitCode::from(2)
        }
        Failure::Hub(text) => {
            Out.note(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(call: Call) -> Result<(), Failure> {
    let called = match call {
        Call::Help => {
            Out.write(&arguments::usage());
            return Ok(());
        }
        Call::Version => {
            Out.write(concat!("pushctl ", env!("CARGO_PKG_VERSION"), "\n"));
            return Ok(());
        }
        Call::Command(called) if called.command.name == "completion" => {
            Out.write(&completion::of_shell(&called.values[0])?);
            return Ok(());
        }
        Call::Command(called) => called,
    };
    let hub = hub_of(&called)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Hub(format!("it can't begin: {error}")))?;
    runtime.block_on(commands::run(&hub, &called))
}

/// The hub that the flags or the environment name, with its key.
fn hub_of(called: &Called) -> Result<Hub, Failure> {
    let variable = |name: &str| match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        // Another hub than the one that was meant must not be asked.
        Err(VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{name} is not UTF-8"))),
    };
    let (of_flag, of_environment) = (called.one("address").map(str::to_owned), variable("PUSHCTL_ADDRESS")?);
    let address = of_flag.or(of_environment).unwrap_or_else(|| USUAL_ADDRESS.to_owned());
    let wrong = |why| Failure::Usage(format!("address {address:?}: {why}"));
    let address = Address::read(&address).map_err(wrong)?;
    let file = called.one("key-file").map(str::to_owned);
    let key = match (file, variable("PUSHCTL_KEY")?) {
        (Some(file), _) => Some(key_in(&file)?),
        (None, Some(key)) => Some(key),
        (None, None) => variable("PUSHCTL_KEY_FILE")?.map(|file| key_in(&file)).transpose()?,
    };
    // Its bytes go into a header. The key itself is not shown.
    if key.as_ref().is_some_and(|key| key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Failure::Usage("the key is empty, or has spaces or other characters that no key has".to_owned()));
    }
    if key.is_some() && address.is_open() && !called.has("insecure") {
        return Err(Failure::Usage(format!(
            "the key goes to {address} in clear, and everybody on the way can read it; use https://, the hub's Unix \
             socket or a tunnel to it (ssh -L), or say --insecure"
        )));
    }
    let is_tls = matches!(address, Address::Tls(_));
    let of_tls = |flag: &str, name: &str| match called.one(flag) {
        Some(_) if !is_tls => Err(Failure::Usage(format!("--{flag} is for addresses that begin with https://"))),
        Some(value) => Ok(Some(value.to_owned())),
        None => variable(name),
    };
    let asked = tls::Asked {
        ca: of_tls("ca", "PUSHCTL_CA")?,
        cert: of_tls("cert", "PUSHCTL_CERT")?,
        cert_key: of_tls("cert-key", "PUSHCTL_CERT_KEY")?,
        server_name: of_tls("server-name", "PUSHCTL_SERVER_NAME")?,
    };
    let tls = is_tls.then(|| tls::Secure::new(&address, asked)).transpose().map_err(Failure::Usage)?;
    Ok(Hub { address, key, tls })
}

fn key_in(file: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::Usage(format!("key file {file}: {error}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
