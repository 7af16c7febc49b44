/* The host pulls events, and calls functions for the connections that they name. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void the_descriptor_says_when_events_wait(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    int fd = push_event_fd(server);
    CHECK(fd >= 0);
    CHECK_EQ(push_event_fd(server), fd);
    CHECK(!readable(fd, 0));
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 0), PUSH_ERR_TIMEOUT);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 100; i++) {
        CHECK(readable(fd, PATIENCE_MS));
        CHECK(readable(fd, 0)); /* level-triggered: until the events are taken */
        expect_event(server, &event, i == 0 ? PUSH_EVENT_OPEN : PUSH_EVENT_MESSAGE);
        CHECK_STATUS(push_next_event(server, &event, sizeof event, 0), PUSH_ERR_TIMEOUT);
        CHECK(!readable(fd, 0));
        CHECK(ws_send(&client, WS_TEXT, "x", 1));
    }
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    peer_close(&client);
    expect_event(server, &event, PUSH_EVENT_CLOSE);
    CHECK_EQ(event.code, 1006);
    push_event_clear(&event);
    stop(server);
    CHECK(!is_open(fd));
}

static void what_an_event_says(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_grant grant = grant_of_every_channel();
    push_event event = PUSH_EVENT_INIT;
    grant.user = "\xC3\x9Crsula";
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, &grant, "channel=first&channel=second");
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK(connection != 0);
    CHECK_EQ(event.size, sizeof event);
    CHECK_TEXT(event.user, grant.user);
    CHECK_TEXT(event.channel, "first");
    CHECK_EQ(event.len, 0);
    CHECK_EQ(event.request, 0);
    CHECK_EQ(event.reserved, 0);
    CHECK(ws_send(&client, WS_BINARY, "\0\xff", 2));
    CHECK_EQ(expect_event(server, &event, PUSH_EVENT_MESSAGE), connection);
    CHECK_EQ(event.flags, PUSH_EVENT_BINARY);
    CHECK(event.len == 2 && memcmp(event.data, "\0\xff", 2) == 0);
    CHECK_TEXT(event.user, grant.user);
    CHECK(event.channel == NULL);
    CHECK(ws_send(&client, WS_TEXT, NULL, 0));
    CHECK_EQ(expect_event(server, &event, PUSH_EVENT_MESSAGE), connection);
    CHECK_EQ(event.flags, 0);
    CHECK_EQ(event.len, 0);
    CHECK(ws_send(&client, WS_CLOSE, "\x0f\xa1", 2)); /* 4001 */
    CHECK_EQ(expect_event(server, &event, PUSH_EVENT_CLOSE), connection);
    CHECK_EQ(event.code, 4001);
    peer_close(&client);

    /* Without a grant no user is named. Polls come and go without events. */
    struct peer poll = adopted_http(server, NULL, "poll", "channel=c");
    struct peer sse = adopted_http(server, NULL, "sse", "channel=c");
    CHECK(expect_event(server, &event, PUSH_EVENT_OPEN) != connection);
    CHECK(event.user == NULL);
    CHECK_TEXT(event.channel, "c");
    peer_close(&poll);
    peer_close(&sse);
    expect_event(server, &event, PUSH_EVENT_CLOSE);
    push_event_clear(&event);
    stop(server);
}

static void an_event_stays_until_it_is_passed_again(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event kept = PUSH_EVENT_INIT, event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK(ws_send(&client, WS_TEXT, "kept", 4));
    expect_event(server, &kept, PUSH_EVENT_MESSAGE);
    for (int i = 0; i < 100; i++) {
        CHECK(ws_send(&client, WS_TEXT, "next", 4));
        expect_event(server, &event, PUSH_EVENT_MESSAGE);
    }
    /* A call that fails leaves it unchanged. */
    CHECK_STATUS(push_next_event(server, &kept, sizeof kept, 0), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_next_event(server, &kept, 8, 0), PUSH_ERR_INVALID);
    CHECK(kept.len == 4 && memcmp(kept.data, "kept", 4) == 0);
    stop(server);
    CHECK_STATUS(push_next_event(server, &kept, sizeof kept, 0), PUSH_ERR_CLOSED);
    CHECK(kept.len == 4 && memcmp(kept.data, "kept", 4) == 0);
    push_event_clear(&kept);
    CHECK(kept.data == NULL && kept.user == NULL && kept.channel == NULL && kept.owner == NULL && kept.len == 0);
    push_event_clear(&kept);
    push_event_clear(&event);
    peer_close(&client);
}

static void nothing_is_told_before_somebody_asks(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct peer client = adopted_ws(server, NULL, "channel=c");
    CHECK(ws_send(&client, WS_TEXT, "dropped", 7));
    CHECK(ws_send(&client, WS_PING, "p", 1));
    struct frame frame;
    CHECK(ws_next(&client, &frame, PATIENCE_MS) && frame.opcode == WS_PONG);
    CHECK_EQ(stats_of(server).received, 1);
    CHECK_EQ(stats_of(server).events_dropped, 1);
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 0), PUSH_ERR_TIMEOUT);
    CHECK(ws_send(&client, WS_TEXT, "told", 4));
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    CHECK(event.len == 4 && memcmp(event.data, "told", 4) == 0);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void sending_to_one_connection(void)
{
    push_server *server = serve("threads", "2", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct frame frame;
    CHECK(push_event_fd(server) >= 0);
    struct peer raw = adopted_ws(server, NULL, "channel=c");
    push_connection to_raw = expect_event(server, &event, PUSH_EVENT_OPEN);
    struct peer json = adopted(server, NULL);
    REQUIRE(ws_open(&json, "channel=c", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    push_connection to_json = expect_event(server, &event, PUSH_EVENT_OPEN);
    struct peer sse = adopted_http(server, NULL, "sse", "channel=c");
    push_connection to_sse = expect_event(server, &event, PUSH_EVENT_OPEN);
    struct peer stream = adopted_http(server, NULL, "stream", "channel=c");
    push_connection to_stream = expect_event(server, &event, PUSH_EVENT_OPEN);
    REQUIRE(ws_next(&json, &frame, PATIENCE_MS));
    CHECK_HAS(frame.data, "\"subscribed\"");

    CHECK_STATUS(push_send(server, to_raw, "hello", 5, 0), PUSH_OK);
    CHECK_STATUS(push_send(server, to_raw, "\xff", 1, PUSH_SEND_BINARY), PUSH_OK);
    ws_expect(&raw, "hello");
    CHECK(ws_next(&raw, &frame, PATIENCE_MS) && frame.opcode == WS_BINARY && frame.len == 1);
    CHECK_STATUS(push_send(server, to_json, "a\"b", 3, 0), PUSH_OK);
    ws_expect(&json, "{\"type\":\"message\",\"data\":\"a\\\"b\"}");
    CHECK_STATUS(push_send(server, to_json, "\xff", 1, PUSH_SEND_BINARY), PUSH_OK);
    ws_expect(&json, "{\"type\":\"message\",\"data\":\"/w==\",\"base64\":true}");
    CHECK_STATUS(push_send(server, to_sse, "two\nlines", 9, 0), PUSH_OK);
    CHECK(peer_expect(&sse, "data: two\ndata: lines\n\n"));
    CHECK_STATUS(push_send(server, to_stream, "x", 1, 0), PUSH_OK);
    CHECK(peer_expect(&stream, "{\"type\":\"message\",\"data\":\"x\"}\n"));

    CHECK_STATUS(push_close(server, to_raw, 4001, "enough"), PUSH_OK);
    REQUIRE(ws_next(&raw, &frame, PATIENCE_MS));
    CHECK_EQ(frame.opcode, WS_CLOSE);
    CHECK_EQ(frame.code, 4001);
    CHECK_TEXT(frame.data + 2, "enough");
    CHECK_STATUS(push_close(server, to_sse, 1008, "say \"no\""), PUSH_OK);
    CHECK(peer_expect(&sse, "event: push-close\ndata: {\"type\":\"close\",\"code\":1008,"
                            "\"reason\":\"say \\\"no\\\"\"}\n\n"));
    CHECK(peer_read_to_end(&sse, PATIENCE_MS));
    CHECK_STATUS(push_close(server, to_stream, 1000, NULL), PUSH_OK);
    CHECK(peer_expect(&stream, "{\"type\":\"close\",\"code\":1000,\"reason\":\"\"}\n"));
    CHECK(peer_read_to_end(&stream, PATIENCE_MS));
    peer_close(&raw);
    peer_close(&sse);
    peer_close(&stream);
    wait_for_connections(server, 1);
    CHECK_STATUS(push_send(server, to_raw, "x", 1, 0), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_close(server, to_sse, 1000, NULL), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_send(server, to_json, "x", 1, 0), PUSH_OK);
    push_event_clear(&event);
    stop(server);
    peer_close(&json);
}

static void numbers_are_not_used_again(void)
{
    enum { ROUNDS = 50 };
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_connection seen[ROUNDS];
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct peer client = adopted_ws(server, NULL, "channel=c");
        seen[i] = expect_event(server, &event, PUSH_EVENT_OPEN);
        for (int n = 0; n < i; n++) CHECK(seen[n] != seen[i]);
        if (i > 0) CHECK_STATUS(push_send(server, seen[i - 1], "x", 1, 0), PUSH_ERR_NOT_FOUND);
        peer_close(&client);
        expect_event(server, &event, PUSH_EVENT_CLOSE);
        wait_for_connections(server, 0);
    }
    push_event_clear(&event);
    stop(server);
}

static void a_full_queue_loses_nothing(void)
{
    enum { MESSAGES = 20000 };
    push_server *server = serve("threads", "1", "event_queue", "16", "client_rate", "0", NULL);
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    expect_event(server, &event, PUSH_EVENT_OPEN);
    pid_t sender = fork(); /* its writes will wait, because nothing reads */
    if (sender == 0) {
        char text[16];
        for (int i = 0; i < MESSAGES; i++) {
            snprintf(text, sizeof text, "%d", i);
            if (!ws_send(&client, WS_TEXT, text, strlen(text))) break;
        }
        _exit(0);
    }
    WAIT_WHILE(stats_of(server).events_waiting < 16);
    CHECK(stats_of(server).received < MESSAGES); /* the client is held up */
    for (int i = 0; i < MESSAGES; i++) {
        if (!expect_event(server, &event, PUSH_EVENT_MESSAGE)) break;
        CHECK_EQ(atoi(memcpy((char[16]){0}, event.data, event.len)), i);
    }
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void comings_and_goings_are_bounded_too(void)
{
    enum { CLIENTS = 400, BOUND = 16 };
    push_server *server = serve("threads", "1", "event_queue", "16", NULL);
    int opened = 0;
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < CLIENTS; i++) { /* while the host takes nothing */
        struct peer client = adopted(server, NULL);
        peer_get(&client, "channel=c&transport=sse", "");
        peer_fill(&client, 10); /* it may be refused, or have to wait for the host */
        opened += peer_count(&client, "chunked"); /* a refusal is one answer and its end, also to an EventSource */
        peer_close(&client);
    }
    /* Each client that came and went has left two events. */
    check_case("%d opened, at most about %d events may wait", opened, BOUND);
    CHECK(opened <= 8 * BOUND);
    check_case(NULL);
    stop(server);
}

static void every_open_has_one_close(void)
{
    enum { CLIENTS = 240 };
    static struct peer clients[CLIENTS];
    static push_connection numbers[CLIENTS];
    static int closes[CLIENTS];
    push_server *server = serve("threads", "2", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_grant grant = grant_of_every_channel();
    CHECK(push_event_fd(server) >= 0);
    grant.user = "ann";
    for (int i = 0; i < CLIENTS; i++) {
        static const char *const kinds[] = {"sse", "stream"};
        if (i % 3) clients[i] = adopted_ws(server, &grant, "channel=c");
        else clients[i] = adopted_http(server, &grant, kinds[i % 2], "channel=c");
        numbers[i] = expect_event(server, &event, PUSH_EVENT_OPEN);
    }
    /* They end in all ways that there are, and in two at once. */
    for (int i = 0; i < CLIENTS; i++) {
        if (i % 8 == 0) peer_close(&clients[i]);
        if (i % 8 == 1) peer_reset(&clients[i]);
        if (i % 8 == 2 || i % 8 == 3) CHECK_STATUS(push_close(server, numbers[i], 4001, "x"), PUSH_OK);
        if (i % 8 == 3) peer_close(&clients[i]);
        if (i % 8 == 4 && i % 3) ws_send(&clients[i], WS_CLOSE, "\x03\xe8", 2);
        if (i % 8 == 5 && i % 3) ws_send(&clients[i], 3, NULL, 0); /* no such opcode */
        if (i % 8 == 6) shutdown(clients[i].fd, SHUT_WR);
    }
    CHECK_STATUS(push_disconnect_user(server, "ann", 4403, NULL), PUSH_OK);
    for (int i = 0; i < CLIENTS; i++) {
        push_connection gone = expect_event(server, &event, PUSH_EVENT_CLOSE);
        CHECK_TEXT(event.user, "ann");
        for (int n = 0; n < CLIENTS; n++) closes[n] += numbers[n] == gone;
    }
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(closes[i], 1);
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 50), PUSH_ERR_TIMEOUT);
    push_event_clear(&event);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
    wait_for_connections(server, 0);
    stop(server);
}

static void say(struct peer *client, const char *text) { CHECK(ws_send(client, WS_TEXT, text, strlen(text))); }

/* The host answers calls, and refuses them. */
static void calls_get_the_hosts_answers(void)
{
    push_server *server = serve("threads", "1", "events", "call", "call_timeout", "1m", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct peer client = adopted(server, NULL);
    push_request second;
    CHECK(push_event_fd(server) >= 0);
    REQUIRE(ws_open(&client, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    say(&client, "{\"type\":\"call\",\"ref\":1,\"data\":\"one\"}");
    say(&client, "{\"type\":\"call\",\"ref\":2,\"data\":\"AP8=\",\"base64\":true}");
    CHECK(expect_event(server, &event, PUSH_EVENT_CALL) != 0);
    CHECK_EQ(event.len, 3);
    CHECK(memcmp(event.data, "one", 3) == 0 && event.flags == 0 && event.request != 0);
    CHECK_STATUS(push_answer(server, event.request, "1 \"", 3, 0), PUSH_OK);
    ws_expect(&client, "{\"type\":\"answer\",\"data\":\"1 \\\"\",\"ref\":1}");
    expect_event(server, &event, PUSH_EVENT_CALL);
    CHECK_EQ(event.len, 2);
    CHECK_EQ(event.flags, PUSH_EVENT_BINARY);
    second = event.request;
    CHECK_STATUS(push_deny(server, second, 403, "no"), PUSH_OK);
    ws_expect(&client, "{\"type\":\"error\",\"code\":\"refused\",\"message\":\"no\",\"status\":403,\"ref\":2}");
    /* It is answered already. */
    CHECK_STATUS(push_answer(server, second, "x", 1, 0), PUSH_OK);
    CHECK_EQ(stats_of(server).calls, 2);
    CHECK_EQ(stats_of(server).calls_given_up, 0);
    push_event_clear(&event);
    peer_close(&client);
    stop(server);
}

/* The host checks what clients publish. */
static void messages_of_clients_wait_for_the_host(void)
{
    push_server *server = serve("threads", "1", "events", "publish", "call_timeout", "1m",
                                "channel.chat.*.client_publish", "host", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_message instead = PUSH_MESSAGE_INIT;
    push_grant grant = grant_of_every_channel();
    grant.flags = PUSH_GRANT_PUBLISH;
    struct peer client = adopted(server, &grant), reader = adopted(server, NULL);
    push_request second;
    CHECK(push_event_fd(server) >= 0);
    REQUIRE(ws_open(&reader, "channel=chat.1", ""));
    REQUIRE(ws_open(&client, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    say(&client, "{\"type\":\"publish\",\"channel\":\"chat.1\",\"data\":\"one\",\"event\":\"said\",\"key\":\"k\"}");
    say(&client, "{\"type\":\"publish\",\"ref\":2,\"channel\":\"chat.1\",\"data\":\"AP8=\",\"base64\":true}");
    CHECK(expect_event(server, &event, PUSH_EVENT_PUBLISH) != 0);
    CHECK_EQ(event.size, sizeof event);
    CHECK(event.len == 3 && memcmp(event.data, "one", 3) == 0 && event.flags == 0 && event.request != 0);
    CHECK_TEXT(event.channel, "chat.1");
    CHECK_TEXT(event.event, "said");
    CHECK_TEXT(event.key, "k");
    CHECK_STATUS(push_allow_publish(server, event.request, NULL), PUSH_OK);
    ws_expect(&reader, "one");
    expect_event(server, &event, PUSH_EVENT_PUBLISH);
    CHECK(event.len == 2 && event.flags == PUSH_EVENT_BINARY && !event.event && !event.key);
    second = event.request;
    instead.data = "two";
    instead.len = 3;
    CHECK_STATUS(push_allow_publish(server, second, &instead), PUSH_OK);
    CHECK_STATUS(push_allow_publish(server, second, NULL), PUSH_OK); /* it is answered already */
    ws_expect(&reader, "two");
    say(&client, "{\"type\":\"publish\",\"ref\":3,\"channel\":\"chat.1\",\"data\":\"three\"}");
    expect_event(server, &event, PUSH_EVENT_PUBLISH);
    CHECK_STATUS(push_deny(server, event.request, 429, "later"), PUSH_OK);
    CHECK_EQ(stats_of(server).publish_checks, 3);
    CHECK_EQ(stats_of(server).publish_checks_given_up, 0);
    push_event_clear(&event);
    CHECK(!event.event && !event.key && !event.channel);
    peer_close(&client);
    peer_close(&reader);
    stop(server);
}

/* A host that was compiled when an event had fewer fields. */
static void an_older_event_is_not_written_beyond_its_end(void)
{
    push_server *server = serve("threads", "1", "events", "publish", "client_publish", "host", NULL);
    struct {
        push_event event;
        char behind[16];
    } older;
    const size_t size = offsetof(push_event, event);
    push_grant grant = grant_of_every_channel();
    grant.flags = PUSH_GRANT_PUBLISH;
    struct peer client = adopted(server, &grant);
    CHECK(push_event_fd(server) >= 0);
    REQUIRE(ws_open(&client, "", "Sec-WebSocket-Protocol: push.v1.json\r\n"));
    say(&client, "{\"type\":\"publish\",\"channel\":\"a\",\"data\":\"one\",\"event\":\"said\",\"key\":\"k\"}");
    memset(&older, 0, size);
    memset((char *)&older + size, 'x', sizeof older - size);
    older.event.size = size;
    CHECK_STATUS(push_next_event(server, &older.event, size, PATIENCE_MS), PUSH_OK);
    CHECK_EQ(older.event.kind, PUSH_EVENT_PUBLISH);
    CHECK_EQ(older.event.size, size);
    push_event_clear(&older.event);
    for (size_t i = size; i < sizeof older; i++) CHECK_EQ(((char *)&older)[i], 'x');
    /* It has copied what its header knows of a callback's event: that has the library's size, and no owner. */
    older.event.size = sizeof(push_event);
    older.event.channel = "a";
    push_event_clear(&older.event);
    CHECK(older.event.channel == NULL);
    for (size_t i = size; i < sizeof older; i++) CHECK_EQ(((char *)&older)[i], 'x');
    peer_close(&client);
    stop(server);
}

/* Hands over a client that sends a message and goes. When it has gone, the kinds of its events must be `expected`. */
static void expect_kinds(push_server *server, int fd, const uint32_t *expected)
{
    push_event event = PUSH_EVENT_INIT;
    struct peer client = adopted_ws(server, NULL, "channel=c");
    CHECK(ws_send(&client, WS_TEXT, "x", 1));
    CHECK(ws_send(&client, WS_CLOSE, NULL, 0));
    CHECK_EQ(ws_close_code(&client), 1000);
    peer_close(&client);
    wait_for_connections(server, 0);
    for (; *expected; expected++) {
        CHECK(readable(fd, PATIENCE_MS));
        expect_event(server, &event, *expected);
    }
    CHECK(!readable(fd, 0));
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 0), PUSH_ERR_TIMEOUT);
    push_event_clear(&event);
}

static void only_the_kinds_that_are_wanted(void)
{
    static const struct {
        const char *option;
        uint32_t told[6];
    } cases[] = {{"message", {PUSH_EVENT_MESSAGE}},
                 {"none", {0}},
                 {"close,open", {PUSH_EVENT_OPEN, PUSH_EVENT_CLOSE}},
                 {"open,message,close", {PUSH_EVENT_OPEN, PUSH_EVENT_MESSAGE, PUSH_EVENT_CLOSE}},
                 {"unsubscribe,subscribe", {PUSH_EVENT_SUBSCRIBE, PUSH_EVENT_UNSUBSCRIBE}},
                 {"open,message,close,subscribe,unsubscribe",
                  {PUSH_EVENT_OPEN, PUSH_EVENT_SUBSCRIBE, PUSH_EVENT_MESSAGE, PUSH_EVENT_UNSUBSCRIBE,
                   PUSH_EVENT_CLOSE}}};
    push_server *server = serve("threads", "1", "events", "close", NULL);
    push_config *config = configure("threads", "1", NULL);
    int fd = push_event_fd(server);
    expect_kinds(server, fd, (uint32_t[]){PUSH_EVENT_CLOSE, 0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case("events=%s", cases[i].option);
        CHECK_STATUS(push_config_set(config, "events", cases[i].option, NULL, 0), PUSH_OK);
        CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
        expect_kinds(server, fd, cases[i].told);
    }
    check_case(NULL);
    push_config_free(config);
    stop(server);
}

/* Clients wait for a full queue. If the host does not want their messages any more, they are not held up. */
static void unwanted_messages_fill_no_queue(void)
{
    push_server *server = serve("threads", "1", "event_queue", "16", "events", "message", NULL);
    push_config *config = push_config_new();
    struct peer client = adopted_ws(server, NULL, "channel=c");
    struct frame frame;
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < 20; i++) CHECK(ws_send(&client, WS_TEXT, "x", 1)); /* more than fit */
    WAIT_WHILE(stats_of(server).events_waiting < 16);
    CHECK(ws_send(&client, WS_PING, "p", 1)); /* is not read now */
    CHECK(!ws_next(&client, &frame, 50));
    CHECK_STATUS(push_config_set(config, "listen", "none", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_config_set(config, "threads", "1", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_config_set(config, "event_queue", "16", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_config_set(config, "events", "none", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
    CHECK(ws_next(&client, &frame, PATIENCE_MS));
    CHECK_EQ(frame.opcode, WS_PONG);
    CHECK_EQ(stats_of(server).events_dropped, 0); /* they are not lost, because they were not asked for */
    push_config_free(config);
    peer_close(&client);
    stop(server);
}

static void stopped_with_a_full_queue(void)
{
    push_server *server = serve("threads", "1", "event_queue", "16", NULL);
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 100; i++) CHECK(ws_send(&client, WS_TEXT, "x", 1));
    WAIT_WHILE(stats_of(server).events_waiting < 16);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, 200), PUSH_OK);
    CHECK(now_ms() - began < PATIENCE_MS); /* it would wait for ever */
    peer_close(&client);
}

static atomic_int taken;
static push_server *pulled;

static void *pull(void *unused)
{
    push_event event = PUSH_EVENT_INIT;
    push_status status;
    (void)unused;
    while ((status = push_next_event(pulled, &event, sizeof event, -1)) == PUSH_OK) {
        if (event.kind == PUSH_EVENT_MESSAGE) taken++;
    }
    CHECK_STATUS(status, PUSH_ERR_CLOSED);
    push_event_clear(&event);
    return NULL;
}

static void many_threads_pull(void)
{
    enum { PULLERS = 4, CLIENTS = 8, MESSAGES = 200 };
    pthread_t threads[PULLERS];
    struct peer clients[CLIENTS];
    pulled = serve("threads", "2", NULL);
    taken = 0;
    CHECK(push_event_fd(pulled) >= 0);
    for (int i = 0; i < PULLERS; i++) pthread_create(&threads[i], NULL, pull, NULL);
    for (int i = 0; i < CLIENTS; i++) clients[i] = adopted_ws(pulled, NULL, "channel=c");
    for (int n = 0; n < MESSAGES; n++) {
        for (int i = 0; i < CLIENTS; i++) CHECK(ws_send(&clients[i], WS_TEXT, "x", 1));
    }
    WAIT_WHILE(taken < CLIENTS * MESSAGES);
    CHECK_EQ(taken, CLIENTS * MESSAGES);
    stop(pulled); /* ends their waiting */
    for (int i = 0; i < PULLERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
}

static void waiting_takes_its_time_and_no_longer(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    int64_t began = now_ms();
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 150), PUSH_ERR_TIMEOUT);
    CHECK(now_ms() - began >= 145 && now_ms() - began < PATIENCE_MS);
    int64_t quickest = PATIENCE_MS;
    for (int i = 0; i < 20; i++) {
        began = now_ms();
        CHECK_STATUS(push_next_event(server, &event, sizeof event, 0), PUSH_ERR_TIMEOUT);
        if (now_ms() - began < quickest) quickest = now_ms() - began;
    }
    CHECK(quickest < 100);
    stop(server);
}

CHECK_MAIN(TEST(the_descriptor_says_when_events_wait), TEST(what_an_event_says),
           TEST(an_event_stays_until_it_is_passed_again), TEST(nothing_is_told_before_somebody_asks),
           TEST(sending_to_one_connection), TEST(numbers_are_not_used_again),
           TEST(calls_get_the_hosts_answers), TEST(messages_of_clients_wait_for_the_host),
           TEST(an_older_event_is_not_written_beyond_its_end), TEST(a_full_queue_loses_nothing),
           TEST(comings_and_goings_are_bounded_too), TEST(every_open_has_one_close),
           TEST(only_the_kinds_that_are_wanted), TEST(unwanted_messages_fill_no_queue),
           TEST(stopped_with_a_full_queue),
           TEST(many_threads_pull),
           TEST(waiting_takes_its_time_and_no_longer))
