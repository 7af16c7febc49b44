//! What a follower knows of the channels that it follows, from the objects that it was told.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A list, a number, or that there is nothing. Its members stand in the order that they must have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    #[serde(rename = "type")]
    pub kind: String,
    pub channel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    users: Option<Vec<User>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    off: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<String>,
}

/// True if this is an object about presence, well made or not.
pub fn is_news(text: &str) -> bool {
    ["presence", "join", "leave"].iter().any(|kind| text.starts_with(&format!(r#"{{"type":"{kind}","#)))
}

impl News {
    /// Reads the object. Its members must stand in their order, with nothing between them.
    pub fn read(text: &str) -> News {
        let news: News = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(news.written(), text, "the members of an object have one order");
        news
    }

    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

/// What is known of one channel.
#[derive(Debug)]
enum Room {
    Off,
    Count(usize),
    List(BTreeMap<String, Option<String>>),
}

/// What is known of each channel.
#[derive(Debug, Default)]
pub struct Rooms {
    known: BTreeMap<String, Room>,
    /// The objects, as they came.
    pub told: Vec<String>,
    /// A join of somebody who is there, and a leave of somebody who is not, are no mistake: members come and go so
    /// quickly that what lies between two looks is merged.
    pub hurried: bool,
}

impl Rooms {
    /// Takes what an object says. What is not right about it fails the test.
    pub fn hear(&mut self, text: &str) {
        let news = News::read(text);
        self.told.push(text.to_owned());
        match &*news.kind {
            "presence" => drop(self.known.insert(news.channel.clone(), whole(news, text))),
            "join" | "leave" => self.change(news, text),
            other => panic!("{other}: {text}"),
        }
    }

    fn change(&mut self, news: News, text: &str) {
        let News { kind, channel, users: None, user: Some(user), info, count: Some(count), off: None } = news else {
            panic!("it has other members: {text}")
        };
        let Some(Room::List(list)) = self.known.get_mut(&channel) else {
            panic!("only who has got the list is told of a change: {text}")
        };
        match &*kind {
            "join" => {
                let before = list.insert(user, info.clone());
                assert!(self.hurried || before != Some(info), "a join that changes nothing: {text}");
            }
            _ => {
                assert!(info.is_none(), "{text}");
                assert!(list.remove(&user).is_some() || self.hurried, "a leave that changes nothing: {text}");
            }
        }
        assert_eq!(count, list.len(), "{text}");
    }

    /// What is known of a channel, in short: `ada bob=info`, `#1742` for a number, `off`, `?`.
    pub fn shown(&self, channel: &str) -> String {
        match self.known.get(channel) {
            None => "?".into(),
            Some(Room::Off) => "off".into(),
            Some(Room::Count(count)) => format!("#{count}"),
            Some(Room::List(list)) => {
                let one = |(user, info): (&String, &Option<String>)| match info {
                    Some(info) => format!("{user}={info}"),
                    None => user.clone(),
                };
                list.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// The number of members, if it is known.
    pub fn count(&self, channel: &str) -> Option<usize> {
        match self.known.get(channel)? {
            Room::Off => None,
            Room::Count(count) => Some(*count),
            Room::List(list) => Some(list.len()),
        }
    }

    /// How often a change of this kind was told of this user.
    pub fn told_of(&self, kind: &str, user: &str) -> usize {
        let news = self.told.iter().map(|text| News::read(text));
        news.filter(|news| news.kind == kind && news.user.as_deref() == Some(user)).count()
    }
}

/// What a whole list, a number or an `off` says.
fn whole(news: News, text: &str) -> Room {
    assert!(news.user.is_none() && news.info.is_none(), "{text}");
    match (news.users, news.count, news.off) {
        (None, None, Some(true)) => Room::Off,
        (None, Some(count), None) => Room::Count(count),
        (Some(users), Some(count), None) => {
            let names: Vec<&String> = users.iter().map(|user| &user.user).collect();
            assert!(names.is_sorted_by(|one, next| one.as_bytes() < next.as_bytes()), "{text}");
            assert_eq!(count, users.len(), "{text}");
            Room::List(users.into_iter().map(|user| (user.user, user.info)).collect())
        }
        _ => panic!("it has other members: {text}"),
    }
}

#[test]
fn what_is_not_right_about_an_object_is_found() {
    let list = r#"{"type":"presence","channel":"room","users":[{"user":"ada"},{"user":"bob","info":"x"}],"count":2}"#;
    let heard = |all: &[&str]| {
        let all: Vec<String> = all.iter().map(|text| text.to_string()).collect();
        std::panic::catch_unwind(move || {
            let mut rooms = Rooms::default();
            all.iter().for_each(|text| rooms.hear(text));
            rooms.shown("room")
        })
    };
    let join = |rest: &str| format!(r#"{{"type":"join","channel":"room",{rest}}}"#);
    assert_eq!(heard(&[list]).unwrap(), "ada bob=x");
    assert_eq!(heard(&[list, &*join(r#""user":"bob","info":"y","count":2"#)]).unwrap(), "ada bob=y");
    assert_eq!(heard(&[list, r#"{"type":"leave","channel":"room","user":"ada","count":1}"#]).unwrap(), "bob=x");
    assert_eq!(heard(&[list, r#"{"type":"presence","channel":"room","count":9}"#]).unwrap(), "#9");
    assert_eq!(heard(&[r#"{"type":"presence","channel":"room","off":true}"#]).unwrap(), "off");
    for wrong in [
        &[&*join(r#""user":"ada","count":1"#)][..],
        &[list, &*join(r#""user":"carl","count":2"#)],
        &[list, &*join(r#""user":"ada","count":2"#)],
        &[list, &*join(r#""count":3,"user":"carl""#)],
        &[list, &*join(r#""user":"carl","info":null,"count":3"#)],
        &[list, r#"{"type":"leave","channel":"room","user":"carl","count":2}"#],
        &[r#"{"type":"presence","channel":"room","users":[],"count":1}"#],
        &[r#"{"type":"presence","channel":"room","users":[{"user":"b"},{"user":"a"}],"count":2}"#],
        &[r#"{"type":"presence","channel":"room","users":[{"user":"a"},{"user":"a"}],"count":2}"#],
        &[r#"{"type":"presence","channel":"room","users":[]}"#],
        &[r#"{"type":"presence","channel":"room","count":1,"id":"x-1"}"#],
        &[r#"{"type":"presence","channel":"room"}"#],
    ] {
        assert!(heard(wrong).is_err(), "{wrong:?}");
    }
}
