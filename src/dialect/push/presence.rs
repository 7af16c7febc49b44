//! The objects that tell who is on a channel. They have no position: they are news, and no history.

use super::json;
use crate::presence::{Change, Member};

/// The names of the events that carry these objects where events have names.
pub(crate) const LIST: &str = "push-presence";
const JOIN: &str = "push-join";
const LEAVE: &str = "push-leave";

/// All members.
pub(crate) fn list(channel: &str, members: &[Member]) -> Vec<u8> {
    let mut object = begin("presence", channel, 64 * members.len());
    object.extend_from_slice(br#","users":["#);
    for (place, member) in members.iter().enumerate() {
        object.extend_from_slice(if place > 0 { br#",{"user":"# } else { br#"{"user":"# });
        json::string(&member.user, &mut object);
        info(member.info.as_deref(), &mut object);
        object.push(b'}');
    }
    object.push(b']');
    end(members.len(), object)
}

/// Only their number.
pub(crate) fn number(channel: &str, count: usize) -> Vec<u8> {
    end(count, begin("presence", channel, 0))
}

/// The channel has no presence.
pub(crate) fn off(channel: &str) -> Vec<u8> {
    let mut object = begin("presence", channel, 0);
    object.extend_from_slice(br#","off":true}"#);
    object
}

/// A member has come, or something else is told of it, or it has gone; with the name of the event.
pub(crate) fn change(channel: &str, change: &Change) -> (&'static str, Vec<u8>) {
    let (event, kind) = if change.joins { (JOIN, "join") } else { (LEAVE, "leave") };
    let mut object = begin(kind, channel, 0);
    object.extend_from_slice(br#","user":"#);
    json::string(&change.user, &mut object);
    info(change.info.as_deref(), &mut object);
    (event, end(change.count, object))
}

fn begin(kind: &str, channel: &str, room: usize) -> Vec<u8> {
    let mut object = Vec::with_capacity(96 + channel.len() + room);
    object.extend_from_slice(br#"{"type":""#);
    object.extend_from_slice(kind.as_bytes());
    object.extend_from_slice(br#"","channel":"#);
    json::string(channel, &mut object);
    object
}

fn info(info: Option<&str>, object: &mut Vec<u8>) {
    if let Some(info) = info {
        object.extend_from_slice(br#","info":"#);
        json::string(info, object);
    }
}

fn end(count: usize, mut object: Vec<u8>) -> Vec<u8> {
    object.extend_from_slice(br#","count":"#);
    object.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    object.push(b'}');
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_an_object_come_in_one_order() {
        let members = [
            Member { user: "ada".into(), info: Some("an \"info\"".into()) },
            Member { user: "b\u{fc}b".into(), info: None },
        ];
        let text = |object: Vec<u8>| String::from_utf8(object).unwrap();
        let users = "[{\"user\":\"ada\",\"info\":\"an \\\"info\\\"\"},{\"user\":\"b\u{fc}b\"}]";
        let expected = format!(r#"{{"type":"presence","channel":"room","users":{users},"count":2}}"#);
        assert_eq!(text(list("room", &members)), expected);
        assert_eq!(text(list("room", &[])), r#"{"type":"presence","channel":"room","users":[],"count":0}"#);
        assert_eq!(text(number("a\"", 1742)), r#"{"type":"presence","channel":"a\"","count":1742}"#);
        assert_eq!(text(off("room")), r#"{"type":"presence","channel":"room","off":true}"#);
        let told = |joins, info: Option<&str>| {
            let changed = Change { user: "ada".into(), info: info.map(Into::into), joins, count: 3 };
            let (event, object) = change("room", &changed);
            format!("{event} {}", text(object))
        };
        assert_eq!(
            told(true, Some("i")),
            r#"push-join {"type":"join","channel":"room","user":"ada","info":"i","count":3}"#
        );
        assert_eq!(told(false, None), r#"push-leave {"type":"leave","channel":"room","user":"ada","count":3}"#);
    }
}
