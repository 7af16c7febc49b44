/* The functions that Go calls: push.h without nested pointers, so that no call gives C a Go pointer to a Go pointer. No
 * function here calls into Go. A server is passed as the number of its ticket. */
#ifndef PUSHGO_SHIM_H
#define PUSHGO_SHIM_H

#include <push.h>
#include <stddef.h>
#include <stdint.h>

/* One message of a batch. Channel, event, key, trace and except, each ending in NUL, and the payload lie one after the
 * other in the batch's bytes. A part of length 0 is not there. A message without a channel has the channel of the one
 * before. */
typedef struct {
    uint32_t channel_len, event_len, key_len, trace_len, except_len, data_len;
    uint32_t flags;
} pushgo_entry;

/* An event whose user, channel, event type, key and payload lie in this order in the batch's bytes. */
typedef struct {
    uint64_t connection, request;
    size_t user_len, channel_len, event_len, key_len, data_len;
    uint32_t kind, flags, code;
} pushgo_event;

/* Between two pulls: the event that did not fit. */
typedef struct pushgo_queue pushgo_queue;

/* Settings are `count` pairs of name and value, each ending in NUL. The function owns `log_fd` in any case (-1: no
 * log). It gets a packet for each line up to `log_level`: a byte with the level, then the text. */
push_status pushgo_start(const char *file, const char *settings, size_t count, int log_fd, int32_t log_level,
                         uintptr_t *out, char *err, size_t err_len);
/* New options for a running server. Its log stays as it is. */
push_status pushgo_reload(uintptr_t server, const char *file, const char *settings, size_t count, char *err,
                          size_t err_len);
push_status pushgo_drain(uintptr_t server, uint32_t drain_ms);
push_status pushgo_stop(uintptr_t server, uint32_t drain_ms);
push_status pushgo_listen_address(uintptr_t server, uint32_t index, char *out, size_t size);
push_status pushgo_stats(uintptr_t server, push_stats *out);
/* The page is C's memory, until push_users_clear. */
push_status pushgo_users(uintptr_t server, const char *channel, const char *after, size_t limit, push_users *out);

push_status pushgo_publish(uintptr_t server, const char *channel, const char *data, size_t len);
/* Empty strings stand for NULL. An empty channel means a broadcast. */
push_status pushgo_publish_message(uintptr_t server, const char *channel, const char *data, size_t len,
                                   const char *event, const char *key, const char *trace, const char *except,
                                   uint32_t flags, push_position *out);
/* The same to a user. */
push_status pushgo_publish_user(uintptr_t server, const char *user, const char *data, size_t len, const char *event,
                                const char *key, const char *trace, const char *except, uint32_t flags,
                                push_position *out);
push_status pushgo_publish_batch(uintptr_t server, const char *bytes, const pushgo_entry *entries, size_t count,
                                 push_position *out);

/* Begins the stream of a channel, or ends it. */
push_status pushgo_mark(uintptr_t server, const char *channel, int end, push_position *out);

/* A grant without its texts. These stand in `names`: the user and the info (empty: none), and the channels of each list in
 * the order of the counts, each ending in NUL. */
typedef struct {
    size_t subscribe, channels, patterns, publish_channels, publish_patterns;
    int64_t expires_at;
    uint32_t flags;
} pushgo_terms;

/* With `duplicate` a copy of the descriptor is handed over, and `fd` stays the caller's in any case. */
push_status pushgo_adopt(uintptr_t server, int fd, int duplicate, const char *head, size_t head_len, const char *names,
                         pushgo_terms terms);
push_status pushgo_allow(uintptr_t server, uint64_t request, const char *names, pushgo_terms terms);
push_status pushgo_deny(uintptr_t server, uint64_t request, uint16_t status, const char *reason);
push_status pushgo_answer(uintptr_t server, uint64_t request, const char *data, size_t len, uint32_t flags);
/* With `replace` the payload, and the event type unless it is empty, are published in place of the client's. */
push_status pushgo_allow_publish(uintptr_t server, uint64_t request, int replace, const char *data, size_t len,
                                 const char *event, uint32_t flags);
/* Words are the code and the message, each ending in NUL; without length they are the library's. */
push_status pushgo_refusal(uintptr_t server, int32_t why, const char *words, size_t words_len, const char *head,
                           size_t head_len, char *out, size_t out_size, size_t *out_len);
push_status pushgo_send(uintptr_t server, uint64_t connection, const char *data, size_t len, uint32_t flags);
push_status pushgo_close(uintptr_t server, uint64_t connection, uint16_t code, const char *reason);
push_status pushgo_disconnect_user(uintptr_t server, const char *user, uint16_t code, const char *reason);
push_status pushgo_revoke_channel(uintptr_t server, const char *user, const char *channel, const char *reason);
push_status pushgo_renew(uintptr_t server, uint64_t connection, const char *names, pushgo_terms terms);

/* Turns events on. Returns a duplicate of the event descriptor, which the caller closes; -1: there is none. */
int pushgo_event_fd(uintptr_t server);
pushgo_queue *pushgo_queue_new(void);
void pushgo_queue_free(pushgo_queue *queue);
/* Takes the events that are there, up to `max` events and `room` bytes, and does not wait. Returns how many; 0: there
 * are none or, if `needed` is not 0, the next one needs that many bytes; negative: a status. */
int32_t pushgo_next_events(uintptr_t server, pushgo_queue *queue, pushgo_event *events, size_t max, char *bytes,
                           size_t room, size_t *needed);

#endif
