/* The header, compiled alone and twice, as C and as C++: every macro, every function, and the numbers and layouts that
 * compiled hosts rely on. */
#include <push.h>
#include <push.h>

#include <stdio.h>
#include <string.h>

/* In C90 and C++98, too. */
#define NAMED(line) always_##line
#define OF_LINE(line) NAMED(line)
#define ALWAYS(condition) typedef char OF_LINE(__LINE__)[(condition) ? 1 : -1]

/* Numbers are never reused, and never change. */
ALWAYS(PUSH_OK == 0 && PUSH_ERR_INVALID == -1 && PUSH_ERR_CONFIG == -2 && PUSH_ERR_TOO_LARGE == -3);
ALWAYS(PUSH_ERR_BUSY == -4 && PUSH_ERR_NOT_FOUND == -5 && PUSH_ERR_CLOSED == -6 && PUSH_ERR_TIMEOUT == -7);
ALWAYS(PUSH_ERR_DESCRIPTOR == -8 && PUSH_ERR_FORKED == -9 && PUSH_ERR_CALLBACK == -10 && PUSH_ERR_SYSTEM == -11);
ALWAYS(PUSH_ERR_INTERNAL == -12 && PUSH_ERR_UNSUPPORTED == -13 && PUSH_ERR_LIMIT == -14);
ALWAYS(PUSH_MESSAGE_BINARY == 1 && PUSH_SEND_BINARY == 1 && PUSH_GRANT_PUBLISH == 1 && PUSH_GRANT_KEEP_ALIVE == 2);
ALWAYS(PUSH_EVENT_OPEN == 1 && PUSH_EVENT_MESSAGE == 2 && PUSH_EVENT_CLOSE == 3 && PUSH_EVENT_REQUEST == 4);
ALWAYS(PUSH_EVENT_DRAIN == 5 && PUSH_EVENT_DRAINED == 6 && PUSH_EVENT_SUBSCRIBE == 7);
ALWAYS(PUSH_EVENT_UNSUBSCRIBE == 8 && PUSH_EVENT_CALL == 9 && PUSH_EVENT_PUBLISH == 10);
ALWAYS(PUSH_EVENT_BINARY == 1 && PUSH_ABI_VERSION == 0);
ALWAYS(PUSH_LOG_ERROR == 1 && PUSH_LOG_WARN == 2 && PUSH_LOG_INFO == 3 && PUSH_LOG_DEBUG == 4);
ALWAYS(sizeof(push_status) == 4 && sizeof(push_connection) == 8 && sizeof(push_request) == 8);

/* A field may be added at the end of a struct. The others stay in their places. */
#if UINTPTR_MAX == UINT64_MAX
ALWAYS(sizeof(push_message) >= 64 && offsetof(push_message, channel) == 8 && offsetof(push_message, data) == 16);
ALWAYS(offsetof(push_message, len) == 24 && offsetof(push_message, event) == 32 && offsetof(push_message, key) == 40);
ALWAYS(offsetof(push_message, flags) == 48 && offsetof(push_message, reserved) == 52);
ALWAYS(offsetof(push_message, trace) == 56 && offsetof(push_message, except) == 64);
ALWAYS(sizeof(push_grant) >= 48 && offsetof(push_grant, user) == 8 && offsetof(push_grant, channels) == 16);
ALWAYS(offsetof(push_grant, channel_count) == 24 && offsetof(push_grant, expires_at) == 32);
ALWAYS(offsetof(push_grant, flags) == 40 && offsetof(push_grant, reserved) == 44);
ALWAYS(offsetof(push_grant, patterns) == 48 && offsetof(push_grant, pattern_count) == 56);
ALWAYS(offsetof(push_grant, subscribe) == 64 && offsetof(push_grant, subscribe_count) == 72);
ALWAYS(offsetof(push_grant, publish_channels) == 80 && offsetof(push_grant, publish_channel_count) == 88);
ALWAYS(offsetof(push_grant, publish_patterns) == 96 && offsetof(push_grant, publish_pattern_count) == 104);
ALWAYS(offsetof(push_grant, info) == 112);
ALWAYS(sizeof(push_event) >= 80 && offsetof(push_event, kind) == 8 && offsetof(push_event, flags) == 12);
ALWAYS(offsetof(push_event, connection) == 16 && offsetof(push_event, request) == 24);
ALWAYS(offsetof(push_event, user) == 32);
ALWAYS(offsetof(push_event, channel) == 40 && offsetof(push_event, data) == 48 && offsetof(push_event, len) == 56);
ALWAYS(offsetof(push_event, code) == 64 && offsetof(push_event, reserved) == 68 && offsetof(push_event, owner) == 72);
ALWAYS(offsetof(push_event, event) == 80 && offsetof(push_event, key) == 88);
ALWAYS(sizeof(push_log_line) >= 48 && offsetof(push_log_line, level) == 8 && offsetof(push_log_line, reserved) == 12);
ALWAYS(offsetof(push_log_line, time_ms) == 16 && offsetof(push_log_line, text) == 24);
ALWAYS(offsetof(push_log_line, len) == 32 && offsetof(push_log_line, owner) == 40);
ALWAYS(sizeof(push_position) == 64 && offsetof(push_position, text) == 8); /* has no size: never grows */
ALWAYS(sizeof(push_stats) >= 24 * 8 && offsetof(push_stats, published) == 8 && offsetof(push_stats, seq) == 184);
ALWAYS(sizeof(push_users) >= 64 && offsetof(push_users, users) == 8 && offsetof(push_users, len) == 16);
ALWAYS(offsetof(push_users, next) == 24 && offsetof(push_users, count) == 32);
ALWAYS(offsetof(push_users, connections) == 40 && offsetof(push_users, anonymous) == 48);
ALWAYS(offsetof(push_users, owner) == 56);
ALWAYS(sizeof(push_user) == 16 && offsetof(push_user, connections) == 8); /* has no size: never grows */
#endif

/* Everything but the size is zero. */
static int is_blank(const void *value, size_t size)
{
    size_t said, i;
    memcpy(&said, value, sizeof said);
    for (i = sizeof said; i < size; i++) {
        if (((const unsigned char *)value)[i] != 0) return 0;
    }
    return said == size;
}

static push_message at_file_scope = PUSH_MESSAGE_INIT;

int main(void)
{
    push_message message = PUSH_MESSAGE_INIT, batch[2] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    push_grant grant = PUSH_GRANT_INIT;
    push_event event = PUSH_EVENT_INIT;
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_stats stats = PUSH_STATS_INIT;
    push_users users = PUSH_USERS_INIT;
    int blank = is_blank(&message, sizeof message) && is_blank(&batch[1], sizeof batch[1]) &&
                is_blank(&grant, sizeof grant) && is_blank(&event, sizeof event) && is_blank(&stats, sizeof stats) &&
                is_blank(&users, sizeof users) && is_blank(&line, sizeof line) &&
                is_blank(&at_file_scope, sizeof at_file_scope);

    /* Every declared function exists, in each language. */
    push_log_fn log = NULL;
    push_event_fn on_event = NULL;
    push_free_fn free_data = NULL;
    push_config *config = push_config_new();
    push_server *server = NULL;
    push_position position;
    char text[128] = "";
    int refused;
    push_config_on_log(config, log, NULL, free_data);
    push_config_on_event(config, on_event, NULL, free_data);
    refused = push_config_set(config, "nothing", "", text, sizeof text) == PUSH_ERR_CONFIG &&
                  push_config_load(config, NULL, NULL, 0) == PUSH_ERR_INVALID &&
                  push_start(config, NULL, NULL, 0) == PUSH_ERR_INVALID &&
                  push_listen_address(server, 0, text, sizeof text) == PUSH_ERR_INVALID &&
                  push_stats_get(server, &stats, sizeof stats) == PUSH_ERR_INVALID &&
                  push_publish(server, "c", "", 0) == PUSH_ERR_INVALID &&
                  push_publish_message(server, &message, &position) == PUSH_ERR_INVALID &&
                  push_publish_batch(server, batch, 2, NULL) == PUSH_ERR_INVALID &&
                  push_broadcast(server, &message, &position) == PUSH_ERR_INVALID &&
                  push_publish_user(server, "u", &message, &position) == PUSH_ERR_INVALID &&
                  push_adopt(server, -1, NULL, 0, &grant) == PUSH_ERR_INVALID &&
                  push_adopt(server, -1, NULL, 0, PUSH_GRANT_ALL) == PUSH_ERR_INVALID &&
                  push_send(server, 1, "", 0, 0) == PUSH_ERR_INVALID &&
                  push_allow(server, 1, &grant) == PUSH_ERR_INVALID &&
                  push_deny(server, 1, 403, NULL) == PUSH_ERR_INVALID &&
                  push_close(server, 1, 1000, NULL) == PUSH_ERR_INVALID &&
                  push_refusal(server, 0, NULL, NULL, NULL, 0, text, sizeof text, NULL) == PUSH_ERR_INVALID &&
                  push_revoke_channel(server, "u", "c", NULL) == PUSH_ERR_INVALID &&
                  push_renew(server, 1, &grant) == PUSH_ERR_INVALID &&
                  push_disconnect_user(server, "u", 4403, NULL) == PUSH_ERR_INVALID && push_event_fd(server) == -1 &&
                  push_next_event(server, &event, sizeof event, 0) == PUSH_ERR_INVALID &&
                  push_next_log(server, &line, sizeof line, 0) == PUSH_ERR_INVALID &&
                  push_log_line_fd(server) == -1 &&
                  push_users_get(server, "c", NULL, 1, &users, sizeof users) == PUSH_ERR_INVALID &&
                  push_drain(server, 0) == PUSH_ERR_INVALID && push_stop(server, 0) == PUSH_ERR_INVALID;
    push_event_clear(&event);
    push_users_clear(&users);
    push_log_line_clear(&line);
    push_config_free(config);
    printf("%s %s\n", push_version(), push_strerror(PUSH_OK));
    if (!blank) fputs("an INIT macro leaves something unset\n", stderr);
    if (!refused) fputs("a function does not answer as it should\n", stderr);
    return blank && refused && push_abi_version() == PUSH_ABI_VERSION ? 0 : 1;
}
