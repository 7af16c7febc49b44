//! Who is there, and who joins and leaves: what followers are told (`presence=1`).
//!
//! Joins and leaves that come quickly may be told together, as a new list, so each test waits for the state that it
//! means. That something was not told is shown by something later that was.

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod engines;
mod followers;
mod forms;
mod info;
mod live;
mod members;
mod polls;
mod refusals;
mod room;
mod slow;

use common::{builder, until, Host};

const ON: (&str, &str) = ("channel.room.presence", "true");
/// Whoever has gone leaves at once.
const AT_ONCE: (&str, &str) = ("presence_grace", "0s");
/// Whoever has gone stays as long as a test takes.
const NEVER: (&str, &str) = ("presence_grace", "1h");

/// The channel has presence. Even on a slow machine no connection of a client that polls ends before its first request,
/// or between two.
const USUAL: [(&str, &str); 4] = [ON, ("threads", "2"), ("head_timeout", "10m"), ("keep_alive", "1h")];

fn start(options: &[(&str, &str)]) -> Host {
    Host::start(&[&USUAL[..], options].concat())
}

/// Sets other options. Those of `start` stay.
fn reload(host: &Host, options: &[(&str, &str)]) {
    host.server.reload(&builder(&[&USUAL[..], options].concat())).unwrap();
}

fn subscriptions(host: &Host, count: u64) {
    until("the number of subscriptions", || host.server.stats().unwrap().subscriptions == count);
}

/// Waits until so many are members of channels, those included who have gone and may come back.
fn members(host: &Host, count: u64) {
    until("the number of members", || host.server.stats().unwrap().presence_members == count);
}
