/* push.h for parsers without a preprocessor: PHP's FFI::cdef, LuaJIT's ffi.cdef, cffi's FFI.cdef.
   Generated; push.h says what everything is for.  SPDX-License-Identifier: MIT OR Apache-2.0

   The PUSH_..._INIT macros are not here: let all of the struct be zero, as these three do, and set
   its `size` to sizeof of it.  PUSH_GRANT_ALL is push_grant_all(). */

enum {
    PUSH_ABI_VERSION = 0,
    PUSH_OK = 0,
    PUSH_ERR_INVALID = -1,
    PUSH_ERR_CONFIG = -2,
    PUSH_ERR_TOO_LARGE = -3,
    PUSH_ERR_BUSY = -4,
    PUSH_ERR_NOT_FOUND = -5,
    PUSH_ERR_CLOSED = -6,
    PUSH_ERR_TIMEOUT = -7,
    PUSH_ERR_DESCRIPTOR = -8,
    PUSH_ERR_FORKED = -9,
    PUSH_ERR_CALLBACK = -10,
    PUSH_ERR_SYSTEM = -11,
    PUSH_ERR_INTERNAL = -12,
    PUSH_ERR_UNSUPPORTED = -13,
    PUSH_ERR_LIMIT = -14,
    PUSH_MESSAGE_BINARY = 1,
    PUSH_SEND_BINARY = 1,
    PUSH_REFUSAL_MAX = 8192,
    PUSH_GRANT_PUBLISH = 1,
    PUSH_GRANT_KEEP_ALIVE = 2,
    PUSH_LOG_ERROR = 1,
    PUSH_LOG_WARN = 2,
    PUSH_LOG_INFO = 3,
    PUSH_LOG_DEBUG = 4,
    PUSH_EVENT_OPEN = 1,
    PUSH_EVENT_MESSAGE = 2,
    PUSH_EVENT_CLOSE = 3,
    PUSH_EVENT_REQUEST = 4,
    PUSH_EVENT_DRAIN = 5,
    PUSH_EVENT_DRAINED = 6,
    PUSH_EVENT_SUBSCRIBE = 7,
    PUSH_EVENT_UNSUBSCRIBE = 8,
    PUSH_EVENT_CALL = 9,
    PUSH_EVENT_PUBLISH = 10,
    PUSH_EVENT_BINARY = 1
};

typedef struct push_config push_config;

typedef struct push_server push_server;

typedef int32_t push_status;

typedef void (*push_log_fn)(void *user_data, int32_t level, const char *line);

typedef void (*push_free_fn)(void *user_data);

typedef uint64_t push_connection;

typedef uint64_t push_request;

typedef struct {
    size_t size;
    uint32_t kind;
    uint32_t flags;
    push_connection connection;
    push_request request;
    const char *user;
    const char *channel;
    const void *data;
    size_t len;
    uint32_t code;
    uint32_t reserved;
    void *owner;
    const char *event;
    const char *key;
} push_event;

typedef void (*push_event_fn)(void *user_data, const push_event *event);

typedef struct {
    size_t size;
    uint64_t published;
    uint64_t duplicates;
    uint64_t busy;
    uint64_t deliveries;
    uint64_t bytes_sent;
    uint64_t accepted;
    uint64_t adopted;
    uint64_t refused;
    uint64_t slow_closed;
    uint64_t gaps;
    uint64_t received;
    uint64_t events_dropped;
    uint64_t logs_dropped;
    uint64_t connections;
    uint64_t websockets;
    uint64_t sse;
    uint64_t streams;
    uint64_t polls;
    uint64_t channels;
    uint64_t subscriptions;
    uint64_t history_messages;
    uint64_t history_bytes;
    uint64_t seq;
    uint64_t dropped;
    uint64_t replaced;
    uint64_t outboxes;
    uint64_t outbox_bytes;
    uint64_t mailbox;
    uint64_t events_waiting;
    uint64_t hosts;
    uint64_t logs_suppressed;
    uint64_t draining;
    uint64_t undone;
    uint64_t inbox_bytes;
    uint64_t ended_channels;
    uint64_t calls;
    uint64_t calls_given_up;
    uint64_t calls_waiting;
    uint64_t publish_checks;
    uint64_t publish_checks_given_up;
    uint64_t publish_checks_waiting;
    uint64_t patterns;
    uint64_t presence_members;
    uint64_t presence_bytes;
    uint64_t presence_refused;
} push_stats;

typedef struct {
    size_t size;
    const char *channel;
    const void *data;
    size_t len;
    const char *event;
    const char *key;
    uint32_t flags;
    uint32_t reserved;
    const char *trace;
    const char *except;
} push_message;

typedef struct {
    uint64_t seq;
    char text[56];
} push_position;

typedef struct {
    size_t size;
    const char *user;
    const char *const *channels;
    size_t channel_count;
    int64_t expires_at;
    uint32_t flags;
    uint32_t reserved;
    const char *const *patterns;
    size_t pattern_count;
    const char *const *subscribe;
    size_t subscribe_count;
    const char *const *publish_channels;
    size_t publish_channel_count;
    const char *const *publish_patterns;
    size_t publish_pattern_count;
    const char *info;
} push_grant;

typedef struct {
    size_t size;
    int32_t level;
    uint32_t reserved;
    int64_t time_ms;
    const char *text;
    size_t len;
    void *owner;
} push_log_line;

typedef struct {
    const char *name;
    uint64_t connections;
} push_user;

typedef struct {
    size_t size;
    const push_user *users;
    size_t len;
    const char *next;
    uint64_t count;
    uint64_t connections;
    uint64_t anonymous;
    void *owner;
    uint64_t hubs;
    uint64_t hubs_answered;
    const char *hubs_missing;
    const char *partial;
} push_users;

const char *push_version(void);

uint32_t push_abi_version(void);

const char *push_strerror(push_status status);

size_t push_last_error(char *buffer, size_t size);

push_config *push_config_new(void);

push_status push_config_set(push_config *config,
                            const char *name,
                            const char *value,
                            char *err,
                            size_t err_len);

push_status push_config_load(push_config *config, const char *toml_path, char *err, size_t err_len);

void push_config_on_log(push_config *config,
                        push_log_fn callback,
                        void *user_data,
                        push_free_fn free_user_data);

void push_config_on_event(push_config *config,
                          push_event_fn callback,
                          void *user_data,
                          push_free_fn free_user_data);

void push_config_free(push_config *config);

push_status push_start(const push_config *config, push_server **out, char *err, size_t err_len);

push_status push_reload(push_server *server, const push_config *config, char *err, size_t err_len);

push_status push_drain(push_server *server, uint32_t drain_ms);

push_status push_stop(push_server *server, uint32_t drain_ms);

push_status push_listen_address(push_server *server, uint32_t index, char *out, size_t size);

push_status push_stats_get(push_server *server, push_stats *out, size_t out_size);

push_status push_publish(push_server *server, const char *channel, const void *data, size_t len);

push_status push_publish_message(push_server *server,
                                 const push_message *message,
                                 push_position *out);

push_status push_publish_batch(push_server *server,
                               const push_message *messages,
                               size_t count,
                               push_position *out);

push_status push_broadcast(push_server *server, const push_message *message, push_position *out);

push_status push_publish_user(push_server *server,
                              const char *user,
                              const push_message *message,
                              push_position *out);

push_status push_end(push_server *server, const char *channel, push_position *out);

push_status push_begin(push_server *server, const char *channel, push_position *out);

const push_grant *push_grant_all(void);

push_status push_adopt(push_server *server,
                       int fd,
                       const void *head,
                       size_t head_len,
                       const push_grant *grant);

push_status push_adopt_more(push_server *server,
                            int fd,
                            const void *head,
                            size_t head_len,
                            const push_grant *grant);

push_status push_flush(push_server *server);

push_status push_send(push_server *server,
                      push_connection connection,
                      const void *data,
                      size_t len,
                      uint32_t flags);

push_status push_close(push_server *server,
                       push_connection connection,
                       uint16_t code,
                       const char *reason);

push_status push_disconnect_user(push_server *server,
                                 const char *user,
                                 uint16_t code,
                                 const char *reason);

push_status push_revoke_channel(push_server *server,
                                const char *user,
                                const char *channel,
                                const char *reason);

push_status push_renew(push_server *server, push_connection connection, const push_grant *grant);

push_status push_allow(push_server *server, push_request request, const push_grant *grant);

push_status push_answer(push_server *server,
                        push_request request,
                        const void *data,
                        size_t len,
                        uint32_t flags);

push_status push_allow_publish(push_server *server,
                               push_request request,
                               const push_message *instead);

push_status push_deny(push_server *server,
                      push_request request,
                      uint16_t status,
                      const char *reason);

push_status push_refusal(push_server *server,
                         int32_t why,
                         const char *code,
                         const char *message,
                         const void *head,
                         size_t head_len,
                         void *out,
                         size_t out_size,
                         size_t *out_len);

int push_event_fd(push_server *server);

push_status push_next_event(push_server *server, push_event *out, size_t out_size, int timeout_ms);

void push_event_clear(push_event *event);

int push_log_line_fd(push_server *server);

push_status push_next_log(push_server *server, push_log_line *out, size_t out_size, int timeout_ms);

void push_log_line_clear(push_log_line *line);

push_status push_users_get(push_server *server,
                           const char *channel,
                           const char *after,
                           size_t limit,
                           push_users *out,
                           size_t out_size);

void push_users_clear(push_users *users);
