//! A host loses its connection before it has the answer behind a command, and sends the command again.

use super::waiting_tests::{attached, websocket, Played};
use crate::attach::wire::{FromHost, NUMBERS_COMMANDS, VERSION};
use crate::shard::panic_tests::common::proxy::Proxy;
use crate::shard::panic_tests::common::{self, until, Host};
use crate::Server;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A hub, the path of its attach socket, and a host that hands clients over. One shard does all commands, in their order.
fn start() -> (Host, String, Server) {
    let path = common::socket_path();
    let hub = Host::start(&[("attach_listen", &format!("unix:{path}")), ("auth", "host"), ("threads", "1")]);
    let host = attached(&path);
    (hub, path, host)
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_command_without_an_answer_is_not_done_again_in_the_same_life_of_the_hub() {
    let (hub, path, clients) = start();
    let proxy_path = common::socket_path();
    let proxy = Proxy::start(&proxy_path, &path);
    let host = attached(&proxy_path);
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| websocket(&clients, user));
    host.stats().unwrap();
    proxy.swallows_answers.store(true, Ordering::Relaxed);
    host.disconnect_user("ann", 4403, "logged out").unwrap();
    assert_eq!(ann.end().0, 4403);
    until("the answer is lost", || proxy.swallowed.load(Ordering::Relaxed) > 0);
    let mut ann = websocket(&clients, "ann");
    proxy.swallows_answers.store(false, Ordering::Relaxed);
    proxy.cut();
    until("the host is there again", || host.stats().is_ok());
    host.disconnect_user("bob", 4403, "").unwrap();
    assert_eq!(bob.end().0, 4403, "the shard has done all that came before");
    hub.publish("a", "for ann");
    assert_eq!(ann.text(), "for ann");
    host.stop(Duration::ZERO);
    clients.stop(Duration::ZERO);
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn each_command_of_a_session_is_done_once_if_it_has_a_number() {
    for version in [NUMBERS_COMMANDS - 1, VERSION] {
        let numbered = version >= NUMBERS_COMMANDS;
        let (hub, path, clients) = start();
        let (mut played, _) = Played::attach(&path, version);
        let revoke = |number: u64| {
            let command = numbered.then_some(number);
            let revoke = FromHost::Revoke { user: "ann", channel: "a", reason: "why", number: command };
            [revoke, FromHost::Batch { number, publications: Vec::new() }]
        };
        played.say(revoke(1).into_iter().chain(revoke(2)));
        assert_eq!([played.next().unwrap(), played.next().unwrap()], ["batched 1", "batched 2"]);
        let mut ann = websocket(&clients, "ann");
        // It has lost the second answer, and has one more command behind it.
        let (mut played, _) = Played::attach(&path, version);
        played.say(revoke(2));
        assert_eq!(played.next().unwrap(), "batched 2");
        hub.publish("a", "still allowed");
        if numbered {
            assert_eq!(ann.text(), "still allowed");
            played.say(revoke(3));
            assert_eq!(played.next().unwrap(), "batched 3");
        }
        assert_eq!(ann.end().0, 4403, "version {version}");
        // Another host has numbers of its own.
        let mut ann = websocket(&clients, "ann");
        let (mut other, _) = Played::attach_as([8; 16], &path, version);
        other.say(revoke(1));
        assert_eq!(other.next().unwrap(), "batched 1");
        assert_eq!(ann.end().0, 4403);
        clients.stop(Duration::ZERO);
        hub.stop();
    }
}
