/* push_adopt: which descriptors the library takes, which stay the host's, and how much of the request may be read. */
#include "process.h"
#include "serve.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int bound_socket(int family, int type)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* The descriptor is refused, and is unchanged afterwards. */
static void check_refused(push_server *server, int fd, const char *what)
{
    struct stat before, after;
    check_case("%s", what);
    int flags = fcntl(fd, F_GETFL), count = descriptor_count();
    bool open = fstat(fd, &before) == 0;
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_ERR_DESCRIPTOR);
    CHECK_STATUS(push_adopt(server, fd, "GET /push", 9, PUSH_GRANT_ALL), PUSH_ERR_DESCRIPTOR);
    CHECK_EQ(fstat(fd, &after) == 0, open);
    CHECK(!open || before.st_ino == after.st_ino);
    CHECK_EQ(fcntl(fd, F_GETFL), flags);
    CHECK_EQ(descriptor_count(), count);
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) close(fds[i]);
}

static void bad_descriptors(void)
{
    push_server *server = serve("threads", "1", NULL);
    int pipes[2], datagrams[2], packets[2];
    char name[] = "/tmp/push-file-XXXXXX";
    REQUIRE(pipe2(pipes, O_CLOEXEC) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets) == 0);
    int file = mkstemp(name), closed = dup(file);
    unlink(name);
    close(closed);
    int listening = bound_socket(AF_INET, SOCK_STREAM);
    REQUIRE(listen(listening, 1) == 0);
    int fds[] = {file, pipes[0], pipes[1], datagrams[0], datagrams[1], packets[0], packets[1], listening,
                 bound_socket(AF_INET, SOCK_STREAM), bound_socket(AF_INET, SOCK_DGRAM), open("/", O_RDONLY),
                 open("/dev/null", O_RDWR), eventfd(0, 0), epoll_create1(0), memfd_create("m", 0),
                 socket(AF_INET, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_DGRAM, 0),
                 open("/", O_PATH)};
    static const char *const what[] = {"a file", "a pipe", "a pipe", "Unix datagrams", "Unix datagrams", "SEQPACKET",
                                       "SEQPACKET", "listening TCP", "bound TCP", "UDP", "a directory", "a device",
                                       "an eventfd", "an epoll", "a memfd", "unconnected TCP", "unconnected Unix",
                                       "unconnected datagrams", "O_PATH"};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) check_refused(server, fds[i], what[i]);
    check_refused(server, -1, "-1");
    check_refused(server, -2, "-2");
    check_refused(server, INT32_MIN, "INT_MIN");
    check_refused(server, INT32_MAX, "INT_MAX");
    check_refused(server, closed, "closed");
    check_refused(server, 999999, "never opened");
    check_refused(server, push_event_fd(server), "the event descriptor");
    check_case(NULL);
    CHECK_EQ(stats_of(server).adopted, 0);
    close_all(fds, sizeof fds / sizeof *fds);
    stop(server);
}

static void a_client_that_went_before(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct peer client;
    int fd, before = descriptor_count();
    /* The client has closed. A host can't know that, so the library takes the descriptor and closes it. */
    tcp_pair(&client, &fd);
    peer_close(&client);
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    WAIT_WHILE(descriptor_count() != before);
    CHECK_EQ(descriptor_count(), before);
    /* A reset connection is not connected any more. */
    tcp_pair(&client, &fd);
    peer_reset(&client);
    struct pollfd gone = {fd, 0, 0};
    CHECK_EQ(poll(&gone, 1, PATIENCE_MS), 1); /* POLLERR, POLLHUP */
    check_refused(server, fd, "a connection that was reset");
    close(fd);
    wait_for_connections(server, 0);
    stop(server);
}

#define GRANT(...) {.size = sizeof(push_grant), __VA_ARGS__}
/* Grants whose list of channels, or of patterns, is wrong. The lists are those of the test below. */
#define BAD_CHANNELS(list, count) \
    GRANT(count = 1), GRANT(list = null, count = 2), GRANT(list = pattern, count = 1), GRANT(list = control, count = 1), \
        GRANT(list = empty, count = 1), GRANT(list = utf8, count = 1), GRANT(list = many, count = SIZE_MAX)
#define BAD_PATTERNS(list, count) \
    GRANT(count = 1), GRANT(list = middle, count = 1), GRANT(list = utf8, count = 1), GRANT(list = many, count = SIZE_MAX)

static void bad_grants_leave_the_descriptor(void)
{
    char user[300], info[1100], *names[1001];
    push_server *server = serve("threads", "1", NULL);
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    memset(user, 'u', sizeof user - 1);
    user[256] = 0;
    memset(info, 'i', sizeof info - 1);
    info[1025] = 0;
    for (size_t i = 0; i < 1001; i++) names[i] = "c";
    const char *const null[] = {"a", NULL}, *const middle[] = {"a*b*"}, *const control[] = {"a\n"},
                      *const empty[] = {""}, *const utf8[] = {"\xff"}, *const pattern[] = {"a*"};
    const char *const *many = (const char *const *)names;
    const push_grant all_bad[] = {
        GRANT(.user = ""),
        GRANT(.user = user),
        GRANT(.user = "a\n"),
        GRANT(.user = "\xff"),
        GRANT(.info = "Ada"),
        GRANT(.user = "ada", .info = ""),
        GRANT(.user = "ada", .info = info),
        GRANT(.user = "ada", .info = "a\n"),
        GRANT(.user = "ada", .info = "\xff"),
        BAD_CHANNELS(.channels, .channel_count),
        GRANT(.channels = many, .channel_count = 1001),
        BAD_PATTERNS(.patterns, .pattern_count),
        GRANT(.channels = many, .channel_count = 600, .patterns = many, .pattern_count = 401),
        BAD_CHANNELS(.subscribe, .subscribe_count),
        GRANT(.channels = many, .channel_count = 1000, .subscribe = many, .subscribe_count = 1),
        BAD_CHANNELS(.publish_channels, .publish_channel_count),
        GRANT(.publish_channels = many, .publish_channel_count = 1001),
        BAD_PATTERNS(.publish_patterns, .publish_pattern_count),
        GRANT(.publish_channels = many, .publish_channel_count = 600, .publish_patterns = many, .publish_pattern_count = 401),
        GRANT(.channels = many, .channel_count = 600, .publish_channels = many, .publish_channel_count = 401,
              .flags = PUSH_GRANT_PUBLISH),
        GRANT(.expires_at = -1),
        GRANT(.expires_at = INT64_MIN),
        GRANT(.flags = 4),
        GRANT(.flags = 1u << 31),
        GRANT(.reserved = 1),
    };
    for (size_t i = 0; i < sizeof all_bad / sizeof *all_bad; i++) {
        check_case("grant %zu", i);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, &all_bad[i]), PUSH_ERR_INVALID);
        CHECK(is_open(fd));
    }
    check_case(NULL);
    /* This is the largest head that is allowed. */
    push_grant grant = PUSH_GRANT_INIT;
    user[255] = 0;
    info[1024] = 0;
    grant.user = user;
    grant.info = info;
    grant.channels = (const char *const *)names;
    grant.channel_count = 1000;
    grant.publish_channels = (const char *const *)names;
    grant.publish_channel_count = 1000;
    grant.expires_at = INT64_MAX;
    grant.flags = PUSH_GRANT_KEEP_ALIVE;
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, &grant), PUSH_OK);
    CHECK(ws_open(&client, "channel=c", ""));
    CHECK_STATUS(push_publish(server, "c", "hello", 5), PUSH_OK);
    ws_expect(&client, "hello");
    stop(server);
    peer_close(&client);
}

static void heads_that_are_too_long(void)
{
    enum { MAX = 1 << 20 };
    char *head = malloc(MAX + 1);
    push_server *server = serve("threads", "1", NULL);
    struct peer client;
    int fd;
    REQUIRE(head != NULL);
    memset(head, 'a', MAX + 1);
    memcpy(head, "GET /push?", 10);
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt(server, fd, head, MAX + 1, PUSH_GRANT_ALL), PUSH_ERR_TOO_LARGE);
    CHECK_STATUS(push_adopt(server, fd, head, SIZE_MAX, PUSH_GRANT_ALL), PUSH_ERR_TOO_LARGE);
    CHECK_STATUS(push_adopt(server, fd, head, SIZE_MAX / 2, PUSH_GRANT_ALL), PUSH_ERR_TOO_LARGE);
    CHECK(is_open(fd));
    CHECK_STATUS(push_adopt(server, fd, head, MAX, PUSH_GRANT_ALL), PUSH_OK);
    CHECK(peer_expect(&client, "HTTP/1.1 414 "));
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    free(head);
    stop(server);
    peer_close(&client);
}

/* Each way in which a host may have split the request, with `fd` blocking and not blocking. */
static void adopt_split(push_server *server, size_t at, bool blocking)
{
    char head[1024];
    struct peer client;
    int fd;
    ws_request(head, sizeof head, "channel=c", "");
    tcp_pair(&client, &fd);
    if (!blocking) fcntl(fd, F_SETFL, O_NONBLOCK);
    CHECK_STATUS(push_adopt(server, fd, head, at, PUSH_GRANT_ALL), PUSH_OK);
    if (at < strlen(head)) CHECK(peer_send(&client, head + at, strlen(head) - at));
    CHECK(peer_expect(&client, "HTTP/1.1 101 ") && peer_skip_past(&client, "\r\n\r\n"));
    CHECK_STATUS(push_publish(server, "c", "hello", 5), PUSH_OK);
    ws_expect(&client, "hello");
    peer_close(&client);
}

static void heads_split_anywhere(void)
{
    char head[1024];
    push_server *server = serve("threads", "2", NULL);
    ws_request(head, sizeof head, "channel=c", "");
    for (size_t at = 0; at <= strlen(head); at += at % 5 + 1) {
        check_case("%zu bytes read", at);
        adopt_split(server, at, at % 2);
    }
    check_case(NULL);
    stop(server);
}

static void bytes_after_the_head(void)
{
    char text[1200];
    push_event event = PUSH_EVENT_INIT;
    push_server *server = serve("threads", "1", NULL);
    struct peer client, other;
    int fd, pipe_fd;
    CHECK(push_event_fd(server) >= 0);
    /* The client did not wait for the answer. Its first message is behind the head, and the second one has begun. */
    ws_request(text, sizeof text, "channel=c", "");
    size_t len = strlen(text);
    unix_pair(&other, &pipe_fd);
    CHECK(ws_send(&other, WS_TEXT, "first", 5) && ws_send(&other, WS_BINARY, "second", 6));
    ssize_t frames = recv(pipe_fd, text + len, 100, 0);
    REQUIRE(frames == 5 + 6 + 2 * 6);
    unix_pair(&client, &fd);
    size_t read = len + (size_t)frames - 3;
    CHECK_STATUS(push_adopt(server, fd, text, read, PUSH_GRANT_ALL), PUSH_OK);
    CHECK(peer_send(&client, text + read, 3));
    CHECK(peer_expect(&client, "HTTP/1.1 101 "));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    CHECK(event.len == 5 && memcmp(event.data, "first", 5) == 0);
    CHECK_EQ(event.flags & PUSH_EVENT_BINARY, 0);
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    CHECK(event.len == 6 && memcmp(event.data, "second", 6) == 0);
    CHECK_EQ(event.flags & PUSH_EVENT_BINARY, PUSH_EVENT_BINARY);
    push_event_clear(&event);
    stop(server);
    close(pipe_fd);
    peer_close(&client);
    peer_close(&other);
}

static void much_after_the_head(void)
{
    enum { MESSAGES = 16, SIZE = 60000 };
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct peer client, recorder;
    int fd, recorded;
    char *read = malloc(1 << 20), *payload = malloc(SIZE);
    CHECK(push_event_fd(server) >= 0);
    ws_request(read, 1 << 20, "channel=c", "");
    size_t len = strlen(read);
    /* The host has a large buffer, and the client does not wait: almost 1 MB of messages came with the head. */
    unix_pair(&recorder, &recorded);
    for (int i = 0; i < MESSAGES; i++) {
        memset(payload, 'a' + i, SIZE);
        CHECK(ws_send(&recorder, WS_BINARY, payload, SIZE));
        size_t frame = SIZE + 8, got = 0;
        while (got < frame) {
            ssize_t more = recv(recorded, read + len + got, frame - got, 0);
            REQUIRE(more > 0);
            got += (size_t)more;
        }
        len += frame;
    }
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt(server, fd, read, len, PUSH_GRANT_ALL), PUSH_OK);
    expect_event(server, &event, PUSH_EVENT_OPEN);
    for (int i = 0; i < MESSAGES; i++) {
        expect_event(server, &event, PUSH_EVENT_MESSAGE);
        memset(payload, 'a' + i, SIZE);
        CHECK(event.len == SIZE && memcmp(event.data, payload, SIZE) == 0);
    }
    push_event_clear(&event);
    stop(server);
    free(read);
    free(payload);
    close(recorded);
    peer_close(&recorder);
    peer_close(&client);
}

static void the_descriptor_stays_as_blocking_as_it_was(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    int share = dup(fd); /* the host's duplicate sees the same flags */
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    REQUIRE(ws_open(&client, "channel=c", ""));
    CHECK_EQ(fcntl(share, F_GETFL) & O_NONBLOCK, 0);
    /* It does not make the library's thread wait either: another client is served. */
    struct peer second = adopted_ws(server, NULL, "channel=c");
    CHECK_STATUS(push_publish(server, "c", "hello", 5), PUSH_OK);
    ws_expect(&client, "hello");
    ws_expect(&second, "hello");
    stop(server);
    /* A stop ends the connection, even if another process holds the descriptor. */
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    close(share);
    peer_close(&client);
    peer_close(&second);
}

/* A client whose connection is handed over when the host has read this. */
static struct peer adopted_after(push_server *server, const char *read, size_t len)
{
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    CHECK_STATUS(push_adopt(server, fd, read, len, PUSH_GRANT_ALL), PUSH_OK);
    return client;
}

/* A client that speaks TLS could not read an answer. */
static void tls_is_closed(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct peer client = adopted_after(server, "\x16\x03\x01 hello\r\n\r\n", 12);
    CHECK(peer_read_to_end(&client, PATIENCE_MS));
    CHECK_EQ(client.len, 0);
    peer_close(&client);
    wait_for_connections(server, 0);
    stop(server);
}

static void garbage_is_answered_by_http(void)
{
    static const struct {
        const char *sent, *answer;
    } cases[] = {{"\x15\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 "},
                 {"GET /push?channel=c HTTP/1.1\nHost: h\n\n", "HTTP/1.1 400 "},
                 {"GET /push HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400 "},
                 {"POST /push?channel=c HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 405 "},
                 {"GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 400 "},
                 {"GET /push?channel=c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", "HTTP/1.1 400 "},
                 {"GET /push?channel=c&since=x HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 400 "}};
    push_server *server = serve("threads", "1", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case("request %zu", i);
        for (size_t at = 0; at <= strlen(cases[i].sent); at += 7) {
            struct peer client = adopted_after(server, cases[i].sent, at);
            peer_send(&client, cases[i].sent + at, strlen(cases[i].sent) - at);
            CHECK(peer_expect(&client, cases[i].answer));
            peer_close(&client);
        }
    }
    check_case(NULL);
    wait_for_connections(server, 0);
    stop(server);
}

/* NULL allows nothing by itself: the option auth must have been set to none. */
static void without_a_grant(void)
{
    for (int said = 0; said < 2; said++) {
        struct peer client;
        int fd;
        push_status expected = said ? PUSH_OK : PUSH_ERR_INVALID;
        check_case("auth=none %s", said ? "was set" : "is the default");
        push_server *server = said ? serve("threads", "1", "auth", "none", NULL) : serve("threads", "1", NULL);
        unix_pair(&client, &fd);
        CHECK_STATUS(push_adopt(server, fd, NULL, 0, NULL), expected);
        if (!said) {
            CHECK(is_open(fd));
            CHECK_STATUS(push_adopt_more(server, fd, NULL, 0, NULL), expected);
            CHECK(is_open(fd));
            CHECK_EQ(stats_of(server).adopted, 0);
            CHECK_STATUS(push_adopt(server, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
        }
        CHECK(ws_open(&client, "channel=any&channel=other", ""));
        CHECK_STATUS(push_publish(server, "other", "hello", 5), PUSH_OK);
        ws_expect(&client, "hello");
        stop(server);
        peer_close(&client);
    }
    check_case(NULL);
}

/* When a hub has gone, every client still gets an answer. */
static void clients_of_a_hub_that_is_away(void)
{
    char directory[128], address[256];
    struct peer poll, page;
    int fd;
    temporary_directory(directory, sizeof directory);
    snprintf(address, sizeof address, "unix:%s/hub.sock", directory);
    push_server *hub = serve("attach_listen", address, NULL);
    push_server *host = serve("attach", address, "attach_timeout", "1s", NULL);
    push_message message = text_message("c", "");
    push_status published = PUSH_ERR_BUSY;
    WAIT_WHILE((published = push_publish_message(host, &message, &(push_position){0})) != PUSH_OK);
    CHECK_STATUS(published, PUSH_OK);
    stop(hub);
    tcp_pair(&poll, &fd);
    peer_get(&poll, "channel=c", "");
    CHECK_STATUS(push_adopt(host, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    tcp_pair(&page, &fd);
    peer_get(&page, "channel=c", "Accept: text/event-stream\r\n");
    CHECK_STATUS(push_adopt_more(host, fd, NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    CHECK_STATUS(push_flush(host), PUSH_OK);
    CHECK(peer_expect(&poll, "HTTP/1.1 503 ") && peer_expect(&poll, "Retry-After: "));
    CHECK(peer_expect(&page, "HTTP/1.1 200 ") && peer_expect(&page, "event: push-close"));
    CHECK(peer_read_to_end(&poll, PATIENCE_MS) && peer_read_to_end(&page, PATIENCE_MS));
    stop(host);
    remove_directory(directory);
    peer_close(&poll);
    peer_close(&page);
}

CHECK_MAIN(TEST(bad_descriptors), TEST(a_client_that_went_before), TEST(bad_grants_leave_the_descriptor),
           TEST(without_a_grant), TEST(clients_of_a_hub_that_is_away),
           TEST(heads_that_are_too_long), TEST(heads_split_anywhere), TEST(bytes_after_the_head),
           TEST(much_after_the_head), TEST(the_descriptor_stays_as_blocking_as_it_was),
           TEST(garbage_is_answered_by_http), TEST(tls_is_closed))
