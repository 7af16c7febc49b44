//! Clients are told why the hub does not publish their messages, and whether they may send them again.

use super::checking_tests::{shard, Peer};
use super::Shard;
use crate::error::{Error, Kind};
use crate::hub::{Act, Noted, OnSettled, Outlet};
use crate::log::{Level, Log, Pulled, Sink};
use crate::trace::Span;
use std::sync::Arc;
use std::time::Duration;

/// A log that takes nothing, for one reason.
struct Refuses(Kind);

impl Refuses {
    fn error(&self) -> Result<(), Error> {
        Err(Error::new(self.0, "planted"))
    }
}

impl Outlet for Refuses {
    fn offer(&self, _: &[Noted<'_>], _: Vec<(usize, Span)>, _: Option<OnSettled>) -> Result<(), Error> {
        self.error()
    }

    fn offer_clear(&self, _: &str, _: Option<OnSettled>) -> Result<(), Error> {
        self.error()
    }

    fn offer_acts(&self, _: &[Act<'_>], _: Option<OnSettled>) -> Result<(), Error> {
        self.error()
    }
}

/// A shard of a hub that publishes nothing, for that reason, and a client of `push.v1.json`.
fn refusing(kind: Kind, log: Option<Sink>) -> (Shard, Peer) {
    let mut shard = shard(&[]);
    let context = Arc::get_mut(&mut shard.context).unwrap();
    context.hub.publish_into(Arc::new(Refuses(kind)));
    context.log = Log::new(log, Level::Info);
    let peer = Peer::come(&mut shard, Some("ann"));
    (shard, peer)
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn each_kind_of_error_has_the_code_that_says_whether_to_try_again() {
    for (kind, code) in [
        (Kind::Invalid, "malformed"),
        (Kind::TooLarge, "too_large"),
        (Kind::Busy, "busy"),
        (Kind::Limit, "busy"),
        (Kind::Closed, "draining"),
        (Kind::Timeout, "timeout"),
        (Kind::System, "system"),
        (Kind::Config, "system"),
        (Kind::NotFound, "system"),
        (Kind::Descriptor, "system"),
        (Kind::Unsupported, "system"),
    ] {
        let (mut shard, mut peer) = refusing(kind, None);
        peer.say(&mut shard, r#"{"type":"publish","ref":7,"channel":"open.c","data":"x"}"#);
        let told = peer.read();
        assert!(told.contains(&format!(r#""code":"{code}""#)) && told.contains(r#""ref":7"#), "{kind:?}: {told}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_the_host_has_allowed_while_the_hub_ends_is_told_at_once_and_the_log_has_it() {
    let pulled = Arc::new(Pulled::new().unwrap());
    let (mut shard, mut peer) = refusing(Kind::Closed, Some(Sink::Pulled(pulled.clone())));
    let count = peer.publish(&mut shard, 1, "c", "x").unwrap();
    shard.allow_publish(count, None);
    let told = peer.read();
    assert!(told.contains(r#""code":"draining""#) && told.contains(r#""ref":1"#), "{told}");
    assert!(shard.questions.checks.is_empty(), "it is not tried again");
    let lines = std::iter::from_fn(|| pulled.next(Some(Duration::ZERO)).ok());
    let lines: Vec<String> = lines.map(|line| format!("{:?} {}", line.level(), line.text())).collect();
    let is_lost = |line: &String| line.starts_with("Warn ") && line.contains("has allowed it: draining: ");
    assert!(lines.iter().any(is_lost), "{lines:?}");
}
