/* Threads that are cancelled inside a call (pthread_cancel(3)): the call is completed, the thread ends after it, and
 * the process goes on. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static push_server *server;
static push_connection connection;
static void (*call)(void);
static atomic_int calls;

static const char request[] = "GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";

/* A thread that is cancelled before or after a call would leak the test's own memory, and would not test the calls. */
static void allow_cancelling(bool allowed)
{
    pthread_setcancelstate(allowed ? PTHREAD_CANCEL_ENABLE : PTHREAD_CANCEL_DISABLE, NULL);
}

static void adopt(void)
{
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    allow_cancelling(true);
    push_status status = push_adopt(server, fd, request, sizeof request - 1, PUSH_GRANT_ALL);
    allow_cancelling(false);
    CHECK(status == PUSH_OK || status == PUSH_ERR_BUSY || status == PUSH_ERR_LIMIT);
    if (status != PUSH_OK) close(fd);
    peer_close(&client);
}

static void publish(void)
{
    sleep_ms(1); /* the shard sleeps: it has to be woken */
    allow_cancelling(true);
    push_status status = push_publish(server, "c", "x", 1);
    allow_cancelling(false);
    CHECK(status == PUSH_OK || status == PUSH_ERR_BUSY);
}

static void send_direct(void)
{
    sleep_ms(1);
    allow_cancelling(true);
    push_status status = push_send(server, connection, "x", 1, 0);
    allow_cancelling(false);
    CHECK_STATUS(status, PUSH_OK);
}

static void wait_for_event(void)
{
    push_event event = PUSH_EVENT_INIT;
    allow_cancelling(true);
    push_status status = push_next_event(server, &event, sizeof event, 1);
    allow_cancelling(false);
    CHECK(status == PUSH_OK || status == PUSH_ERR_TIMEOUT);
    push_event_clear(&event);
}

static void ask_who_is_there(void)
{
    push_users page = PUSH_USERS_INIT;
    sleep_ms(1);
    allow_cancelling(true);
    push_status status = push_users_get(server, "c", NULL, 10, &page, sizeof page);
    allow_cancelling(false);
    CHECK(status == PUSH_OK ? page.connections == 1 : status == PUSH_ERR_TIMEOUT || status == PUSH_ERR_BUSY);
    push_users_clear(&page);
}

static void configure_from_a_file(void)
{
    char err[256];
    push_config *config = push_config_new();
    allow_cancelling(true);
    push_status status = push_config_load(config, "no/such/file", err, sizeof err);
    allow_cancelling(false);
    CHECK(status != PUSH_OK);
    push_config_free(config);
}

static void start_and_stop(void)
{
    push_server *another = NULL;
    push_config *config = configure("threads", "1", "listen", "127.0.0.1:0", NULL);
    allow_cancelling(true);
    push_status status = push_start(config, &another, NULL, 0);
    allow_cancelling(false);
    CHECK_STATUS(status, PUSH_OK);
    allow_cancelling(true);
    status = push_stop(another, 0);
    allow_cancelling(false);
    CHECK_STATUS(status, PUSH_OK);
    push_config_free(config);
}

/* Calls until it is cancelled. That happens only inside a call, or where a cancellation from inside a call is let
 * through. */
static void *run(void *unused)
{
    (void)unused;
    allow_cancelling(false);
    for (;;) {
        call();
        calls++;
        allow_cancelling(true);
        pthread_testcancel();
        allow_cancelling(false);
    }
    return NULL;
}

static void cancel_many(int threads)
{
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        void *result = NULL;
        calls = 0;
        REQUIRE(pthread_create(&thread, NULL, run, NULL) == 0);
        WAIT_WHILE(calls == 0);
        for (int n = 0; n < i % 7; n++) sched_yield();
        pthread_cancel(thread);
        pthread_join(thread, &result);
        CHECK(result == PTHREAD_CANCELED);
    }
}

static void cancelled(void (*while_in)(void), const char *attach)
{
    push_event event = PUSH_EVENT_INIT;
    push_server *hub = NULL;
    call = while_in;
    if (attach) {
        hub = serve("threads", "1", "max_connections", "200", "outbox", "64MB", "attach_listen", attach, NULL);
        server = serve("attach", attach, "attach_timeout", "1m", NULL);
    } else {
        /* If they are handed over faster than they are served, there must not be more than descriptors. The client
         * reads nothing meanwhile. */
        server = serve("threads", "1", "max_connections", "200", "outbox", "64MB", NULL);
    }
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK(connection != 0);
    push_event_clear(&event);
    cancel_many(60);
    /* It still serves. */
    while (peer_fill(&client, 0)) client.len = 0;
    push_status status = PUSH_ERR_BUSY;
    WAIT_WHILE((status = push_publish(server, "c", "after", 5)) == PUSH_ERR_BUSY);
    CHECK_STATUS(status, PUSH_OK);
    CHECK(peer_expect(&client, "after"));
    peer_close(&client);
    stop(server);
    if (hub) stop(hub);
}

static void while_adopting(void)
{
    cancelled(adopt, NULL);
}

static void while_publishing(void)
{
    cancelled(publish, NULL);
}

static void while_sending(void)
{
    cancelled(send_direct, NULL);
}

static void while_waiting(void)
{
    cancelled(wait_for_event, NULL);
}

static void while_asking(void)
{
    cancelled(ask_who_is_there, NULL);
}

static void while_reading_a_file(void)
{
    cancelled(configure_from_a_file, NULL);
}

static void while_starting(void)
{
    cancelled(start_and_stop, NULL);
}

/* The socket of a hub, in the directory of the test. */
static void attached(void (*while_in)(void))
{
    char directory[256], address[300];
    temporary_directory(directory, sizeof directory);
    snprintf(address, sizeof address, "unix:%s/s", directory);
    cancelled(while_in, address);
    remove_directory(directory);
}

static void while_adopting_attached(void)
{
    attached(adopt);
}

static void while_publishing_attached(void)
{
    attached(publish);
}

static void while_asking_attached(void)
{
    attached(ask_who_is_there);
}

CHECK_MAIN(TEST(while_adopting), TEST(while_publishing), TEST(while_sending), TEST(while_waiting), TEST(while_asking),
           TEST(while_reading_a_file), TEST(while_starting), TEST(while_adopting_attached),
           TEST(while_publishing_attached), TEST(while_asking_attached))
