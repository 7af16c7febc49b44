#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

/* Arrays of this length are on the stack. Most batches and grants have fewer entries. */
enum { FEW = 128, LONGEST_LINE = 4096 };

static push_server *ticket(uintptr_t server)
{
    return (push_server *)server;
}

static const char *or_null(const char *text)
{
    return text && *text ? text : NULL;
}

/* ---- log ---- */

struct log_sink {
    int fd;
    int32_t level;
};

/* Runs on the library's callback thread. A packet that does not go out within the socket's time limit is lost. The
 * thread goes on, since push_stop waits for it. */
static void on_log(void *user_data, int32_t level, const char *line)
{
    struct log_sink *sink = user_data;
    if (level > sink->level) return;
    char head = (char)level;
    struct iovec parts[2] = {{&head, 1}, {(void *)line, strnlen(line, LONGEST_LINE)}};
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
    (void)!sendmsg(sink->fd, &packet, MSG_NOSIGNAL);
}

static void free_log(void *user_data)
{
    struct log_sink *sink = user_data;
    close(sink->fd); /* Go reads the end of the log there. */
    free(sink);
}

static push_status log_to(push_config *config, int fd, int32_t level)
{
    struct timeval limit = {.tv_usec = 200000};
    struct log_sink *sink = malloc(sizeof *sink);
    if (!sink) return PUSH_ERR_SYSTEM;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    *sink = (struct log_sink){fd, level};
    push_config_on_log(config, on_log, sink, free_log);
    return PUSH_OK;
}

/* ---- start, reload and stop ---- */

static push_status configure(push_config *config, const char *file, const char *settings, size_t count, char *err,
                             size_t err_len)
{
    push_status status = push_config_set(config, "listen", "none", err, err_len);
    if (status == PUSH_OK && or_null(file)) status = push_config_load(config, file, err, err_len);
    for (; status == PUSH_OK && count > 0; count--) {
        const char *value = settings + strlen(settings) + 1;
        status = push_config_set(config, settings, value, err, err_len);
        settings = value + strlen(value) + 1;
    }
    return status;
}

push_status pushgo_start(const char *file, const char *settings, size_t count, int log_fd, int32_t log_level,
                         uintptr_t *out, char *err, size_t err_len)
{
    push_server *server = NULL;
    push_config *config = NULL;
    push_status status = PUSH_OK;
    if (push_abi_version() != PUSH_ABI_VERSION) {
        snprintf(err, err_len, "the library %s has another ABI than the header: build the program again", push_version());
        status = PUSH_ERR_UNSUPPORTED;
    } else if (!(config = push_config_new())) {
        status = PUSH_ERR_SYSTEM;
    }
    if (log_fd >= 0) {
        if (status == PUSH_OK) status = log_to(config, log_fd, log_level);
        if (status != PUSH_OK) close(log_fd);
    }
    if (status == PUSH_OK) status = configure(config, file, settings, count, err, err_len);
    if (status == PUSH_OK) status = push_start(config, &server, err, err_len);
    push_config_free(config);
    if (status == PUSH_OK) *out = (uintptr_t)server;
    return status;
}

push_status pushgo_reload(uintptr_t server, const char *file, const char *settings, size_t count, char *err,
                          size_t err_len)
{
    push_config *config = push_config_new();
    if (!config) return PUSH_ERR_SYSTEM;
    push_status status = configure(config, file, settings, count, err, err_len);
    if (status == PUSH_OK) status = push_reload(ticket(server), config, err, err_len);
    push_config_free(config);
    return status;
}

push_status pushgo_drain(uintptr_t server, uint32_t drain_ms)
{
    return push_drain(ticket(server), drain_ms);
}

push_status pushgo_stop(uintptr_t server, uint32_t drain_ms)
{
    return push_stop(ticket(server), drain_ms);
}

push_status pushgo_listen_address(uintptr_t server, uint32_t index, char *out, size_t size)
{
    return push_listen_address(ticket(server), index, out, size);
}

push_status pushgo_stats(uintptr_t server, push_stats *out)
{
    return push_stats_get(ticket(server), out, sizeof *out);
}

push_status pushgo_users(uintptr_t server, const char *channel, const char *after, size_t limit, push_users *out)
{
    *out = (push_users)PUSH_USERS_INIT;
    return push_users_get(ticket(server), channel, after, limit, out, sizeof *out);
}

/* ---- publishing ---- */

push_status pushgo_publish(uintptr_t server, const char *channel, const char *data, size_t len)
{
    return push_publish(ticket(server), channel, data, len);
}

/* A message without its channel. */
static push_message message_of(const char *data, size_t len, const char *event, const char *key, const char *trace,
                               const char *except, uint32_t flags)
{
    push_message message = PUSH_MESSAGE_INIT;
    message.data = data;
    message.len = len;
    message.event = or_null(event);
    message.key = or_null(key);
    message.trace = or_null(trace);
    message.except = or_null(except);
    message.flags = flags;
    return message;
}

push_status pushgo_publish_message(uintptr_t server, const char *channel, const char *data, size_t len,
                                   const char *event, const char *key, const char *trace, const char *except,
                                   uint32_t flags, push_position *out)
{
    push_message message = message_of(data, len, event, key, trace, except, flags);
    message.channel = channel;
    if (!*channel) return push_broadcast(ticket(server), &message, out);
    return push_publish_message(ticket(server), &message, out);
}

push_status pushgo_publish_user(uintptr_t server, const char *user, const char *data, size_t len, const char *event,
                                const char *key, const char *trace, const char *except, uint32_t flags,
                                push_position *out)
{
    push_message message = message_of(data, len, event, key, trace, except, flags);
    return push_publish_user(ticket(server), user, &message, out);
}

/* Steps over a string of the batch. */
static const char *next_text(const char **bytes, uint32_t len)
{
    const char *text = *bytes;
    if (len == 0) return NULL;
    *bytes += len + 1;
    return text;
}

push_status pushgo_publish_batch(uintptr_t server, const char *bytes, const pushgo_entry *entries, size_t count,
                                 push_position *out)
{
    push_message few[FEW], *messages = few;
    const char *channel = NULL;
    if (count == 0) return PUSH_OK;
    if (count > FEW && !(messages = malloc(count * sizeof *messages))) return PUSH_ERR_SYSTEM;
    for (size_t i = 0; i < count; i++) {
        const pushgo_entry *entry = &entries[i];
        if (entry->channel_len > 0) channel = next_text(&bytes, entry->channel_len);
        messages[i] = (push_message)PUSH_MESSAGE_INIT;
        messages[i].channel = channel;
        messages[i].event = next_text(&bytes, entry->event_len);
        messages[i].key = next_text(&bytes, entry->key_len);
        messages[i].trace = next_text(&bytes, entry->trace_len);
        messages[i].except = next_text(&bytes, entry->except_len);
        messages[i].data = bytes;
        messages[i].len = entry->data_len;
        messages[i].flags = entry->flags;
        bytes += entry->data_len;
    }
    push_status status = push_publish_batch(ticket(server), messages, count, out);
    if (messages != few) free(messages);
    return status;
}

push_status pushgo_mark(uintptr_t server, const char *channel, int end, push_position *out)
{
    return end ? push_end(ticket(server), channel, out) : push_begin(ticket(server), channel, out);
}

/* ---- connections ---- */

/* A grant, and the array that its lists lie in, one after the other. */
struct grant {
    push_grant grant;
    const char *few[FEW], **channels;
};

static int fill_grant(struct grant *to, const char *names, pushgo_terms terms)
{
    size_t count = terms.subscribe + terms.channels + terms.patterns + terms.publish_channels + terms.publish_patterns;
    to->channels = to->few;
    if (count > FEW && !(to->channels = malloc(count * sizeof *to->channels))) return 0;
    to->grant = (push_grant)PUSH_GRANT_INIT;
    to->grant.user = or_null(names);
    names += strlen(names) + 1;
    to->grant.info = or_null(names);
    for (size_t i = 0; i < count; i++) to->channels[i] = names += strlen(names) + 1;
    to->grant.subscribe = to->channels;
    to->grant.subscribe_count = terms.subscribe;
    to->grant.channels = to->grant.subscribe + terms.subscribe;
    to->grant.channel_count = terms.channels;
    to->grant.patterns = to->grant.channels + terms.channels;
    to->grant.pattern_count = terms.patterns;
    to->grant.publish_channels = to->grant.patterns + terms.patterns;
    to->grant.publish_channel_count = terms.publish_channels;
    to->grant.publish_patterns = to->grant.publish_channels + terms.publish_channels;
    to->grant.publish_pattern_count = terms.publish_patterns;
    to->grant.expires_at = terms.expires_at;
    to->grant.flags = terms.flags;
    return 1;
}

static void free_grant(struct grant *grant)
{
    if (grant->channels != grant->few) free(grant->channels);
}

push_status pushgo_adopt(uintptr_t server, int fd, int duplicate, const char *head, size_t head_len, const char *names,
                         pushgo_terms terms)
{
    struct grant grant;
    push_status status = PUSH_ERR_SYSTEM;
    if (!fill_grant(&grant, names, terms)) return status;
    if (duplicate) fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) {
        status = push_adopt(ticket(server), fd, head, head_len, &grant.grant);
        if (duplicate && status != PUSH_OK) close(fd);
    }
    free_grant(&grant);
    return status;
}

/* Calls push_allow or push_renew: `number` is that of a request, or of a connection. */
static push_status with_grant(push_status (*call)(push_server *, uint64_t, const push_grant *), uintptr_t server,
                              uint64_t number, const char *names, pushgo_terms terms)
{
    struct grant grant;
    if (!fill_grant(&grant, names, terms)) return PUSH_ERR_SYSTEM;
    push_status status = call(ticket(server), number, &grant.grant);
    free_grant(&grant);
    return status;
}

push_status pushgo_allow(uintptr_t server, uint64_t request, const char *names, pushgo_terms terms)
{
    return with_grant(push_allow, server, request, names, terms);
}

push_status pushgo_deny(uintptr_t server, uint64_t request, uint16_t status, const char *reason)
{
    return push_deny(ticket(server), request, status, or_null(reason));
}

push_status pushgo_answer(uintptr_t server, uint64_t request, const char *data, size_t len, uint32_t flags)
{
    return push_answer(ticket(server), request, data, len, flags);
}

push_status pushgo_allow_publish(uintptr_t server, uint64_t request, int replace, const char *data, size_t len,
                                 const char *event, uint32_t flags)
{
    push_message instead = PUSH_MESSAGE_INIT;
    instead.data = data;
    instead.len = len;
    instead.event = or_null(event);
    instead.flags = flags;
    return push_allow_publish(ticket(server), request, replace ? &instead : NULL);
}

push_status pushgo_refusal(uintptr_t server, int32_t why, const char *words, size_t words_len, const char *head,
                           size_t head_len, char *out, size_t out_size, size_t *out_len)
{
    const char *code = words_len > 0 ? words : NULL;
    const char *message = code ? code + strlen(code) + 1 : NULL;
    return push_refusal(ticket(server), why, code, message, head, head_len, out, out_size, out_len);
}

push_status pushgo_send(uintptr_t server, uint64_t connection, const char *data, size_t len, uint32_t flags)
{
    return push_send(ticket(server), connection, data, len, flags);
}

push_status pushgo_close(uintptr_t server, uint64_t connection, uint16_t code, const char *reason)
{
    return push_close(ticket(server), connection, code, or_null(reason));
}

push_status pushgo_disconnect_user(uintptr_t server, const char *user, uint16_t code, const char *reason)
{
    return push_disconnect_user(ticket(server), user, code, or_null(reason));
}

push_status pushgo_revoke_channel(uintptr_t server, const char *user, const char *channel, const char *reason)
{
    return push_revoke_channel(ticket(server), user, channel, or_null(reason));
}

push_status pushgo_renew(uintptr_t server, uint64_t connection, const char *names, pushgo_terms terms)
{
    return with_grant(push_renew, server, connection, names, terms);
}

/* ---- events ---- */

struct pushgo_queue {
    push_event event;
    int held;
};

int pushgo_event_fd(uintptr_t server)
{
    int fd = push_event_fd(ticket(server));
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

pushgo_queue *pushgo_queue_new(void)
{
    pushgo_queue *queue = malloc(sizeof *queue);
    if (queue) *queue = (pushgo_queue){.event = PUSH_EVENT_INIT};
    return queue;
}

void pushgo_queue_free(pushgo_queue *queue)
{
    if (queue) push_event_clear(&queue->event);
    free(queue);
}

static size_t append(char *to, const void *from, size_t len)
{
    if (len > 0) memcpy(to, from, len);
    return len;
}

int32_t pushgo_next_events(uintptr_t server, pushgo_queue *queue, pushgo_event *events, size_t max, char *bytes,
                           size_t room, size_t *needed)
{
    size_t used = 0;
    int32_t count = 0;
    const push_event *event = &queue->event;
    for (*needed = 0; (size_t)count < max; count++) {
        if (!queue->held) {
            push_status status = push_next_event(ticket(server), &queue->event, sizeof queue->event, 0);
            if (status == PUSH_ERR_TIMEOUT) return count;
            /* Events that were taken before are returned first. The status comes again. */
            if (status != PUSH_OK) return count > 0 ? count : status;
            queue->held = 1;
        }
        pushgo_event *to = &events[count];
        *to = (pushgo_event){.connection = event->connection, .request = event->request, .kind = event->kind,
                             .flags = event->flags, .code = event->code};
        to->user_len = event->user ? strlen(event->user) : 0;
        to->channel_len = event->channel ? strlen(event->channel) : 0;
        to->event_len = event->event ? strlen(event->event) : 0;
        to->key_len = event->key ? strlen(event->key) : 0;
        to->data_len = event->len;
        size_t size = to->user_len + to->channel_len + to->event_len + to->key_len + to->data_len;
        if (size > room - used) {
            if (count == 0) *needed = size;
            return count;
        }
        used += append(bytes + used, event->user, to->user_len);
        used += append(bytes + used, event->channel, to->channel_len);
        used += append(bytes + used, event->event, to->event_len);
        used += append(bytes + used, event->key, to->key_len);
        used += append(bytes + used, event->data, to->data_len);
        queue->held = 0;
    }
    return count;
}
