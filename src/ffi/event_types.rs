//! What the host is told: the kinds of events, and the struct.

use super::types::*;
use std::ffi::{c_char, c_void};

/// push_event.kind: a client opened a connection for a subscription (WebSocket, SSE, stream).
/// Polls cause no such event.
pub const PUSH_EVENT_OPEN: u32 = 1;
/// push_event.kind: a client sent a message over WebSocket: `data` and `len`, and PUSH_EVENT_BINARY
/// in `flags`.
pub const PUSH_EVENT_MESSAGE: u32 = 2;
/// push_event.kind: a connection ended.  `code` is the close code; SSE and streams have the same
/// codes as WebSockets.
pub const PUSH_EVENT_CLOSE: u32 = 3;
/// push_event.kind: a client wants to subscribe (option auth=host), and the host decides with
/// push_allow or push_deny.  `request` is the number for that call, `channel` the first channel of
/// the request (NULL: it names none, so the grant's `subscribe` must), `data` the whole request
/// head, including cookies.
pub const PUSH_EVENT_REQUEST: u32 = 4;
/// push_event.kind: the server begins to send its clients away, because of push_drain or push_stop,
/// or because the hub that this server is attached to ends.
pub const PUSH_EVENT_DRAIN: u32 = 5;
/// push_event.kind: no client is left.
pub const PUSH_EVENT_DRAINED: u32 = 6;
/// push_event.kind: a connection was subscribed to `channel`, with its request or later.  It comes
/// behind the connection's PUSH_EVENT_OPEN.  A pattern (`news.*`) is told in place of a channel: no
/// channel's name ends in "*".  Polls cause no such event.  This kind is off by default (option
/// `events`).
pub const PUSH_EVENT_SUBSCRIBE: u32 = 7;
/// push_event.kind: a connection's subscription to `channel` ended.  Each PUSH_EVENT_SUBSCRIBE is
/// followed by one of these.  Those of the channels that a connection has at its end come before its
/// PUSH_EVENT_CLOSE, in any order.  This kind is off by default (option `events`).  Count by
/// `connection` and `channel`: `user` is the present one, and push_renew may change it.  A reload of
/// `events`, or a time without any host at the hub (option attach), breaks the pairs; push_users_get
/// tells who is there.
pub const PUSH_EVENT_UNSUBSCRIBE: u32 = 8;
/// push_event.kind: a client of push.v1.json calls, and waits for the host's answer: push_answer or
/// push_deny.  `request` is the number for that, `data` and `len` are what the client says; if that
/// is binary, PUSH_EVENT_BINARY stands in `flags`.  This kind is off by default (option `events`);
/// then calls are refused.
pub const PUSH_EVENT_CALL: u32 = 9;
/// push_event.kind: a client of push.v1.json publishes to a channel whose option `client_publish` is
/// `host`, and may do so by its grant.  The host checks the message, and lets it be published with
/// push_allow_publish, as it is or replaced, or refuses it with push_deny.  `request` is the number
/// for that, `channel` the channel, `data` and `len` the payload; if that is binary,
/// PUSH_EVENT_BINARY stands in `flags`.  `event` and `key` are those of the message.  A client that
/// got no answer may publish the same again, with the same `key`; then this event comes again, too.
/// This kind is off by default (option `events`), and `client_publish=host` needs it.
pub const PUSH_EVENT_PUBLISH: u32 = 10;

/// push_event.flags: the client's message is binary.
pub const PUSH_EVENT_BINARY: u32 = 1;

/// An event for the host.  Start from PUSH_EVENT_INIT, and end with push_event_clear.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_event {
    /// sizeof(push_event) in the host's header.
    pub size: usize,
    /// PUSH_EVENT_OPEN, _MESSAGE, _CLOSE, _REQUEST, _DRAIN, _DRAINED, _SUBSCRIBE,
    /// _UNSUBSCRIBE, _CALL or _PUBLISH.  Ignore an event of an unknown kind.
    pub kind: u32,
    /// PUSH_EVENT_ flags.
    pub flags: u32,
    /// The connection that the event is about. 0 for PUSH_EVENT_DRAIN and _DRAINED.
    pub connection: push_connection,
    /// For PUSH_EVENT_REQUEST: the number for push_allow or push_deny.  For _CALL: the number for
    /// push_answer or push_deny.  For _PUBLISH: the number for push_allow_publish or push_deny.
    pub request: push_request,
    /// The user in the connection's grant, or NULL.
    pub user: *const c_char,
    /// For PUSH_EVENT_OPEN: the first channel that the client was subscribed to, or NULL.  For
    /// _REQUEST: the first channel that the request names, or NULL.  Patterns come behind channels.
    /// For _SUBSCRIBE, _UNSUBSCRIBE and _PUBLISH: the channel, or a pattern but for _PUBLISH.
    pub channel: *const c_char,
    /// The payload of PUSH_EVENT_MESSAGE, _CALL or _PUBLISH, or the request head of _REQUEST.
    pub data: *const c_void,
    /// The payload's length in bytes.
    pub len: usize,
    /// The close code of PUSH_EVENT_CLOSE.
    pub code: u32,
    /// Always 0.
    pub reserved: u32,
    /// Belongs to the library: the memory behind the pointers above.
    pub owner: *mut c_void,
    /// The event type of a PUSH_EVENT_PUBLISH, or NULL.
    pub event: *const c_char,
    /// The idempotency key of a PUSH_EVENT_PUBLISH, or NULL.
    pub key: *const c_char,
}
