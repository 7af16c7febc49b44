//! `pushd -t`: it finds what a start would find, and neither starts a hub nor disturbs one.

use super::certificates::Pair;
use super::process::Pushd;
use super::{attached, path, publish};
use crate::common::Client;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The exit code, and the lines on stderr. Nothing is written to stdout.
fn run(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_pushd")).args(arguments).output().unwrap();
    assert_eq!(output.stdout, b"", "{arguments:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), told.lines().map(str::to_owned).collect())
}

/// A file with this content.
fn file(name: &str, content: &str) -> String {
    let path = std::env::temp_dir().join(format!("pushd-{}-checked-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn is_good(arguments: &[&str]) {
    let good = (Some(0), vec!["pushd: the options are good".to_owned()]);
    assert_eq!(run(arguments), good, "{arguments:?}");
}

#[test]
fn good_options_and_files_are_good() {
    let pair = Pair::new(&["localhost"]);
    let key = file("good-key", "0123456789abcdef0123456789abcdef\n");
    let options = file(
        "good.toml",
        &format!(
            "listen = \"tls:127.0.0.1:0\"\ntls_certificate = \"{}\"\ntls_key = \"{}\"\ncontrol = \"127.0.0.1:0\"\n\
             control_key = \"file:{key}\"\nauth = \"jwt\"\njwt_secret = \"file:{key}\"\n",
            pair.certificate, pair.key
        ),
    );
    is_good(&["-t"]);
    is_good(&["-t", "-c", &options]);
    is_good(&["-c", &options, "-o", "threads=2", "-d", "7", "-t"]);
    is_good(&["-t", "-o", "channel.room.*.presence=true", "-o", "engine=file:/nonexistent"]);
    let (code, told) = run(&["-t", "-o", "listen=none"]);
    let told = told.concat();
    assert!(code == Some(0) && told.contains("if a service manager passes the sockets"), "{told}");
    for file in [key, options] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn wrong_options_and_files_give_the_error_of_a_start_and_the_code_2() {
    let (pair, other) = (Pair::new(&["localhost"]), Pair::new(&["localhost"]));
    let rubbish = file("rubbish", "neither a key nor a certificate\n");
    let empty = file("empty", "");
    let broken = file("broken.toml", "max_message = \n");
    let option = |name: &str, value: &str| format!("{name}={value}");
    let keys = [option("jwt_keys", &rubbish), option("jwt_jwks", &rubbish), option("jwt_secret", "file:/nonexistent")];
    let certificate = option("tls_certificate", &pair.certificate);
    let of_another = option("tls_key", &other.key);
    let (no_pair, no_key) = (option("tls_certificate", &rubbish), option("tls_key", "/nonexistent"));
    let empty_key = format!("control_key=file:{empty}");
    let tls = "listen=tls:127.0.0.1:0";
    for (arguments, text) in [
        (&["-c", "/nonexistent"][..], "/nonexistent: No such file"),
        (&["-c", &broken], "line 1 is not TOML"),
        (&["-o", "nonsense=1"], "unknown option"),
        (&["-o", "max_message=0"], "option max_message"),
        (&["-o", "threads=02"], "a number from 0 to 64, without a sign and without a zero before the number"),
        (&["-d", "+7"], "-d \"+7\" is not a number of seconds"),
        (&["-d", "07"], "-d \"07\" is not a number of seconds"),
        (&["-o", "control=127.0.0.1:0"], "control_key"),
        (&["-o", "auth=jwt"], "option auth: jwt needs a key"),
        (&["-o", "auth=jwt", "-o", &keys[0]], "option jwt_keys"),
        (&["-o", "auth=jwt", "-o", &keys[1]], "option jwt_jwks"),
        (&["-o", "auth=jwt", "-o", &keys[2]], "option jwt_secret: file /nonexistent: No such file"),
        (&["-o", &empty_key], "option control_key"),
        (&["-o", tls, "-o", &certificate, "-o", &of_another], "option tls_key"),
        (&["-o", tls, "-o", &certificate, "-o", &no_key], "option tls_key: file /nonexistent: No such file"),
        (&["-o", tls, "-o", &no_pair, "-o", &of_another], "option tls_certificate"),
        (&["-o", "attach=unix:/x"], "pushd is a hub"),
        (
            &["-o", "channel.*.presence=true", "-o", "engine=redis://127.0.0.1:1"],
            "channel.*.presence: it is not allowed with this option engine",
        ),
        (&["-o", "channel.user:*.presence=true"], "channel.user:*.presence: names that begin with user:"),
    ] {
        let (started, expected) = run(arguments);
        assert!(matches!(started, Some(1 | 2)), "a start fails: {arguments:?}: {expected:?}");
        for at in [0, arguments.len()] {
            let mut checked = arguments.to_vec();
            checked.insert(at, "-t");
            let (code, told) = run(&checked);
            assert_eq!((code, &told), (Some(2), &expected), "{checked:?}");
            assert!(told[0].contains(text), "{checked:?}: {told:?}");
        }
    }
    // The value of a flag is not a flag, and the other flags are checked, too.
    assert_eq!(run(&["-c", "-t"]).0, Some(1));
    for (arguments, text) in [(&["-t", "-c"][..], "-c needs a value"), (&["-t", "-x"], "unknown argument \"-x\"")] {
        let (code, told) = run(arguments);
        assert!(code == Some(2) && told[0].contains(text), "{arguments:?}: {told:?}");
    }
    for file in [rubbish, empty, broken] {
        fs::remove_file(file).unwrap();
    }
}

/// The names and times of the files in a folder.
fn content(folder: &PathBuf) -> Vec<(String, u64, i64, i64)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            (entry.path().display().to_string(), about.size(), about.mtime(), about.mtime_nsec())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_check_neither_disturbs_a_running_hub_nor_makes_anything() {
    let path = path("checked");
    let folder = std::env::temp_dir().join(format!("pushd-{}-checked-log", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    let engine = format!("engine=file:{}", folder.display());
    let mut command = Pushd::command(&path);
    command.args(["-o", &engine, "-o", "engine_sync=always", "-o", "engine_timeout=1m"]);
    let pushd = Pushd::start(command);
    let host = attached(&path);
    publish(&host, "before");
    let socket = PathBuf::from(path.strip_prefix("unix:").unwrap());
    let before = (content(&folder), fs::metadata(&socket).unwrap().ino());

    // A second hub could have neither the port nor the directory.
    let (listen, attach) = (format!("listen={}", pushd.address), format!("attach_listen={path}"));
    is_good(&["-t", "-o", &listen, "-o", &attach, "-o", &engine, "-o", "engine_sync=always"]);
    assert_eq!((content(&folder), fs::metadata(&socket).unwrap().ino()), before);
    let (code, told) = run(&["-t", "-o", &listen, "-o", "max_message=0"]);
    assert!(code == Some(2) && told[0].contains("max_message"), "{told:?}");

    publish(&host, "after");
    let mut client = Client::over(TcpStream::connect(&pushd.address).unwrap());
    client.send(b"GET /push?channel=a&last=2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = client.response().1;
    assert!(answer.contains("\"before\"") && answer.contains("\"after\""), "{answer}");
    host.stop(Duration::ZERO);
    pushd.terminate();

    fs::remove_dir_all(&folder).unwrap();
    let _ = fs::remove_file(&socket);
    is_good(&["-t", "-o", "listen=127.0.0.1:0", "-o", &attach, "-o", &engine]);
    assert!(!folder.exists() && !socket.exists(), "a check makes neither a directory nor a socket");
}
