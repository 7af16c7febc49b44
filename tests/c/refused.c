/* The system refuses something to a server that runs. The clients concerned come back and have missed nothing, or they
 * wait. Other clients are not affected. Each refusal of a client is counted and logged. faults.c is about starts, and
 * shortwrites.c about sockets that take only some of the bytes. */
#include "process.h"
#include "refuse.h"
#include "serve.h"
#include <stdio.h>
#include <stdlib.h>

static const char json[] = "Sec-WebSocket-Protocol: push.v1.json\r\n";
static char lines[65536]; /* the log lines */
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

static void keep_line(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level;
    pthread_mutex_lock(&lines_lock);
    size_t len = strlen(lines);
    snprintf(lines + len, sizeof lines - len, "%s\n", line);
    pthread_mutex_unlock(&lines_lock);
}

static bool is_logged(const char *text)
{
    pthread_mutex_lock(&lines_lock);
    bool found = strstr(lines, text) != NULL;
    pthread_mutex_unlock(&lines_lock);
    return found;
}

static bool expect_log(const char *text)
{
    bool logged;
    WAIT_WHILE(!(logged = is_logged(text)));
    if (!logged) fprintf(stderr, "missing: %s\nlogged:\n%s", text, lines);
    return logged;
}

static push_server *serve_logged(push_config *config)
{
    *lines = 0;
    push_config_on_log(config, keep_line, NULL, NULL);
    return serve_config(config);
}

/* The next calls of a function fail. */
static void refuse(const char *function, int error, int times)
{
    with_error = error;
    lasting = times;
    countdown = 1;
    failing = function;
}

/* The same, and after that the next calls of another function. */
static void refuse_then(const char *function, const char *next, int times, int error)
{
    following_times = times;
    following = next;
    refuse(function, error, 1);
}

/* Whether they have failed. */
static bool refused(void)
{
    WAIT_WHILE(following || countdown > 1 - lasting);
    failing = NULL;
    return CHECK(countdown <= 1 - lasting);
}

static void publish(push_server *server, const char *channel, const char *text)
{
    CHECK_STATUS(push_publish(server, channel, text, strlen(text)), PUSH_OK);
}

static push_position published(push_server *server, const char *channel, const char *text)
{
    push_message message = text_message(channel, text);
    push_position at = {0};
    CHECK_STATUS(push_publish_message(server, &message, &at), PUSH_OK);
    return at;
}

/* A client that has read one message of its channels, with its position. */
static struct peer subscribed(push_server *server, const char *query, uint64_t channels, push_position *seen)
{
    struct peer client = adopted(server, NULL);
    REQUIRE(ws_open(&client, query, json));
    wait_for_subscriptions(server, channels);
    *seen = published(server, "c", "seen");
    CHECK(peer_skip_past(&client, "\"seen\"}"));
    return client;
}

/* Comes back to the position where it was. */
static struct peer back(push_server *server, const char *query, const push_position *seen)
{
    char since[256];
    struct peer client = adopted(server, NULL);
    snprintf(since, sizeof since, "%s&since=%s", query, seen->text);
    REQUIRE(ws_open(&client, since, json));
    return client;
}

static void watching_a_connection(void)
{
    static const int errors[] = {ENOSPC, ENOMEM}; /* fs.epoll.max_user_watches; memory */
    char directory[128], listen[256];
    temporary_directory(directory, sizeof directory);
    snprintf(listen, sizeof listen, "unix:%s/push.sock", directory);
    push_server *server = serve_logged(configure("threads", "1", "listen", listen, NULL));
    struct peer first = adopted_ws(server, NULL, "channel=c");
    for (uint64_t i = 0; i < 4; i++) {
        struct peer client;
        check_case("%s, %s", strerror(errors[i / 2]), i % 2 ? "listener" : "push_adopt");
        refuse("EPOLL_CTL_ADD", errors[i / 2], 1);
        client = i % 2 ? peer_of(dial(listen)) : adopted(server, NULL);
        CHECK(peer_expect(&client, "HTTP/1.1 503 "));
        CHECK(peer_expect(&client, "\"code\":\"resources\""));
        CHECK(peer_read_to_end(&client, PATIENCE_MS));
        refused();
        CHECK_EQ(stats_of(server).refused, i + 1);
        CHECK(expect_log("can't be watched"));
        wait_for_connections(server, 1);
        publish(server, "c", "here");
        ws_expect(&first, "here");
        peer_close(&client);
    }
    stop(server);
    peer_close(&first);
    remove_directory(directory);
}

/* The same for an EventSource. A status of 503 would end it for good. Its request has come, to the host or in the
 * socket. */
static void watching_an_event_source(void)
{
    static const char request[] = "GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    push_server *server = serve("threads", "1", NULL);
    for (int read = 0; read < 2; read++) {
        struct peer client;
        int fd;
        check_case(read ? "read by the host" : "unread");
        unix_pair(&client, &fd);
        if (!read) CHECK(peer_send(&client, request, strlen(request)));
        refuse("EPOLL_CTL_ADD", ENOSPC, 1);
        CHECK_STATUS(push_adopt(server, fd, read ? request : NULL, read ? strlen(request) : 0, PUSH_GRANT_ALL), PUSH_OK);
        CHECK(peer_expect(&client, "HTTP/1.1 200 "));
        CHECK(peer_skip_past(&client, "event: push-close\n"));
        refused();
        peer_close(&client);
    }
    stop(server);
}

/* A socket was full, and nothing would say that it has room again. */
static void watching_for_room(void)
{
    enum { MESSAGES = 60 };
    static char payload[10000];
    push_position seen;
    memset(payload, 'x', sizeof payload - 1);
    push_server *server = serve("threads", "1", NULL);
    struct peer client = subscribed(server, "channel=c", 1, &seen), other = adopted_ws(server, NULL, "channel=other");
    refuse("EPOLL_CTL_MOD", ENOMEM, 1);
    for (int i = 0; i < MESSAGES; i++) publish(server, "c", payload);
    refused();
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    peer_close(&client);
    publish(server, "other", "here");
    ws_expect(&other, "here");
    client = back(server, "channel=c", &seen);
    CHECK(peer_expect(&client, "\"subscribed\""));
    CHECK_EQ(peer_count(&client, "\"type\":\"message\""), MESSAGES);
    CHECK_EQ(peer_count(&client, "\"gap\""), 0);
    CHECK_EQ(stats_of(server).slow_closed, 0);
    stop(server);
    peer_close(&client);
    peer_close(&other);
}

static void accepting(void)
{
    static const int errors[] = {ENOMEM, ENOBUFS, ENFILE, EMFILE};
    char directory[128], listen[256];
    temporary_directory(directory, sizeof directory);
    snprintf(listen, sizeof listen, "unix:%s/push.sock", directory);
    push_server *server = serve_logged(configure("threads", "1", "listen", listen, NULL));
    struct peer first = adopted_ws(server, NULL, "channel=c");
    for (size_t i = 0; i < 2 * sizeof errors / sizeof *errors; i++) {
        bool rests_longer = i % 2; /* the listener can't be watched after its pause either */
        check_case("%s, %d", strerror(errors[i / 2]), rests_longer);
        if (rests_longer) refuse_then("accept4", "EPOLL_CTL_ADD", 2, errors[i / 2]);
        else refuse("accept4", errors[i / 2], 1);
        struct peer client = peer_of(dial(listen));
        publish(server, "c", "meanwhile");
        CHECK(ws_expect(&first, "meanwhile")); /* others are served */
        refused();
        CHECK(ws_open(&client, "channel=c", "")); /* it had to wait, but was not forgotten */
        publish(server, "c", "after");
        CHECK(ws_expect(&client, "after"));
        CHECK(ws_expect(&first, "after"));
        CHECK(expect_log(rests_longer ? "a listener can't be watched" : "accept: "));
        peer_close(&client);
    }
    stop(server);
    peer_close(&first);
    remove_directory(directory);
}

/* If messages can't be sent to a client, it is closed, and finds them in the history. Another client is not affected.
 * */
static void sending(void)
{
    static const int errors[] = {ENOMEM, ENOBUFS, EPIPE, ECONNRESET};
    push_message both[2] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    both[0].channel = "c", both[0].data = "lost", both[0].len = 4;
    both[1].channel = "d", both[1].data = "lost too", both[1].len = 8;
    for (size_t i = 0; i < 2 * sizeof errors / sizeof *errors; i++) {
        bool several = i % 2; /* pieces, in one call */
        check_case("%s, %d", strerror(errors[i / 2]), several);
        push_position seen;
        push_server *server = serve("threads", "1", NULL);
        struct peer client = subscribed(server, "channel=c&channel=d", 2, &seen);
        struct peer other = adopted_ws(server, NULL, "channel=other");
        wait_for_subscriptions(server, 3);
        refuse(several ? "sendmsg" : "send", errors[i / 2], 1); /* no test sends now */
        /* A thread that is awake may take the two one by one, and sends them so. */
        for (int tries = 0; tries < 50 && countdown > 0; tries++) {
            CHECK_STATUS(push_publish_batch(server, both, several ? 2 : 1, NULL), PUSH_OK);
            for (int64_t until = now_ms() + 1000; countdown > 0 && now_ms() < until;) sleep_ms(1);
        }
        CHECK(peer_read_to_end(&client, PATIENCE_MS));
        refused();
        publish(server, "other", "here");
        CHECK(ws_expect(&other, "here"));
        wait_for_connections(server, 1);
        CHECK_EQ(stats_of(server).outbox_bytes, 0);
        peer_close(&client);
        client = back(server, "channel=c&channel=d", &seen);
        CHECK(peer_expect(&client, "\"lost\""));
        if (several) CHECK(peer_expect(&client, "\"lost too\""));
        CHECK_EQ(peer_count(&client, "\"gap\""), 0);
        stop(server);
        peer_close(&client);
        peer_close(&other);
    }
}

/* An interrupted read is made again. A read without memory ends the client. */
static void receiving(void)
{
    push_event event = PUSH_EVENT_INIT;
    push_server *server = serve("threads", "1", "events", "message", NULL);
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c"), other = adopted_ws(server, NULL, "channel=c");
    spared = true;
    refuse("recv", EINTR, 3);
    CHECK(ws_send(&client, WS_TEXT, "said", 4));
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    CHECK_EQ(event.len, 4);
    refused();
    refuse("recv", ENOMEM, 1);
    CHECK(ws_send(&client, WS_TEXT, "lost", 4));
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    refused();
    publish(server, "c", "here");
    CHECK(ws_expect(&other, "here"));
    wait_for_connections(server, 1);
    push_event_clear(&event);
    stop(server);
    peer_close(&client);
    peer_close(&other);
}

/* Hands over a connection while a call about it is refused. With an error in `status` it is still the host's. */
static void hand_over(push_server *server, bool tcp, const char *function, int times, push_status status)
{
    struct peer client;
    int fd, descriptors;
    check_case("%s of %s, %d times", function, tcp ? "TCP" : "a Unix socket", times);
    tcp ? tcp_pair(&client, &fd) : unix_pair(&client, &fd);
    descriptors = descriptor_count();
    refuse(function, ENOBUFS, times);
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), status);
    refused();
    if (status != PUSH_OK) {
        CHECK(is_open(fd));
        CHECK_EQ(descriptor_count(), descriptors);
        CHECK_EQ(stats_of(server).connections, 0);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    }
    CHECK(ws_open(&client, "channel=c", ""));
    publish(server, "c", "served");
    CHECK(ws_expect(&client, "served"));
    peer_close(&client);
    wait_for_connections(server, 0);
}

static void handing_over(void)
{
    push_server *server = serve("threads", "1", NULL);
    hand_over(server, false, "getpeername", 1, PUSH_ERR_DESCRIPTOR);
    hand_over(server, true, "getpeername", 1, PUSH_ERR_DESCRIPTOR);
    hand_over(server, false, "getsockopt", 1, PUSH_ERR_DESCRIPTOR);
    hand_over(server, true, "getsockopt", 1, PUSH_OK); /* the library can't read TCP_NODELAY, so it sets it again */
    hand_over(server, true, "getsockopt", 2, PUSH_ERR_DESCRIPTOR);
    hand_over(server, true, "setsockopt", 1, PUSH_OK);
    stop(server);
}

/* An interrupted write to an eventfd still wakes the thread. */
static void waking(void)
{
    push_server *server = serve("threads", "2", NULL);
    struct peer clients[2] = {adopted_ws(server, NULL, "channel=c"), adopted_ws(server, NULL, "channel=c")};
    for (int round = 0; round < 50; round++) {
        check_case("round %d", round);
        refuse("write", EINTR, 3);
        publish(server, "c", "here");
        for (int i = 0; i < 2; i++) REQUIRE(ws_expect(&clients[i], "here"));
    }
    failing = NULL;
    stop(server);
    for (int i = 0; i < 2; i++) peer_close(&clients[i]);
}

/* A hub, and a host that is attached to it. */
static struct attached {
    char directory[128], address[256];
    push_server *hub, *host;
} attach(void)
{
    struct attached both;
    temporary_directory(both.directory, sizeof both.directory);
    snprintf(both.address, sizeof both.address, "unix:%s/hub.sock", both.directory);
    both.hub = serve_logged(configure("threads", "1", "attach_listen", both.address, NULL));
    both.host = serve("attach", both.address, "attach_timeout", "1m", NULL);
    return both;
}

static void detach(struct attached *both)
{
    stop(both->host);
    stop(both->hub);
    remove_directory(both->directory);
}

enum { PASSED = 20 };

static void pass(push_server *host, struct peer *clients)
{
    for (int i = 0; i < PASSED; i++) {
        int fd;
        unix_pair(&clients[i], &fd);
        CHECK_STATUS(push_adopt_more(host, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    }
    CHECK_STATUS(push_flush(host), PUSH_OK);
}

/* Connections go to the hub while a call in between is refused or does less than it should. Each gets there once. */
static void passing(void)
{
    static const struct {
        const char *function;
        int error, times;
    } cases[] = {{"SCM_RIGHTS", EAGAIN, 3},  {"SCM_RIGHTS", ETOOMANYREFS, 3}, {"SCM_RIGHTS", EINTR, 3},
                 {"SCM_RIGHTS", ENOMEM, 1},  {"SCM_RIGHTS", ENOBUFS, 1},      {"SCM_RIGHTS", 0, 1},
                 {"recvmsg", EINTR, 3},      {"recvmsg", 0, 500}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case("%s: %s, %d times", cases[i].function, strerror(cases[i].error), cases[i].times);
        struct attached both = attach();
        struct peer clients[PASSED];
        refuse(cases[i].function, cases[i].error, cases[i].times);
        pass(both.host, clients);
        if (cases[i].times < 10) refused();
        for (int c = 0; c < PASSED; c++) CHECK(ws_open(&clients[c], "channel=c", ""));
        publish(both.host, "c", "one");
        publish(both.host, "c", "two");
        for (int c = 0; c < PASSED; c++) CHECK(ws_expect(&clients[c], "one") && ws_expect(&clients[c], "two"));
        failing = NULL;
        CHECK_EQ(stats_of(both.hub).adopted, PASSED);
        CHECK_EQ(stats_of(both.hub).published, 2);
        detach(&both);
        for (int c = 0; c < PASSED; c++) peer_close(&clients[c]);
    }
}

/* The hub has no room for descriptors that come. Their clients see an end, and the hub logs why. */
static void passing_to_a_hub_without_descriptors(void)
{
    static const struct {
        const char *function;
        int error;
    } cases[] = {{"MSG_CTRUNC", EMFILE}, {"recvmsg", ENOMEM}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case("%s", cases[i].function);
        struct attached both = attach();
        struct peer clients[PASSED];
        refuse(cases[i].function, cases[i].error, 1);
        pass(both.host, clients);
        refused();
        /* Some went before the refusal. The others wait with the host until it is attached again, and are
         * served. */
        int ended = 0;
        for (int c = 0; c < PASSED; c++) {
            char text[1024];
            ws_request(text, sizeof text, "channel=other", "");
            peer_send(&clients[c], text, strlen(text)); /* fails where the end is there already */
            while (!clients[c].ended && !strstr(clients[c].data ? clients[c].data : "", "HTTP/1.1 101 "))
                REQUIRE(peer_fill(&clients[c], PATIENCE_MS) || clients[c].ended);
            ended += clients[c].ended;
            peer_close(&clients[c]);
        }
        CHECK(ended > 0);
        CHECK(expect_log("connections that it was handing over are lost: "));
        wait_for_connections(both.hub, 0);
        published(both.host, "c", "before"); /* answered: it is attached again */
        clients[0] = adopted_ws(both.host, NULL, "channel=c");
        publish(both.host, "c", "after");
        CHECK(ws_expect(&clients[0], "after"));
        peer_close(&clients[0]);
        detach(&both);
    }
}

/* A message of an attached host is published once, whatever error the socket between returns. */
static void publishing_attached(void)
{
    static const int errors[] = {ENOMEM, ENOBUFS, EPIPE, EAGAIN, EINTR};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        check_case("%s", strerror(errors[i]));
        struct attached both = attach();
        struct peer client = adopted_ws(both.host, NULL, "channel=c");
        refuse("send", errors[i], 1); /* the host's call is the next */
        publish(both.host, "c", "one");
        refused();
        publish(both.host, "c", "two");
        CHECK(ws_expect(&client, "one"));
        CHECK(ws_expect(&client, "two"));
        CHECK_EQ(stats_of(both.hub).published, 2);
        peer_close(&client);
        detach(&both);
    }
}

/* A hub could accept no host, and then could not watch its socket. It accepts hosts again. */
static void attaching(void)
{
    struct attached both;
    temporary_directory(both.directory, sizeof both.directory);
    snprintf(both.address, sizeof both.address, "unix:%s/hub.sock", both.directory);
    both.hub = serve_logged(configure("threads", "1", "attach_listen", both.address, NULL));
    refuse_then("accept4", "EPOLL_CTL_ADD", 2, ENOMEM);
    both.host = serve("attach", both.address, "attach_timeout", "1m", NULL);
    refused();
    struct peer client = adopted_ws(both.host, NULL, "channel=c");
    publish(both.host, "c", "here");
    CHECK(ws_expect(&client, "here"));
    CHECK(expect_log("the listener can't be watched"));
    peer_close(&client);
    detach(&both);
}

/* A call that is refused each time, as by a seccomp filter that does not know accept4, is not tried all the time. The
 * log says so, and the listener pauses. Clients that wait are served when the call is allowed again. */
static void never_accepting(void)
{
    struct attached both;
    char listen[256];
    temporary_directory(both.directory, sizeof both.directory);
    snprintf(both.address, sizeof both.address, "unix:%s/hub.sock", both.directory);
    snprintf(listen, sizeof listen, "unix:%s/push.sock", both.directory);
    both.hub = serve_logged(configure("threads", "1", "listen", listen, "attach_listen", both.address, NULL));
    refuse("accept4", EPERM, 1000);
    struct peer client = peer_of(dial(listen));
    CHECK(expect_log("accept: Operation not permitted (os error 1); trying again"));
    refused();
    CHECK(ws_open(&client, "channel=c", ""));
    refuse("accept4", EPERM, 1000);
    both.host = serve("attach", both.address, "attach_timeout", "1m", NULL);
    CHECK(expect_log("attach: a host can't be accepted: Operation not permitted (os error 1); trying again"));
    refused();
    published(both.host, "c", "here");
    CHECK(ws_expect(&client, "here"));
    peer_close(&client);
    detach(&both);
}

CHECK_MAIN(TEST(watching_a_connection), TEST(watching_an_event_source), TEST(watching_for_room), TEST(accepting), TEST(sending), TEST(receiving),
           TEST(handing_over), TEST(waking), TEST(passing), TEST(passing_to_a_hub_without_descriptors),
           TEST(publishing_attached), TEST(attaching), TEST(never_accepting))
