/* See serve.h. */
#include "serve.h"
#include "process.h"
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static push_config *configure_all(const char *first, va_list rest)
{
    char err[512] = "";
    push_config *config = push_config_new();
    REQUIRE(config != NULL);
    /* Even on a slow machine no client gets a ping, no poll an empty answer, and no request too little time, unless
     * its test asks for it. */
    static const char *const standard[][2] = {
        {"listen", "none"}, {"heartbeat", "10m"}, {"poll_timeout", "10m"}, {"head_timeout", "10m"}};
    for (int i = 0; i < 4; i++) REQUIRE(push_config_set(config, standard[i][0], standard[i][1], NULL, 0) == PUSH_OK);
    for (const char *name = first; name; name = va_arg(rest, const char *)) {
        const char *value = va_arg(rest, const char *);
        if (push_config_set(config, name, value, err, sizeof err) == PUSH_OK) continue;
        check_case("%s", err);
        REQUIRE(!"the option can be set");
    }
    return config;
}

push_config *configure(const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    push_config *config = configure_all(first, rest);
    va_end(rest);
    return config;
}

push_server *serve_config(push_config *config)
{
    char err[512] = "";
    push_server *server = NULL;
    push_status status = push_start(config, &server, err, sizeof err);
    push_config_free(config);
    if (status != PUSH_OK) check_case("%s", err);
    REQUIRE(status == PUSH_OK && server);
    return server;
}

push_server *serve(const char *first, ...)
{
    va_list rest;
    va_start(rest, first);
    push_config *config = configure_all(first, rest);
    va_end(rest);
    return serve_config(config);
}

void stop(push_server *server)
{
    push_status status = push_stop(server, 0);
    /* A thread that calls functions of the host, or writes the log, may be late. */
    if (status == PUSH_ERR_TIMEOUT) status = push_stop(server, PATIENCE_MS);
    CHECK_STATUS(status, PUSH_OK);
}

void attach_address(char *directory, size_t directory_size, char *address, size_t size)
{
    char path[256];
    temporary_directory(directory, directory_size);
    join_path(path, sizeof path, directory, "attach.sock");
    snprintf(address, size, "unix:%s", path);
}

void reload_times(push_server *server, int count)
{
    push_config *config = configure("threads", "1", NULL);
    for (int i = 0; i < count; i++) CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_OK);
    push_config_free(config);
}

bool readable(int fd, int timeout_ms)
{
    struct pollfd ready = {fd, POLLIN, 0};
    return poll(&ready, 1, timeout_ms) == 1 && ready.revents == POLLIN;
}

push_message text_message(const char *channel, const char *text)
{
    push_message message = PUSH_MESSAGE_INIT;
    message.channel = channel;
    message.data = text;
    message.len = strlen(text);
    return message;
}

push_grant grant_of_every_channel(void)
{
    static const char *const every[] = {"*"};
    push_grant grant = PUSH_GRANT_INIT;
    grant.patterns = every;
    grant.pattern_count = 1;
    return grant;
}

struct peer adopted(push_server *server, const push_grant *grant)
{
    struct peer client;
    int fd;
    unix_pair(&client, &fd);
    REQUIRE(CHECK_STATUS(push_adopt(server, fd, NULL, 0, grant ? grant : PUSH_GRANT_ALL), PUSH_OK));
    return client;
}

struct peer adopted_ws(push_server *server, const push_grant *grant, const char *query)
{
    struct peer client = adopted(server, grant);
    REQUIRE(ws_open(&client, query, ""));
    return client;
}

struct peer adopted_http(push_server *server, const push_grant *grant, const char *transport, const char *query)
{
    char all[1024];
    struct peer client = adopted(server, grant);
    snprintf(all, sizeof all, "transport=%s&%s", transport, query);
    REQUIRE(peer_get(&client, all, ""));
    if (strcmp(transport, "poll") == 0) return client; /* the answer comes later */
    REQUIRE(peer_expect(&client, "HTTP/1.1 200 "));
    REQUIRE(peer_skip_past(&client, "\r\n\r\n"));
    return client;
}

push_stats stats_of(push_server *server)
{
    push_stats stats = PUSH_STATS_INIT;
    CHECK_STATUS(push_stats_get(server, &stats, sizeof stats), PUSH_OK);
    return stats;
}

bool wait_for_connections(push_server *server, uint64_t count)
{
    uint64_t connections = 0;
    WAIT_WHILE((connections = stats_of(server).connections) != count);
    return CHECK_EQ(connections, count);
}

bool wait_for_subscriptions(push_server *server, uint64_t count)
{
    uint64_t subscriptions = 0;
    WAIT_WHILE((subscriptions = stats_of(server).subscriptions) != count);
    return CHECK_EQ(subscriptions, count);
}

push_connection expect_event(push_server *server, push_event *event, uint32_t kind)
{
    push_status status = push_next_event(server, event, sizeof *event, PATIENCE_MS);
    if (!CHECK_STATUS(status, PUSH_OK)) return 0;
    return CHECK_EQ(event->kind, kind) ? event->connection : 0;
}
