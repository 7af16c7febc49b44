/* A library is a guest in the host's process: it leaves signals, threads, descriptors, output and environment to the
 * host. */
#include "process.h"
#include "serve.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static atomic_bool watching;
static atomic_int looked_up;
static char names_looked_up[256];

static const char *in_environment(const char *name)
{
    for (char **entry = environ; entry && *entry; entry++) {
        if (strncmp(*entry, name, strlen(name)) == 0 && (*entry)[strlen(name)] == '=') return *entry + strlen(name) + 1;
    }
    return NULL;
}

/* Whether the caller was preloaded, like the object that makes a machine slow (tests/stress). */
static bool is_preloaded(void *caller)
{
    Dl_info asks;
    const char *preloaded = in_environment("LD_PRELOAD");
    return preloaded && dladdr(caller, &asks) && strstr(preloaded, asks.dli_fname);
}

/* This replaces libc's function, also for the library: the program's symbols come first. */
char *getenv(const char *name)
{
    /* tokio 1.54 asks for this variable. It chooses a queue of a thread pool, and the library has no such pool. */
    bool known = strcmp(name, "TOKIO_UNSTABLE_SHARDED_BLOCKING_QUEUE") == 0;
    if (watching && !known && !is_preloaded(__builtin_return_address(0))) {
        looked_up++;
        strncat(names_looked_up, name, sizeof names_looked_up - strlen(names_looked_up) - 2);
        strcat(names_looked_up, " ");
    }
    return (char *)in_environment(name);
}

static void ignore_line(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

/* A server with every kind of thread, listener and client, good and bad. */
static push_server *serve_all(struct peer *client)
{
    push_config *config = configure("threads", "2", "listen", "127.0.0.1:0", "control", "127.0.0.1:0", "control_key",
                                    "0123456789abcdef", "trace", "otlp:http://127.0.0.1:1", "trace_sample", "1", NULL);
    push_config_on_log(config, ignore_line, NULL, NULL);
    push_server *server = serve_config(config);
    char address[128];
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    *client = peer_of(dial(address));
    CHECK(ws_open(client, "channel=c", ""));
    CHECK_STATUS(push_publish(server, "c", "hello", 5), PUSH_OK);
    ws_expect(client, "hello");
    CHECK_STATUS(push_listen_address(server, 1, address, sizeof address), PUSH_OK);
    struct peer control = peer_of(dial(address));
    CHECK(peer_print(&control, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n"));
    CHECK(peer_expect(&control, "HTTP/1.1 200 "));
    peer_close(&control);
    struct peer wrong = adopted(server, NULL);
    CHECK(peer_print(&wrong, "nonsense\r\n\r\n") && peer_expect(&wrong, "HTTP/1.1 400 "));
    peer_close(&wrong);
    return server;
}

static void threads_have_names_and_block_signals(void)
{
    struct thread threads[MAX_THREADS];
    struct peer client;
    push_server *server = serve_all(&client);
    sigset_t faults;
    sigemptyset(&faults);
    for (int i = 0; i < 6; i++) sigaddset(&faults, (const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}[i]);
    /* Threads name themselves. One that has not run yet has the name and the mask of the thread that made it. */
    WAIT_WHILE(threads_named("push-start"));
    size_t count = list_threads(threads, MAX_THREADS);
    CHECK_EQ(count, 1 + 2 + 1 + 1 + 1);
    CHECK_EQ(threads_named("push-shard-"), 2);
    CHECK_EQ(threads_named("push-control"), 1);
    CHECK_EQ(threads_named("push-trace"), 1);
    CHECK_EQ(threads_named("push-callback"), 1);
    for (size_t i = 0; i < count; i++) {
        if (threads[i].id == getpid()) continue;
        for (int signal = 1; signal <= SIGRTMAX; signal++) {
            /* Signals that can't be blocked, and those that glibc keeps for itself. */
            if (signal == SIGKILL || signal == SIGSTOP || signal == 32 || signal == 33) continue;
            check_case("signal %d of %s", signal, threads[i].name);
            CHECK_EQ(threads[i].blocked >> (signal - 1) & 1, !sigismember(&faults, signal));
        }
    }
    check_case(NULL);
    stop(server);
    CHECK_EQ(thread_count_at_most(1), 1);
    peer_close(&client);
}

static void the_callers_mask_stays(void)
{
    static const int masks[][3] = {{0}, {SIGINT, SIGTERM, 0}, {SIGUSR1, SIGPIPE, SIGCHLD}};
    for (int i = 0; i < 3; i++) {
        sigset_t mine, after;
        sigemptyset(&mine);
        for (int n = 0; n < 3 && masks[i][n]; n++) sigaddset(&mine, masks[i][n]);
        sigprocmask(SIG_SETMASK, &mine, NULL);
        struct peer client;
        push_server *server = serve_all(&client);
        sigprocmask(SIG_SETMASK, NULL, &after);
        for (int signal = 1; signal <= SIGRTMAX; signal++) {
            if (signal != 32 && signal != 33) CHECK_EQ(sigismember(&after, signal), sigismember(&mine, signal));
        }
        stop(server);
        peer_close(&client);
    }
}

static void no_handler_is_installed(void)
{
    struct sigaction before[65], now;
    stack_t stack_before, stack_now;
    memset(before, 0, sizeof before);
    sigaltstack(NULL, &stack_before);
    for (int signal = 1; signal <= 64; signal++) sigaction(signal, NULL, &before[signal]);
    struct peer client;
    push_server *server = serve_all(&client);
    for (int round = 0; round < 2; round++) {
        for (int signal = 1; signal <= 64; signal++) {
            memset(&now, 0, sizeof now);
            if (sigaction(signal, NULL, &now) != 0) continue;
            check_case("signal %d", signal);
            CHECK(now.sa_handler == before[signal].sa_handler && now.sa_flags == before[signal].sa_flags);
        }
        if (round == 0) stop(server);
    }
    check_case(NULL);
    sigaltstack(NULL, &stack_now);
    CHECK(stack_now.ss_sp == stack_before.ss_sp && stack_now.ss_flags == stack_before.ss_flags);
    peer_close(&client);
}

static void nothing_is_written_to_stdout_or_stderr(void)
{
    struct stat written;
    int out = dup(1), err = dup(2), file = memfd_create("output", MFD_CLOEXEC);
    fflush(NULL);
    dup2(file, 1);
    dup2(file, 2);
    struct peer client;
    push_server *server = serve_all(&client), *second = NULL;
    char text[128] = "";
    push_config_set(NULL, NULL, NULL, text, sizeof text);
    push_config *config = configure("listen", "192.0.2.1:1", NULL);
    CHECK_STATUS(push_start(config, &second, text, sizeof text), PUSH_ERR_SYSTEM);
    push_config_free(config);
    push_stop(server, 0);
    push_stop(server, 0);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    CHECK(fstat(file, &written) == 0);
    CHECK_EQ(written.st_size, 0);
    close(out);
    close(err);
    close(file);
    peer_close(&client);
}

static void no_environment_variable_is_read(void)
{
    struct peer client;
    looked_up = 0;
    watching = true;
    push_server *server = serve_all(&client);
    stop(server);
    watching = false;
    check_case("%s", names_looked_up);
    CHECK_EQ(looked_up, 0);
    peer_close(&client);
}

static void the_environment_can_not_break_the_start(void)
{
    char err[256] = "";
    push_server *server = NULL;
    push_config *config = configure("threads", "1", NULL);
    setenv("RUST_MIN_STACK", "99999999999999", 1); /* this is for a Rust program of the user, not for the library */
    push_status status = push_start(config, &server, err, sizeof err);
    check_case("err \"%s\"", err);
    CHECK_STATUS(status, PUSH_OK);
    if (status == PUSH_OK) stop(server);
    push_config_free(config);
}

static void descriptors_close_on_exec(void)
{
    bool mine[4096];
    struct peer client;
    for (int fd = 0; fd < 4096; fd++) mine[fd] = is_open(fd);
    push_server *server = serve_all(&client);
    CHECK(push_event_fd(server) >= 0);
    for (int fd = 0; fd < 4096; fd++) {
        if (mine[fd] || !is_open(fd)) continue;
        check_case("descriptor %d", fd);
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    check_case(NULL);
    stop(server);
    peer_close(&client);
}

static void directory_umask_and_limits_stay(void)
{
    char before[512], after[512];
    struct rlimit files, files_after;
    umask(0137);
    getrlimit(RLIMIT_NOFILE, &files);
    REQUIRE(getcwd(before, sizeof before) != NULL);
    struct peer client;
    push_server *server = serve_all(&client);
    stop(server);
    REQUIRE(getcwd(after, sizeof after) != NULL);
    CHECK_TEXT(after, before);
    CHECK_EQ(umask(022), 0137);
    getrlimit(RLIMIT_NOFILE, &files_after);
    CHECK(files.rlim_cur == files_after.rlim_cur);
    peer_close(&client);
}

static atomic_int handled;

static void handle(int signal)
{
    (void)signal;
    handled++;
}

static void *disturb(void *main_thread)
{
    while (!watching) {
        pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
        usleep(300);
    }
    return NULL;
}

static void calls_go_on_through_signals(void)
{
    struct sigaction action = {.sa_handler = handle}; /* without SA_RESTART */
    pthread_t thread, main_thread = pthread_self();
    push_event event = PUSH_EVENT_INIT;
    sigaction(SIGUSR1, &action, NULL);
    watching = false;
    pthread_create(&thread, NULL, disturb, &main_thread);
    WAIT_WHILE(handled == 0);
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", NULL);
    int64_t began = now_ms();
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 200), PUSH_ERR_TIMEOUT);
    CHECK(now_ms() - began >= 195);
    for (int i = 0; i < 1000; i++) CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    stop(server);
    WAIT_WHILE(handled <= 10);
    watching = true;
    pthread_join(thread, NULL);
    watching = false;
    CHECK(handled > 10);
}

static void *call_with_little_stack(void *started)
{
    push_server *server = started;
    push_message batch[2] = {PUSH_MESSAGE_INIT, PUSH_MESSAGE_INIT};
    push_event event = PUSH_EVENT_INIT;
    push_stats stats;
    int fds[2];
    batch[0].channel = batch[1].channel = "c";
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    CHECK_STATUS(push_publish_batch(server, batch, 2, NULL), PUSH_OK);
    CHECK_STATUS(push_publish(server, "", "x", 1), PUSH_ERR_INVALID);
    CHECK_STATUS(push_stats_get(server, &stats, sizeof stats), PUSH_OK);
    CHECK_STATUS(push_next_event(server, &event, sizeof event, 1), PUSH_ERR_TIMEOUT);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK_STATUS(push_adopt(server, fds[0], NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    close(fds[1]);
    CHECK_STATUS(push_stop(server, 100), PUSH_OK);
    return NULL;
}

/* A host may have thousands of threads with small stacks. */
static void threads_with_little_stack(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    push_server *server = serve("threads", "2", NULL);
    pthread_attr_init(&attributes);
    CHECK_EQ(pthread_attr_setstacksize(&attributes, sanitized() ? 256 << 10 : 48 << 10), 0);
    REQUIRE(pthread_create(&thread, &attributes, call_with_little_stack, server) == 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

static int64_t cpu_ms(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static void check_idle(const char *when)
{
    int64_t used = 500;
    for (int i = 0; i < 10 && used >= 100; i++) { /* earlier work may go on for a while */
        int64_t before = cpu_ms();
        sleep_ms(500);
        used = cpu_ms() - before;
    }
    check_case("%s: %d ms of CPU in 500 ms", when, (int)used);
    CHECK(used < 100);
    check_case(NULL);
}

static void idle_is_idle(void)
{
    enum { CLIENTS = 200 };
    static struct peer clients[CLIENTS];
    struct peer client;
    push_server *server = serve_all(&client);
    for (int i = 0; i < CLIENTS; i++) clients[i] = adopted_ws(server, NULL, "channel=c");
    check_idle("clients that say nothing");
    CHECK(push_event_fd(server) >= 0);
    CHECK(ws_send(&clients[0], WS_TEXT, "x", 1));
    check_idle("an event that nobody takes");
    stop(server);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
    peer_close(&client);
}

static void idle_where_clients_may_not_be_read(void)
{
    char data[4096] = "";
    push_server *server = serve("threads", "1", "event_queue", "16", "outbox", "16KB", "max_message", "1MB", NULL);
    CHECK(push_event_fd(server) >= 0);
    struct peer full = adopted_ws(server, NULL, "channel=c");
    for (int i = 0; i < 16; i++) CHECK(ws_send(&full, WS_BINARY, data, sizeof data));
    CHECK(ws_send(&full, WS_BINARY, data, sizeof data));
    check_idle("a full event queue");
    /* A client with half a head, and a client that does not read its answer. */
    struct peer half = adopted(server, NULL);
    CHECK(peer_print(&half, "GET /push?chan"));
    check_idle("half a head");
    stop(server);
    peer_close(&full);
    peer_close(&half);
}

static void idle_without_descriptors(void)
{
    char address[128];
    struct rlimit files, few;
    push_server *server = serve("threads", "2", "listen", "127.0.0.1:0", NULL);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    struct peer waits = peer_of(dial(address)), next;
    CHECK(ws_open(&waits, "channel=c", ""));
    int free_ones[64], count = 0;
    getrlimit(RLIMIT_NOFILE, &files);
    few = files;
    few.rlim_cur = (rlim_t)descriptor_count() + 8;
    setrlimit(RLIMIT_NOFILE, &few);
    while (count < 63 && (free_ones[count] = dup(0)) >= 0) count++;
    close(free_ones[--count]);
    next = peer_of(dial(address)); /* takes the last descriptor: the library can't accept it */
    CHECK(next.fd >= 0 && peer_get(&next, "channel=c&transport=stream", ""));
    check_idle("out of descriptors");
    CHECK_STATUS(push_publish(server, "c", "still here", 10), PUSH_OK);
    ws_expect(&waits, "still here");
    setrlimit(RLIMIT_NOFILE, &files);
    CHECK(peer_expect(&next, "HTTP/1.1 200 ")); /* served as soon as it can be */
    while (count > 0) close(free_ones[--count]);
    stop(server);
    peer_close(&waits);
    peer_close(&next);
}

CHECK_MAIN(TEST(threads_have_names_and_block_signals), TEST(the_callers_mask_stays), TEST(no_handler_is_installed),
           TEST(nothing_is_written_to_stdout_or_stderr), TEST(no_environment_variable_is_read),
           TEST(the_environment_can_not_break_the_start), TEST(descriptors_close_on_exec),
           TEST(directory_umask_and_limits_stay), TEST(calls_go_on_through_signals),
           TEST(threads_with_little_stack), TEST(idle_is_idle), TEST(idle_where_clients_may_not_be_read),
           TEST(idle_without_descriptors))
