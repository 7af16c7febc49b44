//! The numbers, structs and callback types of the C ABI.
//!
//! A `push_status` is a plain integer with constants. A Rust enum taken from C by value would be
//! undefined behaviour for a number it does not know, and C23 enums break cgo.

pub use super::event_types::*;
use std::ffi::{c_char, c_void};

/// The value that push_abi_version returns for this header.  It changes only when a host must be
/// compiled again.
pub const PUSH_ABI_VERSION: u32 = 0;

/// The result of a call: PUSH_OK, or one of the negative PUSH_ERR_ numbers.  A number is never
/// reused.
pub type push_status = i32;

/// The call succeeded.
pub const PUSH_OK: i32 = 0;
/// An argument is not allowed: NULL, an invalid channel name, an unknown flag, a struct with an
/// unknown field.
pub const PUSH_ERR_INVALID: i32 = -1;
/// An option is unknown, or its value is not allowed.  `err` names the option, the value and what
/// is allowed.
pub const PUSH_ERR_CONFIG: i32 = -2;
/// The payload is larger than the option `max_message`.
pub const PUSH_ERR_TOO_LARGE: i32 = -3;
/// A queue of the library is full, or the hub can't be reached (option attach).  Nothing was done.
/// The same call may succeed a moment later.
pub const PUSH_ERR_BUSY: i32 = -4;
/// There is no such connection, request or listener, or it has ended.
pub const PUSH_ERR_NOT_FOUND: i32 = -5;
/// The server was stopped, or the handle never was one.
pub const PUSH_ERR_CLOSED: i32 = -6;
/// No event or log line came in time, or no answer of the hub (option attach_timeout), or no sync of
/// the log (option engine_timeout).  From push_stop: a callback has not returned, the disk of the
/// log (option engine) does not answer, or the descriptor of the option log_fd takes no line.
pub const PUSH_ERR_TIMEOUT: i32 = -7;
/// The descriptor is not a connected stream socket.  It is still the caller's.
pub const PUSH_ERR_DESCRIPTOR: i32 = -8;
/// The call came from a process forked after push_start.  The library works in the parent only.
pub const PUSH_ERR_FORKED: i32 = -9;
/// The call would wait for the callback that it was made from.
pub const PUSH_ERR_CALLBACK: i32 = -10;
/// The operating system refused something; `err` says what, where the call has an `err`.
pub const PUSH_ERR_SYSTEM: i32 = -11;
/// A bug in the library was caught.  The log has the details; please report it.
pub const PUSH_ERR_INTERNAL: i32 = -12;
/// This build or this server does not support the call.
pub const PUSH_ERR_UNSUPPORTED: i32 = -13;
/// A configured limit is reached: `max_connections`, or 256 servers in one process.
pub const PUSH_ERR_LIMIT: i32 = -14;

/// push_message.flags: the payload is binary.  Without this flag, a payload that is UTF-8 is sent
/// as text, and any other as binary.  A binary payload is sent in binary WebSocket frames, and as
/// base64 in JSON and SSE.
pub const PUSH_MESSAGE_BINARY: u32 = 1;
/// push_send flags: send a binary frame.
pub const PUSH_SEND_BINARY: u32 = 1;
/// push_refusal: no response is longer, in bytes.
pub const PUSH_REFUSAL_MAX: usize = 8192;

/// push_grant.flags: the client may publish to the channels granted (subprotocol push.v1.json).  It
/// may publish to `publish_channels` and `publish_patterns` with and without this flag.
pub const PUSH_GRANT_PUBLISH: u32 = 1;
/// push_grant.flags: after a long-poll is answered, the connection stays open for further polls
/// under this grant.  Set it only if each connection belongs to one client, not behind a proxy that
/// mixes clients.  A request for another path than the option `path` ends such a connection without
/// an answer; clients then send it again on a new connection.
pub const PUSH_GRANT_KEEP_ALIVE: u32 = 2;

/// Log levels, as push_log_fn and push_log_line have them.  This one: a bug of the library, or a failure that stopped
/// something which should have continued.
pub const PUSH_LOG_ERROR: i32 = 1;
/// Something outside of the library is wrong, or soon will be.
pub const PUSH_LOG_WARN: i32 = 2;
/// Start, stop and listeners; refusals; connections that ended for an unexpected reason.
pub const PUSH_LOG_INFO: i32 = 3;
/// Every end of a connection.
pub const PUSH_LOG_DEBUG: i32 = 4;

/// A set of options for push_start.  Only one thread may use it at a time.
pub struct push_config {
    _opaque: [u8; 0],
}

/// A running server.  Any thread may use it at any time.  The pointer is a ticket, not an address:
/// never dereference it.
pub struct push_server {
    _opaque: [u8; 0],
}

/// A client's connection, in events and calls.  Never 0, and not reused while the server runs.
pub type push_connection = u64;
/// A request that the host must decide on, from PUSH_EVENT_REQUEST, _CALL or _PUBLISH.  Never 0.
pub type push_request = u64;

/// Gets one log line, without a newline.  `level` is one of PUSH_LOG_.  It runs on the thread
/// push-callback.
pub type push_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, line: *const c_char)>;
/// Gets one event, which is valid during the call.  It runs on the thread push-callback.
pub type push_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const push_event)>;
/// Frees a callback's user_data.  It is called once, when the callback can't run any more.
pub type push_free_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A message to publish.  Start from PUSH_MESSAGE_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_message {
    /// sizeof(push_message) in the host's header.
    pub size: usize,
    /// The channel: 1 to 255 bytes of UTF-8 without control characters, the last of them not "*".
    /// push_broadcast ignores it, and push_publish_user needs NULL.
    pub channel: *const c_char,
    /// The payload.  It is copied.
    pub data: *const c_void,
    /// The payload's length in bytes, at most the option `max_message`.
    pub len: usize,
    /// The event type (SSE's `event:`), or NULL.  At most 127 bytes, no control characters, not
    /// starting with "push-".
    pub event: *const c_char,
    /// The idempotency key, or NULL.  At most 255 bytes.  If a key is published again in the same
    /// channel within the option `key_window`, nothing is published, and the call returns the first
    /// position.  The latest 100,000 keys are kept.
    pub key: *const c_char,
    /// PUSH_MESSAGE_ flags.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The host's place in a trace, or NULL: a `traceparent` of W3C Trace Context, as
    /// "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".  With the option `trace` the span
    /// of the message is a child of it if it is sampled.  One that is not valid is ignored, as that
    /// specification demands.
    pub trace: *const c_char,
    /// The client that does not get the message, or NULL: the id that it has chosen (`client=` in its
    /// URL), a UUID of 36 characters.  It gets the position in place of the message.  All clients with
    /// this id are left out, over each transport, and also when they come back.  The id is no
    /// secret, and proves nothing.
    pub except: *const c_char,
}

/// A place in the hub's sequence of messages.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_position {
    /// The message's number in the hub's present epoch.
    pub seq: u64,
    /// The position in the form that clients see, `EPOCH-SEQ`, ending in NUL.
    pub text: [c_char; 56],
}

/// The rights of a connection that the host hands over.  Start from PUSH_GRANT_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_grant {
    /// sizeof(push_grant), as the host was compiled.
    pub size: usize,
    /// Who the client is, or NULL.  At most 255 bytes.  See also push_publish_user.
    pub user: *const c_char,
    /// The names of the channels that the client may have.  A "*" does not stand for many here, so
    /// you may make a name from a client's text.  A name that ends in "*" is PUSH_ERR_INVALID.
    pub channels: *const *const c_char,
    /// How many `channels` there are: with `patterns` and `subscribe` at most 1000.  With none of
    /// the three the client may have none.
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
    /// The names of the channels that the client gets at once.  The channels that its request names
    /// are then ignored.  If this is empty, the request names the channels.  A name that stands
    /// here twice counts once.  The names need not stand in `channels` as well.  If there are more
    /// than the option `max_channels` allows, the client gets 400.  The request still chooses the
    /// position, `last`, the transport and the form.  Each further poll of the connection
    /// (PUSH_GRANT_KEEP_ALIVE) gets the same channels.  A client of push.v1.json may unsubscribe,
    /// and subscribe to the other channels of the grant.  push_renew does not subscribe the client
    /// to these names; it only grants them. PUSH_ERR_UNSUPPORTED: the hub (option attach) is too
    /// old for it.
    pub subscribe: *const *const c_char,
    /// The number of names in `subscribe`.
    pub subscribe_count: usize,
    /// The names of the channels to which the client may publish (subprotocol push.v1.json), whether
    /// it may subscribe to them or not.  With PUSH_GRANT_PUBLISH it may publish to all channels
    /// granted as well.  A "*" does not stand for many here, as in `channels`.
    pub publish_channels: *const *const c_char,
    /// The number of names in `publish_channels`: with `publish_patterns` at most 1000.  With
    /// PUSH_GRANT_PUBLISH the channels granted count, too.
    pub publish_channel_count: usize,
    /// More channels to which it may publish: prefixes ending in "*", or names.  "*" alone is every
    /// channel.  Never make one from what a client says.
    pub publish_patterns: *const *const c_char,
    /// The number of `publish_patterns`.
    pub publish_pattern_count: usize,
    /// What those who follow the presence of a channel (option channel.PATTERN.presence) are told of
    /// the user beside its name, or NULL: text of at most 1024 bytes without control characters, such as
    /// a name to show, or JSON.  All of them can read it.  It needs `user`.  If the connections of a user
    /// differ in it, that of the one that came last counts.  PUSH_ERR_UNSUPPORTED: the hub (option
    /// attach) is too old for it.
    pub info: *const c_char,
}

/// A line of the log.  Start from PUSH_LOG_LINE_INIT, and end with push_log_line_clear.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_log_line {
    /// sizeof(push_log_line) in the host's header.
    pub size: usize,
    /// One of PUSH_LOG_.
    pub level: i32,
    /// Always 0.
    pub reserved: u32,
    /// The time at which the line was logged, in milliseconds since 1970.
    pub time_ms: i64,
    /// The line, without a newline.  It ends in NUL.  If lines before it were dropped, it says how
    /// many.
    pub text: *const c_char,
    /// The length of `text` in bytes, without the NUL.
    pub len: usize,
    /// Belongs to the library: the memory behind `text`.
    pub owner: *mut c_void,
}

/// One user of a channel.  This struct never grows, since arrays of it are passed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_user {
    /// The user's name in the grant, ending in NUL.
    pub name: *const c_char,
    /// The number of connections that this user has on the channel.
    pub connections: u64,
}

/// The users of a channel: a page of them, and the counts of all.  Start from PUSH_USERS_INIT, and
/// end with push_users_clear.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct push_users {
    /// sizeof(push_users) in the host's header.
    pub size: usize,
    /// The users, sorted by the bytes of their names.
    pub users: *const push_user,
    /// The number of users in `users`.
    pub len: usize,
    /// The value of `after` for the next page, or NULL on the last page.
    pub next: *const c_char,
    /// The number of users of the channel.
    pub count: u64,
    /// The number of connections on the channel.
    pub connections: u64,
    /// The number of these connections that have no user.
    pub anonymous: u64,
    /// Belongs to the library: the memory behind the pointers.
    pub owner: *mut c_void,
    /// If the hub shares a log with others: the number of hubs that were asked, this one included.
    /// 0 if it does not.
    pub hubs: u64,
    /// The number of these hubs that have answered in time.  The users above are of these.
    pub hubs_answered: u64,
    /// The hubs that have not, as GET /v1/hubs names them, with spaces between; or NULL.
    pub hubs_missing: *const c_char,
    /// NULL if the page and the counts are of all hubs.  Otherwise one sentence that says why they
    /// may not be.
    pub partial: *const c_char,
}

/// Counters since push_start, and gauges of the present.  Start from PUSH_STATS_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct push_stats {
    /// sizeof(push_stats) in the library.
    pub size: usize,
    /// Messages published, broadcasts included.
    pub published: u64,
    /// Publishes that were answered with the position of an earlier message, by their idempotency
    /// key.
    pub duplicates: u64,
    /// Publishes refused with PUSH_ERR_BUSY.
    pub busy: u64,
    /// Messages that were given to connections.  One message to a thousand subscribers counts a
    /// thousand.
    pub deliveries: u64,
    /// Bytes written to clients.
    pub bytes_sent: u64,
    /// Connections accepted on the library's own listeners.
    pub accepted: u64,
    /// Connections handed over with push_adopt.
    pub adopted: u64,
    /// Requests refused with an HTTP error.
    pub refused: u64,
    /// Connections closed with 4429 because they read too slowly.
    pub slow_closed: u64,
    /// Gaps that clients were told of.
    pub gaps: u64,
    /// Messages that clients sent.
    pub received: u64,
    /// Client messages that were dropped, since the host neither pulls events nor has a callback.
    pub events_dropped: u64,
    /// Log lines that were dropped because the host was too slow: its callback, its calls of
    /// push_next_log, or the reader of its descriptor.
    pub logs_dropped: u64,
    /// Gauge: open connections of all kinds.
    pub connections: u64,
    /// Gauge: the open WebSockets.
    pub websockets: u64,
    /// Gauge: the open SSE connections.
    pub sse: u64,
    /// Gauge: the open NDJSON streams.
    pub streams: u64,
    /// Gauge: the waiting polls.
    pub polls: u64,
    /// Gauge: channels that exist.
    pub channels: u64,
    /// Gauge: subscriptions of connections to channels.
    pub subscriptions: u64,
    /// Gauge: messages in the history.
    pub history_messages: u64,
    /// Gauge: bytes of the history, including the bookkeeping.
    pub history_bytes: u64,
    /// The number of the newest message.
    pub seq: u64,
    /// Messages that were dropped for slow clients under slow_policy=drop-oldest.  A message counts
    /// once for each client that did not get it.
    pub dropped: u64,
    /// Messages that were replaced by a newer one of their channel under slow_policy=latest,
    /// counted in the same way.
    pub replaced: u64,
    /// Gauge: connections with data that waits to be written.
    pub outboxes: u64,
    /// Gauge: bytes that wait for slow clients, including the bookkeeping.
    pub outbox_bytes: u64,
    /// Gauge: messages that wait for the library's threads.
    pub mailbox: u64,
    /// Gauge: events that wait for the host, or for attached hosts.
    pub events_waiting: u64,
    /// Gauge: attached hosts, which are other processes.
    pub hosts: u64,
    /// Log lines that were left out, since there were too many of their kind.
    pub logs_suppressed: u64,
    /// Gauge: 1 from the beginning of a drain on, else 0.
    pub draining: u64,
    /// Requests of attached hosts that the hub could not do, although the host's call may have
    /// returned PUSH_OK.  The hub's log says why.
    pub undone: u64,
    /// Gauge: bytes of clients' unfinished messages and requests, and of their messages that wait for
    /// the host's check, including the bookkeeping.
    pub inbox_bytes: u64,
    /// Gauge: channels whose stream has ended (push_end), and of which the end is kept.
    pub ended_channels: u64,
    /// Calls of clients that went to the host (PUSH_EVENT_CALL).
    pub calls: u64,
    /// Calls that the host did not answer within the option `call_timeout`.
    pub calls_given_up: u64,
    /// Gauge: calls that wait for the host's answer.
    pub calls_waiting: u64,
    /// Messages of clients that went to the host to be checked (PUSH_EVENT_PUBLISH).
    pub publish_checks: u64,
    /// Messages of clients that the host did not check within the option `call_timeout`.  They were
    /// not published.
    pub publish_checks_given_up: u64,
    /// Gauge: messages of clients that wait for the host's check.
    pub publish_checks_waiting: u64,
    /// Gauge: the different patterns that connections have.
    pub patterns: u64,
    /// Gauge: users that are shown on channels with presence (option `channel.PATTERN.presence`).  A
    /// user counts once for each of these channels.
    pub presence_members: u64,
    /// Gauge: bytes of these users' names and infos, including the bookkeeping (option
    /// `presence_total`).
    pub presence_bytes: u64,
    /// How often there was no room to show a user on a channel, or its info (option
    /// `presence_total`).  Who is not shown is tried again twice a second, and counts each time.
    pub presence_refused: u64,
}
