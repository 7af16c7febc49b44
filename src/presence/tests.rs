//! What the owner of presence promises, one by one. The model tests try all of it together.

use super::*;

const BOUNDS: Bounds = Bounds { grace_ms: 5000, detail: 3, total: 1 << 20 };

/// Shards that were woken, in order.
type Woken = Arc<Mutex<Vec<usize>>>;

fn presence(bounds: Bounds) -> (Presence, Woken) {
    let woken = Woken::default();
    let wakes = woken.clone();
    (Presence::new(bounds, 2, Box::new(move |shard| wakes.lock().unwrap().push(shard))), woken)
}

fn told(woken: &Woken) -> Vec<usize> {
    woken.lock().unwrap().clone()
}

fn enter(presence: &Presence, user: &str, info: Option<&str>, now: u64) -> bool {
    presence.enter(Visit { channel: "room", user: &Arc::from(user), info }, now).is_some()
}

/// The members as a line of text.
fn members(presence: &Presence) -> String {
    let look = presence.look("room", &Asked { list: true, ..Asked::default() });
    let Some(members) = look.members else { return format!("{} members", look.count) };
    assert_eq!((look.is_list, members.len()), (true, look.count));
    let shown = |member: &Member| match &member.info {
        Some(info) => format!("{}={info}", member.user),
        None => member.user.to_string(),
    };
    members.iter().map(shown).collect::<Vec<_>>().join(" ")
}

/// What has changed since a version, as a line of text.
fn changes(presence: &Presence, since: u64) -> Option<String> {
    let look = presence.look("room", &Asked { since: &[since], ..Asked::default() });
    let shown = |change: &Change| format!("{}{}:{}", if change.joins { '+' } else { '-' }, change.user, change.count);
    look.changes[0].as_ref().map(|changes| changes.iter().map(shown).collect::<Vec<_>>().join(" "))
}

fn version(presence: &Presence) -> u64 {
    presence.look("room", &Asked::default()).version
}

#[test]
fn a_second_tab_is_no_join_and_a_reload_is_no_leave() {
    let (presence, _) = presence(BOUNDS);
    assert!(enter(&presence, "bob", None, 0) && enter(&presence, "ada", Some("x"), 0));
    let before = version(&presence);
    assert!(enter(&presence, "bob", None, 1));
    assert_eq!(presence.leave("room", "bob", 2), None);
    // The last one goes, and another one comes.
    assert_eq!(presence.leave("room", "bob", 3), Some(5003));
    assert_eq!(presence.expire(5002), Some(5003));
    assert!(enter(&presence, "bob", None, 5002));
    assert_eq!((presence.expire(6000), version(&presence), members(&presence)), (None, before, "ada=x bob".into()));
    assert_eq!(presence.leave("room", "bob", 6000), Some(11_000));
    assert_eq!((presence.expire(11_000), members(&presence)), (None, "ada=x".into()));
    presence.check();
}

#[test]
fn the_info_is_that_of_the_connection_that_entered_last() {
    let (presence, _) = presence(BOUNDS);
    presence.follow(0, "room");
    enter(&presence, "ada", Some("one"), 0);
    let since = version(&presence);
    for (info, expected) in [(Some("two"), "ada=two"), (Some("two"), "ada=two"), (None, "ada")] {
        enter(&presence, "ada", info, 0);
        assert_eq!((members(&presence), presence.figures().members), (expected.into(), 1));
    }
    assert_eq!(changes(&presence, since).unwrap(), "+ada:1");
    enter(&presence, "ada", Some("one"), 0);
    assert_eq!(changes(&presence, since).unwrap(), "", "it is as it was");
}

#[test]
fn joins_and_leaves_of_one_user_are_one() {
    let (presence, _) = presence(Bounds { grace_ms: 0, ..BOUNDS });
    presence.follow(0, "room");
    enter(&presence, "ada", None, 0);
    let since = version(&presence);
    for user in ["bob", "eve"] {
        enter(&presence, user, None, 0);
    }
    presence.leave("room", "bob", 0);
    presence.leave("room", "ada", 0);
    assert_eq!(changes(&presence, since).unwrap(), "+eve:2 -ada:1");
    presence.leave("room", "eve", 0);
    enter(&presence, "ada", None, 0);
    assert_eq!(changes(&presence, since).unwrap(), "");
    assert_eq!(changes(&presence, since - 1).unwrap(), "+ada:1");
}

#[test]
fn above_the_bound_only_numbers_are_told() {
    let (presence, woken) = presence(BOUNDS);
    let users = ["a", "b", "c", "d"];
    users.iter().for_each(|user| assert!(enter(&presence, user, None, 0)));
    assert_eq!((members(&presence), changes(&presence, version(&presence))), ("4 members".into(), None));
    presence.follow(1, "room");
    let before = version(&presence);
    presence.reconfigure(Bounds { detail: 4, ..BOUNDS }, false, 0);
    assert!(version(&presence) > before, "there is something else to tell");
    assert_eq!((members(&presence), told(&woken)), ("a b c d".into(), vec![1]));
}

#[test]
fn a_shard_is_woken_once_until_it_looks() {
    let (presence, woken) = presence(BOUNDS);
    presence.follow(1, "room");
    enter(&presence, "ada", None, 0);
    enter(&presence, "bob", None, 0);
    assert_eq!(told(&woken), [1]);
    assert!(presence.take_news(0).is_empty());
    assert_eq!((presence.take_news(1), presence.take_news(1)), (vec!["room".into()], vec![]));
    enter(&presence, "eve", None, 0);
    assert_eq!(presence.take_news(1).len(), 0, "it is to look in any case");
    presence.look("room", &Asked { shard: Some(1), ..Asked::default() });
    enter(&presence, "zoe", None, 0);
    assert_eq!((presence.take_news(1).len(), told(&woken)), (1, vec![1, 1]));
    presence.unfollow(1, "room", 0);
    presence.leave("room", "zoe", 0);
    presence.expire(5000);
    assert_eq!(told(&woken).len(), 2, "it follows no more");
    presence.check();
}

#[test]
fn who_has_gone_longest_gives_way_and_who_is_there_does_not() {
    let one = places::cost("room", "a", None);
    let (presence, _) = presence(Bounds { total: 2 * one, ..BOUNDS });
    assert!(enter(&presence, "a", None, 0) && enter(&presence, "b", None, 0));
    assert!(!enter(&presence, "c", None, 0), "both are there");
    assert_eq!(presence.figures(), Figures { members: 2, bytes: 2 * one as u64, refused: 1 });
    presence.leave("room", "b", 1);
    presence.leave("room", "a", 2);
    assert!(!enter(&presence, &"c".repeat(one * 2), None, 3), "nobody gives way for what does not fit");
    assert!(enter(&presence, "c", None, 3));
    assert_eq!(members(&presence), "a c");
    // What is told of one does not throw out another one who is there.
    enter(&presence, "a", None, 4);
    assert!(enter(&presence, "c", Some("x"), 4));
    assert_eq!((members(&presence), presence.figures().refused), ("a c".into(), 3));
    presence.check();
}

#[test]
fn a_shorter_grace_counts_for_those_who_have_left_and_so_does_less_room() {
    let (presence, _) = presence(BOUNDS);
    for user in ["a", "b", "c"] {
        enter(&presence, user, None, 0);
    }
    presence.leave("room", "a", 0);
    presence.reconfigure(Bounds { grace_ms: 100, ..BOUNDS }, false, 50);
    assert_eq!((presence.expire(50), presence.expire(100), members(&presence)), (Some(100), None, "b c".into()));
    presence.leave("room", "b", 100);
    presence.reconfigure(Bounds { total: places::cost("room", "c", None), ..BOUNDS }, false, 100);
    assert_eq!((presence.expire(100), members(&presence)), (None, "c".into()));
}

#[test]
fn a_channel_is_remembered_for_a_while_so_that_polls_need_not_ask_again() {
    let (presence, _) = presence(Bounds { grace_ms: 0, ..BOUNDS });
    enter(&presence, "ada", None, 0);
    presence.leave("room", "ada", 0);
    let known = presence.version();
    let text = presence.version_text(known);
    assert_eq!(presence.known_version(&text), Some(known));
    assert!(version(&presence) <= known);
    // Others come and go, more than are remembered.
    for number in 0..10 {
        let name = format!("other {number}");
        presence.enter(Visit { channel: &name, user: &Arc::from("bob"), info: None }, 0);
        presence.leave(&name, "bob", 0);
        presence.check();
    }
    assert!(version(&presence) > known, "nobody can know that nothing has changed");
    presence.expire(70_000);
    presence.check();
    presence.reconfigure(BOUNDS, true, 70_000);
    assert_eq!(presence.known_version(&text), None, "another channel may have presence now");
    assert_eq!(presence.known_version(&presence.version_text(known + 1000)), None);
    // Another shard has answered with its old options meanwhile.
    let text = presence.version_text(presence.version());
    assert!(presence.known_version(&text).is_some());
    presence.switch(70_000);
    assert_eq!(presence.known_version(&text), None, "that shard has other options now");
}

#[test]
fn what_can_only_be_followed_makes_no_version() {
    let (presence, woken) = presence(BOUNDS);
    let before = presence.version();
    for _ in 0..5 {
        presence.follow(0, "room");
        presence.unfollow(0, "room", 0);
    }
    assert_eq!((presence.version(), version(&presence), told(&woken).len()), (before, before, 0));
    presence.follow(0, "room");
    enter(&presence, "ada", None, 0);
    presence.forget_shard(0, 0);
    assert_eq!(presence.take_news(0).len(), 0);
    presence.check();
}

#[test]
fn more_changes_than_a_list_has_members_are_not_kept() {
    let (presence, _) = presence(Bounds { grace_ms: 0, detail: 100, ..BOUNDS });
    presence.follow(0, "room");
    let since = version(&presence);
    for number in 0..40 {
        let user = format!("u{number}");
        enter(&presence, &user, None, 0);
        presence.leave("room", &user, 0);
    }
    assert_eq!(changes(&presence, since), None);
    assert_eq!(changes(&presence, version(&presence)).unwrap(), "");
}
