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
 * library named push-callback.  They may block (only other callbacks wait) and may call back in,
 * except for push_stop and push_next_event of any server, which answer PUSH_ERR_CALLBACK.  A
 * push_free_fn is called once, on whichever thread lets go last.  All of them must return: a C++
 * exception that leaves one, longjmp or pthread_exit ends the process, or worse.
 *
 * Stack: push_start needs 64 KB of the calling thread's stack, every other call at most 32 KB.
 *
 * Descriptors: what the library opens is closed on exec, and never has the number 0, 1 or 2, even
 * where the host has closed these.  A host that closes all descriptors, or forks into the
 * background, must do so before push_start.
 *
 * Memory: an allocation that the system refuses prints a line on stderr and ends the process.
 * Everything that clients and calls can make grow is bounded by options; choose them so that it
 * does not come to that.
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

/* What push_abi_version answers for this header: it changes only when a host must be compiled
   again. */
#define PUSH_ABI_VERSION 0

/* It worked. */
#define PUSH_OK 0

/* An argument is not allowed: NULL, a bad channel name, an unknown flag, a struct of unknown
   shape. */
#define PUSH_ERR_INVALID -1

/* An option is unknown, or its value is not allowed; `err` names option, value and what is
   allowed. */
#define PUSH_ERR_CONFIG -2

/* The payload is larger than the option `max_message`. */
#define PUSH_ERR_TOO_LARGE -3

/* A queue of the library is full, or the hub is away (option attach).  Nothing was done; the same
   call may succeed in a moment. */
#define PUSH_ERR_BUSY -4

/* There is no such connection (any more). */
#define PUSH_ERR_NOT_FOUND -5

/* The server was stopped, or the handle never was one. */
#define PUSH_ERR_CLOSED -6

/* Nothing came within the time given: no event, or no answer of the hub (option attach_timeout).  Of
   push_stop: a callback has not returned. */
#define PUSH_ERR_TIMEOUT -7

/* The descriptor is not a connected stream socket.  It is still the caller's. */
#define PUSH_ERR_DESCRIPTOR -8

/* The call came from a process forked after push_start.  The library works in the parent only. */
#define PUSH_ERR_FORKED -9

/* The call would wait for the callback that it was made from. */
#define PUSH_ERR_CALLBACK -10

/* The operating system refused something; `err` says what, where the call has an `err`. */
#define PUSH_ERR_SYSTEM -11

/* A defect of the library was caught.  The log has the details; please report it. */
#define PUSH_ERR_INTERNAL -12

/* This build or this server does not do that. */
#define PUSH_ERR_UNSUPPORTED -13

/* A configured limit is reached: `max_connections`, or 256 servers in one process. */
#define PUSH_ERR_LIMIT -14

/* push_message.flags: the payload is binary.  Without it a payload that is UTF-8 travels as text,
   any other as binary.  Binary means binary WebSocket frames, and base64 where the form is JSON or
   SSE. */
#define PUSH_MESSAGE_BINARY 1

/* push_send flags: send a binary frame. */
#define PUSH_SEND_BINARY 1

/* push_grant.flags: the client may publish to the channels granted (subprotocol push.v1.json). */
#define PUSH_GRANT_PUBLISH 1

/* push_grant.flags: after a long-poll was answered the connection stays open for further polls
   under this grant.  Set it only where one connection is one client, not behind a proxy that mixes
   clients.  A request for anything but the option `path` on such a connection ends it unanswered;
   clients then send it again on a new one. */
#define PUSH_GRANT_KEEP_ALIVE 2

/* push_event.kind: a client opened a subscription connection (WebSocket, SSE, stream; polls come
   and go untold). */
#define PUSH_EVENT_OPEN 1

/* push_event.kind: a client sent a message over WebSocket; `data`, `len` and PUSH_EVENT_BINARY
   describe it. */
#define PUSH_EVENT_MESSAGE 2

/* push_event.kind: a connection ended; `code` is the WebSocket close code or the library's reason. */
#define PUSH_EVENT_CLOSE 3

/* push_event.kind: with the option auth=host, whether a client may subscribe: `request` names the
   question for push_allow and push_deny, `channel` the first channel asked for, `data` the head of
   the request as it came, cookies and all. */
#define PUSH_EVENT_REQUEST 4

/* push_event.kind: the server begins to send its clients away (push_drain, push_stop, or the end
   of the hub that this one is attached to). */
#define PUSH_EVENT_DRAIN 5

/* push_event.kind: no client is left. */
#define PUSH_EVENT_DRAINED 6

/* push_event.flags: the client's message came as binary. */
#define PUSH_EVENT_BINARY 1

/* Log levels, as push_log_fn gets them. */
#define PUSH_LOG_ERROR 1

/* Something is wrong outside of the library, or soon will be. */
#define PUSH_LOG_WARN 2

/* Start, stop, listeners; refusals, and ends of connections that were not asked for. */
#define PUSH_LOG_INFO 3

/* Every end of a connection. */
#define PUSH_LOG_DEBUG 4

/* Options being collected for push_start.  One thread at a time. */
typedef struct push_config push_config;

/* A running server.  Any thread, any time.  The pointer is a ticket, not an address: never
   dereference it. */
typedef struct push_server push_server;

/* The result of a call: PUSH_OK, or one of the negative PUSH_ERR_ numbers.  Numbers are never
   reused. */
typedef int32_t push_status;

/* Gets one line of log, without a newline.  `level` is one of PUSH_LOG_.  Thread: push-callback. */
typedef void (*push_log_fn)(void *user_data, int32_t level, const char *line);

/* Frees a callback's user_data.  Called once, when no callback can come any more. */
typedef void (*push_free_fn)(void *user_data);

/* A client's connection, as events name it.  Never 0, and not reused while the server lives. */
typedef uint64_t push_connection;

/* A question to the host, as PUSH_EVENT_REQUEST names it.  Never 0. */
typedef uint64_t push_request;

/* Something that the host is told.  Start from PUSH_EVENT_INIT; end with push_event_clear. */
typedef struct {
    /* sizeof(push_event), as the host was compiled. */
    size_t size;
    /* PUSH_EVENT_OPEN, _MESSAGE, _CLOSE, _REQUEST, _DRAIN, _DRAINED.  A number that you do not
       know: ignore the event. */
    uint32_t kind;
    /* PUSH_EVENT_ flags. */
    uint32_t flags;
    /* The connection it is about; 0 for PUSH_EVENT_DRAIN and _DRAINED. */
    push_connection connection;
    /* The question, for PUSH_EVENT_REQUEST. */
    push_request request;
    /* The connection's user as granted, or NULL. */
    const char *user;
    /* For PUSH_EVENT_OPEN and _REQUEST the first channel asked for, or NULL. */
    const char *channel;
    /* The payload of PUSH_EVENT_MESSAGE, the request head of _REQUEST. */
    const void *data;
    /* The payload's length in bytes. */
    size_t len;
    /* The code of PUSH_EVENT_CLOSE. */
    uint32_t code;
    /* 0. */
    uint32_t reserved;
    /* The library's: what owns the pointers above. */
    void *owner;
} push_event;

/* Gets one event, valid during the call.  Thread: push-callback. */
typedef void (*push_event_fn)(void *user_data, const push_event *event);

/* Counters since push_start, and gauges of this moment.  Start from PUSH_STATS_INIT. */
typedef struct {
    /* sizeof(push_stats), as the library was compiled. */
    size_t size;
    /* Messages published, broadcasts included. */
    uint64_t published;
    /* Publishes answered from an idempotency key. */
    uint64_t duplicates;
    /* Publishes refused with PUSH_ERR_BUSY. */
    uint64_t busy;
    /* Messages handed to connections: one message to a thousand subscribers counts a thousand. */
    uint64_t deliveries;
    /* Bytes written to clients. */
    uint64_t bytes_sent;
    /* Connections taken: accepted on own listeners. */
    uint64_t accepted;
    /* Connections taken: handed over by push_adopt. */
    uint64_t adopted;
    /* Requests refused with an HTTP error. */
    uint64_t refused;
    /* Connections closed with 4429 because they read too slowly. */
    uint64_t slow_closed;
    /* Gaps announced to clients. */
    uint64_t gaps;
    /* Messages that clients sent. */
    uint64_t received;
    /* Client messages that nobody asked for: the host neither pulls events nor has a callback. */
    uint64_t events_dropped;
    /* Log lines dropped because the log callback was too slow. */
    uint64_t logs_dropped;
    /* Gauge: connections open now, of any kind. */
    uint64_t connections;
    /* Gauge: of these, WebSockets. */
    uint64_t websockets;
    /* Gauge: of these, SSE. */
    uint64_t sse;
    /* Gauge: of these, NDJSON streams. */
    uint64_t streams;
    /* Gauge: of these, polls waiting. */
    uint64_t polls;
    /* Gauge: channels that exist. */
    uint64_t channels;
    /* Gauge: subscriptions of connections to channels. */
    uint64_t subscriptions;
    /* Gauge: messages held in history. */
    uint64_t history_messages;
    /* Gauge: bytes held in history, with the bookkeeping. */
    uint64_t history_bytes;
    /* The newest message's number. */
    uint64_t seq;
    /* Messages that gave way to slow clients under slow_policy=drop-oldest, once for each client
       that did not get one. */
    uint64_t dropped;
    /* Messages that gave way to a newer one of their channel under slow_policy=latest, counted in
       the same way. */
    uint64_t replaced;
    /* Gauge: connections for which something waits to be written. */
    uint64_t outboxes;
    /* Gauge: bytes held for all clients that are behind, with the bookkeeping. */
    uint64_t outbox_bytes;
    /* Gauge: messages that wait for the library's threads. */
    uint64_t mailbox;
    /* Gauge: events that wait for the host, or for being passed on to attached ones. */
    uint64_t events_waiting;
    /* Gauge: hosts of other processes that are attached. */
    uint64_t hosts;
    /* Log lines left out because there were many of their kind. */
    uint64_t logs_suppressed;
    /* Gauge: 1 while clients are being sent away, and after. */
    uint64_t draining;
    /* What attached hosts asked for and the hub could not do, though their call may have said
       PUSH_OK; the hub's log says why. */
    uint64_t undone;
} push_stats;

/* A message to publish.  Start from PUSH_MESSAGE_INIT. */
typedef struct {
    /* sizeof(push_message), as the host was compiled. */
    size_t size;
    /* The channel: 1 to 255 bytes of UTF-8 without control characters, the last of them not "*".
       push_broadcast ignores it. */
    const char *channel;
    /* The payload; copied. */
    const void *data;
    /* The payload's length in bytes, at most the option `max_message`. */
    size_t len;
    /* The event type (SSE's `event:`), or NULL.  At most 127 bytes, no control characters, not
       starting with "push-". */
    const char *event;
    /* The idempotency key, or NULL, at most 255 bytes.  Publishing a key again in the same channel
       within the option `key_window` publishes nothing and answers with the first position.  The
       latest 100,000 keys are remembered. */
    const char *key;
    /* PUSH_MESSAGE_ flags. */
    uint32_t flags;
    /* Must be 0. */
    uint32_t reserved;
} push_message;

/* A place in the hub's sequence of messages. */
typedef struct {
    /* The message's number in this life of the hub. */
    uint64_t seq;
    /* The same as clients see it: `EPOCH-SEQ`, ending in NUL. */
    char text[56];
} push_position;

/* What the host allows a connection that it hands over.  Start from PUSH_GRANT_INIT. */
typedef struct {
    /* sizeof(push_grant), as the host was compiled. */
    size_t size;
    /* Who the client is, or NULL.  At most 255 bytes. */
    const char *user;
    /* The channels that the client may have, by their names.  Names only: what a client says may
       become a part of one.  One that ends in "*" is PUSH_ERR_INVALID. */
    const char *const *channels;
    /* How many `channels` there are: with the `patterns` at most 1000.  With neither the client
       may have none. */
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
} push_grant;

/* One of a channel's users.  Never grows: an array of them is read by its size. */
typedef struct {
    /* Who it is, as granted, ending in NUL. */
    const char *name;
    /* Connections that this user has on the channel. */
    uint64_t connections;
} push_user;

/* Who is on a channel: some of its users, and counts of all.  Start from PUSH_USERS_INIT; end with
   push_users_clear. */
typedef struct {
    /* sizeof(push_users), as the host was compiled. */
    size_t size;
    /* The users by name, in the order of its bytes. */
    const push_user *users;
    /* How many stand there. */
    size_t len;
    /* What to pass as `after` to get those that follow; NULL: there are none. */
    const char *next;
    /* How many users the channel has. */
    uint64_t count;
    /* How many connections are on it. */
    uint64_t connections;
    /* How many of these have no user. */
    uint64_t anonymous;
    /* The library's: what owns the pointers above. */
    void *owner;
} push_users;

/* The library's version, as "0.1.0".  Any thread; the string is the library's and stays. */
const char *push_version(void);

/* The PUSH_ABI_VERSION that the library was built with, for hosts that load it at run time. */
uint32_t push_abi_version(void);

/* A sentence for a status.  Any thread, any number; the string is the library's and stays. */
const char *push_strerror(push_status status);

/* A new set of options, all at their defaults.  NULL only when memory is out.  Free it with
   push_config_free. */
push_config *push_config_new(void);

/* Sets an option by name and text, as in push_config_set(c, "history_age", "5m", err, sizeof err).

   PUSH_ERR_CONFIG: the name is unknown or the value not allowed; `err` (may be NULL) gets a
   sentence that names the option, the value and what is allowed, always ending in NUL, cut where
   it is too long.

   # Safety
   `config` comes from push_config_new; the strings end in NUL; `err` has `err_len` bytes. */
push_status push_config_set(push_config *config,
                            const char *name,
                            const char *value,
                            char *err,
                            size_t err_len);

/* Sets the options that a TOML file names: `name = value` lines, and a `[channel."news.*"]` table
   for the channels whose name fits.  Nothing is changed when anything in the file is wrong.

   PUSH_ERR_SYSTEM: the file can't be read.  PUSH_ERR_CONFIG: it is not TOML, or an option is
   wrong.

   # Safety
   As for push_config_set. */
push_status push_config_load(push_config *config, const char *toml_path, char *err, size_t err_len);

/* Sends the library's log to a function.  Without one the library is silent.  NULL removes it.

   `user_data` is passed to every call; `free_user_data` (may be NULL) is called once, when neither
   this config nor a server started from it needs it any more.

   # Safety
   `config` comes from push_config_new; the functions may be called from a thread of the library. */
void push_config_on_log(push_config *config,
                        push_log_fn callback,
                        void *user_data,
                        push_free_fn free_user_data);

/* Sends events to a function instead of the queue that push_next_event reads.  NULL removes it.

   # Safety
   As for push_config_on_log. */
void push_config_on_event(push_config *config,
                          push_event_fn callback,
                          void *user_data,
                          push_free_fn free_user_data);

/* Frees a config.  Servers started from it go on.  NULL does nothing.

   # Safety
   `config` comes from push_config_new and is not used again. */
void push_config_free(push_config *config);

/* Starts a server.  `config` may be NULL: then a listener on 127.0.0.1:8090 and history in memory.

   Listeners are bound when it returns, so a port in use is reported here: PUSH_ERR_SYSTEM, with a
   sentence in `err` (may be NULL).  The config is copied; it can be changed or freed afterwards.
   On success `*out` is the server, to be ended with push_stop.

   With the option `attach` the hub is another process (pushd, or a server with `attach_listen`). A
   hub that is not there yet is no error: what is published waits for it.  One that refuses this
   host is: PUSH_ERR_SYSTEM.

   # Safety
   `config` is NULL or comes from push_config_new; `out` can be written; `err` has `err_len` bytes. */
push_status push_start(const push_config *config, push_server **out, char *err, size_t err_len);

/* Gives a running server other options: those of `config` that can change while it runs (the
   column "live" of the table of options).  All or none.  Options that only a new start can change
   stay as they are, and the log names them, as it does those that have changed.  Files with keys
   are read again, so that keys can be rotated.  The config's callbacks are not looked at; it is
   copied, and can be changed or freed afterwards.

   The options are those of `config` as a whole, defaults where it says nothing: load the same file
   again, and set what was set.  What has begun (a timeout that runs, a connection let in) goes on
   as it was.

   PUSH_ERR_CONFIG, PUSH_ERR_SYSTEM: they can't be applied; nothing has changed, and `err` (may be
   NULL) says what is wrong.

   # Safety
   As for push_start; `config` may not be NULL. */
push_status push_reload(push_server *server, const push_config *config, char *err, size_t err_len);

/* Begins to send the clients away, and returns.  New connections are refused, what was published
   is delivered, and subscribers are told to come back later (WebSocket 1001, SSE and stream an
   event, polls an answer), each with a delay of its own: evenly over `drain_ms`, so that they do
   not come back all at once.  A `drain_ms` of 100 or less tells all at once; of a few clients none
   waits more than 50 ms for the one before it.  What is left after `drain_ms` is cut off.

   PUSH_EVENT_DRAIN comes at once, PUSH_EVENT_DRAINED when no client is left.  Until push_stop
   everything else goes on: what is published reaches those who are still there, and is kept.
   Called again it sets a new end.  A drain can't be taken back.  From a callback it is allowed.

   PUSH_ERR_UNSUPPORTED: the server is attached, its clients are the hub's. */
push_status push_drain(push_server *server, uint32_t drain_ms);

/* Ends a server: sends the clients away as push_drain does, if that was not done before, and ends
   when they are gone, at the latest `drain_ms` after the call.  The control API answers until
   then, and attached hosts stay.  Attached itself, it sends what waits for the hub within
   `drain_ms`; the connections handed over stay with the hub.

   When it returns PUSH_OK, no thread of the server runs and no callback comes any more; the last
   event of a callback is PUSH_EVENT_DRAINED.  Events not yet pulled are gone: who pulls and wants to
   see the end calls push_drain first.  Later calls answer PUSH_ERR_CLOSED, as does a second
   push_stop.  From a callback: PUSH_ERR_CALLBACK, and nothing is done.

   PUSH_ERR_TIMEOUT: the server has ended, but a callback (or a push_free_fn) has not returned.  It had
   `drain_ms`, and a second at least after everything else had ended.  No other callback begins any
   more: the events and log lines that still wait are dropped.  The thread of the callback keeps the
   user data until the callback returns, then lets go of it and ends.  Until then do not free what
   the callback uses yourself, and do not unload the library (dlclose).  Another push_stop waits up
   to `drain_ms` for that: PUSH_OK, after which it answers PUSH_ERR_CLOSED, or PUSH_ERR_TIMEOUT again.

   A callback that needs the calling thread, as functions of Node do (koffi), can't return before
   push_stop does: call push_stop on another thread (koffi's `.async`), or again after a turn of the
   event loop.

   Calls that other threads are inside of return first.  Only those of an attached server can take
   long: at most the option attach_timeout, which then comes on top of `drain_ms`. */
push_status push_stop(push_server *server,
                      uint32_t drain_ms);

/* Where listener number `index` (from 0, in the order of the options `listen`, `control`,
   `attach_listen`) can be reached: "127.0.0.1:8090" or "unix:/run/push.sock", ending in NUL.
   PUSH_ERR_NOT_FOUND: there is no such listener; PUSH_ERR_TOO_LARGE: `size` bytes are not enough
   (128 always are).

   # Safety
   `out` has `size` bytes. */
push_status push_listen_address(push_server *server, uint32_t index, char *out, size_t size);

/* Copies the counters into `*out`; `out_size` is sizeof(push_stats), as the host was compiled.
   What a newer host knows and this library does not is zero.

   # Safety
   `out` has `out_size` bytes. */
push_status push_stats_get(push_server *server, push_stats *out, size_t out_size);

/* Publishes `len` bytes to a channel.  Text if it is UTF-8, else binary.  `len` may be 0; then
   `data` is not looked at.  Never waits for a client.

   PUSH_ERR_INVALID: the channel is empty, longer than 255 bytes, not UTF-8, ends in "*", or has
   control characters.  PUSH_ERR_TOO_LARGE: more than the option `max_message`.  PUSH_ERR_BUSY: a
   queue is full, nothing was done.  PUSH_ERR_SYSTEM: the log (option `engine`) can't be written,
   nothing was done.

   Attached (option `attach`), PUSH_OK says that the message is on its way: in the order of the
   calls, once, also when the hub is away for a while.  PUSH_ERR_BUSY: the option `attach_buffer`
   is full.

   # Safety
   `channel` ends in NUL; `data` has `len` bytes. */
push_status push_publish(push_server *server, const char *channel, const void *data, size_t len);

/* Publishes one message with all that a message can have.  `out` (may be NULL) gets its position.

   Attached, a call with `out` waits for the hub's answer, at most for the option `attach_timeout`,
   and not at all for a hub that has been away for longer.  PUSH_ERR_BUSY: nothing was done.
   PUSH_ERR_TIMEOUT: it may have been published, or will be; with a `key` it is safe to call again.
   Without `out` it does not wait, as push_publish.  The same goes for batches and broadcasts.

   # Safety
   `message` and what it points to can be read; `out` is NULL or can be written. */
push_status push_publish_message(push_server *server,
                                 const push_message *message,
                                 push_position *out);

/* Publishes `count` messages at once: all or, on any error, none; subscribers see them one after
   the other with nothing between.  All have the same `size`.  `out` (may be NULL) gets `count`
   positions.  At most 8192; PUSH_ERR_TOO_LARGE: more than the option `mailbox` could ever hold.
   Attached and without `out`, the hub's `mailbox` is the most that a batch may have.

   # Safety
   `messages` has `count` messages; `out` is NULL or has room for `count` positions. */
push_status push_publish_batch(push_server *server,
                               const push_message *messages,
                               size_t count,
                               push_position *out);

/* Publishes to every connection, whatever its channels.  `message->channel` is ignored and may be
   NULL; in the JSON form it arrives as type "broadcast".  It is kept like a channel's message, so
   that a client that was away gets it on its return.  `out` may be NULL.

   # Safety
   As for push_publish_message. */
push_status push_broadcast(push_server *server, const push_message *message, push_position *out);

/* What PUSH_GRANT_ALL stands for: a grant of every channel, to subscribe only, for a client without
   a name and without an end.  Any thread; it is the library's and stays as it is. */
const push_grant *push_grant_all(void);

/* Hands over a client connection that the host has accepted.

   `fd` is a connected stream socket (TCP or Unix), blocking or not.  `head` is what the host has
   already read of the request, from its first byte; it may be incomplete (the library reads on) or
   empty.  `grant` says what the client may do; PUSH_GRANT_ALL lets it subscribe to whatever its
   request names.  NULL is PUSH_ERR_INVALID, unless the option `auth` was set to `none`, which says
   that anybody may; it is not enough that this is the default.

   On PUSH_OK the descriptor is the library's: forget it, do not close it.  On any error it is
   still the host's, and untouched: PUSH_ERR_DESCRIPTOR (closed, a file, UDP, listening, not
   connected), PUSH_ERR_INVALID, PUSH_ERR_TOO_LARGE (more than 1 MB was read), PUSH_ERR_LIMIT,
   PUSH_ERR_BUSY.

   The library sets TCP_NODELAY on a TCP socket, and for a poll that waits for longer than
   `heartbeat` and `ping_timeout` also SO_KEEPALIVE with its times (TCP_KEEPIDLE, TCP_KEEPINTVL,
   TCP_KEEPCNT), whatever the host has set.

   If the request itself is bad, the client is told so over HTTP.  The call may serve it on this
   thread, while the library's sleeps.  That never blocks, but takes some microseconds more: up to
   a hundred while other threads publish much, and for a client that missed much as long as writing
   three times the option `outbox` to its socket.

   Attached (option `attach`), the connection goes to the hub's process and outlives this one.
   PUSH_OK says that it is on its way; a hub that has no room answers the client with 503.
   PUSH_ERR_BUSY: the hub is away, or too many wait.

   # Safety
   `head` has `head_len` bytes; `grant` is NULL or can be read, with all it points to. */
push_status push_adopt(push_server *server,
                       int fd,
                       const void *head,
                       size_t head_len,
                       const push_grant *grant);

/* As push_adopt, for a connection that others follow at once: attached, it may wait for them, so
   that many share one system call.  After the last of a turn of the host's loop call push_flush.
   With the hub in this process it is push_adopt.

   Whether there is room for it is known at once: statuses, and whose the descriptor is then, are
   those of push_adopt.

   # Safety
   As for push_adopt. */
push_status push_adopt_more(push_server *server,
                            int fd,
                            const void *head,
                            size_t head_len,
                            const push_grant *grant);

/* Sends the connections that push_adopt_more has left waiting.  Never waits itself; without any it
   costs a lock. */
push_status push_flush(push_server *server);

/* Sends `len` bytes to one WebSocket, apart from all channels: as one frame, text or
   (PUSH_SEND_BINARY) binary; with subprotocol push.v1.json as `{"type":"message","data":…}`.  SSE
   and stream connections get it as a message without a position; a poll can't get it.

   PUSH_ERR_NOT_FOUND: the connection is gone, as far as this thread can know; it may also go
   before the bytes do.  PUSH_ERR_INVALID: text that is not UTF-8, or unknown flags.
   PUSH_ERR_BUSY: its thread's queue is full.

   Attached, this and the calls below say PUSH_OK when they are on their way; whether there is such
   a connection only the hub knows.

   # Safety
   `data` has `len` bytes. */
push_status push_send(push_server *server,
                      push_connection connection,
                      const void *data,
                      size_t len,
                      uint32_t flags);

/* Says yes to PUSH_EVENT_REQUEST (option auth=host): the client may do what `grant` says, as with
   push_adopt; NULL is PUSH_ERR_INVALID.  `grant` is copied.

   PUSH_ERR_NOT_FOUND: `request` is not the number of a request.  An answer to one that was
   answered, or whose client has gone or was refused after the option `auth_timeout`, changes
   nothing.

   # Safety
   `grant` can be read, with all it points to. */
push_status push_allow(push_server *server, push_request request, const push_grant *grant);

/* Says no to PUSH_EVENT_REQUEST: the client gets `status` (401, 403, 429 or 503) with `reason`
   (NULL, or at most 255 bytes) as its message.  Errors as for push_allow.

   # Safety
   `reason` is NULL or ends in NUL. */
push_status push_deny(push_server *server,
                      push_request request,
                      uint16_t status,
                      const char *reason);

/* Closes one connection.  WebSocket: a close frame with `code` (1000, 1001, 1008, 1009, 1011 to
   1013, or 3000 to 4999) and `reason` (NULL, or at most 123 bytes); SSE and stream: an event
   push-close with both; a waiting poll is answered, with 403 for 1008 and 4403, else without
   messages, and ended.

   # Safety
   `reason` is NULL or ends in NUL. */
push_status push_close(push_server *server,
                       push_connection connection,
                       uint16_t code,
                       const char *reason);

/* Closes every connection that was granted to `user`, with 4403 or another code as for push_close.
   Each thread looks for them in its next turn.  Their clients may come back with new credentials,
   or with a token that is still valid.

   # Safety
   `user` ends in NUL; `reason` is NULL or ends in NUL. */
push_status push_disconnect_user(push_server *server,
                                 const char *user,
                                 uint16_t code,
                                 const char *reason);

/* Takes `channel` (a name, or a prefix ending in "*") from every connection that was granted to
   `user`, at once: they get nothing more of it and can't subscribe to it again.  A client of
   subprotocol push.v1.json is told `unsubscribed` with `reason` (NULL, or at most 123 bytes); any
   other that has no channel left is closed with 4403, a waiting poll answered with 403.  New
   connections get what their own grant says.

   Names and prefixes come in one text here.  One that ends in what a client says may be a prefix,
   and then takes more than was meant, never less.

   # Safety
   `user` and `channel` end in NUL; `reason` is NULL or ends in NUL. */
push_status push_revoke_channel(push_server *server,
                                const char *user,
                                const char *channel,
                                const char *reason);

/* Gives one connection another grant, in place of the one it has: a session was prolonged, a user
   has logged in, rights have changed.  It goes on until the new grant ends; subscriptions that
   this does not allow end as with push_revoke_channel.  `grant` is copied.

   PUSH_ERR_NOT_FOUND: the connection is gone.

   # Safety
   `grant` can be read, with all it points to. */
push_status push_renew(push_server *server, push_connection connection, const push_grant *grant);

/* A descriptor that is readable while events wait, for poll, epoll or kqueue.  Only watch it: do
   not read or close it; it ends with push_stop.  -1: the handle is not a server, or events go to a
   callback.

   The first call of this or of push_next_event turns events on; what clients send before that is
   dropped.  The option `events` says which kinds; where it changes while clients are connected,
   some may close whose opening was not told. */
int push_event_fd(push_server *server);

/* Takes the next event.  `timeout_ms`: 0 does not wait, -1 waits for ever; PUSH_ERR_TIMEOUT when
   none came.

   Start from `push_event event = PUSH_EVENT_INIT;` and pass the same struct again and again: its
   pointers stay valid until it is passed again or cleared, whatever other threads do.  Finally
   call push_event_clear.  `out_size` is sizeof(push_event).  A push_stop on another thread ends
   the wait with PUSH_ERR_CLOSED.

   While nobody takes events the library stops reading from the clients that cause them; nothing is
   lost.

   # Safety
   `out` has `out_size` bytes and was initialized, or comes from an earlier call. */
push_status push_next_event(push_server *server, push_event *out, size_t out_size, int timeout_ms);

/* Frees what an event points to and empties it.  NULL or an empty event: nothing.  Also after
   push_stop.

   # Safety
   `event` was initialized, or filled by push_next_event. */
void push_event_clear(push_event *event);

/* Tells who is on a channel: how many, and a page of its users by name.  The page begins after the
   name `after` (NULL: with the first user) and has at most `limit` users (up to 10000; with 0 there
   are only the counts).

   Start from `push_users page = PUSH_USERS_INIT;` and pass the same struct again and again, with
   `page.next` as `after`, until `page.next` is NULL.  The page's pointers stay valid until it is
   passed again or cleared, whatever other threads do.  On an error it stays as it was.  Finally
   call push_users_clear.  `out_size` is sizeof(push_users).

   A client that is still being sent what it missed, or is between two polls, is not counted.  A
   user who comes or goes between two pages may be missing; one who stays is listed once.  A channel
   that nobody is on is no error: its counts are 0.

   Each page counts the whole channel, so take large pages of a large channel: 16,000 users take
   some 2 ms, part of it on the library's threads.  The call waits for these threads, each of which
   finishes first what it is doing.  From a callback it is allowed.

   PUSH_ERR_INVALID: the channel's name, `after` or `limit` is not allowed.

   Attached, the call asks the hub, and counts all of its clients, whichever host handed them over.
   PUSH_ERR_BUSY: the hub is away.  PUSH_ERR_TIMEOUT: no answer within the option `attach_timeout`.
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

/* Frees what a page points to and empties it.  NULL or an empty page: nothing.  Also after
   push_stop.

   # Safety
   `users` was initialized, or filled by push_users_get. */
void push_users_clear(push_users *users);

#ifdef __cplusplus
}
#endif

/* Initializers: the size, by which an older host and a newer library understand each other, and
   zeros. */
#define PUSH_MESSAGE_INIT {sizeof(push_message), 0, 0, 0, 0, 0, 0, 0}
#define PUSH_GRANT_INIT {sizeof(push_grant), 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_EVENT_INIT {sizeof(push_event), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define PUSH_USERS_INIT {sizeof(push_users), 0, 0, 0, 0, 0, 0, 0}
#define PUSH_STATS_INIT {sizeof(push_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,\
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* For push_adopt and push_allow, in place of a grant of your own: every channel. */
#define PUSH_GRANT_ALL (push_grant_all())

#endif /* PUSH_H */
