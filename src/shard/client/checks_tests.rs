//! The lines of messages that wait, against the simplest model of them.

use super::checks::{Checks, ClientMessage, Instead};
use crate::fuzzing::random::Random;
use crate::grant::Grant;
use crate::hub::{ChannelPattern, Replacement};
use crate::shard::connection::conn::Token;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

fn message(data: &str) -> ClientMessage {
    let data = Bytes::copy_from_slice(data.as_bytes());
    ClientMessage { channel: "c".into(), data, event: None, key: None, binary: false, except: None }
}

fn instead(data: &str) -> Instead {
    Instead::of(&Replacement { data: data.as_bytes(), event: None, binary: false })
}

fn grant(user: &str) -> Option<Arc<Grant>> {
    Some(Arc::new(Grant::new(Some(user), &[], &["*".into()], 0, true, false).unwrap()))
}

fn token(index: u32) -> Token {
    Token { index, generation: 1 + index / 4 }
}

/// A message in the model.
#[derive(Debug)]
struct Expected {
    count: Option<u64>,
    data: String,
}

/// The messages of a connection in order, with the host's answers noted in them.
#[derive(Debug, Default)]
struct Line {
    messages: Vec<Expected>,
    again_at: Option<u64>,
    /// The user of the connection when it ended.
    left: Option<Option<&'static str>>,
}

/// The lines that have messages, by their connections.
#[derive(Debug, Default)]
struct Model(BTreeMap<u32, Line>);

impl Model {
    fn add(&mut self, of: u32, count: Option<u64>, data: String) {
        self.0.entry(of).or_default().messages.push(Expected { count, data });
    }

    fn find(&self, count: u64) -> Option<(u32, usize)> {
        let at = |line: &Line| line.messages.iter().position(|message| message.count == Some(count));
        self.0.iter().find_map(|(of, line)| Some((*of, at(line)?)))
    }

    fn message(&mut self, (of, at): (u32, usize)) -> &mut Expected {
        &mut self.0.get_mut(&of).unwrap().messages[at]
    }

    fn messages(&self) -> impl Iterator<Item = &Expected> {
        self.0.values().flat_map(|line| &line.messages)
    }

    /// How many of a line are due.
    fn due(&self, of: u32) -> usize {
        let Some(Line { messages, .. }) = self.0.get(&of) else { return 0 };
        messages.iter().position(|message| message.count.is_some()).unwrap_or(messages.len())
    }

    fn questions(&self) -> usize {
        self.messages().filter(|message| message.count.is_some()).count()
    }

    fn bytes(&self) -> usize {
        // The name of the channel is one byte.
        self.messages().map(|message| message.data.len() + 1 + 256).sum()
    }
}

fn text(data: &Bytes) -> &str {
    std::str::from_utf8(data).unwrap()
}

/// Publishes what is due of a connection. `busy`: the hub has no room until then. Returns how many were published.
fn publish(checks: &mut Checks, model: &mut Model, of: u32, busy: Option<u64>) -> usize {
    let due = model.due(of);
    let Some(line) = model.0.get_mut(&of).filter(|_| due > 0) else {
        assert!(checks.next_due(token(of)).is_none());
        return 0;
    };
    if let Some(again_at) = busy {
        let (waiting, left) = checks.next_due(token(of)).unwrap();
        assert_eq!(text(&waiting.message.data), line.messages[0].data);
        assert_eq!(left.is_some(), line.left.is_some());
        checks.put_back(token(of), waiting, left, again_at);
        line.again_at = busy;
        return 0;
    }
    line.again_at = None;
    for message in line.messages.drain(..due) {
        let (waiting, left) = checks.next_due(token(of)).unwrap();
        let user = left.map(|grant| grant.map(|grant| grant.user().unwrap().to_string()));
        assert_eq!(text(&waiting.message.data), message.data);
        assert_eq!(user, line.left.map(|user| user.map(str::to_owned)));
    }
    assert!(checks.next_due(token(of)).is_none());
    due
}

#[test]
fn each_message_is_published_once_in_the_order_of_its_connection_or_not_at_all() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut checks, mut model) = (Checks::default(), Model::default());
    let (mut count, mut published, mut again) = (0_u64, 0, 0);
    for step in 0..50_000u64 {
        let of = (random.next() % 12) as u32;
        // Also counts that were answered long ago, and some that were never given.
        let known = (count + 2).saturating_sub(random.next() % 40);
        let data = "x".repeat((random.next() % 9) as usize) + &step.to_string();
        let busy = random.next().is_multiple_of(4).then(|| step + 1 + random.next() % 50);
        let expected = model.find(known);
        match random.next() % 14 {
            0..=3 => {
                count += 1;
                checks.add(token(of), Some(count), 1000 + random.next() % 50, None, message(&data));
                model.add(of, Some(count), data);
            }
            4 if checks.of_connection(token(of)) > 0 => {
                checks.add(token(of), None, 1000, None, message(&data));
                model.add(of, None, data);
            }
            5..=8 => {
                let instead = random.next().is_multiple_of(3).then(|| instead(&data));
                let replaces = instead.is_some();
                let grows = instead.as_ref().is_some_and(|instead| checks.would_grow(known, instead));
                assert_eq!(checks.allow(known, instead), expected.map(|(of, _)| token(of)));
                if let Some(place) = expected {
                    let message = model.message(place);
                    message.count = None;
                    assert_eq!(grows, replaces && place.1 > 0 && data.len() > message.data.len());
                    if replaces {
                        message.data = data;
                    }
                    published += publish(&mut checks, &mut model, place.0, busy);
                }
            }
            9 | 10 => {
                let taken = checks.take(known).map(|(of, waiting)| (of, text(&waiting.message.data).to_owned()));
                let removed = expected.map(|(of, at)| (of, model.0.get_mut(&of).unwrap().messages.remove(at)));
                assert_eq!(taken, removed.as_ref().map(|(of, message)| (token(*of), message.data.clone())));
                if let Some((of, _)) = removed {
                    published += publish(&mut checks, &mut model, of, busy);
                }
            }
            11 => {
                let first = model.0.values().filter_map(|line| line.again_at).filter(|at| *at <= step).min();
                let found = checks.next_again(step).map(|of| of.index);
                assert_eq!(found.and_then(|of| model.0[&of].again_at), first);
                if let Some(of) = found {
                    let some = publish(&mut checks, &mut model, of, busy);
                    (published, again) = (published + some, again + some);
                }
            }
            12 if random.next().is_multiple_of(8) => {
                let forgotten = checks.forget(token(of));
                let expected = model.0.remove(&of).unwrap_or_default().messages;
                let data = forgotten.iter().map(|waiting| text(&waiting.message.data));
                assert!(data.eq(expected.iter().map(|message| &*message.data)));
            }
            12 if random.next().is_multiple_of(16) => {
                let user = ["ann", "bob"][random.next() as usize % 2];
                match random.next() % 3 {
                    0 => {
                        checks.forget_left_by(user);
                        model.0.retain(|_, line| line.left != Some(Some(user)));
                    }
                    1 => {
                        checks.forget_left(true);
                        model.0.retain(|_, line| !matches!(line.left, Some(Some(_))));
                    }
                    _ => {
                        checks.forget_left(false);
                        model.0.retain(|_, line| line.left.is_none());
                    }
                }
            }
            _ => {
                let user = [Some("ann"), Some("bob"), None][random.next() as usize % 3];
                checks.leave(token(of), || user.and_then(grant));
                if let Some(line) = model.0.get_mut(&of) {
                    line.left.get_or_insert(user);
                }
            }
        }
        model.0.retain(|_, line| !line.messages.is_empty());
        assert_eq!(checks.of_connection(token(of)), model.0.get(&of).map_or(0, |line| line.messages.len()));
        assert_eq!((checks.questions(), checks.bytes()), (model.questions(), model.bytes()));
    }
    assert!(published > 2000 && again > 300, "{published}, {again}");
    // What is left is given up, and nothing is left of it.
    while let Some(count) = checks.overdue(u64::MAX) {
        let (of, _) = checks.take(count).unwrap();
        while checks.next_due(of).is_some() {}
    }
    while let Some(of) = checks.next_again(u64::MAX) {
        while checks.next_due(of).is_some() {}
    }
    assert_eq!((checks.questions(), checks.bytes(), checks.due_in(0)), (0, 0, None));
    (0..12).for_each(|of| assert_eq!(checks.of_connection(token(of)), 0));
    assert!(checks.is_empty(), "{checks:?}");
}

#[test]
fn questions_are_given_up_in_the_order_of_their_times() {
    let mut checks = Checks::default();
    checks.add(token(1), Some(7), 300, None, message("later"));
    checks.add(token(2), Some(8), 200, None, message("sooner"));
    assert_eq!((checks.overdue(199), checks.due_in(150), checks.due_in(250)), (None, Some(50), Some(1)));
    assert_eq!(checks.overdue(200), Some(8));
    checks.take(8).unwrap();
    assert_eq!((checks.overdue(200), checks.overdue(300)), (None, Some(7)));
    checks.allow(7, None).unwrap();
    assert_eq!((checks.overdue(300), checks.due_in(0)), (None, None));
    // The hub has no room for it, and is tried again.
    let (waiting, left) = checks.next_due(token(1)).unwrap();
    checks.put_back(token(1), waiting, left, 310);
    assert_eq!((checks.overdue(400), checks.due_in(300)), (None, Some(10)));
    assert_eq!((checks.next_again(309), checks.next_again(310)), (None, Some(token(1))));
}

#[test]
fn what_has_left_keeps_the_rights_that_it_had_then() {
    let mut checks = Checks::default();
    for (of, user) in [(1, Some("ann")), (2, Some("ann")), (3, Some("bob")), (4, None)] {
        checks.add(token(of), Some(of.into()), 100, None, message("x"));
        if of != 2 {
            checks.leave(token(of), || user.and_then(grant));
        }
    }
    checks.leave(token(9), || panic!("it has published nothing"));
    checks.revoke("ann", &ChannelPattern::parse("c").unwrap());
    // The first end counts.
    checks.leave(token(1), || grant("ann"));
    let allows = |checks: &mut Checks, of: u32| {
        checks.allow(of.into(), None).unwrap();
        let (_, left) = checks.next_due(token(of)).unwrap();
        left.map(|rights| rights.map(|grant| grant.allows_publish("c")))
    };
    let found = [1, 2, 3, 4].map(|of| allows(&mut checks, of));
    assert_eq!(found, [Some(Some(false)), None, Some(Some(true)), Some(None)], "the second is still there");
}

#[test]
fn new_rights_count_for_what_a_connection_has_left_unless_they_are_of_another_user() {
    let mut checks = Checks::default();
    let renewed = grant("ann").unwrap().without(&ChannelPattern::parse("c").unwrap());
    for (of, user) in [(1, Some("ann")), (2, Some("bob")), (3, None), (4, Some("ann"))] {
        checks.add(token(of), Some(of.into()), 100, None, message("x"));
        if of != 4 {
            checks.leave(token(of), || user.and_then(grant));
        }
    }
    (1..=5).for_each(|of| checks.renew_left(token(of), &renewed));
    let waiting = [1, 2, 3, 4].map(|of| checks.of_connection(token(of)));
    assert_eq!((waiting, checks.questions()), ([1, 0, 0, 1], 2));
    checks.allow(1, None).unwrap();
    let (_, left) = checks.next_due(token(1)).unwrap();
    assert!(!left.unwrap().unwrap().allows_publish("c"));
    checks.allow(4, None).unwrap();
    assert!(checks.next_due(token(4)).unwrap().1.is_none(), "it is still there, and has the grant itself");
}
