/* A server's options change all the time, while clients of all transports stay, come and go. Each gets everything. */
#include "serve.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RELOADS = 1000, STEADY = 4 };
static push_server *server;
static atomic_bool over;
static atomic_int published;

/* Other values for all options that may change without a loss for clients. */
static push_config *options_of(int round)
{
    static const char *const values[][3] = {
        {"outbox", "64MB", "256MB"},        {"slow_policy", "disconnect", "drop-oldest"},
        {"heartbeat", "1h", "1d"},          {"poll_timeout", "10m", "1h"},
        {"history_count", "1000", "2000"},  {"history_age", "5m", "1h"},
        {"history_total", "32MB", "64MB"},  {"key_window", "0", "2m"},
        {"log_level", "debug", "error"},    {"events", "none", "open,message,close"},
        {"max_connections", "0", "1000"},   {"max_per_user", "0", "1000"},
        {"max_per_address", "0", "1000"},   {"connect_rate", "0", "1000000"},
        {"client_rate", "0", "1000"},       {"max_channels", "10", "100"},
        {"max_head", "2KB", "64KB"},        {"max_message", "1KB", "1MB"},
        {"allowed_origins", "*", ""},       {"trusted_proxies", "unix", ""},
        {"client_publish", "true", "false"}, {"channel.c.history_count", "1000", "1500"},
        {"channel.c.slow_policy", "disconnect", "drop-oldest"}, {"log_addresses", "true", "false"},
        {"channel.c.presence", "true", "false"}, {"presence_detail", "0", "100"},
    };
    push_config *config = configure("threads", "2", NULL);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char err[256] = "";
        unsigned which = (unsigned)round * 2654435761u >> (i % 24) & 1;
        check_case("%s: %s", values[i][0], err);
        CHECK_STATUS(push_config_set(config, values[i][0], values[i][1 + which], err, sizeof err), PUSH_OK);
    }
    check_case(NULL);
    return config;
}

static void *reloads(void *unused)
{
    (void)unused;
    for (int round = 0; round < RELOADS; round++) {
        char err[256] = "";
        push_config *config = options_of(round);
        CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_OK);
        if (round % 10 == 0) {
            /* An impossible option changes nothing. */
            CHECK_STATUS(push_config_set(config, "auth", "jwt", NULL, 0), PUSH_OK);
            CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_ERR_CONFIG);
        }
        push_config_free(config);
        if (round % 3 == 0) sleep_ms(1); /* other threads have their turn */
    }
    over = true;
    return NULL;
}

static void *publishes(void *unused)
{
    (void)unused;
    for (bool last = false; !last;) {
        char text[32];
        last = over;
        int len = snprintf(text, sizeof text, "<%d>", published + 1);
        push_status status = PUSH_ERR_BUSY;
        WAIT_WHILE((status = push_publish(server, "c", text, (size_t)len)) == PUSH_ERR_BUSY);
        CHECK_STATUS(status, PUSH_OK);
        published++;
        if (published % 4 == 0) sleep_ms(1);
    }
    return NULL;
}

static void *comes_and_goes(void *unused)
{
    static const char *const transports[] = {"sse", "stream", "poll"};
    (void)unused;
    for (int i = 0; !over; i++) {
        struct peer client = i % 4 ? adopted_http(server, NULL, transports[i % 4 - 1], "channel=c&last=1")
                                   : adopted_ws(server, NULL, "channel=c&channel=d");
        if (i % 2) CHECK(peer_expect(&client, ">"));
        else if (i % 4 == 0) CHECK(ws_send(&client, WS_TEXT, "hello", 5));
        peer_close(&client);
    }
    return NULL;
}

static void *looks(void *unused)
{
    (void)unused;
    push_event event = PUSH_EVENT_INIT;
    while (!over) {
        stats_of(server);
        push_next_event(server, &event, sizeof event, 1);
    }
    push_event_clear(&event);
    return NULL;
}

/* All numbers up to the last, once and in order. */
static void check_all(struct peer *client, const char *what)
{
    char text[32];
    snprintf(text, sizeof text, "<%d>", (int)published);
    check_case("%s, of %d messages", what, (int)published);
    REQUIRE(peer_expect(client, text));
    const char *at = client->data, *end = client->data + client->len;
    for (int i = 1; i <= published; i++) {
        int len = snprintf(text, sizeof text, "<%d>", i);
        const char *found = memmem(at, (size_t)(end - at), text, (size_t)len);
        REQUIRE(found != NULL);
        at = found + len;
    }
    CHECK_EQ(peer_count(client, "<"), (int)published);
    CHECK_EQ(peer_count(client, "gap"), 0);
    check_case(NULL);
}

static void amid_everything(void)
{
    static void *(*const work[])(void *) = {publishes, comes_and_goes, comes_and_goes, looks, reloads};
    enum { WORKERS = sizeof work / sizeof *work };
    static const char *const names[STEADY] = {"WebSocket", "push.v1.json", "SSE", "stream"};
    pthread_t threads[WORKERS];
    server = serve("threads", "2", "history_count", "1000", "event_queue", "1048576", NULL);
    struct peer steady[STEADY] = {adopted_ws(server, NULL, "channel=c"), adopted(server, NULL),
                                  adopted_http(server, NULL, "sse", "channel=c"),
                                  adopted_http(server, NULL, "stream", "channel=c")};
    CHECK(ws_open(&steady[1], "channel=c", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    wait_for_subscriptions(server, STEADY);
    for (int i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, work[i], NULL);
    while (!over) {
        for (int i = 0; i < STEADY; i++) peer_fill(&steady[i], 1);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < STEADY; i++) check_all(&steady[i], names[i]);
    /* The last options count. */
    push_config *config = configure("max_message", "8", NULL);
    CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
    push_config_free(config);
    CHECK_STATUS(push_publish(server, "c", "too large", 9), PUSH_ERR_TOO_LARGE);
    wait_for_connections(server, STEADY);
    stop(server);
    for (int i = 0; i < STEADY; i++) peer_close(&steady[i]);
}

CHECK_MAIN(TEST(amid_everything))
