/* The system refuses something in the middle of a start. The start returns an error and leaves nothing behind. Each
 * call that a start makes fails once: the first, then the second, until a start succeeds. refused.c is about servers
 * that run. */
#include "process.h"
#include "refuse.h"
#include "serve.h"
#include <stdio.h>
#include <stdlib.h>

static int freed;
static int others = 1; /* threads that do not belong to the start */

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

/* Starts once with the `call`th call of `function` refused. True: there was no such call, so this was the last. */
static bool start_with_fault(push_config *config, const char *directory, const char *function, int call)
{
    char err[512] = "", path[256];
    push_server *server = (push_server *)77;
    int descriptors = descriptor_count(), threads = thread_count_at_most(others);
    check_case("call %d of %s", call, function);
    countdown = call;
    failing = function;
    push_status status = push_start(config, &server, err, sizeof err);
    /* The first calls of the new threads are part of the start, though they may come a little later. */
    if (status == PUSH_OK && countdown > 0) sleep_ms(20);
    failing = NULL;
    bool made = countdown <= 0;
    if (status == PUSH_OK) {
        /* A refusal may not matter (for an option that only helps). But then everything must work. */
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
    freed = 0;
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
    refuse_each("eventfd", ENFILE);
    refuse_each("socket", EMFILE);
    refuse_each("fcntl", EMFILE);
}

static void watches(void)
{
    refuse_each("epoll_ctl", ENOSPC);
}

static void listeners(void)
{
    refuse_each("bind", EACCES);
    refuse_each("listen", EADDRINUSE);
    refuse_each("getsockname", ENOBUFS);
    refuse_each("setsockopt", ENOPROTOOPT);
    refuse_each("chmod", EPERM);
}

/* Another server runs in this process, and is not affected. */
static void a_second_server(void)
{
    static const char *const functions[] = {"pthread_create", "epoll_create1", "eventfd", "EPOLL_CTL_ADD"};
    push_server *first = serve("threads", "1", NULL);
    struct peer client = adopted_ws(first, NULL, "channel=c");
    others = thread_count();
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        freed = 0;
        refuse_each(functions[i], EMFILE);
        check_case(NULL);
        CHECK_STATUS(push_publish(first, "c", functions[i], strlen(functions[i])), PUSH_OK);
        ws_expect(&client, functions[i]);
    }
    stop(first);
    peer_close(&client);
}

CHECK_MAIN(TEST(threads), TEST(descriptors), TEST(watches), TEST(listeners), TEST(a_second_server))
