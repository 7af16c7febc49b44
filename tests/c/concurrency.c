/* One server, many threads, every call at once, while another thread stops it. */
#include "process.h"
#include "serve.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static push_server *server;
static _Atomic(push_connection) some_connection;
static atomic_int calls;

/* Whether a status is among those that a good call may get. */
static bool one_of(push_status status, const push_status *allowed)
{
    calls++;
    for (; *allowed != INT32_MAX; allowed++) {
        if (status == *allowed) return true;
    }
    check_case("status %d", (int)status);
    CHECK(!"the status is among those that may be");
    return true;
}

#define GOES_ON(status, ...) \
    (one_of((status), (const push_status[]){PUSH_OK, PUSH_ERR_CLOSED, __VA_ARGS__, INT32_MAX}),              \
     (status) != PUSH_ERR_CLOSED)

static void *publishes(void *unused)
{
    push_message batch[3] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    push_position at[3];
    push_status status;
    (void)unused;
    for (int i = 0; i < 3; i++) {
        batch[i].channel = "c";
        batch[i].data = "batch";
        batch[i].len = 5;
    }
    do {
        status = push_publish(server, "c", "x", 1);
        if (GOES_ON(status, PUSH_ERR_BUSY)) status = push_publish_batch(server, batch, 3, at);
        if (GOES_ON(status, PUSH_ERR_BUSY)) status = push_broadcast(server, batch, at);
    } while (GOES_ON(status, PUSH_ERR_BUSY));
    return NULL;
}

/* The status of push_adopt says who owns a descriptor. The leak check at the test's end finds a wrong one. */
static void *adopts(void *unused)
{
    struct peer clients[32];
    push_status status = PUSH_OK;
    (void)unused;
    memset(clients, 0, sizeof clients);
    for (int i = 0; i < 32; i++) clients[i].fd = -1;
    for (int i = 0; status != PUSH_ERR_CLOSED; i = (i + 1) % 32) {
        char text[1024];
        int fd;
        peer_close(&clients[i]);
        unix_pair(&clients[i], &fd);
        ws_request(text, sizeof text, "channel=c", "");
        status = push_adopt(server, fd, text, strlen(text), PUSH_GRANT_ALL);
        if (status != PUSH_OK) close(fd);
        else ws_send(&clients[i], WS_TEXT, "hello", 5);
        if (!GOES_ON(status, PUSH_ERR_BUSY, PUSH_ERR_LIMIT)) break;
    }
    for (int i = 0; i < 32; i++) peer_close(&clients[i]);
    return NULL;
}

static void *sends_and_closes(void *unused)
{
    push_status status;
    (void)unused;
    do {
        push_connection connection = some_connection;
        status = push_send(server, connection, "direct", 6, 0);
        if (GOES_ON(status, PUSH_ERR_NOT_FOUND, PUSH_ERR_BUSY)) status = push_close(server, connection, 1000, "bye");
    } while (GOES_ON(status, PUSH_ERR_NOT_FOUND, PUSH_ERR_BUSY));
    return NULL;
}

static void *looks(void *unused)
{
    char address[128];
    push_stats stats;
    push_status status;
    (void)unused;
    do {
        status = push_stats_get(server, &stats, sizeof stats);
        if (GOES_ON(status, PUSH_OK)) status = push_listen_address(server, 0, address, sizeof address);
        push_event_fd(server);
    } while (GOES_ON(status, PUSH_ERR_NOT_FOUND));
    return NULL;
}

static void *asks_who_is_there(void *unused)
{
    push_users page = PUSH_USERS_INIT;
    push_status status;
    (void)unused;
    do status = push_users_get(server, "c", page.next, 1, &page, sizeof page);
    while (GOES_ON(status, PUSH_OK));
    push_users_clear(&page);
    return NULL;
}

static void *answers(void *unused)
{
    push_grant grant = PUSH_GRANT_INIT;
    push_status status;
    (void)unused;
    for (push_request request = 0x100;; request++) { /* mostly for requests that do not exist */
        status = request % 2 ? push_allow(server, request, &grant) : push_deny(server, request, 403, NULL);
        if (!GOES_ON(status, PUSH_ERR_NOT_FOUND)) return NULL;
        status = push_disconnect_user(server, "ann", 4403, NULL);
        if (!GOES_ON(status, PUSH_ERR_NOT_FOUND)) return NULL;
        if (request % 64 == 0) sleep_ms(1);
    }
}

static void *pulls(void *unused)
{
    push_event event = PUSH_EVENT_INIT;
    push_status status;
    (void)unused;
    do {
        status = push_next_event(server, &event, sizeof event, -1);
        if (status == PUSH_OK) some_connection = event.connection;
    } while (GOES_ON(status, PUSH_OK));
    push_event_clear(&event);
    return NULL;
}

static void stop_amid(int after_ms, uint32_t drain_ms)
{
    static void *(*const work[])(void *) = {publishes, publishes, adopts, sends_and_closes, looks, answers, pulls,
                                            pulls, asks_who_is_there};
    enum { WORKERS = sizeof work / sizeof *work };
    pthread_t threads[WORKERS];
    /* If they are handed over faster than they are served, there must not be more than descriptors. */
    server = serve("threads", "2", "max_connections", "500", NULL);
    for (int i = 0; i < WORKERS; i++) pthread_create(&threads[i], NULL, work[i], NULL);
    sleep_ms(after_ms);
    CHECK_STATUS(push_stop(server, drain_ms), PUSH_OK);
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_ERR_CLOSED);
}

static void stopped_amid_everything(void)
{
    for (int round = 0; round < 20; round++) stop_amid(20 + round, round % 3 ? 0 : 50);
    CHECK(calls > 100);
}

static void stopped_right_away(void)
{
    for (int round = 0; round < 40; round++) stop_amid(0, 0);
}

/* Clients on two threads of the library send one message each, to a host that is faster than both. */
static void no_message_is_left_lying(void)
{
    enum { ROUNDS = 3000, CLIENTS = 4 };
    struct peer clients[CLIENTS];
    push_event event = PUSH_EVENT_INIT;
    server = serve("threads", "2", "event_queue", "16", NULL);
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = adopted_ws(server, NULL, "channel=c");
        expect_event(server, &event, PUSH_EVENT_OPEN);
    }
    int64_t enough = now_ms() + ENOUGH_MS;
    for (int round = 0; round < ROUNDS && now_ms() < enough; round++) {
        for (int i = 0; i < CLIENTS; i++) CHECK(ws_send(&clients[i], WS_TEXT, "x", 1));
        for (int i = 0; i < CLIENTS; i++) {
            push_status status;
            int64_t until = now_ms() + PATIENCE_MS;
            do status = push_next_event(server, &event, sizeof event, 0);
            while (status == PUSH_ERR_TIMEOUT && now_ms() < until);
            check_case("round %d", round);
            REQUIRE(status == PUSH_OK);
        }
    }
    push_event_clear(&event);
    stop(server);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
}

/* Each step is for a thread of the library that has just gone to sleep, or is about to. */
static void every_call_wakes_its_thread(void)
{
    enum { ROUNDS = 6000 };
    struct peer clients[2];
    push_connection numbers[2];
    push_event event = PUSH_EVENT_INIT;
    struct frame frame;
    server = serve("threads", "2", NULL);
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < 2; i++) {
        clients[i] = adopted_ws(server, NULL, i ? "channel=one" : "channel=zero");
        numbers[i] = expect_event(server, &event, PUSH_EVENT_OPEN);
    }
    int64_t enough = now_ms() + ENOUGH_MS;
    for (int round = 0; round < ROUNDS && now_ms() < enough; round++) {
        int i = round % 2;
        check_case("round %d", round);
        push_status status = round % 4 < 2 ? push_publish(server, i ? "one" : "zero", "x", 1)
                                           : push_send(server, numbers[i], "x", 1, 0);
        CHECK_STATUS(status, PUSH_OK);
        REQUIRE(ws_next(&clients[i], &frame, PATIENCE_MS) && frame.len == 1);
        for (volatile int pause = round * 7 % 4000; pause > 0; pause--) {} /* another moment each time */
    }
    check_case(NULL);
    push_event_clear(&event);
    stop(server);
    for (int i = 0; i < 2; i++) peer_close(&clients[i]);
}

static void *sends_now_and_then(void *client)
{
    for (int i = 0; i < 3000; i++) {
        CHECK(ws_send(client, WS_TEXT, "x", 1));
        for (volatile int pause = i * 13 % 5000; pause > 0; pause--) {}
    }
    return NULL;
}

/* A host with a poll() of its own, which sleeps until the descriptor says that there is something. */
static void the_event_descriptor_misses_nothing(void)
{
    enum { CLIENTS = 2, MESSAGES = 3000 };
    struct peer clients[CLIENTS];
    pthread_t threads[CLIENTS];
    push_event event = PUSH_EVENT_INIT;
    server = serve("threads", "2", NULL);
    struct pollfd ready = {push_event_fd(server), POLLIN, 0};
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = adopted_ws(server, NULL, "channel=c");
        expect_event(server, &event, PUSH_EVENT_OPEN);
    }
    for (int i = 0; i < CLIENTS; i++) pthread_create(&threads[i], NULL, sends_now_and_then, &clients[i]);
    for (int taken = 0; taken < CLIENTS * MESSAGES;) {
        check_case("%d taken", taken);
        REQUIRE(poll(&ready, 1, PATIENCE_MS) == 1);
        while (push_next_event(server, &event, sizeof event, 0) == PUSH_OK) taken++;
    }
    check_case(NULL);
    for (int i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
    push_event_clear(&event);
    stop(server);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
}

CHECK_MAIN(TEST(stopped_amid_everything), TEST(stopped_right_away), TEST(no_message_is_left_lying),
           TEST(every_call_wakes_its_thread), TEST(the_event_descriptor_misses_nothing))
