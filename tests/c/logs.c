/* The log without a callback: the host pulls the lines. Those of log_fd are in logfd.c. */
#include "process.h"
#include "serve.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096 }; /* lines that wait */
static atomic_bool watches;

/* Takes all lines that wait. Returns how many there were. */
static int take_all(push_server *server, push_log_line *line)
{
    int count = 0;
    while (push_next_log(server, line, sizeof *line, 0) == PUSH_OK) count++;
    return count;
}

/* Stops a server, and takes the lines that are left. After that the library keeps nothing of it. */
static void stop_and_read(push_server *server)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    stop(server);
    take_all(server, &line);
    CHECK_TEXT(line.text, "stopped");
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_CLOSED);
    push_log_line_clear(&line);
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
        reload_times(server, 1);
        CHECK(readable(fd, PATIENCE_MS));
        CHECK(readable(fd, 0)); /* level-triggered: until the lines are taken */
        CHECK(take_all(server, &line) >= 1);
    }
    push_log_line_clear(&line);
    stop(server);
    /* It stays until a call has said that there are no more lines. */
    CHECK_EQ(push_log_line_fd(server), fd);
    for (push_status status = PUSH_OK; status == PUSH_OK;) {
        CHECK(readable(fd, 0));
        status = push_next_log(server, &line, sizeof line, 0);
        CHECK(status == PUSH_OK || status == PUSH_ERR_CLOSED);
    }
    CHECK(!is_open(fd));
    CHECK_EQ(push_log_line_fd(server), -1);
    push_log_line_clear(&line);
}

/* Starts a server whose lines are pulled, and a thread that reads them. */
static push_server *serve_reader(void *(*reader)(void *), pthread_t *thread)
{
    push_server *server = serve("threads", "1", "log", "pull", NULL);
    pthread_create(thread, NULL, reader, server);
    return server;
}

/* Whether this is how the lines end, and the last one is the last one of the stop. */
static void ends_with_the_stop(push_status status, push_log_line *line)
{
    CHECK_STATUS(status, PUSH_ERR_CLOSED);
    CHECK_TEXT(line->text, "stopped");
    push_log_line_clear(line);
}

/* Takes lines when the descriptor is readable, up to the end. */
static void *watch(void *server)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_status status = PUSH_OK;
    int fd = push_log_line_fd(server);
    while (status == PUSH_OK || status == PUSH_ERR_TIMEOUT) {
        if (!CHECK(readable(fd, PATIENCE_MS))) break;
        status = push_next_log(server, &line, sizeof line, 0);
        watches = true;
    }
    ends_with_the_stop(status, &line);
    return NULL;
}

static void another_thread_watches_the_descriptor_to_the_end(void)
{
    pthread_t thread;
    push_server *server = serve_reader(watch, &thread);
    reload_times(server, 1);
    WAIT_WHILE(!watches);
    stop(server);
    pthread_join(thread, NULL);
    CHECK_EQ(push_log_line_fd(server), -1);
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
    push_log_line other = PUSH_LOG_LINE_INIT;
    take_all(server, &other);
    push_log_line_clear(&other);
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_TIMEOUT);
    CHECK_HAS(line.text, "listening on ");
    push_log_line_clear(&line);
    CHECK(!line.text && !line.owner && !line.len);
    push_log_line_clear(&line);
    stop_and_read(server);
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
    reload_times(server, 1);
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
    stop_and_read(server);
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

/* Reads to the end. */
static void *read_on(void *server)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_status status;
    waits = true;
    while ((status = push_next_log(server, &line, sizeof line, -1)) == PUSH_OK) {}
    ends_with_the_stop(status, &line);
    return NULL;
}

static void another_thread_reads_to_the_end(void)
{
    pthread_t thread;
    push_server *server = serve_reader(read_on, &thread);
    WAIT_WHILE(!waits);
    reload_times(server, 1);
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
    reload_times(server, 1);
    snprintf(note, sizeof note, "(lines dropped before this one: %d)", (int)dropped);
    CHECK_STATUS(push_next_log(server, &line, sizeof line, PATIENCE_MS), PUSH_OK);
    CHECK_HAS(line.text, note);
    CHECK_EQ(stats_of(server).logs_dropped, dropped);
    /* A queue that is full at the stop has no room for the lines of the stop. */
    reload_times(server, MOST);
    stop(server);
    CHECK_EQ(take_all(server, &line), MOST + 1);
    CHECK_HAS(line.text, "the log ends here (lines dropped before this one: ");
    CHECK_EQ(line.level, PUSH_LOG_WARN);
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_CLOSED);
    push_log_line_clear(&line);
}

static void no_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

static void the_log_goes_to_one_place(void)
{
    int null = open("/dev/null", O_WRONLY);
    char err[512], number[16];
    snprintf(number, sizeof number, "%d", null);
    const struct {
        bool callback;
        const char *log, *log_fd, *says;
    } cases[] = {{true, "pull", "none", "option log: "},
                 {true, "callback", number, "option log_fd: "},
                 {false, "pull", number, "option log_fd: "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        push_config *config = configure("log", cases[i].log, "log_fd", cases[i].log_fd, NULL);
        push_server *server = NULL;
        if (cases[i].callback) push_config_on_log(config, no_log, NULL, NULL);
        check_case("case %zu", i);
        CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_CONFIG);
        CHECK_HAS(err, cases[i].says);
        /* A reload that can only wait for a restart must not let it fail. */
        server = serve("threads", "1", NULL);
        CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_ERR_CONFIG);
        CHECK_HAS(err, cases[i].says);
        stop(server);
        push_config_free(config);
    }
    for (int pulls = 0; pulls < 2; pulls++) { /* the running server has a callback, and the new options have none */
        push_config *config = configure("threads", "1", NULL);
        push_config_on_log(config, no_log, NULL, NULL);
        push_server *server = serve_config(config);
        config = configure("log", pulls ? "pull" : "callback", "log_fd", pulls ? "none" : number, NULL);
        check_case("a callback that runs, pulls %d", pulls);
        CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_ERR_CONFIG);
        CHECK_HAS(err, pulls ? "option log: " : "option log_fd: ");
        push_config_free(config);
        reload_times(server, 1);
        stop(server);
        /* One that goes to a descriptor, or is pulled, may go the other way after a restart. */
        server = serve("threads", "1", "log", pulls ? "pull" : "callback", "log_fd", pulls ? "none" : number, NULL);
        config = configure("log", pulls ? "callback" : "pull", "log_fd", pulls ? number : "none", NULL);
        CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
        push_config_free(config);
        if (pulls) stop_and_read(server);
        else stop(server);
    }
    check_case(NULL);
    push_server *server = serve("threads", "1", NULL);
    push_log_line line = PUSH_LOG_LINE_INIT;
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_UNSUPPORTED);
    CHECK_EQ(push_log_line_fd(server), -1);
    stop(server);
    close(null);
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
    push_config_on_event(config, pulls_in_a_callback, NULL, NULL);
    the_server = serve_config(config);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    WAIT_WHILE(!asked);
    CHECK_STATUS(status_of_next, PUSH_ERR_CALLBACK);
    stop_and_read(the_server);
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
    CHECK_STATUS(push_next_log(server, &line, sizeof line, 0), PUSH_ERR_CLOSED);
    push_log_line_clear(&line);
}

static void an_attached_server_logs_too(void)
{
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_server *server = serve("attach", "unix:/nonexistent/hub.sock", "log", "pull", NULL);
    CHECK(readable(push_log_line_fd(server), PATIENCE_MS));
    expect_line(server, &line, "no hub at ");
    CHECK_EQ(line.level, PUSH_LOG_WARN);
    stop(server);
    expect_line(server, &line, "stopped");
    CHECK_STATUS(push_next_log(server, &line, sizeof line, -1), PUSH_ERR_CLOSED);
    push_log_line_clear(&line);
}

CHECK_MAIN(TEST(the_descriptor_says_when_lines_wait), TEST(another_thread_watches_the_descriptor_to_the_end),
           TEST(what_a_line_says), TEST(wrong_sizes_take_no_line),
           TEST(the_lines_of_the_stop_can_be_read_after_it), TEST(another_thread_reads_to_the_end),
           TEST(what_is_kept_of_stopped_servers_is_bounded), TEST(a_full_queue_drops_lines_and_says_so),
           TEST(the_log_goes_to_one_place), TEST(pulling_beside_a_callback_for_events), TEST(a_child_takes_no_line),
           TEST(an_attached_server_logs_too))
