//! Hosts go while their messages wait for the log, and the hub can't keep all of them. It says so.

use super::waiting_tests::Played;
use crate::attach::wire::{FromHost, VERSION};
use crate::engine::shared::model::Model;
use crate::hub::Publication;
use crate::shard::panic_tests::common::{self, until, Host, Lines};

/// The messages in a request of a host, and the bytes of each.
const MESSAGES: usize = 300;
const BYTES: usize = 100_000;

/// A hub that reads its log only when the model does not hang any more, with its log lines, the path of its attach
/// socket and the path of its control API.
fn start(name: &str) -> (Host, Lines, String, String) {
    Model::named(name).hang(true);
    let [attach, control] = [(); 2].map(|()| common::socket_path());
    let (engine, attach_listen) = (format!("model://{name}"), format!("unix:{attach}"));
    let options = [("engine", &*engine), ("attach_listen", &attach_listen), ("engine_timeout", "1m")];
    let more = [("control", &*format!("unix:{control}")), ("threads", "1"), ("max_message", "1MB")];
    let (hub, lines) = Host::logged(&[&options[..], &more].concat());
    (hub, lines, attach, control)
}

/// A host publishes a batch, and ends when the hub has it.
fn publish_and_go(hub: &Host, session: u8, path: &str) {
    let (mut host, _) = Played::attach_as([session; 16], path, VERSION);
    let data = vec![b'x'; BYTES];
    let publications = vec![Publication::new("a", &data); MESSAGES];
    host.say([FromHost::Batch { number: 1, publications }, FromHost::Stats { number: 2 }]);
    assert_eq!(host.next().unwrap(), "stats 2");
    drop(host);
    until("the hub has seen its end", || hub.server.stats().unwrap().hosts == 0);
}

fn lost(control: &str) -> u64 {
    let metrics = common::metrics(control);
    let line = metrics.lines().find_map(|line| line.strip_prefix("push_lost_messages_total ")).unwrap();
    line.parse().unwrap()
}

fn complaints(lines: &Lines) -> Vec<String> {
    lines.lock().unwrap().iter().filter(|line| line.contains("are lost")).cloned().collect()
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn messages_that_the_hub_does_not_keep_for_hosts_that_have_gone_are_counted_and_logged() {
    let (hub, lines, path, control) = start("keeps-no-more");
    publish_and_go(&hub, 1, &path);
    publish_and_go(&hub, 2, &path);
    assert_eq!(lost(&control), 0, "there is room for two");
    publish_and_go(&hub, 3, &path);
    assert_eq!(lost(&control), MESSAGES as u64, "the first one gives way");
    let why = "the log does not take them, and at most 64 MB are kept, for at most 4096 hosts that have gone";
    let expected = format!("Error attach: {MESSAGES} messages of 1 hosts that have gone are lost: {why}");
    until("a line says so", || complaints(&lines) == [&*expected]);
    hub.stop();
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_ends_says_that_messages_of_hosts_that_have_gone_are_lost() {
    let (hub, lines, path, _) = start("ends-without-them");
    publish_and_go(&hub, 1, &path);
    // One that is attached sends its messages to the next hub.
    let (mut host, _) = Played::attach_as([2; 16], &path, VERSION);
    host.say([
        FromHost::Publish { number: 1, publication: Publication::new("a", b"x") },
        FromHost::Stats { number: 2 },
    ]);
    assert_eq!(host.next().unwrap(), "stats 2");
    // Nothing holds up the end. The thread that passes on the line may be late.
    hub.server.stop(common::PATIENCE);
    let why = "the hub ends, and its log has not taken them";
    let expected = format!("Error attach: {MESSAGES} messages of 1 hosts that have gone are lost: {why}");
    assert_eq!(complaints(&lines), [&*expected]);
}
