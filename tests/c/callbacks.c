/* The host's functions: on which thread they run, what they may call, and that their data is freed once. */
#include "process.h"
#include "serve.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static push_server *the_server;
static atomic_int lines, opens, messages, closes, drains, freed, errors, inside, most_inside;
static atomic_uint last_kind;
static char names_seen[256];

static void note_thread(void)
{
    char name[32] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, "push-callback") != 0) snprintf(names_seen, sizeof names_seen, "%s", name);
}

static void count_free(void *user_data)
{
    CHECK(user_data == &freed);
    freed++;
}

static void count_lines(void *user_data, int32_t level, const char *line)
{
    note_thread();
    CHECK(user_data == &freed);
    CHECK(level >= PUSH_LOG_ERROR && level <= PUSH_LOG_DEBUG);
    CHECK(line && *line && !strchr(line, '\n'));
    errors += level <= PUSH_LOG_ERROR;
    lines++;
}

static void count_events(void *user_data, const push_event *event)
{
    note_thread();
    CHECK(user_data == &freed);
    CHECK_EQ(event->size, sizeof *event);
    CHECK(event->owner == NULL); /* the library owns it, during this call */
    opens += event->kind == PUSH_EVENT_OPEN;
    messages += event->kind == PUSH_EVENT_MESSAGE;
    closes += event->kind == PUSH_EVENT_CLOSE;
    drains += event->kind == PUSH_EVENT_DRAIN;
    last_kind = event->kind;
    if (event->kind != PUSH_EVENT_MESSAGE) return;
    CHECK_STATUS(push_send(the_server, event->connection, event->data, event->len, 0), PUSH_OK);
}

static void reset(void)
{
    lines = opens = messages = closes = drains = freed = errors = inside = most_inside = 0;
    *names_seen = 0;
}

static void both_callbacks_in_use(void)
{
    reset();
    push_config *config = configure("threads", "2", NULL);
    push_config_on_log(config, count_lines, &freed, count_free);
    push_config_on_event(config, count_events, &freed, count_free);
    the_server = serve_config(config);
    push_event event = PUSH_EVENT_INIT;
    CHECK_EQ(push_event_fd(the_server), -1);
    CHECK_STATUS(push_next_event(the_server, &event, sizeof event, 0), PUSH_ERR_UNSUPPORTED);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    for (int i = 0; i < 100; i++) {
        CHECK(ws_send(&client, WS_TEXT, "echo", 4));
        ws_expect(&client, "echo");
    }
    peer_close(&client);
    CHECK_EQ(freed, 0);
    CHECK_STATUS(push_stop(the_server, PATIENCE_MS), PUSH_OK);
    CHECK_EQ(freed, 2);
    CHECK_EQ(opens, 1);
    CHECK_EQ(messages, 100);
    CHECK_EQ(closes, 1);
    CHECK(lines >= 2); /* at least stopping and stopped */
    CHECK_EQ(errors, 0);
    CHECK_TEXT(names_seen, "");
    int before = lines;
    sleep_ms(50);
    CHECK_EQ(lines, before);
}

static void closes_are_told_before_the_stop_ends(void)
{
    enum { CLIENTS = 20 };
    struct peer clients[CLIENTS];
    reset();
    push_config *config = configure("threads", "2", NULL);
    push_config_on_event(config, count_events, &freed, count_free);
    the_server = serve_config(config);
    for (int i = 0; i < CLIENTS; i++) clients[i] = adopted_ws(the_server, NULL, "channel=c");
    CHECK_STATUS(push_stop(the_server, PATIENCE_MS), PUSH_OK);
    CHECK_EQ(opens, CLIENTS);
    CHECK_EQ(closes, CLIENTS);
    CHECK_EQ(drains, 1);
    CHECK_EQ(last_kind, PUSH_EVENT_DRAINED);
    for (int i = 0; i < CLIENTS; i++) peer_close(&clients[i]);
}

static atomic_int status_of_stop, status_of_next, status_of_publish, status_of_stats, status_of_start, asked;

static void call_back_in(void)
{
    push_event event = PUSH_EVENT_INIT;
    push_stats stats = PUSH_STATS_INIT;
    status_of_stop = push_stop(the_server, 1000);
    status_of_next = push_next_event(the_server, &event, sizeof event, -1);
    status_of_publish = push_publish(the_server, "c", "from the callback", 17);
    status_of_stats = push_stats_get(the_server, &stats, sizeof stats);
    asked++;
}

static void event_calls_back_in(void *user_data, const push_event *event)
{
    (void)user_data;
    if (event->kind == PUSH_EVENT_MESSAGE) call_back_in();
}

static void log_calls_back_in(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level;
    if (strstr(line, "refused")) call_back_in();
}

static void check_called_back_in(push_status next)
{
    WAIT_WHILE(!asked);
    CHECK_STATUS(status_of_stop, PUSH_ERR_CALLBACK);
    CHECK_STATUS(status_of_next, next);
    CHECK_STATUS(status_of_publish, PUSH_OK);
    CHECK_STATUS(status_of_stats, PUSH_OK);
}

/* Starts the server. This function gets its events. */
static void serve_with(push_event_fn function)
{
    push_config *config = configure("threads", "1", NULL);
    push_config_on_event(config, function, NULL, NULL);
    the_server = serve_config(config);
    asked = 0;
}

static void calling_back_in_from_an_event(void)
{
    serve_with(event_calls_back_in);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    CHECK(ws_send(&client, WS_TEXT, "go", 2));
    ws_expect(&client, "from the callback");
    check_called_back_in(PUSH_ERR_CALLBACK);
    stop(the_server); /* it goes on as if nothing had happened */
    peer_close(&client);
}

static void calling_back_in_from_the_log(void)
{
    push_config *config = configure("threads", "1", NULL);
    push_config_on_log(config, log_calls_back_in, NULL, NULL);
    the_server = serve_config(config);
    asked = 0;
    struct peer client = adopted_ws(the_server, NULL, "channel=c"), wrong = adopted(the_server, NULL);
    CHECK(peer_print(&wrong, "GET /push HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    CHECK(peer_expect(&wrong, "HTTP/1.1 400 "));
    ws_expect(&client, "from the callback");
    check_called_back_in(PUSH_ERR_CALLBACK);
    stop(the_server);
    peer_close(&client);
    peer_close(&wrong);
}

static push_server *started_inside;

static void starts_a_server(void *user_data, const push_event *event)
{
    (void)user_data;
    if (event->kind != PUSH_EVENT_OPEN) return;
    push_config *config = configure("threads", "1", NULL);
    status_of_start = push_start(config, &started_inside, NULL, 0);
    push_config_free(config);
    CHECK_STATUS(push_publish(started_inside, "c", "x", 1), PUSH_OK);
    /* It is another server, and is still refused: two servers that stop each other would wait for ever. */
    CHECK_STATUS(push_stop(started_inside, 0), PUSH_ERR_CALLBACK);
    asked++;
}

static void a_server_started_from_a_callback(void)
{
    serve_with(starts_a_server);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    WAIT_WHILE(!asked);
    CHECK_EQ(asked, 1);
    CHECK_STATUS(status_of_start, PUSH_OK);
    stop(started_inside);
    stop(the_server);
    peer_close(&client);
}

static void freed_when_the_config_goes_first(void)
{
    reset();
    push_config *config = configure("threads", "1", NULL);
    push_server *first = NULL, *second = NULL;
    push_config_on_log(config, count_lines, &freed, count_free);
    CHECK_STATUS(push_start(config, &first, NULL, 0), PUSH_OK);
    CHECK_STATUS(push_start(config, &second, NULL, 0), PUSH_OK);
    push_config_free(config);
    CHECK_EQ(freed, 0);
    stop(first);
    CHECK_EQ(freed, 0);
    stop(second);
    CHECK_EQ(freed, 1);
}

static void freed_when_the_config_goes_last(void)
{
    reset();
    push_config *config = configure("threads", "1", NULL);
    push_server *server = NULL;
    push_config_on_event(config, count_events, &freed, count_free);
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_OK);
    stop(server);
    CHECK_EQ(freed, 0);
    push_config_free(config);
    CHECK_EQ(freed, 1);
}

static void freed_when_replaced_or_taken_off(void)
{
    reset();
    push_config *config = push_config_new();
    push_config_on_log(config, count_lines, &freed, count_free);
    push_config_on_log(config, count_lines, &freed, count_free);
    CHECK_EQ(freed, 1);
    push_config_on_log(config, NULL, NULL, NULL);
    CHECK_EQ(freed, 2);
    push_config_on_log(config, NULL, &freed, count_free); /* data without a server */
    CHECK_EQ(freed, 3);
    push_config_on_log(config, count_lines, &freed, NULL);
    push_config_on_event(config, count_events, &freed, count_free);
    push_config_free(config);
    CHECK_EQ(freed, 4);
}

static void a_start_that_fails_frees_nothing_of_the_config(void)
{
    reset();
    push_config *config = configure("control", "127.0.0.1:0", NULL); /* without a key */
    push_server *server = NULL;
    push_config_on_log(config, count_lines, &freed, count_free);
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_ERR_CONFIG);
    CHECK_EQ(freed, 0);
    push_config_set(config, "control", "none", NULL, 0);
    push_config_set(config, "listen", "127.0.0.1:1,192.0.2.1:1", NULL, 0); /* not an address of ours */
    CHECK_STATUS(push_start(config, &server, NULL, 0), PUSH_ERR_SYSTEM);
    CHECK_EQ(freed, 0);
    push_config_free(config);
    CHECK_EQ(freed, 1);
}

static atomic_bool held;

static void held_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
    while (held) sleep_ms(1);
    lines++;
}

static void slow_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data, (void)level, (void)line;
    int now = ++inside;
    if (now > most_inside) most_inside = now;
    sleep_ms(2);
    inside--;
}

static void a_log_that_hangs_delays_nobody(void)
{
    enum { REFUSED = 6000, FEW = 200 };
    reset();
    held = true;
    push_config *config = configure("threads", "1", "heartbeat", "1h", NULL);
    push_config_on_log(config, held_log, NULL, NULL);
    the_server = serve_config(config);
    struct peer client = adopted_ws(the_server, NULL, "channel=c");
    int refused = 0;
    int64_t enough = now_ms() + ENOUGH_MS;
    /* Each has a line in the log, or is one of many of its kind. */
    for (; refused < REFUSED && now_ms() < enough; refused++) {
        struct peer wrong = adopted(the_server, NULL);
        CHECK(peer_print(&wrong, "nonsense\r\n\r\n"));
        peer_close(&wrong);
    }
    WAIT_WHILE((int)stats_of(the_server).refused < refused);
    CHECK_STATUS(push_publish(the_server, "c", "quick", 5), PUSH_OK);
    ws_expect(&client, "quick");
    push_stats stats = stats_of(the_server);
    int suppressed = (int)stats.logs_suppressed;
    CHECK(suppressed > refused - FEW && suppressed < refused);
    CHECK_EQ(stats.logs_dropped, 0);
    held = false;
    peer_close(&client);
    CHECK_STATUS(push_stop(the_server, PATIENCE_MS), PUSH_OK); /* it delivers the events that wait */
    CHECK(lines + suppressed >= refused);
}

static void one_config_calls_one_at_a_time(void)
{
    reset();
    push_config *config = configure("threads", "1", NULL);
    push_server *first = NULL, *second = NULL;
    push_config_on_log(config, slow_log, NULL, NULL);
    CHECK_STATUS(push_start(config, &first, NULL, 0), PUSH_OK);
    CHECK_STATUS(push_start(config, &second, NULL, 0), PUSH_OK);
    push_config_free(config);
    for (int i = 0; i < 50; i++) {
        push_server *const servers[] = {first, second};
        for (int n = 0; n < 2; n++) {
            struct peer wrong = adopted(servers[n], NULL);
            CHECK(peer_print(&wrong, "nonsense\r\n\r\n"));
            peer_close(&wrong);
        }
    }
    stop(first);
    stop(second);
    CHECK_EQ(most_inside, 1); /* "Callbacks come one at a time on one thread of the library" */
}

static push_server *crossed[2];
static atomic_int in_callback;

static void stops_the_other(void *user_data, const push_event *event)
{
    push_server **other = user_data;
    if (event->kind != PUSH_EVENT_OPEN) return;
    in_callback++;
    WAIT_WHILE(in_callback < 2);
    push_status status = push_stop(*other, 0);
    CHECK(status == PUSH_OK || status == PUSH_ERR_CALLBACK || status == PUSH_ERR_CLOSED);
    in_callback++;
}

static void two_servers_stop_each_other_from_their_callbacks(void)
{
    struct peer clients[2];
    for (int i = 0; i < 2; i++) {
        push_config *config = configure("threads", "1", NULL);
        push_config_on_event(config, stops_the_other, &crossed[1 - i], NULL);
        crossed[i] = serve_config(config);
    }
    for (int i = 0; i < 2; i++) clients[i] = adopted_ws(crossed[i], NULL, "channel=c");
    WAIT_WHILE(in_callback < 4);
    REQUIRE(in_callback == 4); /* each waits for the other for ever: a status would be better */
    for (int i = 0; i < 2; i++) {
        peer_close(&clients[i]);
        push_stop(crossed[i], PATIENCE_MS);
    }
}

CHECK_MAIN(TEST(both_callbacks_in_use), TEST(closes_are_told_before_the_stop_ends),
           TEST(calling_back_in_from_an_event), TEST(calling_back_in_from_the_log),
           TEST(a_server_started_from_a_callback), TEST(freed_when_the_config_goes_first),
           TEST(freed_when_the_config_goes_last), TEST(freed_when_replaced_or_taken_off),
           TEST(a_start_that_fails_frees_nothing_of_the_config), TEST(a_log_that_hangs_delays_nobody),
           TEST(one_config_calls_one_at_a_time),
           TEST(two_servers_stop_each_other_from_their_callbacks))
