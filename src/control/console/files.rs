//! The files of the console. They are in the library, and are compressed when they are first asked for.

use aws_lc_rs::digest::{digest, SHA256};
use bytes::Bytes;
use miniz_oxide::deflate::compress_to_vec;
use std::sync::OnceLock;

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// Its name below `/console/`. The two pages have none there.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// Whether it is served to a client without a session: what the login page needs.
    pub(super) public: bool,
    text: &'static str,
    packed: OnceLock<Packed>,
}

#[derive(Debug)]
struct Packed {
    etag: String,
    gzip: Bytes,
}

impl File {
    const fn new(name: &'static str, kind: &'static str, public: bool, text: &'static str) -> Self {
        File { name, kind, public, text, packed: OnceLock::new() }
    }

    pub(super) fn plain(&self) -> Bytes {
        Bytes::from_static(self.text.as_bytes())
    }

    pub(super) fn gzip(&self) -> Bytes {
        self.packed().gzip.clone()
    }

    /// The entity tag (RFC 9110, section 8.8.3). It is a weak one: it stands for the file in either coding.
    pub(super) fn etag(&self) -> &str {
        &self.packed().etag
    }

    fn packed(&self) -> &Packed {
        self.packed.get_or_init(|| {
            let hash = digest(&SHA256, self.text.as_bytes());
            let digits: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            Packed { etag: format!("W/\"{digits}\""), gzip: gzip(self.text.as_bytes()).into() }
        })
    }
}

/// A file in the format of RFC 1952: without a name and a time, of an unknown system.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.append(&mut compress_to_vec(bytes, 9));
    out.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! script {
    ($name:literal) => {
        File::new($name, SCRIPT, false, include_str!(concat!("web/", $name)))
    };
}

/// The page for a client without a session.
pub(super) static LOGIN: File = File::new("", HTML, true, include_str!("web/login.html"));
/// The console itself.
pub(super) static PAGE: File = File::new("", HTML, false, include_str!("web/console.html"));

/// All other files.
pub(super) static FILES: [File; 18] = [
    File::new("console.css", "text/css; charset=utf-8", true, include_str!("web/console.css")),
    File::new("icon.svg", "image/svg+xml", true, include_str!("web/icon.svg")),
    File::new("login.js", SCRIPT, true, include_str!("web/login.js")),
    File::new("theme.js", SCRIPT, true, include_str!("web/theme.js")),
    script!("app.js"),
    script!("channels.js"),
    script!("charts.js"),
    script!("connections.js"),
    script!("dialogs.js"),
    script!("elements.js"),
    script!("figures.js"),
    script!("health.js"),
    script!("hosts.js"),
    script!("hub.js"),
    script!("overview.js"),
    script!("publish.js"),
    script!("tail.js"),
    script!("users.js"),
];

/// The file with this name.
pub(super) fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::inflate::decompress_to_vec;

    #[test]
    fn all_files_together_are_small_and_come_back_whole() {
        let mut sum = 0;
        for file in FILES.iter().chain([&LOGIN, &PAGE]) {
            let packed = file.gzip();
            let (body, tail) = packed[10..].split_at(packed.len() - 18);
            assert_eq!(decompress_to_vec(body).unwrap(), file.text.as_bytes(), "{}", file.name);
            assert_eq!(tail[..4], crc32fast::hash(file.text.as_bytes()).to_le_bytes());
            assert!(file.text.lines().count() < 400, "{} is too long to be read", file.name);
            sum += packed.len();
        }
        assert!(sum <= 60 << 10, "{sum} bytes");
    }

    /// The policy allows no script and no style in a page, and the browser would say so only where somebody looks.
    #[test]
    fn no_file_names_a_resource_elsewhere_or_makes_markup_of_text() {
        for file in FILES.iter().chain([&LOGIN, &PAGE]) {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for no in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(no), "{}: {no}", file.name);
            }
            let is_page = file.kind == HTML;
            let mut attributes = text.split_whitespace().filter(|word| word.contains('='));
            let is_bad = |word: &str| word.starts_with("on") || word.starts_with("style");
            assert!(!is_page || !(text.contains("<style") || attributes.any(is_bad)), "{text}");
        }
    }
}
