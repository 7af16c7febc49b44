/* Servers start and stop again and again, and side by side. They leave nothing behind. */
#include "process.h"
#include "serve.h"
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void ignore_line(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

/* A server with everything that a server can have, used for a moment. */
static void live_once(const char *unix_path)
{
    char address[128];
    push_config *config = configure("threads", "2", "listen", unix_path, "control", "127.0.0.1:0", "control_key",
                                    "0123456789abcdef", NULL);
    push_config_on_log(config, ignore_line, NULL, NULL);
    push_server *server = serve_config(config);
    push_event event = PUSH_EVENT_INIT;
    push_message message = PUSH_MESSAGE_INIT;
    CHECK(push_event_fd(server) >= 0);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    struct peer own = peer_of(dial(address)), given = adopted_ws(server, NULL, "channel=c");
    CHECK(own.fd >= 0 && ws_open(&own, "channel=c", ""));
    message.channel = "c";
    message.data = "hello";
    message.len = 5;
    message.key = "k";
    CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
    ws_expect(&own, "hello");
    ws_expect(&given, "hello");
    expect_event(server, &event, PUSH_EVENT_OPEN);
    push_event_clear(&event);
    stop(server);
    CHECK(peer_read_to_end(&own, PATIENCE_MS) && peer_read_to_end(&given, PATIENCE_MS));
    peer_close(&own);
    peer_close(&given);
}

static void two_hundred_times(void)
{
    enum { WARM = 20, TIMES = 200, GROWTH = 64 << 10 };
    char directory[128], path[256];
    temporary_directory(directory, sizeof directory);
    snprintf(path, sizeof path, "unix:%s/push.sock", directory);
    int descriptors = 0, threads = 0;
    size_t heap = 0;
    for (int i = 0; i < TIMES; i++) {
        live_once(path);
        if (i != WARM) continue;
        descriptors = descriptor_count();
        threads = thread_count_at_most(1);
        malloc_trim(0);
        heap = heap_bytes();
    }
    CHECK_EQ(descriptor_count(), descriptors);
    CHECK_EQ(thread_count_at_most(threads), threads);
    malloc_trim(0);
    check_case("%zu bytes before, %zu after", heap, heap_bytes());
    /* A sanitizer keeps freed memory. */
    CHECK(sanitized() || heap_bytes() < heap + GROWTH);
    remove_directory(directory);
}

/* A client whose request is handed over with its connection: no time for its head can pass. */
static struct peer handed_over(push_server *server, const char *transport, const char *query)
{
    char text[2048], all[1024];
    struct peer client;
    int accepted;
    unix_pair(&client, &accepted);
    if (transport) {
        snprintf(all, sizeof all, "transport=%s&%s", transport, query);
        snprintf(text, sizeof text, "GET /push?%s HTTP/1.1\r\nHost: localhost\r\n\r\n", all);
    } else {
        ws_request(text, sizeof text, query, "");
    }
    REQUIRE(CHECK_STATUS(push_adopt(server, accepted, text, strlen(text), PUSH_GRANT_ALL), PUSH_OK));
    if (transport && strcmp(transport, "poll") == 0) return client; /* the answer comes later */
    REQUIRE(peer_expect(&client, transport ? "HTTP/1.1 200 " : "HTTP/1.1 101 "));
    REQUIRE(peer_skip_past(&client, "\r\n\r\n"));
    return client;
}

/* Clients that come and go, messages, keys and events are freed when they are over. */
static void live_through(push_server *server, struct peer *stays, int rounds)
{
    static const char *const transports[] = {"sse", "stream", "poll"};
    push_event event = PUSH_EVENT_INIT;
    int64_t enough = now_ms() + ENOUGH_MS;
    for (int i = 0; i < rounds && now_ms() < enough; i++) {
        char query[64], key[32];
        push_message message = PUSH_MESSAGE_INIT;
        snprintf(query, sizeof query, "channel=c%d&channel=d%d", i % 20, i % 20);
        const char *transport = i % 2 ? NULL : transports[i / 2 % 3];
        struct peer client = handed_over(server, transport, query);
        bool answered = false;
        if (transport && strcmp(transport, "poll") == 0) {
            /* It is answered later. On a slow machine its time may be over before it is seen to wait. */
            WAIT_WHILE(stats_of(server).polls == 0 && !(answered = peer_fill(&client, 0)));
        }
        snprintf(key, sizeof key, "key%d", i);
        message.channel = query + strlen("channel=");
        message.key = key;
        query[strcspn(query, "&")] = 0;
        CHECK_STATUS(push_publish_message(server, &message, NULL), PUSH_OK);
        CHECK(answered || peer_fill(&client, PATIENCE_MS));
        if (i % 2) ws_send(&client, WS_TEXT, "hello", 5);
        while (push_next_event(server, &event, sizeof event, 0) == PUSH_OK) {}
        peer_close(&client);
        while (peer_fill(stays, 0)) stays->len = 0;
    }
    wait_for_connections(server, 1);
    WAIT_WHILE(stats_of(server).history_messages > 0);
    sleep_ms(1500); /* until keys and timers have outlived their age, too */
    while (push_next_event(server, &event, sizeof event, 0) == PUSH_OK) {}
    push_event_clear(&event);
}

static void a_long_life_does_not_grow(void)
{
    enum { ROUNDS = 3000, GROWTH = 16 << 10 };
    char query[1024] = "", *at = query;
    /* The times are short, since timers of closed connections are kept until they are due. */
    push_server *server = serve("threads", "2", "history_age", "100ms", "key_window", "100ms", "head_timeout", "500ms",
                                "heartbeat", "500ms", "poll_timeout", "500ms", NULL);
    CHECK(push_event_fd(server) >= 0);
    /* One client stays, so that no channel disappears: the hub keeps something of those that do, up to a bound. */
    for (int i = 0; i < 20; i++) at += sprintf(at, "channel=c%d&channel=d%d&", i, i);
    struct peer stays = handed_over(server, "stream", query);
    /* A queue that had to grow once shows as growth once. A leak shows every time. */
    size_t before = 0, after = 0;
    bool grew = true;
    for (int i = 0; i < (sanitized() ? 2 : 7) && grew; i++) {
        before = after;
        live_through(server, &stays, ROUNDS);
        malloc_trim(0);
        after = heap_bytes();
        grew = i == 0 || after > before + GROWTH;
    }
    check_case("%zu bytes before, %zu after up to %d more clients", before, after, ROUNDS);
    CHECK(sanitized() || !grew);
    check_case(NULL);
    push_stats stats = stats_of(server);
    CHECK_EQ(stats.channels, 40);
    CHECK_EQ(stats.subscriptions, 40);
    CHECK_EQ(stats.history_messages, 0);
    CHECK_EQ(stats.history_bytes, 0);
    stop(server);
    peer_close(&stays);
}

static void a_start_that_fails_leaves_nothing(void)
{
    char address[128], err[256] = "";
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", NULL), *second = (push_server *)77;
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    char both[300];
    snprintf(both, sizeof both, "127.0.0.1:0,%s", address);
    push_config *config = configure("threads", "2", "listen", both, NULL);
    push_config_on_log(config, ignore_line, NULL, NULL);
    CHECK_STATUS(push_start(config, &second, err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK_HAS(err, address); /* says which */
    int descriptors = descriptor_count(), threads = thread_count_at_most(1 + 2);
    size_t heap = heap_bytes();
    for (int i = 0; i < 100; i++) CHECK_STATUS(push_start(config, &second, err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK(second == (push_server *)77);
    CHECK_EQ(descriptor_count(), descriptors);
    CHECK_EQ(thread_count_at_most(threads), threads);
    CHECK(sanitized() || heap_bytes() < heap + (16 << 10));
    push_config_free(config);
    stop(server);
}

static void no_more_than_256_servers(void)
{
    enum { MAX = 256 };
    push_server *servers[MAX], *one_more = (push_server *)77;
    char err[256] = "";
    push_config *config = configure("threads", "1", NULL);
    for (int i = 0; i < MAX; i++) {
        check_case("server %d", i);
        REQUIRE(CHECK_STATUS(push_start(config, &servers[i], err, sizeof err), PUSH_OK));
    }
    check_case(NULL);
    int descriptors = descriptor_count(), threads = thread_count();
    CHECK_STATUS(push_start(config, &one_more, err, sizeof err), PUSH_ERR_LIMIT);
    CHECK_HAS(err, "256");
    CHECK(one_more == (push_server *)77);
    CHECK_EQ(descriptor_count(), descriptors);
    CHECK_EQ(thread_count_at_most(threads), threads);
    for (int i = 0; i < MAX; i++) CHECK_STATUS(push_publish(servers[i], "c", "x", 1), PUSH_OK);
    stop(servers[100]); /* this makes room for another server, with another handle */
    CHECK_STATUS(push_start(config, &one_more, err, sizeof err), PUSH_OK);
    CHECK(one_more != servers[100]);
    CHECK_STATUS(push_publish(servers[100], "c", "x", 1), PUSH_ERR_CLOSED);
    servers[100] = one_more;
    for (int i = 0; i < MAX; i++) stop(servers[i]);
    push_config_free(config);
}

static void two_servers_know_nothing_of_each_other(void)
{
    push_server *first = serve("threads", "1", NULL), *second = serve("threads", "1", NULL);
    struct peer on_first = adopted_ws(first, NULL, "channel=c"), on_second = adopted_ws(second, NULL, "channel=c");
    CHECK_STATUS(push_publish(first, "c", "one", 3), PUSH_OK);
    CHECK_STATUS(push_publish(second, "c", "two", 3), PUSH_OK);
    ws_expect(&on_first, "one");
    ws_expect(&on_second, "two");
    stop(first);
    CHECK_EQ(ws_close_code(&on_first), 1001);
    CHECK_STATUS(push_publish(second, "c", "three", 5), PUSH_OK);
    ws_expect(&on_second, "three");
    CHECK_EQ(stats_of(second).published, 2);
    stop(second);
    peer_close(&on_first);
    peer_close(&on_second);
}

static void *publish_for_ever(void *server)
{
    while (push_publish(server, "c", "x", 1) != PUSH_ERR_CLOSED) {}
    return NULL;
}

static void tell_nobody(void *user_data, const push_event *event)
{
    (void)user_data, (void)event;
}

enum { BY_EXIT, BY_LAST_THREAD, BY_UNDERSCORE, WAYS };

/* A host ends as hosts do: in the middle of everything, and without a call of the library. */
static _Noreturn void live_and_leave(int way)
{
    pthread_t thread;
    struct peer client;
    push_config *config = configure("threads", "2", "listen", "127.0.0.1:0", NULL);
    push_config_on_log(config, ignore_line, NULL, NULL);
    push_config_on_event(config, tell_nobody, NULL, NULL);
    push_server *server = serve_config(config);
    alarm(PATIENCE_MS / 1000);
    pthread_create(&thread, NULL, publish_for_ever, server);
    client = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 20; i++) peer_fill(&client, PATIENCE_MS);
    if (way == BY_UNDERSCORE) _exit(7);
    if (way == BY_EXIT) exit(7);
    CHECK_STATUS(push_stop(server, 0), PUSH_OK);
    pthread_join(thread, NULL);
    peer_close(&client);
    pthread_exit(NULL); /* no thread is left: the process ends by itself */
}

static void a_host_that_ends_without_a_stop(void)
{
    for (int round = 0; round < 30; round++) {
        int status = 0, way = round % WAYS;
        pid_t child = fork();
        if (child == 0) live_and_leave(way);
        waitpid(child, &status, 0);
        check_case("way %d: %s %d", way, WIFSIGNALED(status) ? "signal" : "exit code",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (way == BY_LAST_THREAD ? 0 : 7));
    }
}

static push_server *contested;
static atomic_int stopped;

static void *stop_it(void *unused)
{
    (void)unused;
    push_status status = push_stop(contested, 0);
    CHECK(status == PUSH_OK || status == PUSH_ERR_CLOSED);
    stopped += status == PUSH_OK;
    return NULL;
}

static void stopped_once_by_many_threads(void)
{
    for (int round = 0; round < 50; round++) {
        contested = serve("threads", "1", NULL);
        stopped = 0;
        in_threads(4, stop_it);
        CHECK_EQ(stopped, 1);
    }
}

static push_config *shared_config;
static atomic_int started;

static void *start_and_stop(void *unused)
{
    (void)unused;
    for (int i = 0; i < 30; i++) {
        push_server *server = NULL;
        CHECK_STATUS(push_start(shared_config, &server, NULL, 0), PUSH_OK);
        CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
        CHECK_STATUS(push_stop(server, 0), PUSH_OK);
        started++;
    }
    return NULL;
}

static void started_and_stopped_by_many_threads(void)
{
    shared_config = configure("threads", "1", NULL);
    in_threads(4, start_and_stop);
    CHECK_EQ(started, 4 * 30);
    push_config_free(shared_config);
}

static void the_default_is_a_listener_on_loopback(void)
{
    char err[256] = "", address[128] = "";
    push_server *server = NULL;
    push_status status = push_start(NULL, &server, err, sizeof err);
    if (status == PUSH_ERR_SYSTEM) { /* another process has the port today: then the error must say that */
        CHECK_HAS(err, "127.0.0.1:8090");
        return;
    }
    CHECK_STATUS(status, PUSH_OK);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    CHECK_TEXT(address, "127.0.0.1:8090");
    for (size_t size = 0; size < sizeof "127.0.0.1:8090"; size++) {
        CHECK_STATUS(push_listen_address(server, 0, address, size), PUSH_ERR_TOO_LARGE);
    }
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof "127.0.0.1:8090"), PUSH_OK);
    CHECK_STATUS(push_listen_address(server, 1, address, sizeof address), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_listen_address(server, UINT32_MAX, address, sizeof address), PUSH_ERR_NOT_FOUND);
    stop(server);
}

CHECK_MAIN(TEST(two_hundred_times), TEST(a_long_life_does_not_grow), TEST(a_start_that_fails_leaves_nothing),
           TEST(no_more_than_256_servers), TEST(two_servers_know_nothing_of_each_other),
           TEST(a_host_that_ends_without_a_stop), TEST(stopped_once_by_many_threads),
           TEST(started_and_stopped_by_many_threads),
           TEST(the_default_is_a_listener_on_loopback))
