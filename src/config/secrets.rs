//! Options that are secrets. The value is the text itself, or `file:` and the path of a file with the secret. Files are
//! read when a server starts, and at each reload.

use super::options;
use super::{Config, Secret};
use crate::engine::shared::has_placeholder;
use crate::error::{Error, Kind};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// The prefix of a value that names a file.
const FILE: &str = "file:";
/// The largest file of a secret or a key. A device may never end.
const MAX_FILE: u64 = 1 << 20;

/// The path in a value that names a file.
pub(crate) fn path_of(text: &str) -> Option<&str> {
    text.strip_prefix(FILE)
}

/// Reads a file with a secret or a key. An error names the option and the file.
pub(crate) fn read(option: &str, path: &str) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::system(format_args!("option {option}: file {path}"), &error);
    let mut bytes = Vec::new();
    open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("it is larger than 1MB")));
    }
    Ok(bytes)
}

/// Opens a file without waiting. A FIFO without a writer would block the start, and a signal would not end that.
fn open(path: &str) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

impl Config {
    /// Replaces the names of files by their content.
    pub(super) fn read_secrets(&mut self) -> Result<(), Error> {
        for option in options::all() {
            let Some((secrets, fits)) = option.secrets(self) else { continue };
            for secret in secrets {
                let Some(path) = std::str::from_utf8(secret.as_bytes()).ok().and_then(path_of) else { continue };
                let content = read(option.name, path)?;
                let content = without_line_end(&content);
                let wrong = |what: &str| {
                    let text = format!("option {}: file {path}: {what}", option.name);
                    Err(Error::new(Kind::Config, text))
                };
                if has_placeholder(content) {
                    return wrong(
                        "its content (not shown) has a placeholder ${NAME}; the library does not replace placeholders",
                    );
                }
                if content.is_empty() || !fits(content) {
                    return wrong(&format!("its content (not shown) is not allowed; allowed is {}", option.allowed()));
                }
                *secret = Secret::new(content);
            }
        }
        Ok(())
    }
}

/// A text without the line end that editors append.
fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Builder;
    use std::path::PathBuf;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// A file with this content, for the secrets of one test.
    fn file(name: &str, content: &[u8]) -> (PathBuf, String) {
        let path = std::env::temp_dir().join(format!("push-secret-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let value = format!("file:{}", path.display());
        (path, value)
    }

    fn built(option: &str, value: &str) -> Result<Config, Error> {
        let mut builder = Builder::default();
        builder.set(option, value)?;
        builder.build().map(|built| built.config().clone())
    }

    #[test]
    fn every_secret_may_be_in_a_file_without_its_line_end() {
        for (place, end) in ["", "\n", "\r\n"].into_iter().enumerate() {
            let (path, value) = file(&format!("good-{place}"), format!("{KEY}{end}").as_bytes());
            for option in options::all().filter(|option| option.secrets(&mut Config::default()).is_some()) {
                let mut config = built(option.name, &value).unwrap();
                if let Some(secret) = option.secrets(&mut config).unwrap().0.first() {
                    assert!(secret.as_bytes() == KEY.as_bytes(), "{} {end:?}", option.name);
                }
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_in_a_file_is_checked_as_a_text_is_and_shown_nowhere() {
        let placeholder = b"${SECRET_OF_THE_PUBLISHERS_AND_ALL}".as_slice();
        for (place, content) in [b"".as_slice(), b"\n", b"short", placeholder, &[b'x'; 2 << 20]].into_iter().enumerate()
        {
            let (path, value) = file(&format!("bad-{place}"), content);
            for option in ["control_key", "jwt_secret"] {
                // Any secret of 32 bytes or more will do for tokens, but not one that is endless.
                let error = built(option, &value).unwrap_err().to_string();
                assert!(error.contains(option) && error.contains(path.to_str().unwrap()), "{error}");
                assert!(!error.contains("short") && !error.contains("PUBLISHERS") && !error.contains("xx"), "{error}");
            }
            std::fs::remove_file(path).unwrap();
        }
        for option in ["control_key", "jwt_secret"] {
            let error = built(option, "file:/nowhere/at/all").unwrap_err().to_string();
            assert!(error.starts_with(&format!("option {option}: file /nowhere/at/all: ")), "{error}");
            assert!(built(option, "file:").is_err(), "a file has a name");
        }
    }

    #[test]
    fn a_fifo_that_nobody_writes_to_is_an_error_at_once() {
        let path = std::env::temp_dir().join(format!("push-secret-{}-fifo", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = built("control_key", &format!("file:{}", path.display())).unwrap_err().to_string();
        assert!(error.contains("option control_key: file "), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_host_that_attaches_reads_no_secrets() {
        let mut builder = Builder::default();
        builder.set("attach", "unix:/run/a").unwrap();
        builder.set("control_key", "file:/nowhere/at/all").unwrap();
        assert!(builder.build().is_ok());
    }

    #[test]
    fn a_placeholder_is_a_name_in_braces() {
        for (text, is_one) in [
            ("${KEY}", true),
            ("a${KEY:-b}", true),
            ("${KEY-b}", true),
            ("$KEY", false),
            ("${}", false),
            ("${a b}", false),
            ("${", false),
            ("x${y${Z}", true),
        ] {
            assert_eq!(has_placeholder(text.as_bytes()), is_one, "{text}");
        }
    }
}
