//! The thread of the questions panics. An operator can see it, and further questions are answered.

use super::acts::{asked, control};
use super::questions::SOON;
use super::{position, start, until, PATIENCE};
use crate::api::questions::serving::BOOM;
use crate::cluster::{Question, Tell};
use crate::server::{Backend, Server};
use std::sync::mpsc;
use std::time::Duration;

fn panics(hub: &Server) -> u64 {
    let Backend::Embedded(embedded) = &hub.0 else { panic!("it has a hub") };
    let text = embedded.hub().exposition().to_string();
    text.lines().find_map(|line| line.strip_prefix("push_panics_total ")).unwrap().parse().unwrap()
}

fn answering(hub: &Server) -> usize {
    let Backend::Embedded(embedded) = &hub.0 else { panic!("it has a hub") };
    embedded.hub().questions_under_way()
}

#[test]
fn a_question_that_panics_is_not_answered_and_all_others_are() {
    let (path, option) = control("question-panics");
    let hubs = [start("question-panics", &[SOON, ("control", &option)]), start("question-panics", &[SOON])];
    position(&hubs[0], "there is such a channel");
    let both = |request: &str| asked(&path, request).contains(r#""asked":2,"answered":2"#);
    until("both answer", || both("GET /v1/channels"));
    // It panics when it takes a question up, and when it counts what the shards have said.
    for request in [
        format!("GET /v1/channels/{BOOM}"),
        format!("GET /v1/users?channel={BOOM}"),
        format!("GET /v1/users?channel=a&after={BOOM}"),
    ] {
        let before = hubs.each_ref().map(panics);
        // A hub may drop a question that it takes up too late.
        until("it is counted at both hubs", || {
            let answer = asked(&path, &request);
            // On a slow machine a heartbeat may be so late that the other hub is not asked.
            assert!(answer.contains("no hub has answered: 0 of "), "{answer}");
            hubs.iter().zip(before).all(|(hub, before)| panics(hub) > before)
        });
        hubs.iter().for_each(|hub| until("its place is free again", || answering(hub) == 0));
    }
    for request in ["GET /v1/channels", "GET /v1/channels/a", "GET /v1/users?channel=a", "GET /v1/stats?cluster=1"] {
        until("both answer again", || both(request));
    }
    for hub in hubs {
        hub.stop(Duration::ZERO);
    }
}

#[test]
fn an_asker_that_panics_when_it_is_told_leaves_the_others_told() {
    let hub = start("asker-panics", &[SOON]);
    let Backend::Embedded(embedded) = &hub.0 else { panic!("it has a hub") };
    // All questions are overdue then.
    embedded.hub().mute_questions();
    let before = panics(&hub);
    let (tell, told) = mpsc::channel();
    let ask = |number: u32| {
        let tell = tell.clone();
        let on_end: Tell = Box::new(move |_| match number % 2 {
            0 => panic!("planted"),
            _ => tell.send(number).unwrap(),
        });
        embedded.hub().ask_all(Question::Stats, on_end).unwrap();
    };
    (0..8).for_each(ask);
    let mut numbers: Vec<u32> = (0..4).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 3, 5, 7]);
    until("these are counted", || panics(&hub) == before + 4);
    ask(9);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(9), "the thread goes on");
    hub.stop(Duration::ZERO);
}
