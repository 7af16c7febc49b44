/* The log without a callback: the host pulls the lines, or the library writes them to a descriptor. */
#include "process.h"
#include "serve.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096 }; /* lines that wait */

static bool readable(int fd, int timeout_ms)
{
    struct pollfd ready = {fd, POLLIN, 0};
    return poll(&ready, 1, timeout_ms) == 1 && ready.revents == POLLIN;
}

/* Logs a line. */
static void reload(push_server *server)
{
    push_config *config = configure("threads", "1", NULL);
    CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
    push_config_free(config);
}

/* Logs that many lines, quickly. */
static void reload_times(push_server *server, int count)
{
    push_config *config = configure("threads", "1", NULL);
    for (int i = 0; i < count; i++) CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
    push_config_free(config);
}

/* Takes all lines that wait. Returns how many there were. */
static int take_all(push_server *server, push_log_line *line)
{
    int count = 0;
    while (push_next_log(server, line, sizeof *line, 0) == PUSH_OK) count++;
    return count;
}

/* Takes lines until one has this part. */
static void expect_line(push_server *server, push_log_line *line, const char *part)
{
    push_status status;
    do {
        status = push_next_log(server, line, sizeof *line, PATIENCE_MS);
    } while (status == PUSH_OK && !strstr(line->text, part));
    check_case("line \"%s\"", part);
    CHECK_STATUS(status, PUSH_OK);
    check_case(NULL);
}

static void the_descriptor_says_when_lines_wait(void)
{
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    int fd = push_log_line_fd(server);
    CHECK(fd > 2);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(push_log_line_fd(server), fd);
    take_all(server, &line);
    for (int i = 0; i < 3; i++) {
        CHECK(!readable(fd, 0));
        CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_TIMEOUT);
        CHECK_STATUS(push_next_log(server, &line, sizeof line, 1), PUSH_ERR_TIMEOUT);
        reload(server);
        CHECK(readable(fd, PATIENCE_MS));
        CHECK(readable(fd, 0)); /* level-triggered: until the lines are taken */
        CHECK(take_all(server, &line) >= 1);
    }
    push_log_line_clear(&line);
    stop(server);
    CHECK(!is_open(fd));
    CHECK_EQ(push_log_line_fd(server), -1);
    while (push_next_log(server, &line, sizeof line, 0) == PUSH_OK) {} /* so that nothing is left */
    push_log_line_clear(&line);
}

static void what_a_line_says(void)
{
    push_server *server = serve("threads", "1", "listen", "127.0.0.1:0", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    expect_line(server, &line, "listening on 127.0.0.1:"); /* it has waited since the start */
    CHECK_EQ(line.size, sizeof line);
    CHECK_EQ(line.level, PUSH_LOG_INFO);
    CHECK_EQ(line.reserved, 0);
    CHECK_EQ(line.len, strlen(line.text));
    CHECK(!strchr(line.text, '\n'));
    long long age = (long long)time(NULL) - line.time_ms / 1000;
    CHECK(age >= -1 && age < 3600);
    /* A call that fails leaves it unchanged. */
    while (push_next_log(server, &(push_log_line)PUSH_LOG_LINE_INIT, sizeof line, 0) == PUSH_OK) {}
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_TIMEOUT);
    CHECK_HAS(line.text, "listening on ");
    push_log_line_clear(&line);
    CHECK(!line.text && !line.owner && !line.len);
    push_log_line_clear(&line);
    stop(server);
}

static void wrong_sizes_take_no_line(void)
{
    static const size_t wrong[] = {0, 1, 8, offsetof(push_log_line, owner), 1 << 20, SIZE_MAX};
    struct {
        push_log_line known;
        uint64_t unknown[2];
    } newer = {.unknown = {7, 7}};
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    take_all(server, &line);
    reload(server);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        check_case("size %zu", wrong[i]);
        CHECK_STATUS(push_next_log(server, &line, wrong[i], 0), PUSH_ERR_INVALID);
    }
    check_case(NULL);
    CHECK_STATUS(push_next_log(server, NULL, sizeof line, 0), PUSH_ERR_INVALID);
    CHECK_STATUS(push_next_log(server, &newer.known, sizeof newer, 0), PUSH_OK);
    CHECK_HAS(newer.known.text, "reloaded");
    CHECK(newer.unknown[0] == 0 && newer.unknown[1] == 0);
    push_log_line_clear(&newer.known);
    push_log_line_clear(&line);
    stop(server);
}

static void the_lines_of_the_stop_can_be_read_after_it(void)
{
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    stop(server);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_ERR_CLOSED);
    expect_line(server, &line, "stopping");
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_OK);
    CHECK_TEXT(line.text, "stopped");
    for (int i = 0; i < 2; i++) CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_CLOSED);
    CHECK_TEXT(line.text, "stopped");
    push_log_line_clear(&line);
}

static atomic_bool waits;

/* Reads to the end. Returns whether the last line was the last one of the stop. */
static void *read_on(void *server)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_status status;
    waits = true;
    while ((status = push_next_log(server, &line, sizeof line, -1)) == PUSH_OK) {}
    CHECK_STATUS(status, PUSH_ERR_CLOSED);
    CHECK_TEXT(line.text, "stopped");
    push_log_line_clear(&line);
    return NULL;
}

static void another_thread_reads_to_the_end(void)
{
    pthread_t thread;
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    pthread_create(&thread, NULL, read_on, server);
    WAIT_WHILE(!waits);
    reload(server);
    stop(server);
    pthread_join(thread, NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_CLOSED);
}

static void what_is_kept_of_stopped_servers_is_bounded(void)
{
    enum { SERVERS = 20, KEPT = 16 };
    push_server *servers[SERVERS];
    push_log_line line = PUSH_LOG_LINE_INIT;
    for (int i = 0; i < SERVERS; i++) {
        servers[i] = serve("threads", "1", "log", "pull", NULL);
        stop(servers[i]);
    }
    for (int i = 0; i < SERVERS; i++) {
        check_case("server %d", i);
        CHECK_STATUS(push_next_log(servers[i], &line, sizeof line, 0), i < SERVERS - KEPT ? PUSH_ERR_CLOSED : PUSH_OK);
        while (push_next_log(servers[i], &line, sizeof line, 0) == PUSH_OK) {}
    }
    check_case(NULL);
    push_log_line_clear(&line);
}

static void a_full_queue_drops_lines_and_says_so(void)
{
    char note[64];
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    take_all(server, &line);
    reload_times(server, MOST + 100);
    uint64_t dropped = stats_of(server).logs_dropped;
    CHECK(dropped >= 100);
    CHECK_EQ(take_all(server, &line), MOST);
    CHECK(!strstr(line.text, "dropped"));
    reload(server);
    snprintf(note, sizeof note, "(lines dropped before this one: %d)", (int)dropped);
    CHECK_STATUS(push_next_log(server, &line, sizeof line, PATIENCE_MS), PUSH_OK);
    CHECK_HAS(line.text, note);
    CHECK_EQ(stats_of(server).logs_dropped, dropped);
    push_log_line_clear(&line);
    stop(server);
}

static void no_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

static void the_log_goes_to_one_place(void)
{
    static const struct {
        bool callback;
        const char *log, *log_fd, *says;
    } cases[] = {{true, "pull", "none", "option log: "},
                 {true, "callback", "2", "option log_fd: "},
                 {false, "pull", "2", "option log_fd: "}};
    char err[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        push_config *config = configure("log", cases[i].log, "log_fd", cases[i].log_fd, NULL);
        push_server *server = NULL;
        if (cases[i].callback) push_config_on_log(config, no_log, NULL, NULL);
        check_case("case %zu", i);
        CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_CONFIG);
        CHECK_HAS(err, cases[i].says);
        push_config_free(config);
    }
    check_case(NULL);
    push_server *server = serve("threads", "1", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_UNSUPPORTED);
    CHECK_EQ(push_log_line_fd(server), -1);
    stop(server);
}

static push_server *the_server;
static atomic_int status_of_next, asked;

static void pulls_in_a_callback(void *user_data, const push_event *event)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    (void)user_data;
    if (event->kind != PUSH_EVENT_OPEN) return;
    status_of_next = push_next_log(the_server, &line, sizeof line, -1);
    push_log_line_clear(&line);
    asked++;
}

static void pulling_beside_a_callback_for_events(void)
{
    push_config *config = configure("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_config_on_event(config, pulls_in_a_callback, NULL, NULL);
    the_server = serve_config(config);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    WAIT_WHILE(!asked);
    CHECK_STATUS(status_of_next, PUSH_ERR_CALLBACK);
    stop(the_server);
    expect_line(the_server, &line, "stopped");
    push_log_line_clear(&line);
    peer_close(&client);
}

static void a_child_takes_no_line(void)
{
    int status = 0;
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    for (int stopped = 0; stopped < 2; stopped++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(PATIENCE_MS / 1000);
            bool told = CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_FORKED);
            _exit(told && push_log_line_fd(server) == -1 ? 0 : 1);
        }
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        if (!stopped) stop(server);
    }
    expect_line(server, &line, "stopped");
    push_log_line_clear(&line);
}

/* ---- log_fd ---- */

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
        CHECK_EQ(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ libpush: %15[a-z]: %n", &year, &part, &part, &part, &part, &part,
                        &part, level, &used), 8);
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
        if (fd == but || fstat(fd, &found) != 0 || found.st_ino != file->st_ino || found.st_dev != file->st_dev) continue;
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
    stop(server); /* it writes the rest, and closes the descriptor */
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
        reload(server);
        stop(server);
        if (kind == 2) lseek(fds[0], 0, SEEK_SET);
        char *text = read_all(fds[0]);
        CHECK_HAS(text, "options reloaded");
        CHECK(check_lines(text) >= 3);
        free(text);
    }
    check_case(NULL);
    remove_directory(directory);
}

static void an_attached_server_logs_in_both_ways(void)
{
    int fds[2];
    CHECK_EQ(pipe(fds), 0);
    push_server *server = serve_to(fds[1], "unix:/nonexistent/hub.sock");
    stop(server);
    char *text = read_all(fds[0]);
    CHECK(check_lines(text) >= 2);
    CHECK_HAS(text, " libpush: warning: no hub at unix:/nonexistent/hub.sock: ");
    free(text);

    push_log_line line = PUSH_LOG_LINE_INIT;
    server = serve("attach", "unix:/nonexistent/hub.sock", "log", "pull", NULL);
    CHECK(readable(push_log_line_fd(server), PATIENCE_MS));
    expect_line(server, &line, "no hub at ");
    CHECK_EQ(line.level, PUSH_LOG_WARN);
    stop(server);
    expect_line(server, &line, "stopped");
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_CLOSED);
    push_log_line_clear(&line);
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
        int64_t enough = now_ms() + ENOUGH_MS;
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
    static char some[1 << 16];
    CHECK_EQ(pipe(fds), 0);
    push_server *server = serve_to(fds[1], "none");
    int64_t enough = now_ms() + ENOUGH_MS;
    while (stats_of(server).logs_dropped < 1 && now_ms() < enough) reload_times(server, 100);
    CHECK(stats_of(server).logs_dropped > 0);
    CHECK_EQ(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    while (read(fds[0], some, sizeof some) > 0) {}
    bool told = false;
    for (int64_t until = now_ms() + PATIENCE_MS; !told && now_ms() < until;) {
        reload(server);
        ssize_t got = readable(fds[0], 10) ? read(fds[0], some, sizeof some - 1) : 0;
        some[got > 0 ? got : 0] = 0;
        told = strstr(some, "(lines dropped before this one: ");
    }
    CHECK(told);
    stop(server);
    close(fds[0]);
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
            push_config *config = configure("log_fd", number, "attach", attached ? "unix:/nonexistent/hub.sock" : "none",
                                            NULL);
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

CHECK_MAIN(TEST(the_descriptor_says_when_lines_wait), TEST(what_a_line_says), TEST(wrong_sizes_take_no_line),
           TEST(the_lines_of_the_stop_can_be_read_after_it), TEST(another_thread_reads_to_the_end),
           TEST(what_is_kept_of_stopped_servers_is_bounded), TEST(a_full_queue_drops_lines_and_says_so),
           TEST(the_log_goes_to_one_place), TEST(pulling_beside_a_callback_for_events), TEST(a_child_takes_no_line),
           TEST(each_line_goes_to_the_descriptor), TEST(each_kind_of_descriptor),
           TEST(an_attached_server_logs_in_both_ways), TEST(a_reader_that_does_not_read_delays_nobody),
           TEST(a_reader_that_comes_back_is_told_what_is_missing), TEST(a_reader_that_has_gone_raises_no_signal),
           TEST(descriptors_that_take_no_lines), TEST(a_start_that_fails_keeps_no_descriptor))
