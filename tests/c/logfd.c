/* The log without a callback: the library writes the lines to a descriptor (log_fd). */
#include "process.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A server whose log goes to this descriptor. The caller's own is closed. */
static push_server *serve_to(int fd, const char *attach)
{
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    push_server *server = serve("threads", "1", "log_fd", number, "attach", attach, NULL);
    close(fd);
    return server;
}

/* Everything up to the end of a pipe or socket, ended by NUL. */
static char *read_all(int fd)
{
    size_t len = 0, size = 1 << 22;
    char *text = malloc(size);
    for (ssize_t got = 1; got > 0 && len + 1 < size; len += got > 0 ? (size_t)got : 0) {
        got = read(fd, text + len, size - len - 1);
    }
    text[len] = 0;
    close(fd);
    return text;
}

/* Checks that each line is whole: a time, the library's name, a level, a text. Returns how many there are. */
static int check_lines(const char *text)
{
    int count = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1, count++) {
        int year, part, used = 0;
        char level[16];
        check_case("line \"%.*s\"", (int)(end - text), text);
        int found = sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ libpush: %15[a-z]: %n", &year, &part, &part, &part,
                           &part, &part, &part, level, &used);
        CHECK_EQ(found, 8);
        CHECK(year > 2000 && used > 0 && text + used < end);
        CHECK(strcmp(level, "info") == 0 || strcmp(level, "warning") == 0);
    }
    check_case("after the lines");
    CHECK_TEXT(text, "");
    check_case(NULL);
    return count;
}

/* Whether a descriptor of this open file is left, other than `but`, that a program would inherit. */
static bool is_inherited(const struct stat *file, int but)
{
    for (int fd = 3; fd < 256; fd++) {
        struct stat found;
        if (fd == but || fstat(fd, &found) != 0) continue;
        if (found.st_ino != file->st_ino || found.st_dev != file->st_dev) continue;
        if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC)) return true;
    }
    return false;
}

static void each_line_goes_to_the_descriptor(void)
{
    int fds[2];
    struct stat file;
    struct thread threads[MAX_THREADS];
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(fstat(fds[1], &file), 0);
    push_server *server = serve_to(fds[1], "none");
    WAIT_WHILE(threads_named("push-log-fd") < 1);
    bool blocks = false;
    for (size_t i = 0, count = list_threads(threads, MAX_THREADS); i < count; i++) {
        if (strcmp(threads[i].name, "push-log-fd") == 0) blocks = threads[i].blocked >> (SIGPIPE - 1) & 1;
    }
    CHECK(blocks);
    CHECK(!is_inherited(&file, fds[0]));
    reload_times(server, 10);
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK); /* it writes the rest, and closes the descriptor */
    char *text = read_all(fds[0]);
    CHECK(check_lines(text) >= 10 + 2);
    CHECK_HAS(text, " libpush: info: options reloaded: nothing changed\n");
    CHECK_HAS(text, " libpush: info: stopping\n");
    CHECK(strlen(text) > 8 && strcmp(text + strlen(text) - 8, "stopped\n") == 0);
    free(text);
}

static void each_kind_of_descriptor(void)
{
    char directory[128], path[256];
    temporary_directory(directory, sizeof directory);
    join_path(path, sizeof path, directory, "log");
    for (int kind = 0; kind < 3; kind++) {
        int fds[2] = {-1, -1};
        static const int kinds[] = {SOCK_STREAM, SOCK_SEQPACKET};
        check_case("kind %d", kind);
        if (kind < 2) CHECK_EQ(socketpair(AF_UNIX, kinds[kind], 0, fds), 0);
        else fds[0] = open(path, O_RDWR | O_CREAT | O_APPEND, 0600), fds[1] = dup(fds[0]);
        push_server *server = serve_to(fds[1], "none");
        reload_times(server, 1);
        CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
        if (kind == 2) lseek(fds[0], 0, SEEK_SET);
        char *text = read_all(fds[0]);
        CHECK_HAS(text, "options reloaded");
        CHECK(check_lines(text) >= 3);
        free(text);
    }
    check_case(NULL);
    remove_directory(directory);
}

static void an_attached_server_logs_too(void)
{
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    push_server *server = serve_to(fds[1], "unix:/nonexistent/hub.sock");
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
    char *text = read_all(fds[0]);
    CHECK(check_lines(text) >= 2);
    CHECK_HAS(text, " libpush: warning: no hub at unix:/nonexistent/hub.sock: ");
    free(text);
}

static void a_reader_that_does_not_read_delays_nobody(void)
{
    int fds[2];
    for (int kind = 0; kind < 2; kind++) {
        check_case("kind %d", kind);
        if (kind == 0) CHECK_EQ(pipe(fds), 0);
        else CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        int mine = dup(fds[1]), flags = fcntl(mine, F_GETFL);
        push_server *server = serve_to(fds[1], "none");
        struct peer client = adopted_ws(server, NULL, "channel=c");
        int64_t enough = now_ms() + PATIENCE_MS;
        while (stats_of(server).logs_dropped < 100 && now_ms() < enough) reload_times(server, 100);
        check_case("kind %d", kind);
        CHECK(stats_of(server).logs_dropped >= 100);
        CHECK_STATUS(push_publish(server, "c", "quick", 5), PUSH_OK);
        ws_expect(&client, "quick");
        CHECK_EQ(fcntl(mine, F_GETFL), flags); /* the host may write there as well */
        stop(server); /* although nobody reads */
        close(mine);
        char *text = read_all(fds[0]), *last = strrchr(text, '\n');
        if (last && kind == 1) last[1] = 0; /* a stream socket may take a part of the last line */
        CHECK(check_lines(text) > 100);
        free(text);
        peer_close(&client);
    }
}

static void a_reader_that_comes_back_is_told_what_is_missing(void)
{
    int fds[2];
    static char text[1 << 22];
    CHECK_EQ(pipe(fds), 0);
    push_server *server = serve_to(fds[1], "none");
    int64_t enough = now_ms() + PATIENCE_MS;
    while (stats_of(server).logs_dropped < 1 && now_ms() < enough) reload_times(server, 100);
    CHECK(stats_of(server).logs_dropped > 0);
    size_t len = 0;
    bool told = false;
    /* The note is behind the lines that have waited. */
    for (int64_t until = now_ms() + PATIENCE_MS; !told && now_ms() < until;) {
        reload_times(server, 1);
        ssize_t got = readable(fds[0], 10) ? read(fds[0], text + len, sizeof text - 1 - len) : 0;
        len += got > 0 ? (size_t)got : 0;
        text[len] = 0;
        told = strstr(text, "(lines dropped before this one: ");
    }
    CHECK(told);
    stop(server);
    close(fds[0]);
}

struct late {
    int fd;
    atomic_bool stops;
    char *text;
};

/* Begins to read when the stop has waited for a while. */
static void *read_late(void *argument)
{
    struct late *late = argument;
    WAIT_WHILE(!late->stops);
    sleep_ms(500);
    late->text = read_all(late->fd);
    return NULL;
}

static void a_slow_reader_gets_the_lines_of_the_stop(void)
{
    static char some[4096];
    memset(some, '-', sizeof some);
    for (int kind = 0; kind < 2; kind++) {
        int fds[2];
        if (kind == 0) CHECK_EQ(pipe(fds), 0);
        else CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        int flags = fcntl(fds[1], F_GETFL);
        CHECK_EQ(fcntl(fds[1], F_SETFL, flags | O_NONBLOCK), 0);
        while (write(fds[1], some, sizeof some) > 0) {}
        CHECK_EQ(fcntl(fds[1], F_SETFL, flags), 0);
        struct late late = {.fd = fds[0]};
        pthread_t thread;
        push_server *server = serve_to(fds[1], "none");
        pthread_create(&thread, NULL, read_late, &late);
        late.stops = true;
        CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
        pthread_join(thread, NULL);
        check_case("kind %d", kind);
        size_t len = strlen(late.text);
        CHECK_HAS(late.text, "stopping\n");
        CHECK(len > 8 && strcmp(late.text + len - 8, "stopped\n") == 0);
        free(late.text);
    }
    check_case(NULL);
}

static void a_reader_that_has_gone_raises_no_signal(void)
{
    int fds[2];
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR); /* it would end this process */
    for (int kind = 0; kind < 2; kind++) {
        check_case("kind %d", kind);
        if (kind == 0) CHECK_EQ(pipe(fds), 0);
        else CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        push_server *server = serve_to(fds[1], "none");
        close(fds[0]);
        reload_times(server, 10);
        check_case("kind %d", kind);
        WAIT_WHILE(stats_of(server).logs_dropped < 10);
        CHECK(stats_of(server).logs_dropped >= 10);
        CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
        stop(server);
    }
    check_case(NULL);
    sigset_t pending;
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGPIPE));
}

static void descriptors_that_take_no_lines(void)
{
    char err[512], number[16];
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    int closed = dup(fds[0]);
    close(closed);
    struct {
        int fd;
        const char *says;
    } cases[] = {{closed, "is not open"},
                 {1 << 30, "is not open"},
                 {fds[0], "not open for writing"},
                 {open("/", O_RDONLY), "not open for writing"},
                 {open("/dev/null", O_PATH), "not open for writing"},
                 {socket(AF_UNIX, SOCK_STREAM, 0), "not connected"},
                 {socket(AF_UNIX, SOCK_DGRAM, 0), "not connected"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int attached = 0; attached < 2; attached++) {
            push_server *server = NULL;
            snprintf(number, sizeof number, "%d", cases[i].fd);
            const char *attach = attached ? "unix:/nonexistent/hub.sock" : "none";
            push_config *config = configure("log_fd", number, "attach", attach, NULL);
            check_case("descriptor %zu", i);
            CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_CONFIG);
            CHECK_HAS(err, "option log_fd: ");
            CHECK_HAS(err, number);
            CHECK_HAS(err, cases[i].says);
            CHECK_HAS(err, "allowed is ");
            push_config_free(config);
        }
        if (i > 1) close(cases[i].fd);
    }
    check_case(NULL);
    close(fds[1]);
}

/* Starts a server that logs to this number, and returns the status. */
static push_status start_with(const char *number, char *err, size_t size)
{
    push_server *server = NULL;
    push_config *config = configure("threads", "1", "log_fd", number, NULL);
    push_status status = push_start(config, &server, err, size);
    push_config_free(config);
    if (server) push_stop(server, 0);
    return status;
}

static void a_standard_descriptor_that_is_closed(void)
{
    char err[512] = "", number[2] = "0";
    for (int fd = 0; fd < 3; fd++) {
        int kept = dup(fd);
        number[0] = (char)('0' + fd);
        close(fd);
        push_status status = start_with(number, err, sizeof err);
        if (kept >= 0) dup2(kept, fd), close(kept);
        check_case("descriptor %d", fd);
        CHECK_STATUS(status, PUSH_ERR_CONFIG);
        CHECK_HAS(err, "is not open");
    }
    check_case(NULL);
}

static void no_descriptor_is_left_for_the_duplicate(void)
{
    int fds[2];
    char err[512] = "", number[16];
    struct rlimit before, none;
    CHECK_EQ(pipe(fds), 0);
    snprintf(number, sizeof number, "%d", fds[1]);
    int free_number = dup(0);
    close(free_number);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)free_number;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    push_status status = start_with(number, err, sizeof err);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_STATUS(status, PUSH_ERR_SYSTEM);
    CHECK_HAS(err, "option log_fd: ");
    CHECK_HAS(err, strerror(EMFILE));
    close(fds[0]), close(fds[1]);
}

static void a_start_that_fails_keeps_no_descriptor(void)
{
    int fds[2];
    char number[16], byte;
    CHECK_EQ(pipe(fds), 0);
    snprintf(number, sizeof number, "%d", fds[1]);
    push_config *config = configure("log_fd", number, "listen", "192.0.2.1:1", NULL); /* not an address of ours */
    push_server *server = NULL;
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_ERR_SYSTEM);
    push_config_free(config);
    close(fds[1]);
    CHECK_EQ(read(fds[0], &byte, 1), 0);
    close(fds[0]);
}

CHECK_MAIN(TEST(each_line_goes_to_the_descriptor), TEST(each_kind_of_descriptor), TEST(an_attached_server_logs_too),
           TEST(a_reader_that_does_not_read_delays_nobody), TEST(a_slow_reader_gets_the_lines_of_the_stop),
           TEST(a_reader_that_comes_back_is_told_what_is_missing), TEST(a_reader_that_has_gone_raises_no_signal),
           TEST(descriptors_that_take_no_lines), TEST(a_standard_descriptor_that_is_closed),
           TEST(no_descriptor_is_left_for_the_duplicate), TEST(a_start_that_fails_keeps_no_descriptor))
