//! Questions to all hubs that attached hosts ask.

use super::questions::{attached, shown, users, SOON};
use super::{start, until, until_ready, Client};
use crate::attach::hub_side::waiting_tests::Played;
use crate::attach::wire::{FromHost, VERSION};
use crate::engine::shared::model::Model;
use crate::hub::Publication;
use crate::server::{Backend, Server};
use crate::Builder;
use std::time::Duration;

#[test]
fn the_question_of_an_attached_host_goes_to_all_hubs() {
    let path = std::env::temp_dir().join(format!("push-asks-{}.sock", std::process::id()));
    let socket = format!("unix:{}", path.display());
    let options = [SOON, ("attach_listen", &*socket)];
    let hubs = [start("host-asks", &options), start("host-asks", &[SOON, ("hub_name", "web-2:9099")])];
    until_ready(&hubs);
    let host = attached(&socket);
    let mut ada = Client::granted(&hubs[1], "ada", "channel=a&transport=sse", "");
    ada.has("push-open");
    until("both hubs answer", || {
        let (found, asked) = users(&host);
        asked.answered == 2 && shown(&found) == "ada:1 of 1, 0 anonymous of 1"
    });
    until("a hub is missing", || {
        let model = Model::named("host-asks");
        model.words().calm = false;
        let (_, asked) = users(&host);
        asked.missing.len() == 1 && asked.partial().is_some_and(|why| why.contains(" is web-2:9099"))
    });
    host.stop(Duration::ZERO);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

/// A hub with a log of this name, which it shares with another hub. The other one hears no question. Both have a long
/// `engine_timeout`, so that a question takes as long as one may.
fn with_one_that_is_missing(name: &str, socket: &str) -> [Server; 2] {
    let long = ("engine_timeout", "1m");
    let hubs = [start(name, &[long, ("attach_listen", socket)]), start(name, &[long])];
    until("both are known", || users(&hubs[0]).1.asked == 2);
    Model::named(name).words().calm = false;
    hubs
}

#[test]
fn an_attached_host_publishes_while_its_question_waits_for_a_hub_that_is_missing() {
    let path = std::env::temp_dir().join(format!("push-asks-on-{}.sock", std::process::id()));
    let socket = format!("unix:{}", path.display());
    let hubs = with_one_that_is_missing("host-asks-on", &socket);
    let (mut host, _) = Played::attach(path.to_str().unwrap(), VERSION);
    for round in 0.. {
        assert!(round < 20, "a question is always answered first");
        let (asked, published) = (2 * round + 1, 2 * round + 2);
        let question = FromHost::Users { number: asked, channel: "a", after: "", limit: 1, time_ms: Some(60_000) };
        let publication = Publication::new("a", b"x");
        host.say([question, FromHost::Publish { number: published, publication }]);
        let answers = [(); 2].map(|()| host.next().unwrap());
        let (asked, published) = (format!("users {asked}"), format!("published {published}"));
        if answers == [&*published, &*asked] {
            break;
        }
        assert_eq!(answers, [asked, published], "the other hub has heard the question after all");
    }
    hubs.into_iter().for_each(|hub| drop(hub.stop(Duration::ZERO)));
}

#[test]
fn the_answer_to_an_attached_host_comes_within_the_time_that_it_waits() {
    let path = std::env::temp_dir().join(format!("push-asks-soon-{}.sock", std::process::id()));
    let socket = format!("unix:{}", path.display());
    let hubs = with_one_that_is_missing("host-asks-soon", &socket);
    let mut builder = Builder::default();
    builder.set("attach", &socket).unwrap();
    // It is shorter than the two seconds that the hub would wait for the other one.
    builder.set("attach_timeout", "1900ms").unwrap();
    let host = Server::start(builder).unwrap();
    until("the hub that is missing is named in time", || match host.users("a", "", 1) {
        Ok(users) => users.hubs.unwrap().missing.len() == 1,
        // On a slow machine the host may have no answer, or not even the hub itself.
        Err(error) => {
            assert!(matches!(error.kind(), crate::error::Kind::Timeout | crate::error::Kind::Busy), "{error}");
            false
        }
    });
    host.stop(Duration::ZERO);
    hubs.into_iter().for_each(|hub| drop(hub.stop(Duration::ZERO)));
}

#[test]
fn questions_of_a_host_beyond_the_bound_wait_their_turn_and_are_refused_if_it_does_not_come() {
    let path = std::env::temp_dir().join(format!("push-asks-much-{}.sock", std::process::id()));
    let hubs = with_one_that_is_missing("host-asks-much", &format!("unix:{}", path.display()));
    let Backend::Embedded(missing) = &hubs[1].0 else { panic!("it is attached") };
    missing.hub().mute_questions();
    let (mut host, _) = Played::attach(path.to_str().unwrap(), VERSION);
    let ask = |number, time_ms| FromHost::Users { number, channel: "a", after: "", limit: 1, time_ms: Some(time_ms) };
    let why = "16 questions of this host (push_users_get) are under way, and this one's turn did not come in time; \
               nothing was asked, call again";
    let mut first = 1;
    // On a slow machine the first of them may be over when the hub takes the last one. Then its turn comes, too.
    until("the turn of the last one does not come in time", || {
        let last = first + 17;
        // All of these wait for the hub that is missing, as long as a question may.
        host.say((first..last).map(|number| ask(number, 60_000)).chain([ask(last, 100)]));
        let mut answers: Vec<String> = (0..18).map(|_| host.next().unwrap()).collect();
        let refused = format!("Failed {{ number: {last}, kind: Busy, text: {why:?} }}");
        let is_refused = answers.iter().position(|answer| *answer == refused).map(|at| answers.remove(at)).is_some();
        answers.sort_unstable();
        let end = if is_refused { last } else { last + 1 };
        let mut expected: Vec<String> = (first..end).map(|number| format!("users {number}")).collect();
        expected.sort_unstable();
        assert_eq!(answers, expected);
        first = last + 1;
        is_refused
    });
    hubs.into_iter().for_each(|hub| drop(hub.stop(Duration::ZERO)));
}
