//! What the clients of the crowd show of who is on their channels, and that it is who is there in the end.

use super::crowd_client_tests::Client;
use super::crowd_tests::World;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const USERS: [&str; 3] = ["ada", "bob", "eve"];
/// It has no presence.
const OFF: &str = "x2";
/// The option `presence_detail`.
const DETAIL: usize = 2;
/// So many turns it may take until all show who is there. A few milliseconds are enough.
const TURNS: usize = 2000;

/// What a client shows of a channel.
#[derive(Debug, Clone, PartialEq)]
enum View {
    /// It has not been told anything yet.
    Nothing,
    Off,
    Users(BTreeSet<String>),
    Number(usize),
}

/// A client's user, and what it shows of the channels that it follows.
#[derive(Debug)]
pub(super) struct Follower {
    user: Option<&'static str>,
    /// It follows all channels that it has by name.
    pub(super) follows: bool,
    views: BTreeMap<&'static str, View>,
}

impl Follower {
    pub(super) fn new(user: Option<&'static str>, follows: bool, named: &[&'static str]) -> Self {
        let mut follower = Follower { user, follows, views: BTreeMap::new() };
        named.iter().for_each(|name| follower.follow(name));
        follower
    }

    pub(super) fn follow(&mut self, channel: &'static str) {
        if self.follows {
            self.views.insert(channel, View::Nothing);
        }
    }

    pub(super) fn unfollow(&mut self, channel: &str) {
        self.views.remove(channel);
    }

    /// An object of presence comes.
    pub(super) fn take(&mut self, value: &Value) {
        assert!(value["id"].is_null(), "it has no position: {value}");
        let channel = value["channel"].as_str().unwrap();
        let view = self.views.get_mut(channel).unwrap_or_else(|| panic!("it does not follow that: {value}"));
        let count = value["count"].as_u64().map(|count| count as usize);
        if value["type"] == "presence" {
            *view = match (value["users"].as_array(), count) {
                (Some(users), Some(count)) => {
                    let names: Vec<String> =
                        users.iter().map(|user| user["user"].as_str().unwrap().to_owned()).collect();
                    assert!(names.is_sorted() && names.len() == count && count <= DETAIL, "{value}");
                    View::Users(names.into_iter().collect())
                }
                (None, Some(count)) => {
                    assert!(count > DETAIL, "they could be told by name: {value}");
                    View::Number(count)
                }
                _ => {
                    assert_eq!((channel, &value["off"]), (OFF, &Value::Bool(true)));
                    View::Off
                }
            };
            return;
        }
        let View::Users(users) = view else { panic!("it has no list: {value}, but {view:?}") };
        let user = value["user"].as_str().unwrap();
        let is_new = match value["type"] == "join" {
            true => users.insert(user.to_owned()),
            false => users.remove(user),
        };
        assert!(is_new, "{value} says nothing new: {users:?}");
        assert_eq!(count, Some(users.len()), "{value}");
    }
}

impl World {
    /// The users who have a channel by name.
    fn users_on(&self, channel: &str) -> BTreeSet<String> {
        let on = |client: &&Client| !client.closed && client.named.contains(&channel);
        self.clients.iter().filter(on).filter_map(|client| client.presence.user).map(str::to_owned).collect()
    }

    /// A client that shows something else than who is there.
    fn wrong_view(&self) -> Option<String> {
        let shown = self.clients.iter().filter(|client| !client.closed).flat_map(|client| &client.presence.views);
        let wrong = |(channel, view): (&&'static str, &View)| {
            let users = self.users_on(channel);
            let expected = match () {
                () if *channel == OFF => View::Off,
                () if users.len() > DETAIL => View::Number(users.len()),
                () => View::Users(users),
            };
            (*view != expected).then(|| format!("{channel} is shown as {view:?}, but it is {expected:?}"))
        };
        shown.filter_map(|(channel, view)| wrong((channel, view))).next()
    }

    /// All show who is there, after some turns.
    pub(super) fn settle_presence(&mut self) {
        for _ in 0..TURNS {
            let read: usize = (0..self.clients.len()).map(|client| self.read(client, 1 << 16)).sum();
            if read == 0 && self.wrong_view().is_none() {
                return self.shard.context.presence.check();
            }
            self.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{:?}", self.wrong_view());
    }

    /// Nobody is there any more, after some turns.
    pub(super) fn end_presence(&mut self) {
        for _ in 0..TURNS {
            if self.shard.context.presence.figures().members == 0 {
                break;
            }
            self.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        let side = &self.shard.side;
        assert!(side.visits.is_empty() && side.follows.is_empty(), "{:?} {:?}", side.visits, side.follows);
        assert_eq!(self.shard.context.presence.figures().members, 0, "somebody stays behind");
        self.shard.context.presence.check();
    }
}
