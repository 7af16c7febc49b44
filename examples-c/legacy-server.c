/* A single-threaded poll() HTTP server, of the kind that has been running somewhere for fifteen years, with live push.
 * The old server is server.c and http.c. This file is the part that libpush asks of it.
 *
 *     ./legacy-server [-p PORT] [-d DIRECTORY] [-o OPTION=VALUE]... [-c FILE.toml] [-k] [-w MILLISECONDS]
 *
 *     GET  /push?channel=c       handed over to libpush, with the bytes that were read of it
 *     POST /publish?channel=c    publishes the body; event= and key= are optional
 *     POST /broadcast            publishes it to every subscriber
 *     GET  /stats                the library's counters
 *     GET  anything else         a file below DIRECTORY
 *
 * Each message of a WebSocket client is sent back to it. There is no login: any process that reaches the port may
 * publish. So the server listens on the loopback address only.
 */
#define _GNU_SOURCE
#include "server.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <push.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef WWW_DIR
#define WWW_DIR "examples-c/www"
#endif

enum { TURN_EVENTS = 1024, LATE_MS = 60000 };

struct host {
    push_server *push;
    uint32_t grant_flags;
    push_event event;
    bool event_held; /* `event` is still to be sent back */
    int root;        /* the directory that is served */
};

/* ---- subscribers ---- */

/* Whether this is a subscriber. It is known before the head is complete: the library reads on by itself. */
static bool is_subscription(struct buffer *in)
{
    static const char *const starts[] = {"GET /push", "OPTIONS /push"}; /* OPTIONS asks before a cross-origin GET */
    const char *sent = buffer_front(in);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        size_t n = strlen(starts[i]);
        if (in->len > n && memcmp(sent, starts[i], n) == 0 && (sent[n] == ' ' || sent[n] == '?')) return true;
    }
    return false;
}

static int http_status(push_status status)
{
    switch (status) {
    case PUSH_ERR_INVALID:
    case PUSH_ERR_DESCRIPTOR: return 400;
    case PUSH_ERR_TOO_LARGE: return 413;
    case PUSH_ERR_BUSY:
    case PUSH_ERR_LIMIT:
    case PUSH_ERR_SYSTEM: /* the log can't be written */
    case PUSH_ERR_CLOSED: return 503;
    default: return 500;
    }
}

static enum step hand_over(void *app, struct client *c)
{
    struct host *h = app;
    static const char *const every[] = {"*"};
    push_grant grant = PUSH_GRANT_INIT;
    if (!is_subscription(&c->in)) return NOT_MINE;
    /* Answers to this connection's earlier requests go first: the library knows nothing of them. */
    if (c->out.len > 0) return NEEDS_OUTPUT;
    /* A real host reads on to the session cookie, and says in the grant who the user is and what they may have.
     * Without a grant (main sets auth=none) the library's options decide this, such as client_publish. */
    grant.patterns = every;
    grant.pattern_count = 1;
    grant.flags = h->grant_flags;
    push_status status =
        push_adopt(h->push, c->fd, buffer_front(&c->in), c->in.len, h->grant_flags ? &grant : NULL);
    if (status == PUSH_ERR_BUSY) return BLOCKED;
    if (status == PUSH_OK) return HANDED_OVER;
    char response[PUSH_REFUSAL_MAX];
    size_t len = 0;
    if (push_refusal(h->push, status, NULL, NULL, buffer_front(&c->in), c->in.len, response, sizeof response, &len)
        != PUSH_OK)
        return FAILED;
    return client_end(c, response, len);
}

/* Sends the messages of WebSocket clients back to them. If the library has no room for a message, it is kept and goes
 * first on the next turn: nothing is lost, and nothing overtakes it. */
static bool echo(void *app)
{
    struct host *h = app;
    for (int n = 0; n < TURN_EVENTS; n++) {
        if (!h->event_held && push_next_event(h->push, &h->event, sizeof h->event, 0) != PUSH_OK) return true;
        h->event_held = false;
        if (h->event.kind != PUSH_EVENT_MESSAGE) continue;
        uint32_t flags = h->event.flags & PUSH_EVENT_BINARY ? PUSH_SEND_BINARY : 0;
        push_status status = push_send(h->push, h->event.connection, h->event.data, h->event.len, flags);
        h->event_held = status == PUSH_ERR_BUSY;
        if (h->event_held) return false;
        /* A client that is gone needs no answer. One that can't have it for another reason should not wait for it. */
        if (status != PUSH_OK && status != PUSH_ERR_NOT_FOUND)
            push_close(h->push, h->event.connection, 1011, push_strerror(status));
    }
    return true; /* poll() says again that events wait; the rest is sent then */
}

/* ---- publishers ---- */

/* Publishes the body to a channel, or to everyone. */
static enum step publish(struct host *h, struct client *c, struct http_request *request, const char *body,
                         bool everyone)
{
    char channel[256] = "", event[128] = "", key[256] = "", json[96];
    push_message message = PUSH_MESSAGE_INIT;
    push_position at;
    push_status status = PUSH_ERR_INVALID;
    int has_channel = http_parameter(request->query, "channel", channel, sizeof channel);
    int has_event = http_parameter(request->query, "event", event, sizeof event);
    int has_key = http_parameter(request->query, "key", key, sizeof key);
    if (has_channel >= 0 && has_event >= 0 && has_key >= 0) {
        message.channel = channel;
        message.data = body;
        message.len = request->content_length;
        message.event = has_event ? event : NULL;
        message.key = has_key ? key : NULL;
        status = everyone ? push_broadcast(h->push, &message, &at) : push_publish_message(h->push, &message, &at);
    }
    /* The request stays in its buffer and is tried again. Meanwhile nothing more is read from this client. That
     * slows a publisher down to what the library can take, and loses nothing. */
    if (status == PUSH_ERR_BUSY) return BLOCKED;
    /* With a log that hubs share: it has not answered in time (option engine_timeout). */
    if (status == PUSH_ERR_TIMEOUT)
        return client_error(c, request, 504, NULL, "the message may have been published, or will be");
    if (status != PUSH_OK) return client_error(c, request, http_status(status), NULL, push_strerror(status));
    int len = snprintf(json, sizeof json, "{\"id\":\"%s\"}\n", at.text);
    return client_answer(c, request, 200, "application/json", json, (size_t)len);
}

static enum step stats(struct host *h, struct client *c, struct http_request *request)
{
#define FIELD(name) {#name, offsetof(push_stats, name)}
    static const struct {
        const char *name;
        size_t offset;
    } fields[] = {FIELD(published), FIELD(duplicates), FIELD(busy), FIELD(deliveries), FIELD(bytes_sent),
                  FIELD(accepted), FIELD(adopted), FIELD(refused), FIELD(slow_closed), FIELD(gaps),
                  FIELD(received), FIELD(events_dropped), FIELD(logs_dropped), FIELD(connections), FIELD(websockets),
                  FIELD(sse), FIELD(streams), FIELD(polls), FIELD(channels), FIELD(subscriptions),
                  FIELD(history_messages), FIELD(history_bytes), FIELD(seq), FIELD(dropped), FIELD(replaced), FIELD(outboxes),
                  FIELD(outbox_bytes), FIELD(mailbox), FIELD(events_waiting), FIELD(hosts), FIELD(logs_suppressed),
                  FIELD(draining), FIELD(undone), FIELD(inbox_bytes), FIELD(ended_channels),
                  FIELD(calls), FIELD(calls_given_up), FIELD(calls_waiting),
                  FIELD(publish_checks), FIELD(publish_checks_given_up), FIELD(publish_checks_waiting),
                  FIELD(patterns), FIELD(presence_members), FIELD(presence_bytes), FIELD(presence_refused)};
    push_stats now = PUSH_STATS_INIT;
    char json[2048];
    int len = 0;
    if (push_stats_get(h->push, &now, sizeof now) != PUSH_OK) return client_error(c, request, 500, NULL, NULL);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&now + fields[i].offset, sizeof value);
        len += snprintf(json + len, sizeof json - (size_t)len, "%c\"%s\":%llu", i ? ',' : '{', fields[i].name,
                        (unsigned long long)value);
    }
    len += snprintf(json + len, sizeof json - (size_t)len, "}\n");
    return client_answer(c, request, 200, "application/json", json, (size_t)len);
}

/* ---- the server's own answers ---- */

static enum step route(void *app, struct client *c, struct http_request *request, const char *body)
{
    struct host *h = app;
    bool everyone = slice_is(request->path, "/broadcast");
    if (everyone || slice_is(request->path, "/publish")) {
        if (!slice_is(request->method, "POST")) return client_error(c, request, 405, "Allow: POST\r\n", NULL);
        return publish(h, c, request, body, everyone);
    }
    if (!slice_is(request->method, "GET") && !slice_is(request->method, "HEAD"))
        return client_error(c, request, 405, "Allow: GET, HEAD\r\n", NULL);
    if (slice_is(request->path, "/stats")) return stats(h, c, request);
    return client_file(c, request, h->root);
}

/* ---- start and stop ---- */

/* Called on the library's thread for callbacks. Only callbacks wait for it, so it may write to a slow terminal. */
static void on_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data;
    if (level <= PUSH_LOG_WARN) fprintf(stderr, "libpush: %s\n", line);
}

struct options {
    int port;
    const char *directory;
    uint32_t grant_flags;
    int drain_ms;    /* how long clients may take at the end to read what was published */
    bool about_auth; /* some option may have set auth */
    push_config *config;
};

/* False: an error was printed on stderr. */
static bool parse_options(int argc, char **argv, struct options *options)
{
    char err[256] = "", *value;
    push_status status = PUSH_OK;
    long number;
    for (int option; status == PUSH_OK && (option = getopt(argc, argv, "p:d:o:c:kw:")) != -1;) {
        switch (option) {
        case 'p':
            if (!read_number(optarg, 65535, &number)) {
                fprintf(stderr, "-p %s: a port is a number from 0 to 65535\n", optarg);
                return false;
            }
            options->port = (int)number;
            break;
        case 'd': options->directory = optarg; break;
        case 'o':
            value = strchr(optarg, '=');
            if (value) *value++ = 0;
            if (strcmp(optarg, "auth") == 0) options->about_auth = true;
            status = push_config_set(options->config, optarg, value ? value : "", err, sizeof err);
            break;
        case 'c':
            options->about_auth = true;
            status = push_config_load(options->config, optarg, err, sizeof err);
            break;
        /* Use this only if one connection is one subscriber. A browser sends its other requests over the same
         * connection, and those are not the library's. */
        case 'k': options->grant_flags |= PUSH_GRANT_KEEP_ALIVE; break;
        case 'w':
            if (!read_number(optarg, INT_MAX, &number)) {
                fprintf(stderr, "-w %s: a time is a number of milliseconds\n", optarg);
                return false;
            }
            options->drain_ms = (int)number;
            break;
        default: return false;
        }
    }
    if (status != PUSH_OK) fprintf(stderr, "%s\n", err);
    return status == PUSH_OK && optind == argc;
}

/* Whether the option auth is none, as the grant of -k needs it: with any other auth this grant would let everybody in. A
 * file may have set the option, and it can't be read back. So this hands over a client that has gone already: without a
 * grant it is PUSH_ERR_INVALID, unless auth is none. */
static bool anybody_may(push_server *push)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return false;
    push_status status = push_adopt(push, pair[0], "", 0, NULL);
    if (status != PUSH_OK) close(pair[0]);
    close(pair[1]);
    return status != PUSH_ERR_INVALID;
}

/* Serves until a signal comes. Returns the exit code. */
static int serve(struct host *h, const struct options *options)
{
    struct server server;
    struct hooks hooks = {hand_over, route, echo, push_event_fd(h->push), h};
    h->root = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (h->root < 0) {
        fprintf(stderr, "%s: %s\n", options->directory, strerror(errno));
        return 1;
    }
    if (!server_open(&server, options->port, hooks)) {
        fprintf(stderr, "port %d: %s\n", options->port, strerror(errno));
        close(h->root);
        return 1;
    }
    printf("listening on http://127.0.0.1:%d/\n", server.port);
    fflush(stdout);
    bool served = server_run(&server);
    if (!served) perror("poll");
    server_close(&server);
    close(h->root);
    return served ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct host host = {.event = PUSH_EVENT_INIT};
    struct options options = {8080, WWW_DIR, 0, 2000, false, push_config_new()};
    char err[256] = "";

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* a descriptor for each client, here or in the library */
        setrlimit(RLIMIT_NOFILE, &files);
    }
    server_catch_signals();

    push_config_on_log(options.config, on_log, NULL, NULL);
    push_config_set(options.config, "listen", "none", NULL, 0); /* this server has the port, and hands clients over */
    push_config_set(options.config, "auth", "none", NULL, 0); /* nobody logs in here: anybody may */
    push_config_set(options.config, "events", "message", NULL, 0); /* the only kind that echo() needs */
    if (!parse_options(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [-p PORT] [-d DIRECTORY] [-o OPTION=VALUE]... [-c FILE.toml] [-k] [-w MILLISECONDS]\n",
                argv[0]);
        push_config_free(options.config);
        return 2;
    }
    push_status status = push_start(options.config, &host.push, err, sizeof err);
    push_config_free(options.config);
    if (status != PUSH_OK) {
        fprintf(stderr, "%s: %s\n", push_strerror(status), err);
        return 1;
    }
    if (options.about_auth && options.grant_flags && !anybody_may(host.push)) {
        fprintf(stderr, "option auth: beside -k only none is allowed, since -k grants every channel to everybody\n");
        push_stop(host.push, 0);
        return 2;
    }
    host.grant_flags = options.grant_flags;
    int code = serve(&host, &options);
    status = push_stop(host.push, options.drain_ms);
    /* The thread that calls on_log is late, since the machine is busy, or a log's disk is. */
    if (status == PUSH_ERR_TIMEOUT) status = push_stop(host.push, LATE_MS);
    push_event_clear(&host.event);
    return status == PUSH_OK ? code : 1;
}
