//! `GET /v1/channels` and `GET /v1/users` with more than the hub looks at in one step.

use super::common::{until, Client, Host, CONTROL, UPGRADE};
use super::{ask, got};
use push::grant::Grant;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// The hub looks at 512 channels in a step.
const MANY: usize = 1500;

fn names(answer: &Value) -> Vec<&str> {
    answer["channels"].as_array().unwrap().iter().map(|row| row["channel"].as_str().unwrap()).collect()
}

#[test]
fn channels_are_found_among_many_others_and_each_is_listed_once() {
    let host = Host::start(&CONTROL);
    // Others stand between them, so that each step finds some.
    for number in 0..MANY {
        let kind = if number % 3 == 0 { "wanted" } else { "other" };
        host.publish(&format!("{kind}.{:04}", number * 7919 % MANY), "x");
    }
    let mut expected: Vec<String> =
        (0..MANY).step_by(3).map(|number| format!("wanted.{:04}", number * 7919 % MANY)).collect();
    expected.sort();
    let answer = got(&host, "/v1/channels?prefix=wanted");
    assert_eq!((names(&answer), &answer["more"]), (expected.iter().map(|name| &**name).collect(), &false.into()));
    // The last step alone finds this one.
    host.publish("last", "x");
    assert_eq!(names(&got(&host, "/v1/channels?prefix=last")), ["last"]);
    // It ends where enough are found. Which these are is not said.
    let answer = got(&host, "/v1/channels?prefix=wanted&limit=400");
    let some = names(&answer);
    assert_eq!((some.len(), &answer["more"]), (400, &true.into()));
    assert!(some.is_sorted() && some.iter().all(|name| expected.iter().any(|one| one == name)), "{some:?}");
    let all = got(&host, "/v1/channels");
    assert_eq!((names(&all).len(), &all["more"]), (1000, &true.into()));
    assert_eq!(ask(&host, "DELETE", "/v1/channels/wanted.0000", "", b"").0, 204);
    until("it is gone", || names(&got(&host, "/v1/channels?prefix=wanted")) == expected[1..]);
    host.stop();
}

#[test]
fn users_are_counted_in_several_steps_and_each_is_on_one_page() {
    // The hub sorts 1,024 names in a step, and counts as many in one.
    const COUNT: usize = 1500;
    const USERS: usize = 900;
    push::process::raise_descriptors().unwrap();
    let host = Host::start(&CONTROL);
    let mut expected = BTreeMap::<String, u64>::new();
    let clients: Vec<Client> = (0..COUNT)
        .map(|number| {
            let user = format!("u{:03}", number * 7919 % USERS);
            let (ours, theirs) = UnixStream::pair().unwrap();
            let grant = Grant::new(Some(&user), &[], &["*".into()], 0, false, false).unwrap();
            let head = format!("GET /push?channel=a HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
            host.server.adopt(theirs.into(), head.as_bytes(), Some(grant)).map_err(|(error, _)| error).unwrap();
            *expected.entry(user).or_default() += 1;
            Client::over(OwnedFd::from(ours).into())
        })
        .collect();
    until("all are there", || host.server.stats().unwrap().subscriptions == COUNT as u64);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let answer = got(&host, &format!("/v1/users?channel=a&limit=400&after={after}"));
        assert_eq!((&answer["count"], &answer["anonymous"]), (&USERS.into(), &0.into()));
        let page = answer["users"].as_array().unwrap();
        let row = |row: &Value| (row["user"].as_str().unwrap().to_owned(), row["connections"].as_u64().unwrap());
        seen.extend(page.iter().map(row));
        assert_eq!(answer["more"], Value::from(seen.len() < USERS));
        if answer["more"] == false {
            break;
        }
        after.clone_from(&seen.last().unwrap().0);
    }
    assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
    drop(clients);
    host.stop();
}
