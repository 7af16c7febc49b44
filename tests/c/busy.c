/* Full queues give PUSH_ERR_BUSY, and nothing is half done. A thread of the library is held while it writes to a
 * client. */
#include "process.h"
#include "serve.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ALL = -1, NONE = -2 };
static atomic_int held_fd = NONE; /* writes to this descriptor wait */
static atomic_int waiting;

static void wait_here(int fd)
{
    if (held_fd != fd && held_fd != ALL) return;
    char name[32] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strncmp(name, "push-shard", 10) != 0) return;
    waiting++;
    while (held_fd == fd || held_fd == ALL) sleep_ms(1);
    waiting--;
}

/* This replaces libc's function, also for the library: the program's symbols come first. */
ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    wait_here(fd);
    return sendto(fd, bytes, len, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
    wait_here(fd);
    return real(fd, message, flags);
}

/* Makes the thread that serves the clients wait, with its mailbox empty. */
static void hold(push_server *server, const char *channel, int fd)
{
    held_fd = fd;
    CHECK_STATUS(push_publish(server, channel, "held", 4), PUSH_OK);
    WAIT_WHILE(!waiting);
    REQUIRE(waiting == 1);
}

static void release(void)
{
    held_fd = NONE;
}

static void a_full_mailbox(void)
{
    push_server *server = serve("threads", "1", "mailbox", "16", NULL);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    char text[16];
    push_position at = {.seq = 77};
    hold(server, "c", ALL);
    for (int i = 0; i < 16; i++) {
        snprintf(text, sizeof text, "%d", i);
        CHECK_STATUS(push_publish(server, "c", text, strlen(text)), PUSH_OK);
    }
    push_message message = text_message("c", "later"), batch[2] = {text_message("empty", "x"), text_message("c", "x")};
    message.key = "k";
    push_stats before = stats_of(server);
    CHECK_EQ(before.seq, 17);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_ERR_BUSY);
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_ERR_BUSY);
    CHECK_STATUS(push_publish_batch(server, batch, 2, &at), PUSH_ERR_BUSY);
    CHECK_STATUS(push_broadcast(server, &message, &at), PUSH_ERR_BUSY);
    CHECK_EQ(at.seq, 77);
    push_stats after = stats_of(server);
    CHECK_EQ(after.busy, before.busy + 4);
    CHECK_EQ(after.seq, before.seq);
    CHECK_EQ(after.published, before.published);
    CHECK_EQ(after.history_messages, before.history_messages);
    CHECK_EQ(after.channels, before.channels); /* not even the batch's other channel */
    /* A thread without subscribers has no full mailbox. */
    CHECK_STATUS(push_publish(server, "empty", "x", 1), PUSH_OK);
    release();
    ws_expect(&client, "held");
    for (int i = 0; i < 16; i++) {
        snprintf(text, sizeof text, "%d", i);
        ws_expect(&client, text);
    }
    /* The key was not remembered. The same call succeeds now, and is no duplicate. */
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    CHECK_EQ(at.seq, 19);
    ws_expect(&client, "later");
    CHECK_EQ(stats_of(server).duplicates, 0);
    stop(server);
    peer_close(&client);
}

static void a_batch_that_does_not_fit(void)
{
    push_server *server = serve("threads", "1", "mailbox", "16", NULL);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    push_message batch[8];
    for (int i = 0; i < 8; i++) batch[i] = text_message("c", "batch");
    hold(server, "c", ALL);
    CHECK_STATUS(push_publish_batch(server, batch, 8, NULL), PUSH_OK);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    CHECK_STATUS(push_publish_batch(server, batch, 8, NULL), PUSH_ERR_BUSY); /* there is room for seven */
    CHECK_STATUS(push_publish_batch(server, batch, 7, NULL), PUSH_OK);
    CHECK_EQ(stats_of(server).seq, 1 + 8 + 1 + 7);
    release();
    ws_expect(&client, "held");
    for (int i = 0; i < 8 + 1 + 7; i++) ws_expect(&client, i == 8 ? "x" : "batch");
    stop(server);
    peer_close(&client);
}

static void one_full_mailbox_of_two(void)
{
    push_server *server = serve("threads", "2", "mailbox", "16", NULL);
    struct peer clients[2];
    int fds[2];
    for (int i = 0; i < 2; i++) { /* one on each thread */
        unix_pair(&clients[i], &fds[i]);
        CHECK_STATUS(push_adopt(server, fds[i], NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
        REQUIRE(ws_open(&clients[i], "channel=c", ""));
    }
    hold(server, "c", fds[0]);
    ws_expect(&clients[1], "held");
    for (int i = 0; i < 16; i++) {
        CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
        ws_expect(&clients[1], "x");
    }
    for (int i = 0; i < 3; i++) CHECK_STATUS(push_publish(server, "c", "nobody's", 8), PUSH_ERR_BUSY);
    /* A refused message reaches no client, not even those on a thread that had room. */
    CHECK(!peer_fill(&clients[1], 50));
    release();
    ws_expect(&clients[0], "held");
    for (int i = 0; i < 16; i++) ws_expect(&clients[0], "x");
    CHECK_STATUS(push_publish(server, "c", "both", 4), PUSH_OK);
    ws_expect(&clients[0], "both");
    ws_expect(&clients[1], "both");
    stop(server);
    peer_close(&clients[0]);
    peer_close(&clients[1]);
}

static void too_many_commands(void)
{
    push_server *server = serve("threads", "1", "outbox", "64MB", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct peer other;
    int fd, sent = 0;
    char text[16];
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    hold(server, "c", ALL);
    push_status status = PUSH_OK;
    while (status == PUSH_OK && sent < 1000000) {
        int len = snprintf(text, sizeof text, "%d", sent);
        status = push_send(server, connection, text, (size_t)len, 0);
        sent += status == PUSH_OK;
    }
    CHECK_STATUS(status, PUSH_ERR_BUSY);
    unix_pair(&other, &fd);
    CHECK_STATUS(push_adopt(server, fd, "GET", 3, PUSH_GRANT_ALL), PUSH_ERR_BUSY);
    CHECK(is_open(fd));
    CHECK_STATUS(push_close(server, connection, 1000, NULL), PUSH_OK); /* never too much */
    release();
    ws_expect(&client, "held");
    for (int i = 0; i < sent; i++) { /* all messages that were taken, in order, and then the close */
        struct frame frame;
        snprintf(text, sizeof text, "%d", i);
        REQUIRE(ws_next(&client, &frame, PATIENCE_MS));
        REQUIRE(CHECK_TEXT(frame.data, text));
    }
    CHECK_EQ(ws_close_code(&client), 1000);
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
    peer_close(&other);
}

/* Connections are handed over faster than they are served. Those that were taken count, not only those that are served.
 * */
static void no_more_than_max_connections(void)
{
    enum { MAX = 3, TRIED = 12 };
    push_server *server = serve("threads", "1", "max_connections", "3", NULL);
    struct peer first = adopted_ws(server, NULL, "channel=c"), clients[TRIED];
    int fds[TRIED], taken = 1;
    hold(server, "c", ALL);
    for (int i = 0; i < TRIED; i++) {
        unix_pair(&clients[i], &fds[i]);
        push_status status = push_adopt(server, fds[i], NULL, 0, PUSH_GRANT_ALL);
        if (status == PUSH_OK) {
            fds[i] = -1;
            taken++;
        } else {
            CHECK_STATUS(status, PUSH_ERR_LIMIT);
            CHECK(is_open(fds[i]));
        }
    }
    CHECK_EQ(taken, MAX);
    release();
    for (int i = 0; i < TRIED; i++) {
        if (fds[i] >= 0) close(fds[i]);
        peer_close(&clients[i]);
    }
    /* A client that goes makes room. */
    WAIT_WHILE((int)stats_of(server).adopted < taken);
    wait_for_connections(server, 1);
    struct peer second = adopted_ws(server, NULL, "channel=c"), third = adopted_ws(server, NULL, "channel=c");
    stop(server);
    peer_close(&first);
    peer_close(&second);
    peer_close(&third);
}

static void *stop_it(void *server)
{
    stop(server);
    return NULL;
}

static void stopped_while_held(void)
{
    pthread_t thread;
    push_server *server = serve("threads", "1", "mailbox", "16", NULL);
    struct peer client = adopted_ws(server, NULL, "channel=c"), queued[4];
    int fds[4];
    hold(server, "c", ALL);
    for (int i = 0; i < 16; i++) CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    for (int i = 0; i < 4; i++) {
        unix_pair(&queued[i], &fds[i]);
        CHECK_STATUS(push_adopt(server, fds[i], NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    }
    pthread_create(&thread, NULL, stop_it, server);
    push_status status;
    while ((status = push_publish(server, "c", "x", 1)) != PUSH_ERR_CLOSED) {
        CHECK_STATUS(status, PUSH_ERR_BUSY);
        sleep_ms(1);
    }
    release();
    pthread_join(thread, NULL);
    /* Messages from before the stop were sent. Connections that were handed over are closed and not leaked. */
    ws_expect(&client, "held");
    for (int i = 0; i < 16; i++) ws_expect(&client, "x");
    CHECK_EQ(ws_close_code(&client), 1001);
    for (int i = 0; i < 4; i++) {
        CHECK(peer_read_to_end(&queued[i], PATIENCE_MS));
        peer_close(&queued[i]);
    }
    peer_close(&client);
}

CHECK_MAIN(TEST(a_full_mailbox), TEST(a_batch_that_does_not_fit), TEST(one_full_mailbox_of_two),
           TEST(too_many_commands), TEST(no_more_than_max_connections), TEST(stopped_while_held))
