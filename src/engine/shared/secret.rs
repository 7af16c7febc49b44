//! Secrets of engines: passwords and keys. The value is the text itself, or `file:` and the path of a file with it.

use super::has_placeholder;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// The largest file of a secret. A device may never end.
const MAX_FILE: u64 = 1 << 20;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes a value, and reads the file that it names, if it names one. A placeholder that nothing has replaced is an
    /// error.
    pub(crate) fn read(value: &str) -> Result<Self, String> {
        let placeholder = "a placeholder ${NAME}; the library does not replace placeholders";
        let Some(path) = value.strip_prefix("file:") else {
            return match has_placeholder(value.as_bytes()) {
                true => Err(format!("a secret (not shown) has {placeholder}")),
                false => Ok(Secret(value.to_owned())),
            };
        };
        let text = read_file(path)?;
        if has_placeholder(text.as_bytes()) {
            return Err(format!("file {path}: its content (not shown) has {placeholder}"));
        }
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(format!("file {path} is empty, and a secret is expected in it"));
        }
        Ok(Secret(text.to_owned()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Reads a short text. It does not wait: a FIFO without a writer would block the start.
pub(crate) fn read_file(path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("file {path}: {error}");
    let mut text = String::new();
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("file {path}: it is larger than 1MB"));
    }
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
