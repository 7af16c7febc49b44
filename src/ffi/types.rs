//! What crosses the C boundary: numbers, structs, callback types.
//!
//! A `push_status` is a plain integer with constants. A Rust enum taken from C by value would be
//! undefined behaviour for a number it does not know, and C23 enums break cgo.

use std::ffi::{c_char, c_void};

/// What push_abi_version answers for this header: it changes only when a host must be compiled
/// again.
pub const PUSH_ABI_VERSION: u32 = 0;

/// The result of a call: PUSH_OK, or one of the negative PUSH_ERR_ numbers.  Numbers are never
/// reused.
pub type push_status = i32;

/// It worked.
pub const PUSH_OK: i32 = 0;
/// An argument is not allowed: NULL, a bad channel name, an unknown flag, a struct of unknown
/// shape.
pub const PUSH_ERR_INVALID: i32 = -1;
/// An option is unknown, or its value is not allowed; `err` names option, value and what is
/// allowed.
pub const PUSH_ERR_CONFIG: i32 = -2;
/// The payload is larger than the option `max_message`.
pub const PUSH_ERR_TOO_LARGE: i32 = -3;
/// A queue of the library is full, or the hub is away (option attach).  Nothing was done; the same
/// call may succeed in a moment.
pub const PUSH_ERR_BUSY: i32 = -4;
/// There is no such connection (any more).
pub const PUSH_ERR_NOT_FOUND: i32 = -5;
/// The server was stopped, or the handle never was one.
pub const PUSH_ERR_CLOSED: i32 = -6;
/// Nothing came within the time given: no event, or no answer of the hub (option attach_timeout).  Of
/// push_stop: a callback has not returned.
pub const PUSH_ERR_TIMEOUT: i32 = -7;
/// The descriptor is not a connected stream socket.  It is still the caller's.
pub const PUSH_ERR_DESCRIPTOR: i32 = -8;
/// The call came from a process forked after push_start.  The library works in the parent only.
pub const PUSH_ERR_FORKED: i32 = -9;
/// The call would wait for the callback that it was made from.
pub const PUSH_ERR_CALLBACK: i32 = -10;
/// The operating system refused something; `err` says what, where the call has an `err`.
pub const PUSH_ERR_SYSTEM: i32 = -11;
/// A defect of the library was caught.  The log has the details; please report it.
pub const PUSH_ERR_INTERNAL: i32 = -12;
/// This build or this server does not do that.
pub const PUSH_ERR_UNSUPPORTED: i32 = -13;
/// A configured limit is reached: `max_connections`, or 256 servers in one process.
pub const PUSH_ERR_LIMIT: i32 = -14;

/// push_message.flags: the payload is binary.  Without it a payload that is UTF-8 travels as text,
/// any other as binary.  Binary means binary WebSocket frames, and base64 where the form is JSON or
/// SSE.
pub const PUSH_MESSAGE_BINARY: u32 = 1;
/// push_send flags: send a binary frame.
pub const PUSH_SEND_BINARY: u32 = 1;

/// push_grant.flags: the client may publish to the channels granted (subprotocol push.v1.json).
pub const PUSH_GRANT_PUBLISH: u32 = 1;
/// push_grant.flags: after a long-poll was answered the connection stays open for further polls
/// under this grant.  Set it only where one connection is one client, not behind a proxy that mixes
/// clients.  A request for anything but the option `path` on such a connection ends it unanswered;
/// clients then send it again on a new one.
pub const PUSH_GRANT_KEEP_ALIVE: u32 = 2;

/// push_event.kind: a client opened a subscription connection (WebSocket, SSE, stream; polls come
/// and go untold).
pub const PUSH_EVENT_OPEN: u32 = 1;
/// push_event.kind: a client sent a message over WebSocket; `data`, `len` and PUSH_EVENT_BINARY
/// describe it.
pub const PUSH_EVENT_MESSAGE: u32 = 2;
/// push_event.kind: a connection ended; `code` is the WebSocket close code or the library's reason.
pub const PUSH_EVENT_CLOSE: u32 = 3;
/// push_event.kind: with the option auth=host, whether a client may subscribe: `request` names the
/// question for push_allow and push_deny, `channel` the first channel asked for, `data` the head of
/// the request as it came, cookies and all.
pub const PUSH_EVENT_REQUEST: u32 = 4;
/// push_event.kind: the server begins to send its clients away (push_drain, push_stop, or the end
/// of the hub that this one is attached to).
pub const PUSH_EVENT_DRAIN: u32 = 5;
/// push_event.kind: no client is left.
pub const PUSH_EVENT_DRAINED: u32 = 6;

/// push_event.flags: the client's message came as binary.
pub const PUSH_EVENT_BINARY: u32 = 1;

/// Log levels, as push_log_fn gets them.
pub const PUSH_LOG_ERROR: i32 = 1;
/// Something is wrong outside of the library, or soon will be.
pub const PUSH_LOG_WARN: i32 = 2;
/// Start, stop, listeners; refusals, and ends of connections that were not asked for.
pub const PUSH_LOG_INFO: i32 = 3;
/// Every end of a connection.
pub const PUSH_LOG_DEBUG: i32 = 4;

/// Options being collected for push_start.  One thread at a time.
pub struct push_config {
    _opaque: [u8; 0],
}

/// A running server.  Any thread, any time.  The pointer is a ticket, not an address: never
/// dereference it.
pub struct push_server {
    _opaque: [u8; 0],
}

/// A client's connection, as events name it.  Never 0, and not reused while the server lives.
pub type push_connection = u64;
/// A question to the host, as PUSH_EVENT_REQUEST names it.  Never 0.
pub type push_request = u64;

/// Gets one line of log, without a newline.  `level` is one of PUSH_LOG_.  Thread: push-callback.
pub type push_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, line: *const c_char)>;
/// Gets one event, valid during the call.  Thread: push-callback.
pub type push_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const push_event)>;
/// Frees a callback's user_data.  Called once, when no callback can come any more.
pub type push_free_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A message to publish.  Start from PUSH_MESSAGE_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_message {
    /// sizeof(push_message), as the host was compiled.
    pub size: usize,
    /// The channel: 1 to 255 bytes of UTF-8 without control characters, the last of them not "*".
    /// push_broadcast ignores it.
    pub channel: *const c_char,
    /// The payload; copied.
    pub data: *const c_void,
    /// The payload's length in bytes, at most the option `max_message`.
    pub len: usize,
    /// The event type (SSE's `event:`), or NULL.  At most 127 bytes, no control characters, not
    /// starting with "push-".
    pub event: *const c_char,
    /// The idempotency key, or NULL, at most 255 bytes.  Publishing a key again in the same channel
    /// within the option `key_window` publishes nothing and answers with the first position.  The
    /// latest 100,000 keys are remembered.
    pub key: *const c_char,
    /// PUSH_MESSAGE_ flags.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// A place in the hub's sequence of messages.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_position {
    /// The message's number in this life of the hub.
    pub seq: u64,
    /// The same as clients see it: `EPOCH-SEQ`, ending in NUL.
    pub text: [c_char; 56],
}

/// What the host allows a connection that it hands over.  Start from PUSH_GRANT_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_grant {
    /// sizeof(push_grant), as the host was compiled.
    pub size: usize,
    /// Who the client is, or NULL.  At most 255 bytes.
    pub user: *const c_char,
    /// The channels that the client may have, by their names.  Names only: what a client says may
    /// become a part of one.  One that ends in "*" is PUSH_ERR_INVALID.
    pub channels: *const *const c_char,
    /// How many `channels` there are: with the `patterns` at most 1000.  With neither the client
    /// may have none.
    pub channel_count: usize,
    /// When the grant ends, in seconds since 1970; the connection is then closed with 4403.  0:
    /// never.
    pub expires_at: i64,
    /// PUSH_GRANT_ flags.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// More channels that it may have: prefixes ending in "*", or names.  "*" alone is every
    /// channel.  Never make one from what a client says.
    pub patterns: *const *const c_char,
    /// How many `patterns` there are.
    pub pattern_count: usize,
}

/// Something that the host is told.  Start from PUSH_EVENT_INIT; end with push_event_clear.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_event {
    /// sizeof(push_event), as the host was compiled.
    pub size: usize,
    /// PUSH_EVENT_OPEN, _MESSAGE, _CLOSE, _REQUEST, _DRAIN, _DRAINED.  A number that you do not
    /// know: ignore the event.
    pub kind: u32,
    /// PUSH_EVENT_ flags.
    pub flags: u32,
    /// The connection it is about; 0 for PUSH_EVENT_DRAIN and _DRAINED.
    pub connection: push_connection,
    /// The question, for PUSH_EVENT_REQUEST.
    pub request: push_request,
    /// The connection's user as granted, or NULL.
    pub user: *const c_char,
    /// For PUSH_EVENT_OPEN and _REQUEST the first channel asked for, or NULL.
    pub channel: *const c_char,
    /// The payload of PUSH_EVENT_MESSAGE, the request head of _REQUEST.
    pub data: *const c_void,
    /// The payload's length in bytes.
    pub len: usize,
    /// The code of PUSH_EVENT_CLOSE.
    pub code: u32,
    /// 0.
    pub reserved: u32,
    /// The library's: what owns the pointers above.
    pub owner: *mut c_void,
}

/// One of a channel's users.  Never grows: an array of them is read by its size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_user {
    /// Who it is, as granted, ending in NUL.
    pub name: *const c_char,
    /// Connections that this user has on the channel.
    pub connections: u64,
}

/// Who is on a channel: some of its users, and counts of all.  Start from PUSH_USERS_INIT; end with
/// push_users_clear.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_users {
    /// sizeof(push_users), as the host was compiled.
    pub size: usize,
    /// The users by name, in the order of its bytes.
    pub users: *const push_user,
    /// How many stand there.
    pub len: usize,
    /// What to pass as `after` to get those that follow; NULL: there are none.
    pub next: *const c_char,
    /// How many users the channel has.
    pub count: u64,
    /// How many connections are on it.
    pub connections: u64,
    /// How many of these have no user.
    pub anonymous: u64,
    /// The library's: what owns the pointers above.
    pub owner: *mut c_void,
}

/// Counters since push_start, and gauges of this moment.  Start from PUSH_STATS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct push_stats {
    /// sizeof(push_stats), as the library was compiled.
    pub size: usize,
    /// Messages published, broadcasts included.
    pub published: u64,
    /// Publishes answered from an idempotency key.
    pub duplicates: u64,
    /// Publishes refused with PUSH_ERR_BUSY.
    pub busy: u64,
    /// Messages handed to connections: one message to a thousand subscribers counts a thousand.
    pub deliveries: u64,
    /// Bytes written to clients.
    pub bytes_sent: u64,
    /// Connections taken: accepted on own listeners.
    pub accepted: u64,
    /// Connections taken: handed over by push_adopt.
    pub adopted: u64,
    /// Requests refused with an HTTP error.
    pub refused: u64,
    /// Connections closed with 4429 because they read too slowly.
    pub slow_closed: u64,
    /// Gaps announced to clients.
    pub gaps: u64,
    /// Messages that clients sent.
    pub received: u64,
    /// Client messages that nobody asked for: the host neither pulls events nor has a callback.
    pub events_dropped: u64,
    /// Log lines dropped because the log callback was too slow.
    pub logs_dropped: u64,
    /// Gauge: connections open now, of any kind.
    pub connections: u64,
    /// Gauge: of these, WebSockets.
    pub websockets: u64,
    /// Gauge: of these, SSE.
    pub sse: u64,
    /// Gauge: of these, NDJSON streams.
    pub streams: u64,
    /// Gauge: of these, polls waiting.
    pub polls: u64,
    /// Gauge: channels that exist.
    pub channels: u64,
    /// Gauge: subscriptions of connections to channels.
    pub subscriptions: u64,
    /// Gauge: messages held in history.
    pub history_messages: u64,
    /// Gauge: bytes held in history, with the bookkeeping.
    pub history_bytes: u64,
    /// The newest message's number.
    pub seq: u64,
    /// Messages that gave way to slow clients under slow_policy=drop-oldest, once for each client
    /// that did not get one.
    pub dropped: u64,
    /// Messages that gave way to a newer one of their channel under slow_policy=latest, counted in
    /// the same way.
    pub replaced: u64,
    /// Gauge: connections for which something waits to be written.
    pub outboxes: u64,
    /// Gauge: bytes held for all clients that are behind, with the bookkeeping.
    pub outbox_bytes: u64,
    /// Gauge: messages that wait for the library's threads.
    pub mailbox: u64,
    /// Gauge: events that wait for the host, or for being passed on to attached ones.
    pub events_waiting: u64,
    /// Gauge: hosts of other processes that are attached.
    pub hosts: u64,
    /// Log lines left out because there were many of their kind.
    pub logs_suppressed: u64,
    /// Gauge: 1 while clients are being sent away, and after.
    pub draining: u64,
    /// What attached hosts asked for and the hub could not do, though their call may have said
    /// PUSH_OK; the hub's log says why.
    pub undone: u64,
}
