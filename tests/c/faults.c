/* The system refuses something.  In the middle of a start: an error, and nothing left behind.  Each call that a start
 * makes fails once, the first, then the second, until a start gets through. */
#include "process.h"
#include "serve.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *failing; /* the function that fails */
static atomic_int countdown; /* which of its calls */
static int with_error;

/* Whether this call is the one. */
static bool fails(const char *name)
{
    if (!failing || strcmp(failing, name) != 0) return false;
    return --countdown == 0;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* In place of libc's, also for the library: the program's symbols come first. */
#define REFUSABLE(type, name, parameters, arguments)            \
    type name parameters                                        \
    {                                                           \
        type(*function) parameters;                             \
        if (fails(#name)) return errno = with_error, (type)-1;  \
        *(void **)&function = real(#name);                      \
        return function arguments;                              \
    }

REFUSABLE(int, epoll_create1, (int flags), (flags))
REFUSABLE(int, eventfd, (unsigned value, int flags), (value, flags))
REFUSABLE(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event), (epoll, operation, fd, event))
REFUSABLE(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
REFUSABLE(int, bind, (int fd, __CONST_SOCKADDR_ARG address, socklen_t len), (fd, address, len))
REFUSABLE(int, listen, (int fd, int backlog), (fd, backlog))
REFUSABLE(int, getsockname, (int fd, __SOCKADDR_ARG address, socklen_t *len), (fd, address, len))
REFUSABLE(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
          (fd, level, name, value, len))
REFUSABLE(int, accept4, (int fd, __SOCKADDR_ARG address, socklen_t *len, int flags), (fd, address, len, flags))
REFUSABLE(ssize_t, send, (int fd, const void *bytes, size_t len, int flags), (fd, bytes, len, flags))
REFUSABLE(int, chmod, (const char *path, mode_t mode), (path, mode))

int fcntl(int fd, int command, ...)
{
    int (*function)(int, int, ...);
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (fails("fcntl")) return errno = with_error, -1;
    *(void **)&function = real("fcntl");
    return function(fd, command, argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int (*function)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (fails("pthread_create")) return EAGAIN;
    *(void **)&function = real("pthread_create");
    return function(thread, attributes, run, argument);
}

static int freed;

static void count_free(void *user_data)
{
    (void)user_data;
    freed++;
}

static void ignore_line(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

static push_config *config_with_all(const char *directory)
{
    char listen[256], control[256];
    snprintf(listen, sizeof listen, "127.0.0.1:0,unix:%s/push.sock", directory);
    snprintf(control, sizeof control, "127.0.0.1:0,unix:%s/control.sock", directory);
    push_config *config = configure("threads", "2", "listen", listen, "control", control, "control_key",
                                    "0123456789abcdef", NULL);
    push_config_on_log(config, ignore_line, NULL, count_free);
    return config;
}

/* One start with the `call`th call of `function` refused.  True: it was not even made, so this was the last. */
static bool start_with_fault(push_config *config, const char *directory, const char *function, int call)
{
    char err[512] = "", path[256];
    push_server *server = (push_server *)77;
    int descriptors = descriptor_count(), threads = thread_count_at_most(1);
    check_case("call %d of %s", call, function);
    countdown = call;
    failing = function;
    push_status status = push_start(config, &server, err, sizeof err);
    /* What the new threads do first is part of the start, though they may come to it a little later. */
    if (status == PUSH_OK && countdown > 0) sleep_ms(20);
    failing = NULL;
    bool made = countdown <= 0;
    if (status == PUSH_OK) {
        /* A refusal may be of no matter (an option that only helps); but then all must work. */
        struct peer client = adopted_ws(server, NULL, "channel=c");
        CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
        ws_expect(&client, "x");
        stop(server);
        peer_close(&client);
    } else {
        CHECK(made);
        CHECK_STATUS(status, PUSH_ERR_SYSTEM);
        CHECK(*err);
        CHECK(server == (push_server *)77);
    }
    if (!CHECK_EQ(descriptor_count(), descriptors)) print_descriptors();
    CHECK_EQ(thread_count_at_most(threads), threads);
    CHECK_EQ(freed, 0);
    join_path(path, sizeof path, directory, "push.sock");
    CHECK(access(path, F_OK) != 0);
    join_path(path, sizeof path, directory, "control.sock");
    CHECK(access(path, F_OK) != 0);
    return !made;
}

static void refuse_each(const char *function, int error)
{
    char directory[128];
    temporary_directory(directory, sizeof directory);
    push_config *config = config_with_all(directory);
    with_error = error;
    int call = 1;
    while (call < 100 && !start_with_fault(config, directory, function, call)) call++;
    CHECK(call > 1); /* the function is one that a start uses */
    push_config_free(config);
    CHECK_EQ(freed, 1);
    remove_directory(directory);
}

static void threads(void)
{
    refuse_each("pthread_create", EAGAIN);
}

static void descriptors(void)
{
    refuse_each("epoll_create1", EMFILE);
    freed = 0;
    refuse_each("eventfd", ENFILE);
    freed = 0;
    refuse_each("socket", EMFILE);
    freed = 0;
    refuse_each("fcntl", EMFILE);
}

static void watches(void)
{
    refuse_each("epoll_ctl", ENOSPC);
}

static void listeners(void)
{
    refuse_each("bind", EACCES);
    freed = 0;
    refuse_each("listen", EADDRINUSE);
    freed = 0;
    refuse_each("getsockname", ENOBUFS);
    freed = 0;
    refuse_each("setsockopt", ENOPROTOOPT);
    freed = 0;
    refuse_each("chmod", EPERM);
}

static void a_connection_that_can_not_be_watched(void)
{
    push_server *server = serve("threads", "1", NULL);
    struct peer first = adopted_ws(server, NULL, "channel=c"), client; /* the threads run */
    int fd;
    unix_pair(&client, &fd);
    with_error = ENOSPC; /* fs.epoll.max_user_watches */
    countdown = 1;
    failing = "epoll_ctl";
    CHECK_STATUS(push_adopt(server, fd, NULL, 0, NULL), PUSH_OK);
    CHECK(peer_read_to_end(&client, PATIENCE_MS)); /* ended, not forgotten */
    failing = NULL;
    peer_close(&client);
    client = adopted_ws(server, NULL, "channel=c");
    wait_for_connections(server, 2);
    stop(server);
    peer_close(&first);
    peer_close(&client);
}

static void an_accept_that_is_refused(void)
{
    static const int errors[] = {ENOMEM, ENOBUFS, ENFILE, EMFILE};
    char directory[128], listen[256];
    temporary_directory(directory, sizeof directory);
    snprintf(listen, sizeof listen, "unix:%s/push.sock", directory);
    push_server *server = serve("threads", "1", "listen", listen, NULL);
    struct peer first = adopted_ws(server, NULL, "channel=c");
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        check_case("%s", strerror(errors[i]));
        with_error = errors[i];
        countdown = 1;
        failing = "accept4";
        struct peer client = peer_of(dial(listen));
        CHECK_STATUS(push_publish(server, "c", "meanwhile", 9), PUSH_OK);
        CHECK(ws_expect(&first, "meanwhile")); /* others are served */
        CHECK(ws_open(&client, "channel=c", "")); /* it was left waiting, not forgotten */
        failing = NULL;
        CHECK_STATUS(push_publish(server, "c", "after", 5), PUSH_OK);
        CHECK(ws_expect(&client, "after"));
        CHECK(ws_expect(&first, "after"));
        CHECK(countdown <= 0);
        peer_close(&client);
    }
    stop(server);
    peer_close(&first);
    remove_directory(directory);
}

/* The client whose message could not be sent is ended, and finds it in the history when it is back; its neighbour feels nothing. */
static void a_send_that_is_refused(void)
{
    static const int errors[] = {ENOMEM, ENOBUFS};
    const char *text = "Sec-WebSocket-Protocol: push.v1.json\r\n";
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        check_case("%s", strerror(errors[i]));
        push_server *server = serve("threads", "1", NULL);
        struct peer client = adopted(server, NULL), other = adopted_ws(server, NULL, "channel=other");
        push_position seen;
        push_message first = PUSH_MESSAGE_INIT;
        char since[128];
        first.channel = "c", first.data = "seen", first.len = 4;
        CHECK(ws_open(&client, "channel=c", text));
        wait_for_subscriptions(server, 2);
        CHECK_STATUS(push_publish_message(server, &first, &seen), PUSH_OK);
        CHECK(peer_expect(&client, "\"seen\""));
        with_error = errors[i];
        countdown = 1;
        failing = "send"; /* no test sends now */
        CHECK_STATUS(push_publish(server, "c", "lost", 4), PUSH_OK);
        CHECK(peer_read_to_end(&client, PATIENCE_MS));
        failing = NULL;
        CHECK(countdown <= 0);
        CHECK_STATUS(push_publish(server, "other", "here", 4), PUSH_OK);
        CHECK(ws_expect(&other, "here"));
        peer_close(&client);
        client = adopted(server, NULL);
        snprintf(since, sizeof since, "channel=c&since=%s", seen.text);
        CHECK(ws_open(&client, since, text));
        CHECK(peer_expect(&client, "\"lost\""));
        stop(server);
        peer_close(&client);
        peer_close(&other);
    }
}

CHECK_MAIN(TEST(threads), TEST(descriptors), TEST(watches), TEST(listeners),
           TEST(a_connection_that_can_not_be_watched), TEST(an_accept_that_is_refused),
           TEST(a_send_that_is_refused))
