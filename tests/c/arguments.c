/* Arguments that are not allowed: each call returns a status, and nothing is done. */
#include "process.h"
#include "serve.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOWHERE ((void *)1) /* reading it ends the process */

/* Every call with good arguments, and a handle that is no running server. */
static void check_all_refuse(push_server *server, push_status expected)
{
    char address[128] = "untouched";
    push_message message = PUSH_MESSAGE_INIT;
    push_position position = {.seq = 77};
    push_event event = PUSH_EVENT_INIT;
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_grant grant = PUSH_GRANT_INIT;
    push_stats stats = PUSH_STATS_INIT;
    push_users users = PUSH_USERS_INIT;
    struct peer client;
    int fd;
    message.channel = "c";
    unix_pair(&client, &fd);
    CHECK_STATUS(push_publish(server, "c", "x", 1), expected);
    CHECK_STATUS(push_publish_message(server, &message, &position), expected);
    CHECK_STATUS(push_publish_batch(server, &message, 1, &position), expected);
    CHECK_STATUS(push_broadcast(server, &message, &position), expected);
    CHECK_STATUS(push_publish_user(server, "u", &message, &position), expected);
    CHECK_STATUS(push_begin(server, "c", &position), expected);
    CHECK_STATUS(push_end(server, "c", &position), expected);
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), expected);
    CHECK_STATUS(push_adopt_more(server, fd, NULL, 0, PUSH_GRANT_ALL), expected);
    CHECK_STATUS(push_flush(server), expected);
    CHECK_STATUS(push_send(server, 1, "x", 1, 0), expected);
    CHECK_STATUS(push_allow(server, 0x100, PUSH_GRANT_ALL), expected);
    CHECK_STATUS(push_deny(server, 0x100, 403, NULL), expected);
    CHECK_STATUS(push_answer(server, 0x100, "x", 1, 0), expected);
    CHECK_STATUS(push_allow_publish(server, 0x100, NULL), expected);
    CHECK_STATUS(push_close(server, 1, 1000, NULL), expected);
    CHECK_STATUS(push_disconnect_user(server, "u", 4403, NULL), expected);
    CHECK_STATUS(push_revoke_channel(server, "u", "c", NULL), expected);
    CHECK_STATUS(push_renew(server, 1, &grant), expected);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), expected);
    CHECK_STATUS(push_stats_get(server, &stats, sizeof stats), expected);
    CHECK_STATUS(push_users_get(server, "c", NULL, 1, &users, sizeof users), expected);
    push_config *config = push_config_new();
    CHECK_STATUS(push_reload(server, config, NULL, 0), expected);
    push_config_free(config);
    CHECK_STATUS(push_next_event(server, &event, sizeof event, -1), expected);
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), expected);
    CHECK_EQ(push_log_line_fd(server), -1);
    CHECK_STATUS(push_drain(server, 0), expected);
    CHECK_STATUS(push_stop(server, 0), expected);
    CHECK_EQ(push_event_fd(server), -1);
    CHECK_EQ(position.seq, 77);
    CHECK_TEXT(address, "untouched");
    CHECK_EQ(stats.published, 0);
    CHECK(!users.owner);
    CHECK(is_open(fd));
    close(fd);
    peer_close(&client);
}

static void count_free(void *user_data)
{
    ++*(int *)user_data;
}

static void no_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

static void no_event(void *user_data, const push_event *event)
{
    (void)user_data, (void)event;
}

static void null_handles(void)
{
    char err[64] = "";
    int freed = 0;
    check_all_refuse(NULL, PUSH_ERR_INVALID);
    CHECK_STATUS(push_config_set(NULL, "threads", "1", err, sizeof err), PUSH_ERR_INVALID);
    CHECK_HAS(err, "config");
    CHECK_STATUS(push_config_load(NULL, "/nowhere", err, sizeof err), PUSH_ERR_INVALID);
    push_config_free(NULL);
    push_event_clear(NULL);
    push_log_line_clear(NULL);
    push_users_clear(NULL);
    /* User data that is passed with a bad config is freed, because its owner waits for that. */
    push_config_on_log(NULL, no_log, &freed, count_free);
    push_config_on_event(NULL, no_event, &freed, count_free);
    CHECK_EQ(freed, 2);
    push_config_on_log(NULL, NULL, NULL, NULL);
}

static void null_arguments(void)
{
    char err[64] = "";
    push_config *config = push_config_new();
    push_server *server = serve("threads", "1", NULL);
    push_message message = PUSH_MESSAGE_INIT;
    push_users users = PUSH_USERS_INIT;
    struct peer client;
    int fd;
    unix_pair(&client, &fd);

    CHECK_STATUS(push_config_set(config, NULL, "1", err, sizeof err), PUSH_ERR_INVALID);
    CHECK_HAS(err, "name");
    CHECK_STATUS(push_config_set(config, "threads", NULL, err, sizeof err), PUSH_ERR_INVALID);
    CHECK_HAS(err, "value");
    CHECK_STATUS(push_config_load(config, NULL, err, sizeof err), PUSH_ERR_INVALID);
    CHECK_STATUS(push_start(config, NULL, err, sizeof err), PUSH_ERR_INVALID);
    CHECK_HAS(err, "out");
    push_config_free(config);
    CHECK_STATUS(push_reload(server, NULL, err, sizeof err), PUSH_ERR_INVALID);
    CHECK_HAS(err, "config");

    CHECK_STATUS(push_publish(server, NULL, "x", 1), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish(server, "c", NULL, 1), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_message(server, NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID); /* no channel */
    message.channel = "c";
    message.len = 1;
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID); /* no data */
    CHECK_STATUS(push_broadcast(server, &message, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_broadcast(server, NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_batch(server, NULL, 1, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_user(server, NULL, &message, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_user(server, "u", NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_begin(server, NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_end(server, NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_adopt(server, fd, NULL, 1, PUSH_GRANT_ALL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_adopt_more(server, fd, NULL, 1, PUSH_GRANT_ALL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_flush(server), PUSH_OK);
    CHECK_STATUS(push_send(server, 1, NULL, 1, 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_disconnect_user(server, NULL, 4403, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_revoke_channel(server, NULL, "c", NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_revoke_channel(server, "u", NULL, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_renew(server, 1, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_listen_address(server, 0, NULL, 128), PUSH_ERR_INVALID);
    CHECK_STATUS(push_stats_get(server, NULL, sizeof(push_stats)), PUSH_ERR_INVALID);
    CHECK_STATUS(push_next_event(server, NULL, sizeof(push_event), 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_users_get(server, NULL, NULL, 1, &users, sizeof users), PUSH_ERR_INVALID);
    CHECK_STATUS(push_users_get(server, "c", NULL, 1, NULL, sizeof users), PUSH_ERR_INVALID);
    CHECK_EQ(stats_of(server).published, 0);
    stop(server);
    close(fd);
    peer_close(&client);
}

static void length_0_ignores_the_pointer(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_message message = PUSH_MESSAGE_INIT;
    push_event event = PUSH_EVENT_INIT;
    struct peer client;
    int fd;
    CHECK_EQ(push_event_fd(server) >= 0, 1);
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt_more(server, fd, NOWHERE, 0, PUSH_GRANT_ALL), PUSH_OK);
    REQUIRE(ws_open(&client, "channel=c", ""));
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);

    message.channel = "c";
    message.data = NOWHERE;
    CHECK_STATUS(push_publish(server, "c", NOWHERE, 0), PUSH_OK);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
    CHECK_STATUS(push_publish_batch(server, &message, 1, NULL), PUSH_OK);
    CHECK_STATUS(push_publish_batch(server, NOWHERE, 0, NOWHERE), PUSH_OK);
    message.channel = NOWHERE; /* a broadcast does not look at it */
    CHECK_STATUS(push_broadcast(server, &message, NULL), PUSH_OK);
    for (int i = 0; i < 4; i++) ws_expect(&client, "");
    CHECK_STATUS(push_send(server, connection, NOWHERE, 0, 0), PUSH_OK);
    ws_expect(&client, "");
    CHECK_STATUS(push_config_set(NULL, "a", "b", NOWHERE, 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_start(NULL, NULL, NOWHERE, 0), PUSH_ERR_INVALID);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void garbage_handles(void)
{
    push_server *server = serve("threads", "1", NULL);
    int on_stack;
    uintptr_t values[] = {1, 2, 0x7f, 0xff, 0x101, 0x1ff, 0x200, 0x201, 0x300, 0x3ff, 0xdeadbeef, UINTPTR_MAX,
                          UINTPTR_MAX - 1, INTPTR_MAX, (uintptr_t)1 << 63, (uintptr_t)&on_stack,
                          (uintptr_t)garbage_handles, (uintptr_t)server + 1, (uintptr_t)server + 0x100,
                          (uintptr_t)server + 0x200, (uintptr_t)server | (uintptr_t)1 << 63};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if ((push_server *)values[i] == server) continue;
        check_case("handle %#zx", (size_t)values[i]);
        check_all_refuse((push_server *)values[i], PUSH_ERR_CLOSED);
    }
    check_case(NULL);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    stop(server);
}

static void a_stopped_handle(void)
{
    push_server *server = serve("threads", "1", NULL);
    stop(server);
    check_all_refuse(server, PUSH_ERR_CLOSED);
    /* A later server may have the first one's slot, but not its handle. */
    push_server *later = serve("threads", "1", NULL);
    CHECK(later != server);
    check_all_refuse(server, PUSH_ERR_CLOSED);
    CHECK_EQ(stats_of(later).adopted, 0);
    stop(later);
}

static const char *repeat(char *text, char letter, size_t count)
{
    memset(text, letter, count);
    text[count] = 0;
    return text;
}

/* Checks that nothing is published to such a name. Returns a message to it. */
static push_message names_no_channel(push_server *server, const char *name)
{
    push_message message = PUSH_MESSAGE_INIT;
    message.channel = name;
    CHECK_STATUS(push_publish(server, name, "x", 1), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_publish_batch(server, &message, 1, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_begin(server, name, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_end(server, name, NULL), PUSH_ERR_INVALID);
    return message;
}

static void names(void)
{
    static const char *const bad[] = {"", "a\nb", "\n", "a\r", "\t", "\x01", "a\x1f", "\x7f", "a\xC2\x85z", /* U+0085 */
                                      "\xff", "a\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "a\xC3"};
    static const char *const patterns[] = {"*", "a*", "a**"};
    static const char *const good[] = {"a", " ", "a*b", "*a", "\xC3\x9C" "bersicht/7", "\xF0\x9F\x8C\x8D", "a?b&c=d%20"};
    char text[600];
    push_server *server = serve("threads", "1", NULL);
    push_message message = PUSH_MESSAGE_INIT;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        check_case("name %zu", i);
        message = names_no_channel(server, bad[i]);
        CHECK_STATUS(push_broadcast(server, &message, NULL), PUSH_OK); /* ignores it */
        message.channel = "c";
        message.event = bad[i];
        CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_broadcast(server, &message, NULL), PUSH_ERR_INVALID);
        message.event = NULL;
        message.key = bad[i];
        CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_disconnect_user(server, bad[i], 4403, NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_revoke_channel(server, bad[i], "c", NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_revoke_channel(server, "u", bad[i], NULL), PUSH_ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        push_users page = PUSH_USERS_INIT;
        check_case("name %s", patterns[i]);
        names_no_channel(server, patterns[i]);
        CHECK_STATUS(push_users_get(server, patterns[i], NULL, 1, &page, sizeof page), PUSH_ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        check_case("name %s", good[i]);
        CHECK_STATUS(push_publish(server, good[i], "x", 1), PUSH_OK);
    }
    check_case(NULL);
    message = (push_message)PUSH_MESSAGE_INIT;
    message.channel = "c";
    CHECK_STATUS(push_publish(server, repeat(text, 'c', 255), "x", 1), PUSH_OK);
    CHECK_STATUS(push_publish(server, repeat(text, 'c', 256), "x", 1), PUSH_ERR_INVALID);
    message.event = repeat(text, 'e', 127);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
    repeat(text, 'e', 128);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    message.event = "push-gap"; /* the library's own */
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    message.event = "pushed";
    message.key = repeat(text, 'k', 255);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
    repeat(text, 'k', 256);
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    stop(server);
}

static void payloads_that_are_too_large(void)
{
    char payload[1025] = "";
    push_server *server = serve("threads", "1", "max_message", "1KB", "max_client_message", "1KB", NULL);
    push_message batch[2] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    /* An impossible length is refused before any byte is read. */
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const size_t lengths[] = {1025, 4096, INT_MAX, (size_t)INT_MAX + 1, UINT_MAX, SSIZE_MAX, (size_t)SSIZE_MAX + 1,
                              SIZE_MAX};
    REQUIRE(page != MAP_FAILED);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        check_case("length %zu", lengths[i]);
        batch[0].channel = batch[1].channel = "c";
        batch[1].data = page;
        batch[1].len = lengths[i];
        CHECK_STATUS(push_publish(server, "c", page, lengths[i]), PUSH_ERR_TOO_LARGE);
        CHECK_STATUS(push_publish_message(server, &batch[1], NULL), PUSH_ERR_TOO_LARGE);
        CHECK_STATUS(push_broadcast(server, &batch[1], NULL), PUSH_ERR_TOO_LARGE);
        CHECK_STATUS(push_publish_batch(server, batch, 2, NULL), PUSH_ERR_TOO_LARGE);
        CHECK_STATUS(push_send(server, 1, page, lengths[i], PUSH_SEND_BINARY), PUSH_ERR_TOO_LARGE);
    }
    check_case(NULL);
    CHECK_EQ(stats_of(server).seq, 0);
    CHECK_STATUS(push_publish(server, "c", payload, 1024), PUSH_OK);
    CHECK_EQ(stats_of(server).seq, 1);
    munmap(page, 4096);
    stop(server);
}

static void a_text_that_is_too_large_is_not_read(void)
{
    push_server *server = serve("threads", "1", "max_message", "1KB", "max_client_message", "1KB", NULL);
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(page != MAP_FAILED);
    CHECK_STATUS(push_send(server, 1, page, 4096, 0), PUSH_ERR_TOO_LARGE);
    munmap(page, 4096);
    stop(server);
}

static void flags_codes_and_reasons(void)
{
    static const int bad_codes[] = {0, 1, 999, 1002, 1003, 1004, 1005, 1006, 1007, 1010, 1014, 1015, 2999, 5000, 65535};
    static const int good_codes[] = {1000, 1001, 1008, 1009, 1011, 1012, 1013, 3000, 4403, 4999};
    char reason[300];
    push_server *server = serve("threads", "1", NULL);
    push_message message = PUSH_MESSAGE_INIT;
    message.channel = "c";
    for (uint32_t bit = 1; bit; bit <<= 1) {
        message.flags = bit;
        CHECK_STATUS(push_publish_message(server, &message, NULL),
                     bit == PUSH_MESSAGE_BINARY ? PUSH_OK : PUSH_ERR_INVALID);
        CHECK_STATUS(push_send(server, 1, "x", 1, bit),
                     bit == PUSH_SEND_BINARY ? PUSH_ERR_NOT_FOUND : PUSH_ERR_INVALID);
    }
    message.flags = 0;
    message.reserved = 1;
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_send(server, 1, "\xff", 1, 0), PUSH_ERR_INVALID);
    for (size_t i = 0; i < sizeof bad_codes / sizeof *bad_codes; i++) {
        check_case("code %d", bad_codes[i]);
        CHECK_STATUS(push_close(server, 1, (uint16_t)bad_codes[i], NULL), PUSH_ERR_INVALID);
        CHECK_STATUS(push_disconnect_user(server, "u", (uint16_t)bad_codes[i], NULL), PUSH_ERR_INVALID);
    }
    for (size_t i = 0; i < sizeof good_codes / sizeof *good_codes; i++) {
        check_case("code %d", good_codes[i]);
        CHECK_STATUS(push_close(server, 1, (uint16_t)good_codes[i], NULL), PUSH_ERR_NOT_FOUND);
    }
    for (int status = 0; status < 700; status++) {
        bool good = status == 401 || status == 403 || status == 429 || status == 503;
        check_case("status %d", status);
        CHECK_STATUS(push_deny(server, 0, (uint16_t)status, NULL), good ? PUSH_ERR_NOT_FOUND : PUSH_ERR_INVALID);
    }
    check_case(NULL);
    CHECK_STATUS(push_deny(server, 0, 403, repeat(reason, 'r', 255)), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_deny(server, 0, 403, repeat(reason, 'r', 256)), PUSH_ERR_INVALID);
    CHECK_STATUS(push_deny(server, 0, 403, "\xff"), PUSH_ERR_INVALID);
    CHECK_STATUS(push_close(server, 1, 1000, repeat(reason, 'r', 123)), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_close(server, 1, 1000, repeat(reason, 'r', 124)), PUSH_ERR_INVALID);
    CHECK_STATUS(push_close(server, 1, 1000, "\xff"), PUSH_ERR_INVALID);
    stop(server);
}

static void connections_that_are_none(void)
{
    static const push_connection numbers[] = {0, 1, 0xffffff, 0x1000000, (push_connection)1 << 32,
                                              ((push_connection)1 << 32) + 1, UINT64_MAX, UINT64_MAX >> 1};
    push_server *server = serve("threads", "2", NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        check_case("connection %#llx", (unsigned long long)numbers[i]);
        CHECK_STATUS(push_send(server, numbers[i], "x", 1, 0), PUSH_ERR_NOT_FOUND);
        CHECK_STATUS(push_close(server, numbers[i], 1000, NULL), PUSH_ERR_NOT_FOUND);
    }
    check_case(NULL);
    /* Requests have their own numbers. */
    push_grant grant = PUSH_GRANT_INIT;
    CHECK_STATUS(push_allow(server, 0, PUSH_GRANT_ALL), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_allow(server, 0xff, &grant), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_deny(server, 0, 403, NULL), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_answer(server, 0, "x", 1, 0), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_answer(server, 0x100, "x", 1, 2), PUSH_ERR_INVALID);
    CHECK_STATUS(push_answer(server, 0x100, "\xff", 1, 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_answer(server, 0x100, NULL, 1, 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_answer(server, 0x100, "x", 1, PUSH_SEND_BINARY), PUSH_OK); /* nobody waits for it */
    push_message instead = PUSH_MESSAGE_INIT;
    CHECK_STATUS(push_allow_publish(server, 0, NULL), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_allow_publish(server, 0, &instead), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_allow_publish(server, 0x100, NULL), PUSH_OK);
    CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_OK); /* an empty payload is one */
    const char **own[] = {&instead.channel, &instead.key, &instead.trace, &instead.except};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        *own[i] = "x";
        CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_ERR_INVALID);
        *own[i] = NULL;
    }
    instead.event = "push-x";
    CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_ERR_INVALID);
    instead.event = NULL;
    instead.len = 1;
    CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_ERR_INVALID);
    instead.len = 0;
    instead.flags = 2;
    CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_ERR_INVALID);
    instead.flags = 0;
    instead.size = 0;
    CHECK_STATUS(push_allow_publish(server, 0x100, &instead), PUSH_ERR_INVALID);
    grant.size = 0;
    CHECK_STATUS(push_allow(server, 0x100, &grant), PUSH_ERR_INVALID);
    CHECK_STATUS(push_renew(server, 1, &grant), PUSH_ERR_INVALID);
    CHECK_STATUS(push_revoke_channel(server, "u", "a*b*", NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_revoke_channel(server, "nobody", "c", NULL), PUSH_OK);
    CHECK_STATUS(push_disconnect_user(server, "nobody", 4403, NULL), PUSH_OK); /* each thread does this later */
    stop(server);
}

/* What push_refusal writes, ended by NUL. */
static const char *refusal(push_server *server, int32_t why, const char *message, const char *head)
{
    static char out[PUSH_REFUSAL_MAX + 1];
    size_t len = 0;
    CHECK_STATUS(push_refusal(server, why, message ? "word" : NULL, message, head, head ? strlen(head) : 0, out,
                              PUSH_REFUSAL_MAX, &len), PUSH_OK);
    out[len] = 0;
    return out;
}

static void refusals_by_the_host(void)
{
    static const char head[] = "GET /push?channel=c HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n"
                               "Origin: https://other.test\r\n\r\n";
    char out[PUSH_REFUSAL_MAX], text[1026];
    size_t len = 77;
    push_server *server = serve("retry", "30s", "allowed_origins", "https://other.test", NULL);
    push_server *stopped = serve("threads", "1", NULL);
    CHECK_STATUS(push_stop(stopped, 0), PUSH_OK);
    CHECK_HAS(refusal(server, PUSH_ERR_BUSY, NULL, NULL), "HTTP/1.1 503 ");
    CHECK_HAS(refusal(server, PUSH_ERR_BUSY, NULL, NULL), "\r\nRetry-After: ");
    CHECK_HAS(refusal(server, PUSH_ERR_INVALID, NULL, head), "HTTP/1.1 400 ");
    CHECK_HAS(refusal(server, PUSH_ERR_INTERNAL, NULL, NULL), "HTTP/1.1 500 ");
    CHECK_HAS(refusal(server, PUSH_ERR_LIMIT, NULL, head), "HTTP/1.1 200 ");
    CHECK_HAS(refusal(server, 429, "slow down", head), "\"code\":4429,\"reason\":\"slow down\"");
    CHECK_HAS(refusal(server, 401, "log \"in\"", head), "{\"code\":\"word\",\"message\":\"log \\\"in\\\"\"}");
    CHECK_HAS(refusal(server, 401, "log in", head), "\r\nWWW-Authenticate: Bearer\r\n");
    /* The option's time, or up to twice that. Without a server it is the default. */
    int seconds = atoi(strstr(refusal(server, PUSH_ERR_BUSY, NULL, head), "retry: ") + strlen("retry: ")) / 1000;
    CHECK(seconds >= 30 && seconds <= 60);
    push_server *const none[] = {NULL, stopped, (push_server *)head};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        check_case("server %zu", i);
        seconds = atoi(strstr(refusal(none[i], PUSH_ERR_CLOSED, NULL, head), "retry: ") + strlen("retry: ")) / 1000;
        CHECK(seconds >= 2 && seconds <= 4);
        CHECK_HAS(refusal(none[i], PUSH_ERR_CLOSED, NULL, head), "Access-Control-Allow-Origin: https://other.test\r\n");
        CHECK(!strstr(refusal(none[i], 403, "secret", head), "Access-Control-"));
    }
    check_case(NULL);
    CHECK_HAS(refusal(server, 403, "secret", head), "Access-Control-Allow-Origin: https://other.test\r\n");
    /* Wrong arguments; nothing is written. */
    CHECK_STATUS(push_refusal(server, 0, NULL, NULL, NULL, 0, out, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 399, NULL, NULL, NULL, 0, out, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 600, NULL, NULL, NULL, 0, out, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, "\xff", NULL, NULL, 0, out, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, repeat(text, 'c', 65), NULL, NULL, 0, out, sizeof out, &len),
                 PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, NULL, repeat(text, 'm', 1025), NULL, 0, out, sizeof out, &len),
                 PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, NULL, NULL, NULL, 1, out, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, NULL, NULL, NULL, 0, NULL, sizeof out, &len), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, NULL, NULL, NULL, 0, out, sizeof out, NULL), PUSH_ERR_INVALID);
    CHECK_STATUS(push_refusal(server, 403, NULL, NULL, NULL, 0, out, 10, &len), PUSH_ERR_TOO_LARGE);
    CHECK_EQ(len, 77);
    CHECK_STATUS(push_refusal(server, 403, NULL, repeat(text, 1, 1024), head, strlen(head), out, sizeof out, &len),
                 PUSH_OK);
    stop(server);
}

static void every_status_has_words(void)
{
    for (push_status status = -14; status <= 0; status++) {
        check_case("status %d", (int)status);
        CHECK(push_strerror(status) && *push_strerror(status));
        CHECK(strcmp(push_strerror(status), push_strerror(1)) != 0);
        for (push_status other = status + 1; other <= 0; other++) {
            CHECK(strcmp(push_strerror(status), push_strerror(other)) != 0);
        }
    }
    check_case(NULL);
    CHECK_TEXT(push_strerror(INT32_MIN), push_strerror(INT32_MAX));
    CHECK(push_last_error(NULL, 100) < 511);
    CHECK_EQ(push_abi_version(), PUSH_ABI_VERSION);
    CHECK(push_version() == push_version());
}

CHECK_MAIN(TEST(null_handles), TEST(null_arguments), TEST(length_0_ignores_the_pointer), TEST(garbage_handles),
           TEST(a_stopped_handle), TEST(names), TEST(payloads_that_are_too_large),
           TEST(a_text_that_is_too_large_is_not_read), TEST(flags_codes_and_reasons), TEST(connections_that_are_none),
           TEST(refusals_by_the_host), TEST(every_status_has_words))
