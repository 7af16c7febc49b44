//! The objects for clients of `push.v1.json` beside messages and gaps: answers to requests, and ends of subscriptions.

use super::json;
use crate::framing::close::Close;
use crate::hub::Epoch;

/// The answer to `ping`.
pub(crate) fn pong() -> Vec<u8> {
    br#"{"type":"pong"}"#.to_vec()
}

/// An answer with the number that the client gave its request.
pub(crate) fn with_ref(mut answer: Vec<u8>, reference: Option<u64>) -> Vec<u8> {
    if let Some(reference) = reference {
        debug_assert_eq!(answer.last(), Some(&b'}'));
        answer.pop();
        answer.extend_from_slice(br#","ref":"#);
        answer.extend_from_slice(itoa::Buffer::new().format(reference).as_bytes());
        answer.push(b'}');
    }
    answer
}

/// A channel is subscribed to, and everything up to the position has been sent.
pub(crate) fn subscribed(channel: &str, position: &str) -> Vec<u8> {
    let mut reply = of_channel("subscribed", channel);
    reply.extend_from_slice(br#","id":""#);
    reply.extend_from_slice(position.as_bytes());
    reply.extend_from_slice(br#""}"#);
    reply
}

/// A subscription has ended because the client asked for that.
pub(crate) fn unsubscribed(channel: &str) -> Vec<u8> {
    let mut reply = of_channel("unsubscribed", channel);
    reply.push(b'}');
    reply
}

/// The server has ended a subscription. The object has the close code that says why, and a sentence.
pub(crate) fn taken_away(channel: &str, reason: &str) -> Vec<u8> {
    let mut object = of_channel("unsubscribed", channel);
    object.extend_from_slice(format!(r#","code":{},"reason":"#, Close::NOT_ALLOWED.code).as_bytes());
    json::string(reason, &mut object);
    object.push(b'}');
    object
}

/// A message of the client is published, with this number.
pub(crate) fn published(channel: &str, epoch: &Epoch, seq: u64) -> Vec<u8> {
    let mut reply = of_channel("published", channel);
    reply.extend_from_slice(br#","id":""#);
    epoch.write_position(seq, &mut reply);
    reply.extend_from_slice(br#""}"#);
    reply
}

/// The host's answer to a call.
pub(crate) fn called(data: &[u8], binary: bool) -> Vec<u8> {
    let mut reply = Vec::with_capacity(data.len() + 64);
    reply.extend_from_slice(br#"{"type":"answer""#);
    json::data(data, binary, &mut reply);
    reply.push(b'}');
    reply
}

/// The host has refused a call, or a message for a channel.
pub(crate) fn refused(status: u16, message: &str, channel: Option<&str>) -> Vec<u8> {
    let mut reply = error("refused", message, channel);
    reply.pop();
    reply.extend_from_slice(format!(r#","status":{status}}}"#).as_bytes());
    reply
}

/// A token is accepted. 0: its grant does not end.
pub(crate) fn token(expires_at: i64) -> Vec<u8> {
    format!(r#"{{"type":"token","expires":{expires_at}}}"#).into_bytes()
}

/// A request is not done.
pub(crate) fn error(code: &str, message: &str, channel: Option<&str>) -> Vec<u8> {
    let mut reply = br#"{"type":"error","code":""#.to_vec();
    reply.extend_from_slice(code.as_bytes());
    reply.extend_from_slice(br#"","message":"#);
    json::string(message, &mut reply);
    if let Some(channel) = channel {
        reply.extend_from_slice(br#","channel":"#);
        json::string(channel, &mut reply);
    }
    reply.push(b'}');
    reply
}

/// The beginning of an object about a channel.
fn of_channel(kind: &str, channel: &str) -> Vec<u8> {
    let mut object = Vec::with_capacity(64 + channel.len());
    object.extend_from_slice(br#"{"type":""#);
    object.extend_from_slice(kind.as_bytes());
    object.extend_from_slice(br#"","channel":"#);
    json::string(channel, &mut object);
    object
}
