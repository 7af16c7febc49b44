//! What becomes of wrong keys in `Authorization`. Those at the console's login are in `logins.rs`.

use super::ask;
use super::common::{counted, until, Client, Host, CONTROL};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const WRONG: &str = "Authorization: Bearer a-wrong-key-0123456789\r\n";
/// The third of four wrong keys one after the other waits half a second, and so does the fourth. The hub's clock may be
/// some milliseconds behind.
pub const OF_FOUR: Duration = Duration::from_millis(900);

#[test]
fn wrong_keys_are_answered_late_and_the_right_one_at_once() {
    let host = Host::start(&CONTROL);
    let began = Instant::now();
    (0..4).for_each(|_| assert_eq!(ask(&host, "GET", "/v1/stats", WRONG, b"").0, 401));
    assert!(began.elapsed() >= OF_FOUR, "{:?}", began.elapsed());
    // Many at once. The last one waits for five seconds.
    let guess = || {
        let mut client = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
        client.send(format!("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n{WRONG}\r\n").as_bytes());
        client
    };
    // This asks with the right key.
    let seen = || {
        let counts = counted(&host.control("/metrics"), "push_refusals_total");
        counts.into_iter().find_map(|(reason, count)| (reason == "control_key").then_some(count)).unwrap_or(0)
    };
    // A slow machine may take these five seconds to ask.
    until("the right key was held up as long as the wrong ones", || {
        let before = seen();
        let waiting: Vec<Client> = (0..20).map(|_| guess()).collect();
        until("all were seen", || seen() == before + 20);
        waiting.iter().any(|client| !client.has_come())
    });
    host.stop();
}
