/* A stop delivers the published messages, tells every client, and takes no longer than it may. */
#include "process.h"
#include "serve.h"
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const transports[] = {"sse", "stream", "poll"};

static void published_right_before(void)
{
    enum { MESSAGES = 200, ROUNDS = 4 }; /* a socket takes them all, even if each comes alone and nobody reads */
    for (int round = 0; round < ROUNDS; round++) {
        push_server *server = serve("threads", "2", NULL);
        struct peer ws = adopted_ws(server, NULL, "channel=c"), others[3];
        for (int i = 0; i < 3; i++) others[i] = adopted_http(server, NULL, transports[i], "channel=c");
        wait_for_subscriptions(server, 4);
        char text[32];
        for (int i = 0; i < MESSAGES; i++) {
            snprintf(text, sizeof text, "message %d.", i);
            CHECK_STATUS(push_publish(server, "c", text, strlen(text)), PUSH_OK);
        }
        push_position last;
        push_message message = PUSH_MESSAGE_INIT;
        message.channel = "c";
        message.data = "last.";
        message.len = 5;
        CHECK_STATUS(push_publish_message(server, &message, &last), PUSH_OK);
        CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
        for (int i = 0; i < MESSAGES; i++) {
            snprintf(text, sizeof text, "message %d.", i);
            ws_expect(&ws, text);
        }
        ws_expect(&ws, "last.");
        CHECK_EQ(ws_close_code(&ws), 1001);
        for (int i = 0; i < 2; i++) {
            CHECK(peer_read_to_end(&others[i], PATIENCE_MS));
            CHECK_EQ(peer_count(&others[i], "message "), MESSAGES);
            CHECK_EQ(peer_count(&others[i], "last."), 1);
            CHECK(peer_count(&others[i], last.text) >= 1);
            CHECK_EQ(peer_count(&others[i], "\"code\":1001"), 1);
            /* The response ends as it should, with the last chunk. */
            CHECK(others[i].len > 5 && strcmp(others[i].data + others[i].len - 5, "0\r\n\r\n") == 0);
        }
        /* A poll's answer may be complete with the first message; its position says where to go on. */
        CHECK(peer_read_to_end(&others[2], PATIENCE_MS));
        CHECK(peer_count(&others[2], "message 0.") == 1);
        peer_close(&ws);
        for (int i = 0; i < 3; i++) peer_close(&others[i]);
    }
}

static void *read_slowly(void *peer)
{
    struct peer *client = peer;
    while (!client->ended) {
        peer_fill(client, 100);
        sleep_ms(1);
    }
    return NULL;
}

static void a_slow_client_has_its_time(void)
{
    enum { SIZE = 200 << 10, COUNT = 50 };
    pthread_t thread;
    push_server *server = serve("threads", "1", "outbox", "64MB", "close_timeout", "10m", NULL);
    char *payload = malloc(SIZE);
    struct peer client = adopted_http(server, NULL, "stream", "channel=c");
    memset(payload, 'x', SIZE);
    for (int i = 0; i < COUNT; i++) CHECK_STATUS(push_publish(server, "c", payload, SIZE), PUSH_OK);
    CHECK_STATUS(push_publish(server, "c", "the end", 7), PUSH_OK);
    pthread_create(&thread, NULL, read_slowly, &client);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, 2 * PATIENCE_MS), PUSH_OK);
    CHECK(now_ms() - began < PATIENCE_MS); /* less than all of it: the client is done before */
    pthread_join(thread, NULL);
    CHECK(client.len > (size_t)SIZE * COUNT);
    CHECK_EQ(peer_count(&client, "\"the end\""), 1);
    CHECK_EQ(peer_count(&client, "\"code\":1001"), 1);
    peer_close(&client);
    free(payload);
}

/* How long a stop takes with clients that do not end their side. */
static int stop_takes(uint32_t drain_ms, bool with_something_left)
{
    static char payload[800 << 10];
    push_server *server = serve("threads", "2", NULL);
    struct peer clients[4];
    clients[0] = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 3; i++) clients[i + 1] = adopted_http(server, NULL, transports[i], "channel=c");
    wait_for_subscriptions(server, 4);
    if (with_something_left) CHECK_STATUS(push_publish(server, "c", payload, sizeof payload), PUSH_OK);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, drain_ms), PUSH_OK);
    int took = (int)(now_ms() - began);
    for (int i = 0; i < 4; i++) peer_close(&clients[i]);
    return took;
}

/* Clients that have everything get this long to end the connection, if the stop has the time. */
enum { LINGER_MS = 500 };
/* A stop that waits although it must not takes at least `most`, also on a quick machine. A busy machine may delay the
 * others as well. So one of many must take less. */
enum { TRIES = 100 };

static void one_stop_is_quick(const char *what, uint32_t drain_ms, bool with_something_left, int least, int most)
{
    int quickest = INT_MAX;
    for (int i = 0; i < TRIES && quickest >= most; i++) {
        int took = stop_takes(drain_ms, with_something_left);
        check_case("%s: %d ms", what, took);
        CHECK(took >= least);
        if (took < quickest) quickest = took;
    }
    check_case("%s: %d ms", what, quickest);
    CHECK(quickest < most);
}

static void it_takes_no_longer_than_it_may(void)
{
    one_stop_is_quick("no time, idle clients", 0, false, 0, LINGER_MS);
    one_stop_is_quick("no time, clients that do not read", 0, true, 0, LINGER_MS);
    one_stop_is_quick("400 ms, clients that do not read", 400, true, 390, 400 + LINGER_MS);
    one_stop_is_quick("any time, idle clients that have everything", UINT32_MAX, false, 0, 5000);
}

static int stop_takes_with_a_client_that_answers(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    pid_t reader = fork();
    if (reader == 0) {
        ws_close_code(&client);
        _exit(0);
    }
    peer_close(&client);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, 5000), PUSH_OK);
    int took = (int)(now_ms() - began);
    waitpid(reader, NULL, 0);
    return took;
}

static void clients_that_answer_do_not_delay_it(void)
{
    int quickest = INT_MAX;
    for (int i = 0; i < TRIES && quickest >= LINGER_MS; i++) {
        int took = stop_takes_with_a_client_that_answers();
        if (took < quickest) quickest = took;
    }
    check_case("%d ms", quickest);
    CHECK(quickest < LINGER_MS); /* less than clients get that do not answer */
}

static push_server *talked_to;

static void *keep_talking(void *peer)
{
    char data[4000];
    memset(data, 'x', sizeof data);
    while (ws_send(peer, WS_BINARY, data, sizeof data)) {}
    return NULL;
}

static void a_client_that_never_stops_talking(void)
{
    pthread_t threads[4];
    struct peer clients[4];
    talked_to = serve("threads", "1", NULL);
    for (int i = 0; i < 4; i++) {
        clients[i] = adopted_ws(talked_to, NULL, "channel=c");
        pthread_create(&threads[i], NULL, keep_talking, &clients[i]);
    }
    WAIT_WHILE(stats_of(talked_to).received < 4);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(talked_to, 300), PUSH_OK);
    check_case("%d ms", (int)(now_ms() - began));
    CHECK(now_ms() - began < PATIENCE_MS); /* it would go on for ever */
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        peer_close(&clients[i]);
    }
}

/* Publishes so many messages that are larger than an outbox. Returns the position of the first one. */
static push_position publish_large(push_server *server, int count)
{
    static char payload[20 << 10];
    push_message message = PUSH_MESSAGE_INIT;
    push_position first = {.seq = 0}, at;
    memset(payload, 'x', sizeof payload);
    message.channel = "c";
    message.data = payload;
    message.len = sizeof payload;
    CHECK_STATUS(push_publish_message(server, &message, &first), PUSH_OK);
    for (int i = 1; i < count; i++) CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    return first;
}

static void nothing_follows_a_close(void)
{
    enum { COUNT = 100 };
    push_server *server =
        serve("threads", "1", "outbox", "16KB", "history_bytes", "64MB", "close_timeout", "10m", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_position first = publish_large(server, COUNT);
    char query[200];
    struct frame frame;
    CHECK(push_event_fd(server) >= 0);
    /* The client catches up with far more than an outbox holds, and reads only afterwards. */
    snprintf(query, sizeof query, "channel=c&since=%s", first.text);
    struct peer client = adopted_ws(server, NULL, query);
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_STATUS(push_close(server, connection, 4001, "enough"), PUSH_OK);
    expect_event(server, &event, PUSH_EVENT_CLOSE);
    int messages = 0;
    frame.opcode = 0;
    while (frame.opcode != WS_CLOSE && ws_next(&client, &frame, PATIENCE_MS)) messages += frame.opcode == WS_TEXT;
    CHECK_EQ(frame.opcode, WS_CLOSE);
    CHECK_EQ(frame.code, 4001);
    CHECK(messages < COUNT);
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    CHECK_EQ(client.len, 0);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
}

static void stopped_while_a_client_catches_up(void)
{
    enum { COUNT = 90 };
    pthread_t thread;
    push_server *server =
        serve("threads", "1", "outbox", "16KB", "history_bytes", "64MB", "close_timeout", "10m", NULL);
    push_position first = publish_large(server, COUNT + 1);
    char query[200];
    snprintf(query, sizeof query, "channel=c&since=%s", first.text);
    struct peer client = adopted_http(server, NULL, "stream", query);
    pthread_create(&thread, NULL, read_slowly, &client);
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
    pthread_join(thread, NULL);
    /* Its messages must be in order, and the last one must be the reason of the end. */
    CHECK_EQ(peer_count(&client, "\"code\":1001"), 1);
    CHECK_EQ(peer_count(&client, "\"type\":\"message\""), COUNT);
    CHECK(client.len > 5 && strcmp(client.data + client.len - 5, "0\r\n\r\n") == 0);
    peer_close(&client);
}

static void drained_before_it_stops(void)
{
    enum { CLIENTS = 12 };
    struct peer clients[CLIENTS];
    push_server *server = serve("threads", "2", NULL);
    push_event event = PUSH_EVENT_INIT;
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < CLIENTS; i++) clients[i] = adopted_http(server, NULL, "stream", "channel=c");
    CHECK_STATUS(push_drain(server, 1000), PUSH_OK);
    int closes = 0, drains = 0;
    while (push_next_event(server, &event, sizeof event, PATIENCE_MS) == PUSH_OK && event.kind != PUSH_EVENT_DRAINED) {
        closes += event.kind == PUSH_EVENT_CLOSE;
        drains += event.kind == PUSH_EVENT_DRAIN;
    }
    CHECK_EQ(event.kind, PUSH_EVENT_DRAINED);
    CHECK_EQ(event.connection, 0);
    CHECK_EQ(closes, CLIENTS);
    CHECK_EQ(drains, 1);
    CHECK_EQ(stats_of(server).connections, 0);
    /* The rest of the server is unchanged. */
    CHECK_STATUS(push_publish(server, "c", "kept", 4), PUSH_OK);
    CHECK_EQ(stats_of(server).history_messages, 1);
    int64_t began = now_ms();
    CHECK_STATUS(push_stop(server, 2 * PATIENCE_MS), PUSH_OK);
    CHECK(now_ms() - began < PATIENCE_MS); /* there is no client left to wait for */
    CHECK_STATUS(push_drain(server, 0), PUSH_ERR_CLOSED);
    push_event_clear(&event);
    for (int i = 0; i < CLIENTS; i++) {
        CHECK(peer_read_to_end(&clients[i], PATIENCE_MS));
        CHECK_EQ(peer_count(&clients[i], "\"code\":1001"), 1);
        CHECK_EQ(peer_count(&clients[i], "\"retry\":"), 1);
        peer_close(&clients[i]);
    }
}

CHECK_MAIN(TEST(published_right_before), TEST(a_slow_client_has_its_time), TEST(it_takes_no_longer_than_it_may),
           TEST(clients_that_answer_do_not_delay_it), TEST(a_client_that_never_stops_talking),
           TEST(nothing_follows_a_close), TEST(stopped_while_a_client_catches_up), TEST(drained_before_it_stops))
