//! The users on a channel, as the hub tells them.

use super::*;
use crate::engine::Hubs;

#[test]
fn users_must_be_valid_and_in_order() {
    let read = |names: &[&str]| {
        let bytes = written(|into| FromHub::Users { number: 1, users: users(names) }.write(into));
        FromHub::read(&bytes[4..]).map(drop)
    };
    assert_eq!(read(&["a", "aa", "b"]), Ok(()));
    for names in [["b", "a"], ["a", "a"]] {
        assert_eq!(read(&names), Err(Malformed("users that are not in order")));
    }
    for name in ["", "a\0", &*"x".repeat(256)] {
        assert_eq!(read(&[name]), Err(Malformed("a user with a wrong name")));
    }
    let many: Vec<String> = (0..=MAX_USERS).map(|number| format!("{number:05}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(read(&many[1..]), Ok(()));
    assert_eq!(read(&many), Err(Malformed("a page of too many users")));
    let question = FromHost::Users { number: 1, channel: "c", after: "", limit: MAX_USERS as u32 + 1, time_ms: None };
    let bytes = written(|into| question.write(into));
    assert_eq!(FromHost::read(&bytes[4..]).unwrap_err(), Malformed("a request for too many users"));
}

#[test]
fn users_name_the_hubs_that_have_answered_to_newer_hosts() {
    let older = FromHub::Users { number: 1, users: users(&["a"]) };
    let older = written(|into| older.write(into));
    for why in [None, Some("away".to_owned())] {
        let mut hubs = Hubs { asked: 3, answered: 1, missing: vec![5, u64::MAX], ..Hubs::default() };
        why.iter().for_each(|why| hubs.note(why));
        let sent = Users { hubs: Some(Box::new(hubs)), ..users(&["a"]) };
        let bytes = written(|into| FromHub::Users { number: 1, users: sent.clone() }.write(into));
        let Ok(FromHub::Users { users: read, .. }) = FromHub::read(&bytes[4..]) else { panic!("no users") };
        assert_eq!(read, sent);
        assert_eq!(bytes[5..older.len()], older[5..], "the rest is as in all versions");
        (older.len() + 1..bytes.len()).for_each(|end| assert!(FromHub::read(&bytes[4..end]).is_err(), "{end}"));
        assert!(FromHub::read(&[&bytes[4..], b"x"].concat()).is_err());
    }
}
