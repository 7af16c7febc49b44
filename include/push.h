/*
 * libpush: live push for an HTTP server that already exists.
 *
 * Generated from src/ffi by cbindgen; do not edit.  SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The heart:
 *
 *     push_server *server;
 *     char err[256];
 *     if (push_start(NULL, &server, err, sizeof err) != PUSH_OK) { puts(err); return 1; }
 *     push_publish(server, "news", "hello", 5);
 *     push_stop(server, 1000);
 *
 * Threads: every call on a push_server may come from any thread, at any time, also after push_stop
 * (it then answers PUSH_ERR_CLOSED).  A push_config belongs to one thread at a time.  No call is a
 * cancellation point: a thread that is cancelled (pthread_cancel) inside a call completes it first.
 * No call may be made from a signal handler.
 *
 * Callbacks (push_log_fn, push_event_fn) of one config come one at a time, on a thread of the
 * library named push-callback.  A callback may block: only other callbacks wait for it.  A callback
 * may call the library, except push_stop, push_next_event and push_next_log of any server: these
 * return PUSH_ERR_CALLBACK.  A push_free_fn is called once, on the thread that releases the data
 * last; this may be a thread of the host.  Callbacks and free functions must return.  A C++ exception
 * that leaves one of them, longjmp or pthread_exit ends the process, or corrupts it.  Hosts that
 * can't be called from a thread that they do not know (LuaJIT, Ruby) need no callback: they pull, with
 * push_next_event and push_next_log.
 *
 * Stack: push_start needs 64 KB of the calling thread's stack, every other call at most 32 KB.
 *
 * Descriptors: what the library opens is closed on exec, and never has the number 0, 1 or 2, even
 * where the host has closed these.  A host that closes all descriptors, or forks into the
 * background, must do so before push_start.
 *
 * Memory: an allocation that the system refuses prints a line on stderr and ends the process.
 * Options bound all memory that clients and calls can use.  Choose them so that the system has
 * enough.
 *
 * Errors: push_strerror has a sentence for each status, and push_last_error says of a call that failed
 * which argument was wrong, and what is allowed.
 *
 * Strings are UTF-8 and end in NUL.  What is passed in is copied before the call returns.  A length
 * of 0 means that its pointer is ignored.  Outputs are written on success only.
 *
 * Language: C90 and C++98, with the <stdint.h> that came with C99 and C++11 and that compilers of the
 * older languages have as well.  Parsers without a preprocessor (PHP's FFI, LuaJIT's ffi, cffi) read
 * push.cdef.h instead.
 */
#ifndef PUSH_H
#define PUSH_H


#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The value that push_abi_version returns for this header.  It changes only when a host must be
   compiled again. */
#define PUSH_ABI_VERSION 0

/* The call succeeded. */
#define PUSH_OK 0

/* An argument is not allowed: NULL, an invalid channel name, an unknown flag, a struct with an
   unknown field. */
#define PUSH_ERR_INVALID -1

/* An option is unknown, or its value is not allowed.  `err` names the option, the value and what
   is allowed. */
#define PUSH_ERR_CONFIG -2

/* The payload is larger than the option `max_message`. */
#define PUSH_ERR_TOO_LARGE -3

/* A queue of the library is full, or the hub can't be reached (option attach).  Nothing was done.
   The same call may succeed a moment later. */
#define PUSH_ERR_BUSY -4

/* There is no such connection, request or listener, or it has ended. */
#define PUSH_ERR_NOT_FOUND -5

/* The server was stopped, or the handle never was one. */
#define PUSH_ERR_CLOSED -6

/* No event or log line came in time, or no answer of the hub (option attach_timeout), or no sync of
   the log (option engine_timeout).  From push_stop: a callback has not returned, the disk of the
   log (option engine) does not answer, or the descriptor of the option log_fd takes no line. */
#define PUSH_ERR_TIMEOUT -7

/* The descriptor is not a connected stream socket.  It is still the caller's. */
#define PUSH_ERR_DESCRIPTOR -8

/* The call came from a process forked after push_start.  The library works in the parent only. */
#define PUSH_ERR_FORKED -9

/* The call would wait for the callback that it was made from. */
#define PUSH_ERR_CALLBACK -10

/* The operating system refused something; `err` says what, where the call has an `err`. */
#define PUSH_ERR_SYSTEM -11

/* A bug in the library was caught.  The log has the details; please report it. */
#define PUSH_ERR_INTERNAL -12

/* This build or this server does not support the call. */
#define PUSH_ERR_UNSUPPORTED -13

/* A configured limit is reached: `max_connections`, or 256 servers in one process. */
#define PUSH_ERR_LIMIT -14

/* push_message.flags: the payload is binary.  Without this flag, a payload that is UTF-8 is sent
   as text, and any other as binary.  A binary payload is sent in binary WebSocket frames, and as
   base64 in JSON and SSE. */
#define PUSH_MESSAGE_BINARY 1

/* push_send flags: send a binary frame. */
#define PUSH_SEND_BINARY 1

/* push_refusal: no response is longer, in bytes. */
#define PUSH_REFUSAL_MAX 8192

/* push_grant.flags: the client may publish to the channels granted (subprotocol push.v1.json).  It
   may publish to `publish_channels` and `publish_patterns` with and without this flag. */
#define PUSH_GRANT_PUBLISH 1

/* push_grant.flags: after a long-poll is answered, the connection stays open for further polls
   under this grant.  Set it only if each connection belongs to one client, not behind a proxy that
   mixes clients.  A request for another path than the option `path` ends such a connection without
   an answer; clients then send it again on a new connection. */
#define PUSH_GRANT_KEEP_ALIVE 2

/* Log levels, as push_log_fn and push_log_line have them.  This one: a bug of the library, or a failure that stopped
   something which should have continued. */
#define PUSH_LOG_ERROR 1

/* Something outside of the library is wrong, or soon will be. */
#define PUSH_LOG_WARN 2

/* Start, stop and listeners; refusals; connections that ended for an unexpected reason. */
#define PUSH_LOG_INFO 3

/* Every end of a connection. */
#define PUSH_LOG_DEBUG 4

/* push_event.kind: a client opened a connection for a subscription (WebSocket, SSE, stream).
   Polls cause no such event. */
#define PUSH_EVENT_OPEN 1

/* push_event.kind: a client sent a message over WebSocket: `data` and `len`, and PUSH_EVENT_BINARY
   in `flags`. */
#define PUSH_EVENT_MESSAGE 2

/* push_event.kind: a connection ended.  `code` is the close code; SSE and streams have the same
   codes as WebSockets. */
#define PUSH_EVENT_CLOSE 3

/* push_event.kind: a client wants to subscribe (option auth=host), and the host decides with
   push_allow or push_deny.  `request` is the number for that call, `channel` the first channel of
   the request (NULL: it names none, so the grant's `subscribe` must), `data` the whole request
   head, including cookies. */
#define PUSH_EVENT_REQUEST 4

/* push_event.kind: the server begins to send its clients away, because of push_drain or push_stop,
   or because the hub that this server is attached to ends. */
#define PUSH_EVENT_DRAIN 5

/* push_event.kind: no client is left. */
#define PUSH_EVENT_DRAINED 6

/* push_event.kind: a connection was subscribed to `channel`, with its request or later.  It comes
   behind the connection's PUSH_EVENT_OPEN.  A pattern (`news.*`) is told in place of a channel: no
   channel's name ends in "*".  Polls cause no such event.  This kind is off by default (option
   `events`). */
#define PUSH_EVENT_SUBSCRIBE 7

/* push_event.kind: a connection's subscription to `channel` ended.  Each PUSH_EVENT_SUBSCRIBE is
   followed by one of these.  Those of the channels that a connection has at its end come before its
   PUSH_EVENT_CLOSE, in any order.  This kind is off by default (option `events`).  Count by
   `connection` and `channel`: `user` is the present one, and push_renew may change it.  A reload of
   `events`, or a time without any host at the hub (option attach), breaks the pairs; push_users_get
   tells who is there. */
#define PUSH_EVENT_UNSUBSCRIBE 8

/* push_event.kind: a client of push.v1.json calls, and waits for the host's answer: push_answer or
   push_deny.  `request` is the number for that, `data` and `len` are what the client says; if that
   is binary, PUSH_EVENT_BINARY stands in `flags`.  This kind is off by default (option `events`);
   then calls are refused. */
#define PUSH_EVENT_CALL 9

/* push_event.kind: a client of push.v1.json publishes to a channel whose option `client_publish` is
   `host`, and may do so by its grant.  The host checks the message, and lets it be published with
   push_allow_publish, as it is or replaced, or refuses it with push_deny.  `request` is the number
   for that, `channel` the channel, `data` and `len` the payload; if that is binary,
   PUSH_EVENT_BINARY stands in `flags`.  `event` and `key` are those of the message.  A client that
   got no answer may publish the same again, with the same `key`; then this event comes again, too.
   This kind is off by default (option `events`), and `client_publish=host` needs it. */
#define PUSH_EVENT_PUBLISH 10

/* push_event.flags: the client's message is binary. */
#define PUSH_EVENT_BINARY 1

/* A set of options for push_start.  Only one thread may use it at a time. */
typedef struct push_config push_config;

/* A running server.  Any thread may use it at any time.  The pointer is a ticket, not an address:
   never dereference it. */
typedef struct push_server push_server;

/* The result of a call: PUSH_OK, or one of the negative PUSH_ERR_ numbers.  A number is never
   reused. */
typedef int32_t push_status;

/* Gets one log line, without a newline.  `level` is one of PUSH_LOG_.  It runs on the thread
   push-callback. */
typedef void (*push_log_fn)(void *user_data, int32_t level, const char *line);

/* Frees a callback's user_data.  It is called once, when the callback can't run any more. */
typedef void (*push_free_fn)(void *user_data);

/* A client's connection, in events and calls.  Never 0, and not reused while the server runs. */
typedef uint64_t push_connection;

/* A request that the host must decide on, from PUSH_EVENT_REQUEST, _CALL or _PUBLISH.  Never 0. */
typedef uint64_t push_request;

/* An event for the host.  Start from PUSH_EVENT_INIT, and end with push_event_clear. */
typedef struct {
    /* sizeof(push_event) in the host's header. */
    size_t size;
    /* PUSH_EVENT_OPEN, _MESSAGE, _CLOSE, _REQUEST, _DRAIN, _DRAINED, _SUBSCRIBE,
       _UNSUBSCRIBE, _CALL or _PUBLISH.  Ignore an event of an unknown kind. */
    uint32_t kind;
    /* PUSH_EVENT_ flags. */
    uint32_t flags;
    /* The connection that the event is about. 0 for PUSH_EVENT_DRAIN and _DRAINED. */
    push_connection connection;
    /* For PUSH_EVENT_REQUEST: the number for push_allow or push_deny.  For _CALL: the number for
       push_answer or push_deny.  For _PUBLISH: the number for push_allow_publish or push_deny. */
    push_request request;
    /* The user in the connection's grant, or NULL. */
    const char *user;
    /* For PUSH_EVENT_OPEN: the first channel that the client was subscribed to, or NULL.  For
       _REQUEST: the first channel that the request names, or NULL.  Patterns come behind channels.
       For _SUBSCRIBE, _UNSUBSCRIBE and _PUBLISH: the channel, or a pattern but for _PUBLISH. */
    const char *channel;
    /* The payload of PUSH_EVENT_MESSAGE, _CALL or _PUBLISH, or the request head of _REQUEST. */
    const void *data;
    /* The payload's length in bytes. */
    size_t len;
    /* The close code of PUSH_EVENT_CLOSE. */
    uint32_t code;
    /* Always 0. */
    uint32_t reserved;
    /* Belongs to the library: the memory behind the pointers above. */
    void *owner;
    /* The event type of a PUSH_EVENT_PUBLISH, or NULL. */
    const char *event;
    /* The idempotency key of a PUSH_EVENT_PUBLISH, or NULL. */
    const char *key;
} push_event;

/* Gets one event, which is valid during the call.  It runs on the thread push-callback. */
typedef void (*push_event_fn)(void *user_data, const push_event *event);

/* Counters since push_start, and gauges of the present.  Start from PUSH_STATS_INIT. */
typedef struct {
    /* sizeof(push_stats) in the library. */
    size_t size;
    /* Messages published, broadcasts included. */
    uint64_t published;
    /* Publishes that were answered with the position of an earlier message, by their idempotency
       key. */
    uint64_t duplicates;
    /* Publishes refused with PUSH_ERR_BUSY. */
    uint64_t busy;
    /* Messages that were given to connections.  One message to a thousand subscribers counts a
       thousand. */
    uint64_t deliveries;
    /* Bytes written to clients. */
    uint64_t bytes_sent;
    /* Connections accepted on the library's own listeners. */
    uint64_t accepted;
    /* Connections handed over with push_adopt. */
    uint64_t adopted;
    /* Requests refused with an HTTP error. */
    uint64_t refused;
    /* Connections closed with 4429 because they read too slowly. */
    uint64_t slow_closed;
    /* Gaps that clients were told of. */
    uint64_t gaps;
    /* Messages that clients sent. */
    uint64_t received;
    /* Client messages that were dropped, since the host neither pulls events nor has a callback. */
    uint64_t events_dropped;
    /* Log lines that were dropped because the host was too slow: its callback, its calls of
       push_next_log, or the reader of its descriptor. */
    uint64_t logs_dropped;
    /* Gauge: open connections of all kinds. */
    uint64_t connections;
    /* Gauge: the open WebSockets. */
    uint64_t websockets;
    /* Gauge: the open SSE connections. */
    uint64_t sse;
    /* Gauge: the open NDJSON streams. */
    uint64_t streams;
    /* Gauge: the waiting polls. */
    uint64_t polls;
    /* Gauge: channels that exist. */
    uint64_t channels;
    /* Gauge: subscriptions of connections to channels. */
    uint64_t subscriptions;
    /* Gauge: messages in the history. */
    uint64_t history_messages;
    /* Gauge: bytes of the history, including the bookkeeping. */
    uint64_t history_bytes;
    /* The number of the newest message. */
    uint64_t seq;
    /* Messages that were dropped for slow clients under slow_policy=drop-oldest.  A message counts
       once for each client that did not get it. */
    uint64_t dropped;
    /* Messages that were replaced by a newer one of their channel under slow_policy=latest,
       counted in the same way. */
    uint64_t replaced;
    /* Gauge: connections with data that waits to be written. */
    uint64_t outboxes;
    /* Gauge: bytes that wait for slow clients, including the bookkeeping. */
    uint64_t outbox_bytes;
    /* Gauge: messages that wait for the library's threads. */
    uint64_t mailbox;
    /* Gauge: events that wait for the host, or for attached hosts. */
    uint64_t events_waiting;
    /* Gauge: attached hosts, which are other processes. */
    uint64_t hosts;
    /* Log lines that were left out, since there were too many of their kind. */
    uint64_t logs_suppressed;
    /* Gauge: 1 from the beginning of a drain on, else 0. */
    uint64_t draining;
    /* Requests of attached hosts that the hub could not do, although the host's call may have
       returned PUSH_OK.  The hub's log says why. */
    uint64_t undone;
    /* Gauge: bytes of clients' unfinished messages and requests, and of their messages that wait for
       the host's check, including the bookkeeping. */
    uint64_t inbox_bytes;
    /* Gauge: channels whose stream has ended (push_end), and of which the end is kept. */
    uint64_t ended_channels;
    /* Calls of clients that went to the host (PUSH_EVENT_CALL). */
    uint64_t calls;
    /* Calls that the host did not answer within the option `call_timeout`. */
    uint64_t calls_given_up;
    /* Gauge: calls that wait for the host's answer. */
    uint64_t calls_waiting;
    /* Messages of clients that went to the host to be checked (PUSH_EVENT_PUBLISH). */
    uint64_t publish_checks;
    /* Messages of clients that the host did not check within the option `call_timeout`.  They were
       not published. */
    uint64_t publish_checks_given_up;
    /* Gauge: messages of clients that wait for the host's check. */
    uint64_t publish_checks_waiting;
    /* Gauge: the different patterns that connections have. */
    uint64_t patterns;
    /* Gauge: users that are shown on channels with presence (option `channel.PATTERN.presence`).  A
       user counts once for each of these channels. */
    uint64_t presence_members;
    /* Gauge: bytes of these users' names and infos, including the bookkeeping (option
       `presence_total`). */
    uint64_t presence_bytes;
    /* How often there was no room to show a user on a channel, or its info (option
       `presence_total`).  Who is not shown is tried again twice a second, and counts each time. */
    uint64_t presence_refused;
} push_stats;

/* A message to publish.  Start from PUSH_MESSAGE_INIT. */
typedef struct {
    /* sizeof(push_message) in the host's header. */
    size_t size;
    /* The channel: 1 to 255 bytes of UTF-8 without control characters, the last of them not "*".
       push_broadcast ignores it, and push_publish_user needs NULL. */
    const char *channel;
    /* The payload.  It is copied. */
    const void *data;
    /* The payload's length in bytes, at most the option `max_message`. */
    size_t len;
    /* The event type (SSE's `event:`), or NULL.  At most 127 bytes, no control characters, not
       starting with "push-". */
    const char *event;
    /* The idempotency key, or NULL.  At most 255 bytes.  If a key is published again in the same
       channel within the option `key_window`, nothing is published, and the call returns the first
       position.  The latest 100,000 keys are kept. */
    const char *key;
    /* PUSH_MESSAGE_ flags. */
    uint32_t flags;
    /* Must be 0. */
    uint32_t reserved;
    /* The host's place in a trace, or NULL: a `traceparent` of W3C Trace Context, as
       "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".  With the option `trace` the span
       of the message is a child of it if it is sampled.  One that is not valid is ignored, as that
       specification demands. */
    const char *trace;
    /* The client that does not get the message, or NULL: the id that it has chosen (`client=` in its
       URL), a UUID of 36 characters.  It gets the position in place of the message.  All clients with
       this id are left out, over each transport, and also when they come back.  The id is no
       secret, and proves nothing. */
    const char *except;
} push_message;

/* A place in the hub's sequence of messages. */
typedef struct {
    /* The message's number in the hub's present epoch. */
    uint64_t seq;
    /* The position in the form that clients see, `EPOCH-SEQ`, ending in NUL. */
    char text[56];
} push_position;

/* The rights of a connection that the host hands over.  Start from PUSH_GRANT_INIT. */
typedef struct {
    /* sizeof(push_grant), as the host was compiled. */
    size_t size;
    /* Who the client is, or NULL.  At most 255 bytes.  See also push_publish_user. */
    const char *user;
    /* The names of the channels that the client may have.  A "*" does not stand for many here, so
       you may make a name from a client's text.  A name that ends in "*" is PUSH_ERR_INVALID. */
    const char *const *channels;
    /* How many `channels` there are: with `patterns` and `subscribe` at most 1000.  With none of
       the three the client may have none. */
    size_t channel_count;
    /* When the grant ends, in seconds since 1970; the connection is then closed with 4403.  0:
       never. */
    int64_t expires_at;
    /* PUSH_GRANT_ flags. */
    uint32_t flags;
    /* Must be 0. */
    uint32_t reserved;
    /* More channels that it may have: prefixes ending in "*", or names.  "*" alone is every
       channel.  Never make one from what a client says. */
    const char *const *patterns;
    /* How many `patterns` there are. */
    size_t pattern_count;
    /* The names of the channels that the client gets at once.  The channels that its request names
       are then ignored.  If this is empty, the request names the channels.  A name that stands
       here twice counts once.  The names need not stand in `channels` as well.  If there are more
       than the option `max_channels` allows, the client gets 400.  The request still chooses the
       position, `last`, the transport and the form.  Each further poll of the connection
       (PUSH_GRANT_KEEP_ALIVE) gets the same channels.  A client of push.v1.json may unsubscribe,
       and subscribe to the other channels of the grant.  push_renew does not subscribe the client
       to these names; it only grants them. PUSH_ERR_UNSUPPORTED: the hub (option attach) is too
       old for it. */
    const char *const *subscribe;
    /* The number of names in `subscribe`. */
    size_t subscribe_count;
    /* The names of the channels to which the client may publish (subprotocol push.v1.json), whether
       it may subscribe to them or not.  With PUSH_GRANT_PUBLISH it may publish to all channels
       granted as well.  A "*" does not stand for many here, as in `channels`. */
    const char *const *publish_channels;
    /* The number of names in `publish_channels`: with `publish_patterns` at most 1000.  With
       PUSH_GRANT_PUBLISH the channels granted count, too. */
    size_t publish_channel_count;
    /* More channels to which it may publish: prefixes ending in "*", or names.  "*" alone is every
       channel.  Never make one from what a client says. */
    const char *const *publish_patterns;
    /* The number of `publish_patterns`. */
    size_t publish_pattern_count;
    /* What those who follow the presence of a channel (option channel.PATTERN.presence) are told of
       the user beside its name, or NULL: text of at most 1024 bytes without control characters, such as
       a name to show, or JSON.  All of them can read it.  It needs `user`.  If the connections of a user
       differ in it, that of the one that came last counts.  PUSH_ERR_UNSUPPORTED: the hub (option
       attach) is too old for it. */
    const char *info;
} push_grant;

/* A line of the log.  Start from PUSH_LOG_LINE_INIT, and end with push_log_line_clear. */
typedef struct {
    /* sizeof(push_log_line) in the host's header. */
    size_t size;
    /* One of PUSH_LOG_. */
    int32_t level;
    /* Always 0. */
    uint32_t reserved;
    /* The time at which the line was logged, in milliseconds since 1970. */
    int64_t time_ms;
    /* The line, without a newline.  It ends in NUL.  If lines before it were dropped, it says how
       many. */
    const char *text;
    /* The length of `text` in bytes, without the NUL. */
    size_t len;
    /* Belongs to the library: the memory behind `text`. */
    void *owner;
} push_log_line;

/* One user of a channel.  This struct never grows, since arrays of it are passed. */
typedef struct {
    /* The user's name in the grant, ending in NUL. */
    const char *name;
    /* The number of connections that this user has on the channel. */
    uint64_t connections;
} push_user;

/* The users of a channel: a page of them, and the counts of all.  Start from PUSH_USERS_INIT, and
   end with push_users_clear. */
typedef struct {
    /* sizeof(push_users) in the host's header. */
    size_t size;
    /* The users, sorted by the bytes of their names. */
    const push_user *users;
    /* The number of users in `users`. */
    size_t len;
    /* The value of `after` for the next page, or NULL on the last page. */
    const char *next;
    /* The number of users of the channel. */
    uint64_t count;
    /* The number of connections on the channel. */
    uint64_t connections;
    /* The number of these connections that have no user. */
    uint64_t anonymous;
    /* Belongs to the library: the memory behind the pointers. */
    void *owner;
    /* If the hub shares a log with others: the number of hubs that were asked, this one included.
       0 if it does not. */
    uint64_t hubs;
    /* The number of these hubs that have answered in time.  The users above are of these. */
    uint64_t hubs_answered;
    /* The hubs that have not, as GET /v1/hubs names them, with spaces between; or NULL. */
    const char *hubs_missing;
    /* NULL if the page and the counts are of all hubs.  Otherwise one sentence that says why they
       may not be. */
    const char *partial;
} push_users;

/* Returns the library's version, as "0.1.0".  Any thread.  The string belongs to the library and
   stays valid. */
const char *push_version(void);

/* Returns the PUSH_ABI_VERSION that the library was built with, for hosts that load it at run
   time. */
uint32_t push_abi_version(void);

/* Returns a sentence for a status; push_last_error says more.  Any thread, any number.  The string
   belongs to the library and stays valid. */
const char *push_strerror(push_status status);

/* Writes a sentence into `buffer` that says why the last call of this thread that failed has failed:
   which argument was wrong, and what is allowed.  For a batch it names the message, as
   `messages[3]: ...`.  A sentence that is too long for `buffer` is cut.  There is a NUL at its end.
   Returns the length of the whole sentence, without the NUL: 0 if no call of this thread has failed.
   At most 510 bytes are kept.

   A call that succeeds leaves the sentence as it is, so ask after a call has returned an error, and
   on the same thread.  Calls that return no push_status leave it, too.  If `buffer` is NULL or
   `size` is 0, nothing is written.  It never waits, and may be called in a callback and in a forked
   child.

   # Safety
   `buffer` is NULL or has `size` bytes. */
size_t push_last_error(char *buffer, size_t size);

/* Returns a new set of options, all at their defaults.  NULL only if memory is out.  Free it with
   push_config_free. */
push_config *push_config_new(void);

/* Sets an option by its name, from text: push_config_set(c, "history_age", "5m", err, sizeof err).

   PUSH_ERR_CONFIG: the name is unknown or the value is not allowed.  `err` (may be NULL) gets a
   sentence that names the option, the value and what is allowed.  It always ends in NUL, and is
   cut if it is too long.

   # Safety
   `config` comes from push_config_new; the strings end in NUL; `err` has `err_len` bytes. */
push_status push_config_set(push_config *config,
                            const char *name,
                            const char *value,
                            char *err,
                            size_t err_len);

/* Sets the options in a TOML file: `name = value` lines, and `[channel."news.*"]` tables for the
   channels whose names match.  If anything in the file is wrong, nothing is changed.

   PUSH_ERR_SYSTEM: the file can't be read.  PUSH_ERR_CONFIG: the file is not TOML, or an option is
   wrong.

   # Safety
   As for push_config_set. */
push_status push_config_load(push_config *config, const char *toml_path, char *err, size_t err_len);

/* Sends the library's log lines to `callback`.  NULL removes it.  Without a callback the library logs
   nothing, unless the host pulls the lines (option log=pull, push_next_log) or names a descriptor for
   them (option log_fd).  push_start refuses more than one of the three.

   Every call gets `user_data`.  The library calls `free_user_data` (may be NULL) once, when
   neither this config nor a server that was started from it needs the data any more.

   # Safety
   `config` comes from push_config_new; the functions may be called from a thread of the library. */
void push_config_on_log(push_config *config,
                        push_log_fn callback,
                        void *user_data,
                        push_free_fn free_user_data);

/* Sends events to `callback` instead of the queue that push_next_event reads.  NULL removes it.

   # Safety
   As for push_config_on_log. */
void push_config_on_event(push_config *config,
                          push_event_fn callback,
                          void *user_data,
                          push_free_fn free_user_data);

/* Frees a config.  Servers that were started from it go on.  NULL does nothing.

   # Safety
   `config` comes from push_config_new and is not used again. */
void push_config_free(push_config *config);

/* Starts a server.  If `config` is NULL, it listens on 127.0.0.1:8090 and keeps history in memory.

   The listeners are bound when the call returns, so a port in use is reported here:
   PUSH_ERR_SYSTEM, with a sentence in `err` (may be NULL).  The config is copied, so it can be
   changed or freed afterwards.  On success `*out` is the server; end it with push_stop.

   With the option `attach` the hub is in another process (pushd, or a server with
   `attach_listen`).  If the hub is not there yet, the call succeeds, and messages wait for the
   hub.  If the hub refuses this host, the call fails with PUSH_ERR_SYSTEM.

   # Safety
   `config` is NULL or comes from push_config_new; `out` can be written; `err` has `err_len` bytes. */
push_status push_start(const push_config *config, push_server **out, char *err, size_t err_len);

/* Gives a running server other options: those of `config` that can change while it runs (the
   column "live" in the table of options).  Either all of them apply or none.  Options that need a
   restart stay as they are.  The log names these, and those that have changed.  Files with keys
   are read again, so keys can be rotated.  If a certificate for TLS can't be used any more, the
   old one stays, the log names it, and the rest is applied.  The config's callbacks are ignored, but
   options that push_start refuses beside a callback for log lines are refused here as well.
   The config is copied, so it can be changed or freed afterwards.

   An option that `config` does not set gets its default.  So load the same file again, and set
   again what was set.  A timeout that runs already and a connection that was let in are not
   affected.

   PUSH_ERR_CONFIG, PUSH_ERR_SYSTEM: the options can't be applied.  Nothing has changed, and `err`
   (may be NULL) says what is wrong.

   # Safety
   As for push_start; `config` may not be NULL. */
push_status push_reload(push_server *server, const push_config *config, char *err, size_t err_len);

/* Begins to send the clients away, and returns.  New connections are refused.  Published messages
   are delivered.  Subscribers are told to come back later: WebSockets by close code 1001, SSE and
   streams by an event, polls by an answer.  Their turns are spread evenly over `drain_ms`, so that
   they do not come back all at once.  If `drain_ms` is 100 or less, all are told at once.  If
   there are few clients, the pause between two of them is at most 50 ms.  Connections that are
   left after `drain_ms` are cut off.

   PUSH_EVENT_DRAIN comes at once, PUSH_EVENT_DRAINED when no client is left.  Everything else goes
   on until push_stop: messages reach the clients that are left, and are kept in the history.
   Another call sets a new end.  A drain can't be undone.  A callback may call this.

   PUSH_ERR_UNSUPPORTED: the server is attached, so its clients belong to the hub. */
push_status push_drain(push_server *server, uint32_t drain_ms);

/* Ends a server.  It sends the clients away as push_drain does, unless that has been done, and
   ends when they are gone, at the latest `drain_ms` after the call.  Until then the control API
   answers, and attached hosts stay.  An attached server sends the requests that wait for the hub
   within `drain_ms`.  Its connections stay with the hub.

   With the option trace, the spans that are left go to the collector in the rest of `drain_ms`: in
   a minute at most, or in a second if less is left.  A collector that has not answered before has
   a second at most.  If the system is still looking up a name (getaddrinfo), that may go on after
   the call.

   When the call returns PUSH_OK, no thread of the server runs and no callback runs any more.  The
   last event of a callback is PUSH_EVENT_DRAINED.  Events that were not pulled are gone: a host
   that pulls and wants to see the end calls push_drain first.  Log lines that were not pulled can
   still be read with push_next_log.  All other calls return PUSH_ERR_CLOSED from now on, and so
   does a second push_stop.  From a callback the call returns PUSH_ERR_CALLBACK, and nothing is done.

   PUSH_ERR_TIMEOUT: the server has ended, but a callback (or a push_free_fn) has not returned.  It
   had `drain_ms`, and at least a second after everything else had ended.  No other callback begins
   any more: the events and log lines that still wait are dropped.  The callback's thread keeps the
   user data until the callback returns; then it frees the data and ends.  Until then, do not free
   the data that the callback uses, and do not unload the library (dlclose).  Another push_stop
   waits up to `drain_ms` for the callback.  It returns PUSH_OK if the callback has returned, and
   later calls return PUSH_ERR_CLOSED; otherwise it returns PUSH_ERR_TIMEOUT again.

   The call returns PUSH_ERR_TIMEOUT as well if the disk of the log (option engine) does not answer.
   The disk has the same time.  The log says which messages may be missing in it.  It is the same if
   the descriptor of the option log_fd hangs in the write of a line, as that of a terminal may.

   Some callbacks need the calling thread, for example functions of Node (koffi).  They can't
   return before push_stop does.  So call push_stop on another thread (koffi's `.async`), or call
   it again after a turn of the event loop.

   Calls of other threads that are still running return first.  Only those that wait for a hub or a
   sync can take long: at most the option attach_timeout or engine_timeout, in addition to
   `drain_ms`. */
push_status push_stop(push_server *server, uint32_t drain_ms);

/* Writes the address of listener number `index`: "127.0.0.1:8090" or "unix:/run/push.sock", ending
   in NUL.  The index counts from 0, in the order of the options `listen`, `control`,
   `attach_listen`.  PUSH_ERR_NOT_FOUND: there is no such listener.  PUSH_ERR_TOO_LARGE: `size`
   bytes are not enough (128 always are).

   # Safety
   `out` has `size` bytes. */
push_status push_listen_address(push_server *server, uint32_t index, char *out, size_t size);

/* Copies the counters into `*out`.  `out_size` is sizeof(push_stats) in the host's header.  Fields
   that this library does not know become zero.

   # Safety
   `out` has `out_size` bytes. */
push_status push_stats_get(push_server *server, push_stats *out, size_t out_size);

/* Publishes `len` bytes to a channel.  The payload is text if it is UTF-8, else binary.  If `len`
   is 0, `data` is not used.  The call never waits for a client.

   PUSH_ERR_INVALID: the channel is empty, longer than 255 bytes, not UTF-8, ends in "*", or has
   control characters.  PUSH_ERR_TOO_LARGE: the payload is larger than the option `max_message`.
   PUSH_ERR_BUSY: a queue is full, and nothing was done.  PUSH_ERR_SYSTEM: the log (option
   `engine`) can't be written, and nothing was done.

   Attached (option `attach`), PUSH_OK says that the message is on its way.  Messages arrive in the
   order of the calls, each once, even if the hub can't be reached for a while.  PUSH_ERR_BUSY: the
   option `attach_buffer` is full.  With the option engine_sync=always, too, PUSH_OK says that the
   message is on its way: it is delivered when the log is synced.

   # Safety
   `channel` ends in NUL; `data` has `len` bytes. */
push_status push_publish(push_server *server, const char *channel, const void *data, size_t len);

/* Publishes one message with all its fields.  `out` (may be NULL) gets its position.

   Attached, a call with `out` waits for the hub's answer, for at most the option `attach_timeout`.
   If the hub has been away for longer than that, the call does not wait.  With engine_sync=always
   a call with `out` waits for the sync, for at most the option `engine_timeout`.  PUSH_ERR_BUSY:
   nothing was done.  PUSH_ERR_TIMEOUT: the message may have been published, or may be published
   later; with a `key` it is safe to call again.  Without `out` the call does not wait, like
   push_publish.  The same goes for batches and broadcasts.  Other errors as for push_publish;
   PUSH_ERR_INVALID also for a field of the message that is not allowed.  PUSH_ERR_UNSUPPORTED:
   attached, `message->except` is set, and the hub is of a version that does not know it: nothing was
   done.  Such a hub gets none of these messages, also if it comes while they wait for one.  The same
   goes for batches and broadcasts.

   # Safety
   `message` and what it points to can be read; `out` is NULL or can be written. */
push_status push_publish_message(push_server *server,
                                 const push_message *message,
                                 push_position *out);

/* Publishes `count` messages at once: all of them, or none if there is an error.  If `count` is 0,
   the call does nothing.  Subscribers get the messages one after the other, with no other message
   between them.  If the hub shares a log with others, messages of other hubs may stand between
   them.  All messages have the same value in the field `size`.  `out` (may be NULL) gets `count`
   positions.  At most 8192 messages are allowed, else PUSH_ERR_INVALID.  PUSH_ERR_TOO_LARGE: more
   messages than the option `mailbox` could ever hold.  Attached and without `out`, the hub's
   `mailbox` is the limit of a batch.

   # Safety
   `messages` has `count` messages; `out` is NULL or has room for `count` positions. */
push_status push_publish_batch(push_server *server,
                               const push_message *messages,
                               size_t count,
                               push_position *out);

/* Publishes to every connection, whatever its channels.  `message->channel` is ignored and may be
   NULL.  In the JSON form the message has type "broadcast".  It is kept like a channel's message,
   so a client that was away gets it when it comes back.  `out` may be NULL.  Errors as for
   push_publish_message.

   # Safety
   As for push_publish_message. */
push_status push_broadcast(push_server *server, const push_message *message, push_position *out);

/* Publishes one message to all connections of a user: to the channel `user:NAME`, which each
   connection with this user in its grant or token has without asking (option `user_channel`).  It is
   a channel like any other: it has a history and positions, so a connection that comes back gets
   what it missed, and a user who is away gets it later, as long as it is kept.  `message->channel`
   must be NULL.  A `key` counts among those of this channel.  `out` may be NULL.  Any thread.
   Nothing of `user` and `message` is kept after the call.

   PUSH_ERR_INVALID: the option `user_channel` is off, also in the hub of an attached host; the user
   is empty, longer than 250 bytes, not UTF-8, ends in "*", or has control characters, so that no
   channel can have its name; `message->channel` is not NULL; or as for push_publish_message.
   push_last_error says which of these.  PUSH_ERR_UNSUPPORTED: attached, and the hub is of a version
   that does not know users' channels.  Attached and without `out`, the hub may find out only later
   that its option is off: it does not publish then, counts that (push_stats.undone), and its log
   says so.  Other errors, and the time that the call waits, as for push_publish_message.

   While the option is on, names that begin with `user:` belong to the library: no client can name
   one, and a grant that does is PUSH_ERR_INVALID.  The host may name one itself, as in a batch,
   push_users_get or push_revoke_channel.  Where the option is off, that is an ordinary channel.

   # Safety
   `user` ends in NUL; `message` and what it points to can be read; `out` is NULL or can be written. */
push_status push_publish_user(push_server *server,
                              const char *user,
                              const push_message *message,
                              push_position *out);

/* Ends the stream of a channel.  An end mark takes its place behind the messages published before,
   with a position of its own.  Subscribers get it as `end`, and so do clients that come later, as
   long as it is kept: as messages of the channel are (options history_count, history_age,
   history_bytes and history_total).  A connection whose channels have all ended is closed with
   1000 when its client has everything, unless the client could subscribe to others on it; an
   EventSource does not come back then.  To end a channel that does not exist makes one that
   has only the end.  To end one that has ended changes nothing, and `out` gets the position of its
   end; with a log that hubs share, and with engine_sync=always, the end moves to the new position.
   A message that is published to the channel, or push_begin, opens it anew.  `out` may be NULL.

   PUSH_ERR_INVALID: the channel's name is not allowed (see push_publish; a pattern is no name), the
   channel keeps no messages, or is that of a user (push_publish_user).  PUSH_ERR_UNSUPPORTED:
   attached, and the hub is of a version that does not know ends.  Other errors, and the time that
   the call waits, as for push_publish_message.

   # Safety
   `channel` ends in NUL; `out` is NULL or can be written. */
push_status push_end(push_server *server, const char *channel, push_position *out);

/* Begins the stream of a channel, or begins it anew: its history is cleared, and a begin mark takes
   its place, with a position of its own.  Subscribers get it as `begin`.  A client that asks for
   the channel from its start (`since=start`) then gets everything since, and is told of a gap only
   if a part of that is no longer kept.  Without this call it is told of a gap also where the hub
   can't know whether the channel had messages before, as after a hub with a shared log was
   started.  A client that has the end of the stream before gets `begin` and what follows.  A client
   that has only a part of it is told of a gap first.  `out` may be NULL.  Errors as for push_end.

   # Safety
   As for push_end. */
push_status push_begin(push_server *server, const char *channel, push_position *out);

/* The grant behind PUSH_GRANT_ALL: the client may subscribe to every channel, has no name, and the
   grant never ends.  Any thread.  The grant belongs to the library and never changes. */
const push_grant *push_grant_all(void);

/* Hands over a client connection that the host has accepted.

   `fd` is a connected stream socket (TCP or Unix), blocking or not.  `head` is what the host has
   already read of the request, from its first byte; it may be incomplete (the library reads on) or
   empty.  `grant` says what the client may do; PUSH_GRANT_ALL lets it subscribe to whatever its
   request names.  NULL is PUSH_ERR_INVALID, unless the option `auth` was set to `none`, which says
   that anybody may; it is not enough that this is the default.

   On PUSH_OK the descriptor is the library's: forget it, do not close it.  On any error it is
   still the host's, and untouched: PUSH_ERR_DESCRIPTOR (closed, a file, UDP, listening, not
   connected, encrypted by the host), PUSH_ERR_INVALID, PUSH_ERR_TOO_LARGE (more than 1 MB was
   read), PUSH_ERR_LIMIT, PUSH_ERR_BUSY, PUSH_ERR_UNSUPPORTED.  push_refusal writes what the client
   is told then.

   The library sets TCP_NODELAY on a TCP socket, and turns SO_LINGER off.  If `poll_timeout` is longer than `heartbeat` plus
   `ping_timeout`, it also sets SO_KEEPALIVE and its times (TCP_KEEPIDLE, TCP_KEEPINTVL,
   TCP_KEEPCNT) on the connection of a poll that waits.  It does so whatever the host has set.

   The host's own TLS may protect the client's connection if it is in the kernel (TCP_ULP "tls") with
   the keys of both directions, of TLS 1.2 or 1.3.  `head` then has all that the host's TLS library
   has decrypted, and the host sends no close_notify.  PUSH_ERR_DESCRIPTOR: the kernel has the keys
   of one direction only, or none.  PUSH_ERR_UNSUPPORTED: the library or the hub can't do it.

   A host whose TLS is in its own process must relay the connection: it makes a Unix socket pair,
   hands over one end, and copies bytes between the other end and the client.  If such a host
   ends before the client does, it calls shutdown(SHUT_WR) on its end, and copies to the client
   what still comes until the end of the stream.  So the client is told when to come back, as in a
   drain.

   If the request itself is bad, the library answers the client over HTTP.  The call may serve the
   client on this thread while the library's thread sleeps.  It never blocks, but takes some
   microseconds longer: up to a hundred while other threads publish much.  For a client that missed
   much, it takes as long as writing three times the option `outbox` to its socket.

   Attached (option `attach`), the connection goes to the hub's process and outlives this process.
   PUSH_OK says that it is on its way.  If the hub has no room, it answers the client with 503.
   PUSH_ERR_BUSY: the hub can't be reached, or too many connections wait for it.
   PUSH_ERR_UNSUPPORTED: the grant has `subscribe` or `info`, or the client's TLS is in the kernel, and
   the hub is too old for that.  If the hub was away and turns out to be too old, the client gets 503.

   # Safety
   `head` has `head_len` bytes; `grant` is NULL or can be read, with all it points to. */
push_status push_adopt(push_server *server,
                       int fd,
                       const void *head,
                       size_t head_len,
                       const push_grant *grant);

/* Like push_adopt, for a connection that others follow at once.  Attached, the connection may wait
   for them, so that many share one system call.  Call push_flush after the last one in a turn of
   the host's loop.  If the hub is in this process, the call is the same as push_adopt.

   The call checks at once whether there is room for the connection.  The statuses and the owner of
   the descriptor are the same as for push_adopt.

   # Safety
   As for push_adopt. */
push_status push_adopt_more(push_server *server,
                            int fd,
                            const void *head,
                            size_t head_len,
                            const push_grant *grant);

/* Sends the connections that push_adopt_more has left waiting.  It never waits.  If there are
   none, it costs one lock. */
push_status push_flush(push_server *server);

/* Sends `len` bytes to one connection, outside of all channels.  A WebSocket gets one frame, which
   is text or (PUSH_SEND_BINARY) binary; with subprotocol push.v1.json it gets
   `{"type":"message","data":…}`.  SSE and stream connections get a message without a position.  A
   poll can't get it.

   PUSH_ERR_NOT_FOUND: the connection is gone, as far as this thread can know; it may also end
   before it gets the bytes.  PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.
   PUSH_ERR_BUSY: the queue of its thread is full.  PUSH_ERR_TOO_LARGE: more bytes than a message
   may have.

   Attached, this call and the calls below return PUSH_OK when the request is on its way to the
   hub.  Only the hub knows whether the connection exists.

   # Safety
   `data` has `len` bytes. */
push_status push_send(push_server *server,
                      push_connection connection,
                      const void *data,
                      size_t len,
                      uint32_t flags);

/* Closes one connection.  `code` is 1000, 1001, 1008, 1009, 1011 to 1013, or 3000 to 4999;
   `reason` is NULL or at most 123 bytes.  A WebSocket gets a close frame with both.  SSE and stream
   connections get an event push-close.  A waiting poll gets the answer 403 if `code` is 1008 or
   4403, and otherwise an answer without messages; then its connection is closed.

   PUSH_ERR_NOT_FOUND: the connection is gone.  PUSH_ERR_INVALID: another code, or a reason that is
   too long.

   # Safety
   `reason` is NULL or ends in NUL. */
push_status push_close(push_server *server,
                       push_connection connection,
                       uint16_t code,
                       const char *reason);

/* Closes every connection that was granted to `user`, with `code` and `reason` as for push_close;
   4403 is usual.  Each of the library's threads does so in its next turn.  The clients may come
   back with new credentials, or with a token that is still valid.  A user without connections is
   no error.  PUSH_ERR_INVALID: `user` is NULL, or a code or reason that push_close refuses.

   If the hub shares a log with others (option `engine`), PUSH_OK says that this hub does it now, and
   that the others do it when they read it in the log.  PUSH_ERR_BUSY: this hub does it, and the others
   do not, because too much waits to be appended to the log; call again.

   # Safety
   `user` ends in NUL; `reason` is NULL or ends in NUL. */
push_status push_disconnect_user(push_server *server,
                                 const char *user,
                                 uint16_t code,
                                 const char *reason);

/* Takes `channel` (a name, or a prefix ending in "*") from every connection that was granted to
   `user`.  These connections get nothing of it that is published after the call, and can't
   subscribe to it again.  Messages that wait already for a slow client are still sent.  A client
   with subprotocol push.v1.json gets `unsubscribed` with `reason` (NULL, or at most 123 bytes).
   Any other client that has no channel left is closed with 4403; a waiting poll is answered with
   403.  The grants of new connections are not affected.

   `channel` may be a name or a prefix.  If you make a name from a client's text and the text ends
   in "*", the call takes the name as a prefix.  It then takes away more channels than intended,
   never fewer.

   A user without connections is no error.  PUSH_ERR_INVALID: `user` or `channel` is not allowed,
   or the reason is too long.

   If the hub shares a log with others, it is as with push_disconnect_user.  The revocation is an
   entry in the log.  At the other hubs the user gets the channel's messages up to that entry, and
   none after it.

   # Safety
   `user` and `channel` end in NUL; `reason` is NULL or ends in NUL. */
push_status push_revoke_channel(push_server *server,
                                const char *user,
                                const char *channel,
                                const char *reason);

/* Gives one connection another grant in place of its own, for example because a session was
   prolonged, a user has logged in, or rights have changed.  The connection goes on until the new
   grant ends.  Subscriptions that the new grant does not allow end as with push_revoke_channel.
   If it has another user now, the calls and messages of the user before that wait for the host get an
   error, and with the option `user_channel` the connection is closed with 1001.  Those who follow the
   presence of its channels are told of another user or `info`.  `grant` is copied.

   PUSH_ERR_NOT_FOUND: the connection is gone.  PUSH_ERR_INVALID: a field of `grant` is not allowed.

   # Safety
   `grant` can be read, with all it points to. */
push_status push_renew(push_server *server, push_connection connection, const push_grant *grant);

/* Answers PUSH_EVENT_REQUEST (option auth=host) with yes: the client may do what `grant` says, as
   with push_adopt.  `grant` is copied; NULL is PUSH_ERR_INVALID.

   PUSH_ERR_NOT_FOUND: `request` is not the number of a request.  An answer changes nothing if the
   request was already answered, if its client has gone, or if the client was refused after the
   option `auth_timeout`.

   # Safety
   `grant` can be read, with all it points to. */
push_status push_allow(push_server *server, push_request request, const push_grant *grant);

/* Answers PUSH_EVENT_CALL with `len` bytes, which are text or (PUSH_SEND_BINARY) binary.  The client
   gets `{"type":"answer","data":…}` with the number of its call.

   PUSH_ERR_NOT_FOUND: `request` is a number that this server gives to no request.  An answer changes
   nothing if the call was already answered, if its client has gone or has another user now
   (push_renew), or after the option `call_timeout`.  The same goes for an answer of the wrong kind:
   push_allow to a call, or push_answer to PUSH_EVENT_REQUEST.
   PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.  PUSH_ERR_BUSY: the queue of its
   thread is full.  PUSH_ERR_TOO_LARGE: more bytes than a message may have.
   PUSH_ERR_UNSUPPORTED: the hub (option attach) is too old for it.

   # Safety
   `data` has `len` bytes. */
push_status push_answer(push_server *server,
                        push_request request,
                        const void *data,
                        size_t len,
                        uint32_t flags);

/* Answers PUSH_EVENT_PUBLISH (option client_publish=host) with yes: the client's message is published.
   `instead` is NULL: it is published as the client sent it.  Otherwise the payload of `instead` is
   published in its place, with `event` as its event type; if `event` is NULL, the client's event
   type stays: it can be replaced, but not removed.  The channel and the key stay the client's, so
   `instead->channel`, `->key`, `->trace` and `->except` must be NULL.  `instead` is copied.

   What one connection publishes is published in the order in which the client sent it, whatever the
   order of the answers.  Right before, the library looks again at what the client may do: if its
   right was taken away since the event, the message is not published.  Nor is it if the host has
   closed the connection, disconnected the user, or given the connection to another user
   (push_renew).  If the client has gone by itself, it is published all the same.

   PUSH_OK says that the answer is on its way, and not that the message is published.  A host that
   must know subscribes to the channel, or publishes by itself and denies the client's message.  The
   message is not published in the cases above, and in these:
   - The hub is busy, as with PUSH_ERR_BUSY of push_publish, or can't write its log.  Then it tries
     again until `call_timeout` after the client's message came.
   - The payload of `instead` is larger than the client's, has to wait for earlier messages of the
     connection, and the option `inbox_total` is reached.
   - The option `max_message` was made smaller since then.
   - The server stops while the message waits for earlier ones.

   The client gets an error if it is still there and the server does not stop.  Otherwise, and if the
   hub had no room, there is a line in the log.

   PUSH_ERR_NOT_FOUND: `request` is a number that this server gives to no request.  An answer changes
   nothing if the message already has its answer, or after the option `call_timeout`.  The same goes
   for an answer of the wrong kind, such as push_allow or push_answer to this event.
   PUSH_ERR_INVALID: a field of `instead` that is not allowed.  PUSH_ERR_TOO_LARGE: its payload is
   larger than the option `max_message`.  PUSH_ERR_BUSY: the queue of its thread is full.
   PUSH_ERR_UNSUPPORTED: the hub (option attach) is too old for it.

   # Safety
   `instead` is NULL, or can be read with all it points to. */
push_status push_allow_publish(push_server *server,
                               push_request request,
                               const push_message *instead);

/* Answers PUSH_EVENT_REQUEST, PUSH_EVENT_CALL or PUSH_EVENT_PUBLISH with no: the client gets `status`
   (401, 403, 429 or 503) with the message `reason` (at most 255 bytes; NULL: "not allowed").

   PUSH_ERR_INVALID: another status, or a reason that is too long.  Other errors as for push_allow.

   # Safety
   `reason` is NULL or ends in NUL. */
push_status push_deny(push_server *server,
                      push_request request,
                      uint16_t status,
                      const char *reason);

/* Writes the HTTP response to a client that the host turns away itself, with the status, header
   lines, words and times of the library's own refusals.  The host sends it and closes the
   connection.  Clients that are turned away together are told to come back at different times.

   `why` is the status of the call that failed, such as PUSH_ERR_BUSY of push_adopt, or the host's
   own reason: an HTTP status from 400 to 599.  `code` (at most 64 bytes) is a word for programs and
   `message` (at most 1024 bytes) a sentence for people; the client gets both.  NULL: the library's
   own words.

   `head` is what the host has read of the request, from its first byte.  It may be incomplete or
   empty.  It decides two things.  The first is the form.  An EventSource never comes back after an
   error status.  So if the same request may succeed later (408, 425, 429, and 500 and above), an
   EventSource gets an event stream that tells it when to come back.  The second is whether a page
   of another origin can read the response.  It can if the option `allowed_origins` of `server`
   allows the origin, or if `why` is a failed call and `code` and `message` are NULL.

   `server` may be NULL or have been stopped: its options then have their defaults.  The option
   `retry` is the time for an EventSource.

   `out` gets `*out_len` bytes, without a NUL.  PUSH_REFUSAL_MAX bytes are always enough.
   PUSH_ERR_TOO_LARGE: `out_size` is too small.  PUSH_ERR_INVALID: `why`, `code` or `message` is not
   allowed.  Any thread; it never waits.

   # Safety
   `code` and `message` are NULL or end in NUL; `head` has `head_len` bytes; `out` has `out_size`
   bytes; `out_len` can be written. */
push_status push_refusal(push_server *server,
                         int32_t why,
                         const char *code,
                         const char *message,
                         const void *head,
                         size_t head_len,
                         void *out,
                         size_t out_size,
                         size_t *out_len);

/* Returns a descriptor that is readable while events wait, for poll, select or epoll.  Only watch
   it: do not read or close it.  The library closes it in push_stop, so take it out of your loop
   before.  -1: the handle is not a server, or events go to a callback or to attached hosts (option
   attach_listen).

   The first call of this function or of push_next_event turns events on.  Messages that clients
   send before that are dropped.  The option `events` says which kinds of events come.  If it
   changes while clients are connected, some closes may come without their opens. */
int push_event_fd(push_server *server);

/* Takes the next event.  It waits for at most `timeout_ms` milliseconds: 0 does not wait, and -1
   waits for ever.  PUSH_ERR_TIMEOUT: no event came.  PUSH_ERR_CALLBACK: a callback made the call.
   PUSH_ERR_UNSUPPORTED: events go to a callback or to attached hosts (option attach_listen).

   Start from `push_event event = PUSH_EVENT_INIT;` and pass the same struct again and again.  Its
   pointers stay valid until it is passed again or cleared, whatever other threads do.  Finally
   call push_event_clear.  `out_size` is sizeof(push_event).  A push_stop on another thread ends
   the wait with PUSH_ERR_CLOSED.

   While the host takes no events, the library stops reading from the clients that cause them.
   Nothing is lost.

   # Safety
   `out` has `out_size` bytes and was initialized, or comes from an earlier call. */
push_status push_next_event(push_server *server, push_event *out, size_t out_size, int timeout_ms);

/* Frees the data that an event points to, and empties the event.  NULL or an empty event does
   nothing.  It may be called after push_stop.  An event of push_config_on_event needs no clearing,
   and a copy of it is as short-lived as the event.

   # Safety
   `event` was initialized, or filled by push_next_event. */
void push_event_clear(push_event *event);

/* Returns a descriptor that is readable while log lines wait for push_next_log, for poll, select or
   epoll.  Only watch it: do not read or close it.  After push_stop it stays readable, so a thread
   that watches it takes the last lines and then gets PUSH_ERR_CLOSED.  The library closes the
   descriptor when push_next_log returns PUSH_ERR_CLOSED: do not watch it any more after that.  If that
   never happens, the library closes it when it forgets the lines (see push_next_log).  -1: the handle
   is not a server, its option `log` is not `pull`, or the descriptor is closed.  (The option `log_fd`
   is something else: a descriptor of the host that the library writes to.) */
int push_log_line_fd(push_server *server);

/* Takes the next log line, if the option `log` is `pull`.  No thread of the library then calls into
   the host for the log.  The call waits for at most `timeout_ms` milliseconds: 0 does not wait, and
   -1 waits for ever.  PUSH_ERR_TIMEOUT: no line came.  PUSH_ERR_CALLBACK: a callback made the call.
   PUSH_ERR_UNSUPPORTED: the option `log` is not `pull`.

   Start from `push_log_line line = PUSH_LOG_LINE_INIT;` and pass the same struct again and again.
   Its pointer stays valid until it is passed again or cleared, whatever other threads do.  Finally
   call push_log_line_clear.  `out_size` is sizeof(push_log_line).

   Lines wait from push_start on, at most 4,096.  Further lines are dropped and counted
   (push_stats.logs_dropped), and the next one that finds room says how many.  If none comes, the last
   line of the stop says so: "the log ends here (lines dropped before this one: 12)".

   push_stop logs, too.  During push_stop another thread gets these lines, and then PUSH_ERR_CLOSED.
   Those that nobody has taken can be read after push_stop, with the same handle, until the call
   returns PUSH_ERR_CLOSED.  The library keeps them for the 16 servers that were stopped last, and
   with them the descriptor of push_log_line_fd, if the host has asked for it.

   # Safety
   `out` has `out_size` bytes and was initialized, or comes from an earlier call. */
push_status push_next_log(push_server *server, push_log_line *out, size_t out_size, int timeout_ms);

/* Frees the text that a line points to, and empties the line.  NULL or an empty line does nothing.
   It may be called after push_stop.

   # Safety
   `line` was initialized, or filled by push_next_log. */
void push_log_line_clear(push_log_line *line);

/* Returns the users on a channel: the counts, and a page of users by name.  The page begins after
   the name `after` (NULL: with the first user) and has at most `limit` users (0 to 10000; with 0
   there are only the counts).

   Start from `push_users page = PUSH_USERS_INIT;`.  Pass the same struct again and again, with
   `page.next` as `after`, until `page.next` is NULL.  The page's pointers stay valid until it is
   passed again or cleared, whatever other threads do.  On an error the page does not change.
   Finally call push_users_clear.  `out_size` is sizeof(push_users).

   A client that is still being sent missed messages is not counted, nor one that is between two
   polls.  A user who comes or goes between two pages may be missing; one who stays is listed once.
   For a channel without users the counts are 0, and the call succeeds.

   Each page counts the whole channel, so take large pages of a large channel: 16,000 users take
   some 2 ms, part of it on the library's threads.  The call waits until each of these threads has
   looked through its part, some at a time between its other work.  A callback may call this.

   PUSH_ERR_INVALID: the channel's name, `after` or `limit` is not allowed.

   If the hub shares a log with others (option engine), all hubs are asked.  A user of several hubs
   is one, with all connections.  The call waits for the hubs for at most a quarter of the option
   engine_timeout, and never for more than two seconds.  If one has not answered by then, `partial`
   says so, and the page and the counts are of the others.  If the log can't be reached, this hub
   alone answers, at once. A page may have fewer than `limit` users although there are more: `next`
   says so. PUSH_ERR_BUSY: too many such questions are under way, or no hub at all has answered in
   time, this one neither.

   Attached, the call asks the hub, and no other request of the host waits for it.  The hub counts
   all its clients, whichever host handed them over.  PUSH_ERR_BUSY: the hub can't be reached, or 16
   such calls of this host are under way there, and the turn of this one did not come in time.
   PUSH_ERR_TIMEOUT: the hub did not answer within the option `attach_timeout`.
   PUSH_ERR_UNSUPPORTED: the hub is older than this call.

   # Safety
   `channel` ends in NUL, `after` too or is NULL; `out` has `out_size` bytes and was initialized, or
   comes from an earlier call. */
push_status push_users_get(push_server *server,
                           const char *channel,
                           const char *after,
                           size_t limit,
                           push_users *out,
                           size_t out_size);

/* Frees the data that a page points to, and empties the page.  NULL or an empty page does nothing.
   It may be called after push_stop.

   # Safety
   `users` was initialized, or filled by push_users_get. */
void push_users_clear(push_users *users);

#ifdef __cplusplus
}
#endif

/* Initializers: the size, by which an older host and a newer library understand each other, and
   zeros. */
#define PUSH_MESSAGE_INIT {sizeof(push_message), 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_GRANT_INIT {sizeof(push_grant), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_EVENT_INIT {sizeof(push_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_LOG_LINE_INIT {sizeof(push_log_line), 0, 0, 0, 0, 0, 0}
#define PUSH_USERS_INIT {sizeof(push_users), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_STATS_INIT {sizeof(push_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* For push_adopt and push_allow, in place of a grant of your own: every channel. */
#define PUSH_GRANT_ALL (push_grant_all())

#endif /* PUSH_H */
