/* A stop while a callback does not return, or a line of the log is not taken: it is bounded in time, returns a status,
 * and can be called again. */
#include "serve.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_int calls, returned, freed;
static atomic_bool returns;

/* A function of Node that is called while Node is in push_stop does this. */
static void hang(void)
{
    calls++;
    WAIT_WHILE(!returns);
    returned++;
}

static void log_hangs(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
    hang();
}

static void event_hangs(void *user_data, const push_event *event)
{
    (void)user_data, (void)event;
    hang();
}

static void count_free(void *user_data)
{
    CHECK(user_data == &freed);
    freed++;
}

static void free_hangs(void *user_data)
{
    hang();
    count_free(user_data);
}

static void logs_once(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
}

/* Stops a server that has called the function that hangs, or calls it when it stops. */
static void stop_while_it_hangs(push_server *server)
{
    CHECK_STATUS(push_stop(server, 100), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_stop(server, 0), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_stop(server, 10), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_ERR_CLOSED);
    WAIT_WHILE(calls < 1); /* the free function is called behind the last line */
    CHECK_EQ(calls, 1);
    CHECK_EQ(returned, 0); /* the stops have not waited for it */
    CHECK_EQ(freed, 0);
    returns = true;
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
    CHECK_EQ(calls, 1); /* events that waited were not delivered */
    CHECK_EQ(freed, 1);
    CHECK_STATUS(push_stop(server, 0), PUSH_ERR_CLOSED);
    returns = false;
    calls = returned = freed = 0;
}

static void a_stop_does_not_wait_for_a_callback(void)
{
    push_config *config = configure("log_level", "debug", "listen", "127.0.0.1:0", NULL);
    push_config_on_log(config, log_hangs, &freed, count_free);
    push_server *server = serve_config(config);
    WAIT_WHILE(calls < 1);
    stop_while_it_hangs(server);

    config = configure("threads", "1", NULL);
    push_config_on_event(config, event_hangs, &freed, count_free);
    server = serve_config(config);
    struct peer client = adopted_ws(server, NULL, "channel=c");
    WAIT_WHILE(calls < 1);
    stop_while_it_hangs(server);
    peer_close(&client);

    /* The free function belongs to the host as well. */
    config = configure("threads", "1", NULL);
    push_config_on_log(config, logs_once, &freed, free_hangs);
    stop_while_it_hangs(serve_config(config));
}

static void an_attached_server_does_not_either(void)
{
    push_config *config = configure("attach", "unix:/nonexistent/hub.sock", NULL);
    push_config_on_log(config, log_hangs, &freed, count_free);
    push_server *server = serve_config(config);
    WAIT_WHILE(calls < 1); /* the hub can't be reached */
    stop_while_it_hangs(server);
}

/* Two servers of one config: the other one has the turn. */
static void nor_for_the_callback_of_another_server(void)
{
    push_server *first = NULL, *second = NULL;
    push_config *config = configure("listen", "127.0.0.1:0", NULL);
    push_config_on_log(config, log_hangs, &freed, count_free);
    CHECK_STATUS(push_start(config, &first, NULL, 0), PUSH_OK);
    WAIT_WHILE(calls < 1);
    CHECK_STATUS(push_start(config, &second, NULL, 0), PUSH_OK);
    push_config_free(config);
    CHECK_STATUS(push_stop(second, 0), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_stop(first, 0), PUSH_ERR_TIMEOUT);
    CHECK_EQ(freed, 0);
    returns = true;
    CHECK_STATUS(push_stop(first, PATIENCE_MS), PUSH_OK);
    CHECK_STATUS(push_stop(second, PATIENCE_MS), PUSH_OK);
    CHECK_EQ(calls, 1);
    CHECK_EQ(freed, 1);
}

/* A terminal whose window hangs: the system writes a part of a line, and waits for room for the rest. */
static void nor_for_a_descriptor_that_hangs(void)
{
    int window = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[128] = "", number[16];
    REQUIRE(window >= 0 && grantpt(window) == 0 && unlockpt(window) == 0 && ptsname_r(window, name, sizeof name) == 0);
    int terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(terminal >= 0);
    snprintf(number, sizeof number, "%d", terminal);
    push_server *server = serve("threads", "1", "log_fd", number, NULL);
    push_config *config = configure("threads", "1", NULL);
    /* Each reload logs a line. When lines are dropped, 4,096 wait behind the one that hangs. */
    int64_t enough = now_ms() + PATIENCE_MS;
    while (!stats_of(server).logs_dropped && now_ms() < enough) push_reload(server, config, NULL, 0);
    push_config_free(config);
    CHECK(stats_of(server).logs_dropped > 0);
    CHECK_STATUS(push_publish(server, "c", "x", 1), PUSH_OK);
    CHECK_STATUS(push_stop(server, 100), PUSH_ERR_TIMEOUT);
    CHECK_STATUS(push_stop(server, 0), PUSH_ERR_TIMEOUT);
    close(window); /* the write fails */
    CHECK_STATUS(push_stop(server, PATIENCE_MS), PUSH_OK);
    CHECK_STATUS(push_stop(server, 0), PUSH_ERR_CLOSED);
    close(terminal);
}

CHECK_MAIN(TEST(a_stop_does_not_wait_for_a_callback), TEST(an_attached_server_does_not_either),
           TEST(nor_for_the_callback_of_another_server), TEST(nor_for_a_descriptor_that_hangs))
