/* A model's answer, shown as it is written. The model is a fake one: it counts, 50 tokens a second. Each answer is the
 * stream of a channel of its own, which begins and ends. So a page that is reloaded in the middle, a second tab, or a
 * phone that joins late shows the whole answer, once, and knows when it is complete.
 *
 *     ./answer [-p PORT] [-d DIRECTORY] [-n TOKENS] [-l FILE] [-o OPTION=VALUE]...
 *
 *     POST /ask             begins an answer, and says its channel
 *     GET  /push?channel=c  handed over to libpush
 *     GET  anything else    a file below DIRECTORY; /answer.html is the page
 *
 * The page's Stop button sends "stop CHANNEL" over its WebSocket. With -o engine=file:DIRECTORY answers outlive this
 * program. With -o attach=SOCKET the hub is pushd, which may be started again in the middle.
 *
 * When this program is told to end, it ends the answers that are being written. With -l FILE it keeps a list of these;
 * if it is killed, the next one ends them when it starts. Otherwise their pages would wait for ever.
 *
 * The HTTP server is that of legacy-server.c. There is no login: whoever knows a channel may read it and stop it.
 */
#define _GNU_SOURCE
#include "server.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <push.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef WWW_DIR
#define WWW_DIR "examples-c/www"
#endif

enum { ANSWERS = 64, TOKEN_MS = 20, DRAIN_MS = 2000, LATE_MS = 60000, TURNS_TO_END = 100, MAX_TOKENS = 1000000000 };

struct answer {
    char channel[64];
    long written; /* tokens */
    bool stopped;
};

struct host {
    push_server *push;
    int root;    /* the directory that is served */
    long tokens; /* of each answer */
    const char *list; /* a file with the channels of `answers`, one a line, or NULL */
    pthread_mutex_t lock; /* guards what follows */
    struct answer answers[ANSWERS];
    size_t count;
    uint64_t asked;
    bool ending;
};

/* ---- the list ---- */

/* Replaces the list by a new file, so that there is always a whole one. */
static bool write_list(struct host *h)
{
    char name[4096];
    if (!h->list) return true;
    if ((size_t)snprintf(name, sizeof name, "%s.new", h->list) >= sizeof name) return false;
    FILE *file = fopen(name, "w");
    if (!file) return false;
    for (size_t i = 0; i < h->count; i++) fprintf(file, "%s\n", h->answers[i].channel);
    bool written = !ferror(file);
    return fclose(file) == 0 && written && rename(name, h->list) == 0;
}

/* The answers that a program before has left go no further: the model only ends them. */
static bool read_list(struct host *h)
{
    FILE *file = h->list ? fopen(h->list, "r") : NULL;
    if (!file) return !h->list || errno == ENOENT;
    struct answer answer = {.stopped = true};
    while (h->count < ANSWERS && fscanf(file, "%63s", answer.channel) == 1) h->answers[h->count++] = answer;
    bool read = !ferror(file);
    fclose(file);
    return read;
}

/* ---- the model ---- */

/* Writes the next token of an answer, or its end. True: the answer is complete. */
static bool write_next(struct host *h, struct answer *answer)
{
    char token[32];
    if (answer->stopped || h->ending || answer->written == h->tokens) {
        push_status status = push_end(h->push, answer->channel, NULL);
        return status != PUSH_ERR_BUSY; /* a queue is full, or the hub is away: it is tried again */
    }
    int len = snprintf(token, sizeof token, "%ld ", answer->written + 1);
    if (push_publish(h->push, answer->channel, token, (size_t)len) == PUSH_OK) answer->written++;
    return false;
}

static void write_all(struct host *h)
{
    size_t before = h->count;
    for (size_t i = h->count; i-- > 0;)
        if (write_next(h, &h->answers[i])) h->answers[i] = h->answers[--h->count];
    if (h->count < before && !write_list(h)) perror(h->list);
}

static void *model(void *app)
{
    struct host *h = app;
    int turns = TURNS_TO_END; /* the program does not wait for ever for a hub that is away */
    while (turns > 0) {
        nanosleep(&(struct timespec){.tv_nsec = TOKEN_MS * 1000000L}, NULL);
        pthread_mutex_lock(&h->lock);
        write_all(h);
        if (h->ending) turns = h->count > 0 ? turns - 1 : 0;
        pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

static enum step ask(struct host *h, struct client *c, struct http_request *request)
{
    struct answer answer = {.written = 0};
    struct timespec now;
    char json[128];
    push_status status = PUSH_ERR_LIMIT;
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&h->lock);
    if (h->count < ANSWERS) {
        /* No answer has the channel of another one, also after a restart. */
        snprintf(answer.channel, sizeof answer.channel, "answer.%" PRIdMAX ".%" PRIu64, (intmax_t)now.tv_sec,
                 ++h->asked);
        /* The list comes first. Then no answer begins that nobody would end. */
        h->answers[h->count++] = answer;
        status = write_list(h) ? push_begin(h->push, answer.channel, NULL) : PUSH_ERR_SYSTEM;
        if (status != PUSH_OK) h->count--;
    }
    pthread_mutex_unlock(&h->lock);
    bool passes = status == PUSH_ERR_BUSY || status == PUSH_ERR_LIMIT || status == PUSH_ERR_TIMEOUT
                  || status == PUSH_ERR_CLOSED;
    if (passes)
        return client_error(c, request, 503, "Retry-After: 1\r\n", "too many answers at once, or the hub is away");
    if (status != PUSH_OK) return client_error(c, request, 500, NULL, push_strerror(status));
    int len = snprintf(json, sizeof json, "{\"channel\":\"%s\"}\n", answer.channel);
    return client_answer(c, request, 200, "application/json", json, (size_t)len);
}

/* Takes the messages of clients: "stop CHANNEL". */
static bool listen_to_clients(void *app)
{
    static const char stop[] = "stop ";
    struct host *h = app;
    push_event event = PUSH_EVENT_INIT;
    while (push_next_event(h->push, &event, sizeof event, 0) == PUSH_OK) {
        size_t skipped = sizeof stop - 1;
        if (event.kind == PUSH_EVENT_MESSAGE && event.len > skipped && memcmp(event.data, stop, skipped) == 0) {
            const char *channel = (const char *)event.data + skipped;
            size_t len = event.len - skipped;
            pthread_mutex_lock(&h->lock);
            for (size_t i = 0; i < h->count; i++) {
                struct answer *answer = &h->answers[i];
                if (strlen(answer->channel) == len && memcmp(answer->channel, channel, len) == 0)
                    answer->stopped = true;
            }
            pthread_mutex_unlock(&h->lock);
        }
    }
    push_event_clear(&event);
    return true;
}

/* ---- the server; legacy-server.c explains it ---- */

static enum step hand_over(void *app, struct client *c)
{
    struct host *h = app;
    static const char start[] = "GET /push?";
    char response[PUSH_REFUSAL_MAX];
    size_t len = 0;
    if (c->in.len < sizeof start - 1 || memcmp(buffer_front(&c->in), start, sizeof start - 1) != 0) return NOT_MINE;
    if (c->out.len > 0) return NEEDS_OUTPUT;
    push_status status = push_adopt(h->push, c->fd, buffer_front(&c->in), c->in.len, NULL);
    if (status == PUSH_OK) return HANDED_OVER;
    if (status == PUSH_ERR_BUSY) return BLOCKED;
    if (push_refusal(h->push, status, NULL, NULL, buffer_front(&c->in), c->in.len, response, sizeof response, &len)
        != PUSH_OK)
        return FAILED;
    return client_end(c, response, len);
}

static enum step route(void *app, struct client *c, struct http_request *request, const char *body)
{
    struct host *h = app;
    (void)body;
    if (slice_is(request->path, "/ask")) {
        if (!slice_is(request->method, "POST")) return client_error(c, request, 405, "Allow: POST\r\n", NULL);
        return ask(h, c, request);
    }
    if (!slice_is(request->method, "GET") && !slice_is(request->method, "HEAD"))
        return client_error(c, request, 405, "Allow: GET, HEAD\r\n", NULL);
    return client_file(c, request, h->root);
}

static void on_log(void *user_data, int32_t level, const char *line)
{
    (void)user_data;
    if (level <= PUSH_LOG_ERROR) fprintf(stderr, "libpush: %s\n", line);
}

/* Serves until a signal comes. Returns the exit code. */
static int serve(struct host *h, int port)
{
    struct server server;
    struct hooks hooks = {hand_over, route, listen_to_clients, push_event_fd(h->push), h};
    pthread_t thread;
    if (!server_open(&server, port, hooks)) {
        fprintf(stderr, "port %d: %s\n", port, strerror(errno));
        return 1;
    }
    if (pthread_create(&thread, NULL, model, h) != 0) {
        fprintf(stderr, "no thread for the model\n");
        server_close(&server);
        return 1;
    }
    printf("listening on http://127.0.0.1:%d/\n", server.port);
    fflush(stdout);
    bool served = server_run(&server);
    if (!served) perror("poll");
    pthread_mutex_lock(&h->lock);
    h->ending = true;
    pthread_mutex_unlock(&h->lock);
    pthread_join(thread, NULL);
    server_close(&server);
    return served ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct host host = {.tokens = 250, .list = NULL, .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *directory = WWW_DIR;
    push_config *config = push_config_new();
    push_status status = PUSH_OK;
    char err[256] = "", *value;
    long port = 8080;
    server_catch_signals();

    push_config_on_log(config, on_log, NULL, NULL);
    push_config_set(config, "listen", "none", NULL, 0);
    push_config_set(config, "auth", "none", NULL, 0);
    push_config_set(config, "events", "message", NULL, 0);
    /* All of an answer is kept, for an hour, so that it can be shown from its start. */
    push_config_set(config, "channel.answer.*.history_count", "10000", NULL, 0);
    push_config_set(config, "channel.answer.*.history_age", "1h", NULL, 0);
    for (int option; status == PUSH_OK && (option = getopt(argc, argv, "p:d:n:l:o:")) != -1;) {
        switch (option) {
        case 'p':
            if (read_number(optarg, 65535, &port)) break;
            fprintf(stderr, "-p %s: a port is a number from 0 to 65535\n", optarg);
            return 2;
        case 'd': directory = optarg; break;
        case 'n':
            if (read_number(optarg, MAX_TOKENS, &host.tokens)) break;
            fprintf(stderr, "-n %s: a number from 0 to %d\n", optarg, MAX_TOKENS);
            return 2;
        case 'l': host.list = optarg; break;
        case 'o':
            value = strchr(optarg, '=');
            if (value) *value++ = 0;
            status = push_config_set(config, optarg, value ? value : "", err, sizeof err);
            break;
        default:
            fprintf(stderr, "usage: %s [-p PORT] [-d DIRECTORY] [-n TOKENS] [-l FILE] [-o OPTION=VALUE]...\n", argv[0]);
            return 2;
        }
    }
    host.root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (host.root < 0) fprintf(stderr, "%s: %s\n", directory, strerror(errno));
    bool listed = read_list(&host);
    if (!listed) fprintf(stderr, "%s: %s\n", host.list, strerror(errno));
    if (status == PUSH_OK && host.root >= 0 && listed) status = push_start(config, &host.push, err, sizeof err);
    push_config_free(config);
    if (status != PUSH_OK || host.root < 0 || !listed) {
        if (status != PUSH_OK) fprintf(stderr, "%s: %s\n", push_strerror(status), err);
        return 1;
    }
    int code = serve(&host, (int)port);
    status = push_stop(host.push, DRAIN_MS);
    /* The thread that calls on_log is late, since the machine is busy, or a log's disk is. */
    if (status == PUSH_ERR_TIMEOUT) status = push_stop(host.push, LATE_MS);
    close(host.root);
    return status == PUSH_OK ? code : 1;
}
