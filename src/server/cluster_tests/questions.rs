//! Questions to all hubs of a log: who is on a channel, which channels there are, the counters.

use super::acts::{asked, control};
use super::{builder, start, until, until_ready, Client};
use crate::cluster::{parts, Question, Said, Sent};
use crate::engine::contract::Word;
use crate::engine::shared::model::Model;
use crate::engine::Hubs;
use crate::server::{Backend, Server};
use crate::users::Users;
use crate::Builder;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// A hub knows all others after that time.
pub(super) const SOON: (&str, &str) = ("engine_timeout", "8s");

pub(super) fn users(server: &Server) -> (Users, Hubs) {
    let mut users = page(server, "", 10);
    let hubs = *users.hubs.take().unwrap();
    (users, hubs)
}

/// Some users of channel `a`. On a slow machine it may be that not even the hub itself has answered in time.
fn page(server: &Server, after: &str, limit: usize) -> Users {
    let mut found = None;
    until("a hub answers in time", || {
        found = match server.users("a", after, limit) {
            Ok(users) => Some(users),
            Err(error) => {
                assert_eq!(error.kind(), crate::error::Kind::Busy, "{error}");
                None
            }
        };
        found.is_some()
    });
    found.unwrap()
}

/// The page as one line of text.
pub(super) fn shown(users: &Users) -> String {
    let page: Vec<_> = users.page.iter().map(|user| format!("{}:{}", user.name, user.connections)).collect();
    format!("{} of {}, {} anonymous of {}", page.join(" "), users.count, users.anonymous, users.connections)
}

fn until_all_answer(server: &Server, count: usize) {
    until("all hubs have answered, and surely all", || {
        let (_, hubs) = users(server);
        (hubs.asked, hubs.answered, hubs.partial()) == (count, count, None)
    });
}

/// The object that the control API answers with.
fn object(path: &Path, request: &str) -> Value {
    object_if(path, request, |_| true)
}

/// The same, as soon as it is the right one. On a slow machine a hub may be late, also the one that is asked.
fn object_if(path: &Path, request: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    until("the hubs answer in time", || {
        let answer = asked(path, request);
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.contains(" hubs have answered in time"), "{answer}");
        found = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        answer.starts_with("HTTP/1.1 200 ") && is_right(&found)
    });
    found
}

/// The object once all three hubs have answered, and surely all. On a slow machine a heartbeat may be late meanwhile.
fn whole(path: &Path, request: &str) -> Value {
    let is_whole = |hubs: &Value| hubs["answered"] == 3 && hubs["partial"] == Value::Null;
    let found = object_if(path, request, |found| is_whole(&found["hubs"]));
    let hubs = &found["hubs"];
    assert_eq!((&hubs["asked"], &hubs["missing"]), (&3.into(), &Value::Array(vec![])), "{found}");
    found
}

#[test]
fn the_answers_of_all_hubs_are_added_up() {
    let (path, option) = control("everyone");
    let first = start("everyone", &[SOON, ("control", &option), ("hub_name", NAMES[0])]);
    let others = [NAMES[1], NAMES[2]].map(|name| start("everyone", &[SOON, ("hub_name", name)]));
    let [second, third] = others;
    each_hub_answers([first, second, third], &path);
}

/// The names of three hubs.
pub(super) const NAMES: [&str; 3] = ["one:1", "three.example/3", "two"];

/// The first hub has its control API there. They have the names above.
pub(super) fn each_hub_answers(hubs: [Server; 3], path: &Path) {
    until_ready(&hubs);
    let events = |user, at: usize, channel: &str| {
        let mut client = Client::granted(&hubs[at], user, &format!("channel={channel}&transport=sse"), "");
        client.has("push-open");
        client
    };
    let _clients = [events("ada", 0, "a"), events("ada", 1, "a"), events("bob", 1, "a"), events("cid", 2, "a")];
    let mut anonymous = Client::sse(&hubs[2], "channel=a");
    let _other = events("ada", 2, "a.b");
    anonymous.has("id: ");
    super::position(&hubs[0], "message");
    anonymous.has("message");
    until_all_answer(&hubs[0], 3);
    let expected = "ada:2 bob:1 cid:1 of 3, 1 anonymous of 5";
    for hub in &hubs {
        until("each hub says the same", || shown(&users(hub).0) == expected);
    }
    until("a page of all", || {
        let users = page(&hubs[0], "ada", 1);
        (users.page.len(), users.page.first().map(|user| &*user.name), users.more, users.count)
            == (1, Some("bob"), true, 3)
    });
    until("nobody is there", || hubs[0].users("nobody", "", 1).is_ok_and(|users| users.page.is_empty()));

    let listed = whole(path, "GET /v1/users?channel=a");
    let first = serde_json::json!({ "user": "ada", "connections": 2 });
    assert_eq!((&listed["users"][0], &listed["count"], &listed["anonymous"]), (&first, &3.into(), &1.into()));
    let channels = whole(path, "GET /v1/channels");
    let row = |name: &str| channels["channels"].as_array().unwrap().iter().find(|row| row["channel"] == name).cloned();
    assert_eq!(row("a").unwrap()["subscribers"], 5);
    assert_eq!(row("a").unwrap()["messages"], 1, "the history is one");
    assert_eq!(row("a.b").unwrap()["subscribers"], 1, "only another hub has it");
    let one = whole(path, "GET /v1/channels/a");
    assert_eq!((&one["subscribers"], &one["id"]), (&5.into(), &row("a").unwrap()["id"]));
    assert_eq!(whole(path, "GET /v1/channels?limit=1")["more"], true);
    for missing in ["GET /v1/users?channel=nobody", "GET /v1/channels/nobody"] {
        until("no hub has it", || {
            let answer = asked(path, missing);
            assert!(answer.contains("no such channel") || answer.contains(" hubs have answered in time"), "{answer}");
            answer.starts_with("HTTP/1.1 404 ")
        });
    }
    let stats = whole(path, "GET /v1/stats?cluster=1");
    assert_eq!((&stats["connections"], stats["each"].as_array().unwrap().len()), (&6.into(), 3));
    assert_eq!(stats["each"].as_array().unwrap().iter().filter(|of| of["here"] == true).count(), 1);
    let names = |list: &Value| {
        let mut names: Vec<_> =
            list.as_array().unwrap().iter().map(|of| of["name"].as_str().map(str::to_owned)).collect();
        names.sort_unstable();
        names == NAMES.map(|name| Some(name.to_owned()))
    };
    object_if(path, "GET /v1/stats?cluster=1", |stats| names(&stats["each"]));
    object_if(path, "GET /v1/hubs", |answer| names(&answer["hubs"]));
    assert_eq!(object(path, "GET /v1/stats")["connections"], 1);
    let answer = asked(path, "GET /v1/stats?cluster=2");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("cluster must be 0 or 1"), "{answer}");

    let [first, second, third] = hubs;
    third.stop(Duration::ZERO);
    // It has said that it ends, so nobody waits for it.
    until_all_answer(&first, 2);
    until("the other two say who is left", || shown(&users(&first).0) == "ada:2 bob:1 of 2, 0 anonymous of 3");
    first.stop(Duration::ZERO);
    second.stop(Duration::ZERO);
}

#[test]
fn while_the_log_is_away_this_hub_answers_at_once_and_says_so() {
    let model = Model::named("questions-away");
    let (path, option) = control("questions-away");
    let hubs = [start("questions-away", &[SOON, ("control", &option)]), start("questions-away", &[SOON])];
    until_ready(&hubs);
    let mut ada = Client::granted(&hubs[0], "ada", "channel=a&transport=sse", "");
    ada.has("push-open");
    until("both answer", || users(&hubs[0]).1.answered == 2);
    (model.log().0.away, _) = (u64::MAX, model.cut());
    until("this hub is not healthy", || hubs[0].readiness().failure().is_some());
    // On a slow machine that may have been before the log was away, and it was healthy again.
    let mut answer = None;
    until("it asks nobody else", || answer.insert(users(&hubs[0])).1.asked == 1);
    let (found, asked_hubs) = answer.unwrap();
    assert_eq!(shown(&found), "ada:1 of 1, 0 anonymous of 1");
    let why = asked_hubs.partial().unwrap();
    assert!(why.starts_with("only this hub was asked: "), "{why}");
    let answer = object_if(&path, "GET /v1/users?channel=a", |answer| answer["hubs"]["asked"] == 1);
    assert_eq!((&answer["hubs"]["asked"], &answer["count"]), (&1.into(), &1.into()));
    assert!(answer["hubs"]["partial"].as_str().unwrap().starts_with("only this hub"));
    model.log().0.away = 0;
    until("both answer again", || users(&hubs[0]).1.answered == 2);
    // A hub that was away does not know all others yet.
    until("it knows that these are all", || users(&hubs[0]).1.partial().is_none());
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

/// A host that waits for its hub as long as it may.
pub(super) fn attached(socket: &str) -> Server {
    Server::start(Builder::with(&[("attach", socket), ("attach_timeout", "1m")])).unwrap()
}

#[test]
fn where_no_hub_answers_that_is_an_error_and_no_answer() {
    let (path, option) = control("no-answer");
    let socket = std::env::temp_dir().join(format!("push-nobody-answers-{}.sock", std::process::id()));
    let socket = format!("unix:{}", socket.display());
    let hub = start("no-answer", &[SOON, ("control", &option), ("attach_listen", &socket)]);
    let host = attached(&socket);
    super::position(&hub, "there is such a channel");
    let Backend::Embedded(embedded) = &hub.0 else { panic!("it has a hub") };
    embedded.hub().mute_questions();
    for request in ["GET /v1/channels/a", "GET /v1/channels", "GET /v1/users?channel=a", "GET /v1/stats?cluster=1"] {
        let answer = asked(&path, request);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{request}: {answer}");
        assert!(answer.contains("no hub has answered: 0 of 1 hubs have answered in time; missing: "), "{answer}");
    }
    for server in [&hub, &host] {
        let error = server.users("a", "", 10).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Busy, "{error}");
    }
    host.stop(Duration::ZERO);
    hub.stop(Duration::ZERO);
}

#[test]
fn whatever_words_are_lost_repeated_or_late_an_answer_counts_each_hub_that_it_names() {
    let hubs = [0, 1, 2].map(|_| start("lossy-questions", &[]));
    let _clients = [(0, "ada"), (1, "bob"), (2, "cid")].map(|(at, user)| {
        let mut client = Client::granted(&hubs[at], user, "channel=a&transport=sse", "");
        client.has("push-open");
        client
    });
    // The clients are there. From now on no answer is waited for long.
    let short = builder("model://lossy-questions", &[("engine_timeout", "400ms")]);
    hubs.iter().for_each(|hub| _ = hub.reload(&short).unwrap());
    until("all have been asked", || users(&hubs[0]).1.answered == 3);
    Model::named("lossy-questions").words().calm = false;
    let (mut whole, mut partial) = (0, 0);
    until("answers of all and of a part have come", || {
        for hub in &hubs {
            let (found, asked) = users(hub);
            assert_eq!(found.count, asked.answered as u64, "{found:?} {asked:?}");
            assert!(found.page.iter().all(|user| user.connections == 1), "{found:?}");
            assert!(asked.answered + asked.missing.len() == asked.asked && asked.asked <= 3, "{asked:?}");
            *(if asked.answered == 3 { &mut whole } else { &mut partial }) += 1;
        }
        whole > 3 && partial > 3
    });
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn words_that_are_none_or_of_a_later_version_are_counted_and_do_no_harm() {
    let model = Model::named("strange-words");
    let (path, option) = control("strange-words");
    let hub = start("strange-words", &[("control", &option)]);
    until("it answers", || hub.readiness().failure().is_none());
    let later =
        [&[2][..], &Said::Question { id: 1, asker: 2, sent: Sent::default(), question: Question::Stats }.write()[1..]]
            .concat();
    let late = parts(77, 88, b"nobody asked").remove(0);
    let words = [vec![0, 1], Vec::new(), later, late];
    for bytes in words {
        model.words().say(&Word { to: None, bytes }, 0);
    }
    for (reason, count) in [("malformed", 2), ("newer", 1), ("late", 1)] {
        let line = format!("push_hub_words_dropped_total{{reason=\"{reason}\"}} {count}\n");
        until(&line, || asked(&path, "GET /metrics").contains(&line));
    }
    assert_eq!(users(&hub).1.answered, 1);
    hub.stop(Duration::ZERO);
}

#[test]
fn a_question_that_its_hub_has_given_up_is_not_answered() {
    let model = Model::named("old-questions");
    let (path, option) = control("old-questions");
    let patient = ("engine_timeout", "1m");
    let hubs = [start("old-questions", &[patient]), start("old-questions", &[patient, ("control", &option)])];
    until("both answer", || users(&hubs[0]).1.answered == 2);
    // On a slow machine a question of the wait above may have been late already.
    let old = || {
        let text = asked(&path, "GET /metrics");
        let count = text.split_once("push_hub_words_dropped_total{reason=\"old\"} ").unwrap().1;
        count.lines().next().unwrap().parse::<u64>().unwrap()
    };
    let before = old();
    model.hang(true);
    assert_eq!(users(&hubs[0]).1.answered, 1);
    // Longer than a question may be under way at best.
    std::thread::sleep(Duration::from_millis(500));
    model.hang(false);
    until("it is dropped", || old() > before);
    until("both answer again", || users(&hubs[0]).1.answered == 2);
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn too_many_questions_at_once_are_refused() {
    let hub = start("many-questions", &[]);
    let Backend::Embedded(embedded) = &hub.0 else { panic!("it has a hub") };
    // Nobody answers, so each of them waits as long as it may.
    embedded.hub().mute_questions();
    let barrier = std::sync::Barrier::new(80);
    let ask = || {
        barrier.wait();
        hub.users("a", "", 1).map(drop)
    };
    // On a slow machine the first may be over before the last ask.
    until("some are too many", || {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..80).map(|_| scope.spawn(ask)).collect();
            let errors = asked.into_iter().map(|asked| asked.join().unwrap().unwrap_err());
            let refused = errors.inspect(|error| assert_eq!(error.kind(), crate::error::Kind::Busy, "{error}"));
            let count = refused.filter(|error| error.to_string().contains("too many questions")).count();
            assert!(count <= 16, "{count}");
            count > 0
        })
    });
    hub.stop(Duration::ZERO);
}
