/* Processes that are forked after push_start: their calls say so, and the parent goes on. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Makes every call, in the child. Returns how many had a wrong result. */
static int call_everything(push_server *server, push_config *config, push_event *event)
{
    int wrong = 0, fds[2];
    char text[256] = "";
    push_message message = PUSH_MESSAGE_INIT;
    push_position position;
    push_stats stats = PUSH_STATS_INIT;
    push_users users = PUSH_USERS_INIT;
    push_log_line line = PUSH_LOG_LINE_INIT;
    push_server *started = NULL;
    struct peer client;
    message.channel = "c";
    unix_pair(&client, fds);
#define FORKED(call) wrong += !CHECK_STATUS(call, PUSH_ERR_FORKED)
    FORKED(push_publish(server, "c", "x", 1));
    FORKED(push_publish_message(server, &message, &position));
    FORKED(push_publish_batch(server, &message, 1, &position));
    FORKED(push_broadcast(server, &message, &position));
    FORKED(push_publish_user(server, "u", &message, &position));
    FORKED(push_begin(server, "c", &position));
    FORKED(push_end(server, "c", &position));
    FORKED(push_adopt(server, fds[0], NULL, 0, PUSH_GRANT_ALL));
    FORKED(push_adopt_more(server, fds[0], NULL, 0, PUSH_GRANT_ALL));
    FORKED(push_flush(server));
    FORKED(push_send(server, 1, "x", 1, 0));
    FORKED(push_allow(server, 0x100, PUSH_GRANT_ALL));
    FORKED(push_deny(server, 0x100, 403, NULL));
    FORKED(push_answer(server, 0x100, "x", 1, 0));
    FORKED(push_allow_publish(server, 0x100, NULL));
    FORKED(push_refusal(server, PUSH_ERR_BUSY, NULL, NULL, NULL, 0, text, sizeof text, &message.len));
    FORKED(push_close(server, 1, 1000, NULL));
    FORKED(push_disconnect_user(server, "u", 4403, NULL));
    FORKED(push_revoke_channel(server, "u", "c", NULL));
    FORKED(push_renew(server, 1, NULL));
    FORKED(push_listen_address(server, 0, text, sizeof text));
    FORKED(push_stats_get(server, &stats, sizeof stats));
    FORKED(push_users_get(server, "c", NULL, 1, &users, sizeof users));
    FORKED(push_next_event(server, event, sizeof *event, -1));
    FORKED(push_next_log(server, &line, sizeof line, -1));
    FORKED(push_drain(server, 1000));
    FORKED(push_stop(server, 1000));
    FORKED(push_start(config, &started, text, sizeof text));
    wrong += !CHECK_HAS(text, "fork");
    FORKED(push_reload(server, config, text, sizeof text));
    FORKED(push_config_set(config, "threads", "1", text, sizeof text));
    FORKED(push_config_load(config, "/nowhere", text, sizeof text));
    wrong += push_event_fd(server) != -1;
    wrong += push_log_line_fd(server) != -1;
    wrong += !is_open(fds[0]);
    /* These calls touch only memory of their own. */
    push_config_free(push_config_new());
    push_config_free(config);
    push_event_clear(event);
    push_log_line_clear(&line);
    push_strerror(PUSH_ERR_FORKED);
    return wrong;
}

/* Forks, runs everything in the child, and returns whether it ended well and in time. */
static bool child_is_told(push_server *server, push_config *config, push_event *event)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE_MS / 1000);
        _exit(call_everything(server, config, event) ? 1 : 0);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void every_call_of_a_child(void)
{
    push_config *config = configure("threads", "2", NULL);
    push_server *server = NULL;
    push_event event = PUSH_EVENT_INIT;
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_OK);
    CHECK(push_event_fd(server) >= 0);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    CHECK(ws_send(&client, WS_TEXT, "x", 1));
    expect_event(server, &event, PUSH_EVENT_OPEN);
    for (int i = 0; i < 5; i++) {
        CHECK(child_is_told(server, config, &event));
        CHECK_STATUS(push_publish(server, "c", "goes on", 7), PUSH_OK);
        ws_expect(&client, "goes on");
    }
    expect_event(server, &event, PUSH_EVENT_MESSAGE);
    push_event_clear(&event);
    push_config_free(config);
    stop(server);
    peer_close(&client);
}

static void a_grandchild(void)
{
    int status = 0;
    push_server *server = serve("threads", "1", NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE_MS / 1000);
        push_event event = PUSH_EVENT_INIT;
        _exit(child_is_told(server, push_config_new(), &event) ? 0 : 1);
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    stop(server);
    push_event event = PUSH_EVENT_INIT;
    push_config *config = push_config_new();
    CHECK(child_is_told(server, config, &event)); /* also after the stop */
    push_config_free(config);
}

static atomic_bool over;

static void *hammer(void *server)
{
    push_stats stats = PUSH_STATS_INIT;
    while (!over) {
        push_publish(server, "c", "x", 1);
        push_stats_get(server, &stats, sizeof stats);
    }
    return NULL;
}

static void forked_in_the_middle_of_publishing(void)
{
    pthread_t threads[2];
    push_server *server = serve("threads", "2", NULL);
    push_event event = PUSH_EVENT_INIT;
    push_config *config = push_config_new();
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, hammer, server);
    /* Mostly some lock of the library is held at the fork, and stays held in the child. */
    for (int i = 0; i < 40; i++) CHECK(child_is_told(server, config, &event));
    over = true;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    push_config_free(config);
    stop(server);
}

static void forked_before_any_start(void)
{
    int status = 0;
    push_config *config = configure("threads", "1", NULL);
    pid_t child = fork();
    push_server *server = NULL; /* each child has its own */
    if (child == 0) alarm(PATIENCE_MS / 1000);
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_OK);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    bool got = ws_expect(&client, "x");
    stop(server);
    if (child == 0) _exit(got ? 0 : 1);
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    push_config_free(config);
    peer_close(&client);
}

static void a_child_does_not_keep_connections_open(void)
{
    push_server *server = serve("threads", "1", NULL);
    push_event event = PUSH_EVENT_INIT;
    struct peer closed, stopped;
    int fds[2];
    CHECK(push_event_fd(server) >= 0);
    tcp_pair(&closed, &fds[0]);
    tcp_pair(&stopped, &fds[1]);
    CHECK_STATUS(push_adopt(server, fds[0], NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    CHECK(ws_open(&closed, "channel=c", ""));
    push_connection connection = expect_event(server, &event, PUSH_EVENT_OPEN);
    CHECK_STATUS(push_adopt(server, fds[1], NULL, 0, PUSH_GRANT_ALL), PUSH_OK);
    CHECK(ws_open(&stopped, "channel=c", ""));
    pid_t child = fork(); /* for instance a CGI program of the host, with copies of all descriptors */
    if (child == 0) {
        alarm(2 * PATIENCE_MS / 1000);
        pause();
        _exit(0);
    }
    CHECK_STATUS(push_close(server, connection, 1000, NULL), PUSH_OK);
    CHECK_EQ(ws_close_code(&closed), 1000);
    CHECK(peer_read_to_end(&closed, PATIENCE_MS));
    push_event_clear(&event);
    stop(server);
    CHECK(peer_read_to_end(&stopped, PATIENCE_MS));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    peer_close(&closed);
    peer_close(&stopped);
}

static void a_child_does_not_keep_the_port(void)
{
    char directory[128], tcp[64], both[256], shown[2][128];
    temporary_directory(directory, sizeof directory);
    for (int threads = 1; threads <= 2; threads++) {
        /* A port that the system chooses could be another's meanwhile. */
        free_address(tcp, sizeof tcp);
        snprintf(both, sizeof both, "%s,unix:%s/push.sock", tcp, directory);
        push_config *config = configure("listen", both, "threads", threads == 1 ? "1" : "2", NULL);
        push_server *server = NULL, *again = NULL;
        CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_OK);
        for (uint32_t i = 0; i < 2; i++) {
            CHECK_STATUS(push_listen_address(server, i, shown[i], sizeof shown[i]), PUSH_OK);
        }
        pid_t child = fork(); /* it has copies of the listeners, and outlives them */
        if (child == 0) {
            alarm(2 * PATIENCE_MS / 1000);
            pause();
            _exit(0);
        }
        stop(server);
        for (int i = 0; i < 2; i++) {
            check_case("%s, threads %d", shown[i], threads);
            struct peer late = peer_of(dial(shown[i]));
            CHECK(late.fd < 0); /* or it would wait for ever */
            if (late.fd >= 0) peer_close(&late);
        }
        /* A host that starts again gets its port again. */
        CHECK_STATUS(push_config_set(config, "listen", shown[0], NULL, 0), PUSH_OK);
        CHECK_STATUS(push_start(config, &again, NULL, 0), PUSH_OK);
        if (again) stop(again);
        push_config_free(config);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    check_case(NULL);
    remove_directory(directory);
}

CHECK_MAIN(TEST(every_call_of_a_child), TEST(a_grandchild), TEST(forked_in_the_middle_of_publishing),
           TEST(forked_before_any_start), TEST(a_child_does_not_keep_connections_open),
           TEST(a_child_does_not_keep_the_port))
