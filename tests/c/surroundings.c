/* Processes in an odd state: closed standard descriptors, threads with small stacks, no keys left, too little memory
 * for the options, a callback that cancels its own thread. */
#include "process.h"
#include "serve.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* A duplicate of a descriptor, with a number that nothing else uses. */
static int out_of_the_way(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    if (high >= 0) close(fd);
    return high;
}

static bool standard_taken(void)
{
    return is_open(0) || is_open(1) || is_open(2);
}

static void standard_descriptors_stay_free(void)
{
    char directory[256], option[300], tcp[128];
    int kept[3];
    temporary_directory(directory, sizeof directory);
    snprintf(option, sizeof option, "unix:%s/attach", directory);
    for (int fd = 0; fd < 3; fd++) kept[fd] = out_of_the_way(fd);
    push_server *hub = serve("threads", "2", "listen", "127.0.0.1:0", "control", "127.0.0.1:0", "control_key",
                             "0123456789abcdef", "attach_listen", option, NULL);
    push_server *host = serve("attach", option, "attach_timeout", "1m", NULL);
    bool at_start = standard_taken();
    push_listen_address(hub, 0, tcp, sizeof tcp);
    struct peer client = peer_of(out_of_the_way(dial(tcp)));
    push_listen_address(hub, 1, tcp, sizeof tcp);
    struct peer controller = peer_of(out_of_the_way(dial(tcp)));
    bool opened = ws_open(&client, "channel=c", "");
    bool asked = peer_print(&controller, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
                                          "Authorization: Bearer 0123456789abcdef\r\n\r\n") &&
                 peer_expect(&controller, "200 OK");
    bool while_served = standard_taken();
    int fds[2];
    struct peer passed;
    unix_pair(&passed, fds);
    passed.fd = out_of_the_way(passed.fd);
    fds[0] = out_of_the_way(fds[0]);
    push_status adopted = push_adopt(host, fds[0], NULL, 0, PUSH_GRANT_ALL);
    bool opened_there = ws_open(&passed, "channel=c", "");
    bool passed_taken = standard_taken();
    push_status stopped = push_stop(host, 1000);
    push_publish(hub, "c", "hello", 5);
    bool heard = ws_expect(&client, "hello") && ws_expect(&passed, "hello");
    push_stop(hub, 1000);
    for (int fd = 0; fd < 3; fd++) {
        dup2(kept[fd], fd);
        close(kept[fd]);
    }
    CHECK(!at_start);
    CHECK(!while_served);
    CHECK(!passed_taken);
    CHECK(opened && asked && opened_there && heard);
    CHECK_STATUS(adopted, PUSH_OK);
    CHECK_STATUS(stopped, PUSH_OK);
    peer_close(&client);
    peer_close(&controller);
    peer_close(&passed);
    remove_directory(directory);
}

static void no_keys_left(void)
{
    pthread_key_t keys[2000];
    int count = 0;
    char err[256] = "";
    push_server *server = NULL;
    push_config *config = configure("threads", "1", NULL);
    while (count < 2000 && pthread_key_create(&keys[count], NULL) == 0) count++;
    REQUIRE(count > 0 && count < 2000);
    CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK_HAS(err, "key");
    for (int i = 0; i < 4; i++) pthread_key_delete(keys[--count]);
    CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_OK);
    /* There is none later either, when other threads call. */
    while (count < 2000 && pthread_key_create(&keys[count], NULL) == 0) count++;
    struct peer client = adopted_ws(server, NULL, "channel=c");
    CHECK_STATUS(push_publish(server, "c", "hello", 5), PUSH_OK);
    CHECK(ws_expect(&client, "hello"));
    peer_close(&client);
    stop(server);
    push_config_free(config);
    while (count > 0) pthread_key_delete(keys[--count]);
}

static void no_memory_for_the_mailboxes(void)
{
    char err[256] = "";
    push_server *server = NULL;
    struct rlimit before, narrow;
    push_config *config = configure("threads", "4", "mailbox", "1048576", NULL);
    if (sanitized()) { /* a sanitizer's shadow memory needs more than any limit */
        CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_OK);
        stop(server);
        push_config_free(config);
        return;
    }
    REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
    narrow = before;
    narrow.rlim_cur = 60 << 20;
    REQUIRE(setrlimit(RLIMIT_AS, &narrow) == 0);
    CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_SYSTEM);
    CHECK_HAS(err, "memory");
    REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
    CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_OK);
    stop(server);
    push_config_free(config);
}

static atomic_int events;

static void cancel_itself(void *user_data, const push_event *event)
{
    (void)user_data, (void)event;
    pthread_cancel(pthread_self());
    pthread_testcancel();
    events++;
}

static void callback_that_cancels_its_thread(void)
{
    push_config *config = configure("threads", "1", NULL);
    push_config_on_event(config, cancel_itself, NULL, NULL);
    push_server *server = serve_config(config);
    for (int i = 0; i < 3; i++) {
        struct peer client = adopted_ws(server, NULL, "channel=c");
        peer_close(&client);
    }
    WAIT_WHILE(events < 6);
    CHECK(events >= 6);
    stop(server);
}

static push_server *shared;

static void *call_on_a_small_stack(void *unused)
{
    static const char request[] = "GET /push?channel=c&last=9 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    char err[128];
    push_message message = PUSH_MESSAGE_INIT;
    push_grant grant = grant_of_every_channel();
    push_position position;
    push_event event = PUSH_EVENT_INIT;
    struct peer client;
    int fd;
    (void)unused;
    message.channel = "c";
    message.key = "k";
    grant.user = "u";
    CHECK_STATUS(push_publish(shared, "c", "hello", 5), PUSH_OK);
    CHECK_STATUS(push_publish_message(shared, &message, &position), PUSH_OK);
    CHECK_STATUS(push_publish_batch(shared, &message, 1, &position), PUSH_OK);
    CHECK_STATUS(push_broadcast(shared, &message, NULL), PUSH_OK);
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt(shared, fd, request, sizeof request - 1, &grant), PUSH_OK);
    CHECK_STATUS(push_next_event(shared, &event, sizeof event, PATIENCE_MS), PUSH_OK);
    CHECK_STATUS(push_send(shared, event.connection, "x", 1, 0), PUSH_OK);
    CHECK_STATUS(push_renew(shared, event.connection, &grant), PUSH_OK);
    CHECK_STATUS(push_revoke_channel(shared, "u", "d*", NULL), PUSH_OK);
    CHECK_STATUS(push_disconnect_user(shared, "u", 4403, NULL), PUSH_OK);
    push_event_clear(&event);
    push_config *config = push_config_new();
    CHECK_STATUS(push_config_set(config, "history_age", "1h", err, sizeof err), PUSH_OK);
    CHECK_STATUS(push_reload(shared, config, err, sizeof err), PUSH_OK);
    push_config_free(config);
    peer_close(&client);
    return NULL;
}

/* A compressed replay, and a compressed message that comes with the request. */
static void *compress_on_a_small_stack(void *unused)
{
    static const char request[] = "GET /push?channel=c&last=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
                                  "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0";
    push_grant grant = grant_of_every_channel();
    push_event event = PUSH_EVENT_INIT;
    char payload[2000];
    struct peer client;
    int fd;
    (void)unused;
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (char)('a' + i * i % 26);
    CHECK_STATUS(push_publish(shared, "c", payload, sizeof payload), PUSH_OK);
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt(shared, fd, request, sizeof request - 1, &grant), PUSH_OK);
    expect_event(shared, &event, PUSH_EVENT_OPEN);
    expect_event(shared, &event, PUSH_EVENT_MESSAGE);
    CHECK(event.len == 5 && memcmp(event.data, "Hello", 5) == 0);
    push_event_clear(&event);
    CHECK(peer_skip_past(&client, "\r\n\r\n"));
    while (client.len < 2 && peer_fill(&client, PATIENCE_MS)) {}
    CHECK(client.len >= 2 && (unsigned char)client.data[0] == 0xc1);
    peer_close(&client);
    return NULL;
}

static void *start_on_a_small_stack(void *unused)
{
    (void)unused;
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", "control", "127.0.0.1:0", "control_key",
                                "0123456789abcdef", NULL);
    stop(server);
    return NULL;
}

static void run_on(size_t kilobytes, void *(*body)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;
    /* Sanitizers make frames larger. */
    size_t size = (kilobytes << 10) * (sanitized() ? 16 : 1);
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstacksize(&attributes, size) == 0);
    REQUIRE(pthread_create(&thread, &attributes, body, NULL) == 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static void small_stacks(void)
{
    shared = serve("threads", "1", NULL);
    CHECK(push_event_fd(shared) >= 0);
    /* The header promises this. */
    run_on(32, call_on_a_small_stack);
    stop(shared);
    shared = serve("threads", "1", "compression", "true", NULL);
    CHECK(push_event_fd(shared) >= 0);
    run_on(32, compress_on_a_small_stack);
    stop(shared);
    run_on(64, start_on_a_small_stack);
}

CHECK_MAIN(TEST(standard_descriptors_stay_free), TEST(no_keys_left), TEST(no_memory_for_the_mailboxes),
           TEST(callback_that_cancels_its_thread), TEST(small_stacks))
