/* Clients vanish while many messages are published to them, with SIGPIPE at its default. The process survives. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static push_server *server;
static atomic_bool over;

static void *publish(void *unused)
{
    static char payload[2000];
    push_message message = PUSH_MESSAGE_INIT;
    (void)unused;
    memset(payload, 'x', sizeof payload);
    message.data = payload;
    for (unsigned i = 0; !over; i++) {
        message.len = i * 37 % sizeof payload;
        if (push_publish(server, "c", payload, message.len) == PUSH_ERR_BUSY) sleep_ms(1);
        if (i % 16 == 0) push_broadcast(server, &message, NULL);
    }
    return NULL;
}

static const char *const transports[] = {"ws", "sse", "stream", "poll"};

static void subscribe(struct peer *client, int number)
{
    char query[64];
    if (number % 4 == 0) {
        char text[1024];
        ws_request(text, sizeof text, number % 8 ? "channel=c" : "channel=c&channel=d", "");
        peer_send(client, text, strlen(text));
        return;
    }
    snprintf(query, sizeof query, "transport=%s&channel=c", transports[number % 4]);
    peer_get(client, query, "");
}

/* This many clients come and go in all ways that there are. */
static void vanish(bool tcp, const char *address, int clients)
{
    for (int i = 0; i < clients; i++) {
        struct peer client;
        int fd = -1;
        if (address) {
            client = peer_of(dial(address));
            REQUIRE(client.fd >= 0);
        } else {
            tcp ? tcp_pair(&client, &fd) : unix_pair(&client, &fd);
            CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
        }
        subscribe(&client, i);
        if (i % 3) peer_fill(&client, 20);
        if (i % 5 == 0) peer_reset(&client);
        else peer_close(&client);
    }
}

/* Anything that is left of a client. */
static uint64_t left(void)
{
    push_stats stats = stats_of(server);
    return stats.connections + stats.subscriptions + stats.websockets + stats.sse + stats.streams + stats.polls;
}

static void run(bool tcp, bool own_listener)
{
    char address[128];
    pthread_t publishers[2];
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &standard, NULL);
    server = serve("threads", "2", "outbox", "64KB", "listen", own_listener ? "127.0.0.1:0" : "none", NULL);
    if (own_listener) CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    struct peer stays = adopted_ws(server, NULL, "channel=quiet");
    for (int i = 0; i < 2; i++) pthread_create(&publishers[i], NULL, publish, NULL);
    vanish(tcp, own_listener ? address : NULL, 400);
    over = true;
    for (int i = 0; i < 2; i++) pthread_join(publishers[i], NULL);
    /* The client that stayed had only broadcasts, and may have been too slow for them. But it must have been told. */
    while (stays.fd >= 0 && peer_fill(&stays, 0)) stays.len = 0;
    peer_close(&stays);
    /* A shard tells the hub at the end of its turn which clients left. The listener's queue may still hold some. */
    uint64_t remain = 0;
    WAIT_WHILE((remain = left()) != 0);
    CHECK_EQ(remain, 0);
    stop(server);
}

static void unix_clients(void)
{
    run(false, false);
}

static void tcp_clients(void)
{
    run(true, false);
}

static void clients_of_the_own_listener(void)
{
    run(true, true);
}

static void clients_of_the_control_api(void)
{
    char address[128];
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &standard, NULL);
    server = serve("threads", "1", "control", "127.0.0.1:0", "control_key", "0123456789abcdef", NULL);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    for (int i = 0; i < 2000; i++) { /* a long list of channels */
        char channel[300];
        snprintf(channel, sizeof channel, "%0250d", i);
        CHECK_STATUS(push_publish(server, channel, "x", 1), PUSH_OK);
    }
    for (int i = 0; i < 200; i++) {
        struct peer client = peer_of(dial(address));
        REQUIRE(client.fd >= 0);
        for (int n = 0; n < 4; n++) {
            peer_print(&client, "GET /v1/channels HTTP/1.1\r\nHost: localhost\r\n"
                                "Authorization: Bearer 0123456789abcdef\r\n\r\n");
        }
        if (i % 2) peer_fill(&client, 5);
        if (i % 3 == 0) peer_reset(&client);
        else peer_close(&client);
    }
    struct peer client = peer_of(dial(address));
    CHECK(peer_print(&client, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    CHECK(peer_expect(&client, "HTTP/1.1 200 "));
    peer_close(&client);
    stop(server);
}

static void sent_to_one_that_vanishes(void)
{
    push_event event = PUSH_EVENT_INIT;
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(SIGPIPE, &standard, NULL);
    server = serve("threads", "1", NULL);
    CHECK(push_event_fd(server) >= 0);
    for (int i = 0; i < 100; i++) {
        struct peer client = adopted_ws(server, NULL, "channel=c");
        push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
        if (i % 2) peer_close(&client);
        push_status status;
        for (int n = 0; n < 50; n++) {
            status = push_send(server, connection, "xxxxxxxx", 8, 0);
            CHECK(status == PUSH_OK || status == PUSH_ERR_NOT_FOUND);
            if (n == 25) peer_close(&client);
        }
        expect_event(server, &event, PUSH_EVENT_CLOSE);
    }
    push_event_clear(&event);
    stop(server);
}

CHECK_MAIN(TEST(unix_clients), TEST(tcp_clients), TEST(clients_of_the_own_listener), TEST(clients_of_the_control_api),
           TEST(sent_to_one_that_vanishes))
