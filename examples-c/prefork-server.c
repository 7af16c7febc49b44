/* A prefork HTTP server with live push. Several processes accept on one socket, and one hub (pushd) has the
 * subscribers.
 *
 *     pushd -o attach_listen=unix:/tmp/pushd.sock -o listen=none &
 *     ./prefork-server -a unix:/tmp/pushd.sock [-p PORT] [-n WORKERS]
 *
 *     GET  /push?channel=c       handed over to the hub, with the bytes that were read of it
 *     POST /publish?channel=c    publishes the body; answers with the position and the worker's number. With key= it
 *                                may be repeated, and is published once
 *     GET  /                     says which worker has answered
 *
 * A worker may die or be replaced at any time. Its subscribers stay, because their connections are the hub's. The
 * parent never calls the library. Each worker starts it after the fork, since threads do not survive a fork.
 */
#define _GNU_SOURCE
#include "http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <push.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_WORKERS = 64, BODY_MAX = 1 << 20, DRAIN_MS = 2000, READ_SECONDS = 10 };

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
    (void)signal;
    stopping = 1;
}

/* ---- a worker ---- */

static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) break;
        bytes += sent;
        len -= (size_t)sent;
    }
}

static void answer(int fd, struct http_request *request, int status, const char *type, const char *body)
{
    struct buffer out = {0};
    struct http_answer full = {.status = status, .type = type, .body = body, .len = strlen(body)};
    request->keep_alive = false; /* one request for each connection keeps this server short */
    if (http_answer(&out, request, &full)) send_all(fd, buffer_front(&out), out.len);
    buffer_free(&out);
}

static void publish(push_server *server, int fd, struct http_request *request, const char *body)
{
    char channel[256], key[256], text[128];
    push_message message = PUSH_MESSAGE_INIT;
    push_position at;
    if (http_parameter(request->query, "channel", channel, sizeof channel) != 1) {
        answer(fd, request, 400, "text/plain", "channel is missing\n");
        return;
    }
    int has_key = http_parameter(request->query, "key", key, sizeof key);
    if (has_key < 0) {
        answer(fd, request, 400, "text/plain", "key is not allowed\n");
        return;
    }
    message.channel = channel;
    message.key = has_key ? key : NULL;
    message.data = body;
    message.len = request->content_length;
    push_status status = push_publish_message(server, &message, &at);
    if (status != PUSH_OK) {
        /* Only these two are mistakes of the publisher.  Otherwise the hub can't be reached, or is slow, and the worker
         * goes on serving. */
        int code = status == PUSH_ERR_INVALID ? 400 : status == PUSH_ERR_TOO_LARGE ? 413 : 503;
        answer(fd, request, code, "text/plain", push_strerror(status));
        return;
    }
    snprintf(text, sizeof text, "{\"id\":\"%s\",\"worker\":%ld}\n", at.text, (long)getpid());
    answer(fd, request, 200, "application/json", text);
}

/* Serves one connection.  True: the library has it now. */
static bool serve(push_server *server, int fd, struct buffer *in)
{
    struct http_request request;
    int parsed;
    for (;;) {
        parsed = http_parse(buffer_front(in), in->len, &request);
        if (parsed > 0) return false;
        if (parsed == 0 && slice_is(request.path, "/push")) {
            /* A real host looks at the session cookie here, and says in the grant who this is. */
            push_status status = push_adopt(server, fd, buffer_front(in), in->len, PUSH_GRANT_ALL);
            if (status == PUSH_OK) return true;
            char response[PUSH_REFUSAL_MAX];
            size_t len;
            if (push_refusal(server, status, NULL, NULL, buffer_front(in), in->len, response, sizeof response, &len)
                == PUSH_OK)
                send_all(fd, response, len);
            return false;
        }
        if (parsed == 0 && request.content_length > BODY_MAX) {
            answer(fd, &request, 413, "text/plain", "too large\n");
            return false;
        }
        if (parsed == 0 && in->len >= request.head_len + request.content_length) break;
        if (!buffer_reserve(in, 4096)) return false;
        ssize_t got = recv(fd, buffer_end(in), buffer_room(in), 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        in->len += (size_t)got;
    }
    if (slice_is(request.path, "/publish") && slice_is(request.method, "POST")) {
        publish(server, fd, &request, buffer_front(in) + request.head_len);
    } else if (slice_is(request.path, "/")) {
        char text[64];
        snprintf(text, sizeof text, "worker %ld\n", (long)getpid());
        answer(fd, &request, 200, "text/plain", text);
    } else {
        answer(fd, &request, 404, "text/plain", "not found\n");
    }
    return false;
}

static int work(int listener, const char *attach)
{
    char err[256] = "";
    push_server *server;
    push_config *config = push_config_new();
    push_status status = push_config_set(config, "attach", attach, err, sizeof err);
    if (status == PUSH_OK) status = push_config_set(config, "attach_name", "prefork", err, sizeof err);
    if (status == PUSH_OK) status = push_start(config, &server, err, sizeof err);
    push_config_free(config);
    if (status != PUSH_OK) return fprintf(stderr, "worker: %s: %s\n", push_strerror(status), err), 1;
    sigset_t none;
    sigemptyset(&none);
    while (!stopping) {
        struct buffer in = {0};
        struct timeval patience = {.tv_sec = READ_SECONDS};
        struct pollfd readable = {.fd = listener, .events = POLLIN};
        /* A signal may come only here, so that none is missed between the check and the wait. */
        if (ppoll(&readable, 1, NULL, &none) < 0) continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue; /* another worker was quicker, or the client has gone */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (!buffer_reserve(&in, 4096) || !serve(server, fd, &in)) close(fd);
        buffer_free(&in);
    }
    return push_stop(server, DRAIN_MS) == PUSH_OK ? 0 : 1;
}

/* ---- the parent ---- */

static pid_t fork_worker(int listener, const char *attach)
{
    pid_t pid = fork();
    if (pid != 0) return pid;
    _exit(work(listener, attach));
}

static int listen_on(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 1024) < 0) return close(fd), -1;
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("listening on http://127.0.0.1:%u/\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    const char *attach = NULL;
    long port = 8080, workers = 4;
    int flag;
    pid_t pids[MAX_WORKERS];
    while ((flag = getopt(argc, argv, "a:p:n:")) != -1) {
        if (flag == 'a') attach = optarg;
        if (flag == 'p' && !read_number(optarg, 65535, &port))
            return fprintf(stderr, "-p %s: a port is a number from 0 to 65535\n", optarg), 2;
        if (flag == 'n' && (!read_number(optarg, MAX_WORKERS, &workers) || workers == 0))
            return fprintf(stderr, "-n %s: a number from 1 to %d\n", optarg, MAX_WORKERS), 2;
        if (flag == '?') return 2;
    }
    if (attach == NULL)
        return fprintf(stderr, "prefork-server -a unix:PATH [-p PORT] [-n WORKERS]\n"), 2;
    /* The parent waits for signals instead of handling them. The workers unblock them in ppoll(). */
    struct sigaction action = {.sa_handler = stop};
    sigset_t awaited;
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGCHLD);
    sigprocmask(SIG_BLOCK, &awaited, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int listener = listen_on(port);
    if (listener < 0) return perror("listen"), 1;
    for (int i = 0; i < workers; i++) pids[i] = fork_worker(listener, attach);
    while (!stopping && sigwaitinfo(&awaited, NULL) == SIGCHLD) {
        int status;
        for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
            for (int i = 0; i < workers; i++) {
                if (pids[i] != ended) continue;
                /* Without this pause a worker that can't even start would be forked again and again. */
                if (WIFEXITED(status) && WEXITSTATUS(status) != 0) stopping = 1;
                else pids[i] = fork_worker(listener, attach);
            }
        }
    }
    for (int i = 0; i < workers; i++) kill(pids[i], SIGTERM);
    while (wait(NULL) > 0) {}
    return 0;
}
