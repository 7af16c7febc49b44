//! TLS on the library's own listeners: clients of both versions over all transports, certificates and their reloads,
//! and clients that do not keep to the rules.

mod certbot;
#[path = "../common/certificates.rs"]
mod certificates;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod control;
mod floods;
mod handed_over;
mod hostile;
mod kernel;
mod nginx;
mod records;
mod reloads;
mod transports;

use certificates::Pair;
use common::{Host, Lines};

/// A server with TLS for `localhost`, its log, and the pair of its certificate.
fn start(options: &[(&str, &str)]) -> (Host, Lines, Pair) {
    let pair = Pair::new(&["localhost"]);
    let (host, lines) = start_with(&pair, options);
    (host, lines, pair)
}

fn start_with(pair: &Pair, options: &[(&str, &str)]) -> (Host, Lines) {
    let mut all = vec![("listen", "tls:127.0.0.1:0"), ("log_level", "debug")];
    all.extend(pair.options());
    // `make test-ktls` runs the tests with TLS in the kernel.
    if kernel::is_wanted() {
        all.push(("tls_kernel", "auto"));
    }
    all.extend(options);
    Host::logged(&all)
}

fn logged(lines: &Lines, part: &str) -> bool {
    lines.lock().unwrap().iter().any(|line| line.contains(part))
}
