/* The poll() server behind legacy-server.c; see server.h. */
#define _GNU_SOURCE
#include "server.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BODY_MAX = 1 << 20,
    READ_SIZE = 16 << 10,  /* one read; all of it may go on to libpush, whose option max_head is as large */
    WRITE_SIZE = 64 << 10, /* while more than this waits to be written, no further request is served */
    REQUEST_MS = 30000,    /* how long a request may take to come, and a part of its answer to be taken */
    IDLE_MS = 75000,
    LINGER_MS = 2000,
    RETRY_MS = 1,
    ACCEPT_PAUSE_MS = 100,
    /* How much is done for one client before the others have their turn. */
    TURN_ACCEPTS = 4096,
    TURN_WRITES = 16
};

enum { LISTENER, WATCHED, FIRST_CLIENT };

/* ---- answers ---- */

enum step client_answer(struct client *c, const struct http_request *request, int status, const char *type,
                        const char *body, size_t len)
{
    struct http_answer answer = {status, type, NULL, body, len};
    return http_answer(&c->out, request, &answer) ? ANSWERED : FAILED;
}

enum step client_error(struct client *c, const struct http_request *request, int status, const char *headers,
                       const char *message)
{
    return http_error(&c->out, request, status, headers, message) ? ANSWERED : FAILED;
}

enum step client_file(struct client *c, const struct http_request *request, int root)
{
    off_t size = 0;
    const char *type = NULL;
    int file = http_open(root, request->path, &size, &type);
    if (file < 0) return client_error(c, request, 404, NULL, NULL);
    if (size > 0 && slice_is(request->method, "GET")) {
        c->file = file;
        c->file_left = size;
    } else {
        close(file);
    }
    return client_answer(c, request, 200, type, NULL, (size_t)size);
}

enum step client_end(struct client *c, const void *response, size_t len)
{
    c->closing = true;
    buffer_consume(&c->in, c->in.len);
    return buffer_append(&c->out, response, len) ? ANSWERED : FAILED;
}

enum step client_refuse(struct client *c, int status, const char *message)
{
    struct http_request none = {0}; /* so the answer says Connection: close */
    c->closing = true;
    buffer_consume(&c->in, c->in.len);
    return client_error(c, &none, status, NULL, message);
}

/* ---- a client's bytes ---- */

static struct client *client_new(int fd)
{
    struct client *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->fd = fd;
    c->file = -1;
    return c;
}

/* Frees the client and leaves its socket to its new owner. */
static void client_forget(struct client *c)
{
    if (c->file >= 0) close(c->file);
    buffer_free(&c->in);
    buffer_free(&c->out);
    free(c);
}

static void client_close(struct client *c)
{
    close(c->fd);
    client_forget(c);
}

/* Reads once, so that a client that sends without end does not keep the others waiting. The memory is no more than the
 * client has sent. False: the client is gone. */
static bool client_receive(struct client *c)
{
    char bytes[READ_SIZE];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) c->ended = true;
    if (c->lingering) return got > 0;
    return buffer_append(&c->in, bytes, (size_t)got);
}

static bool client_pending(const struct client *c)
{
    return c->out.len > 0 || c->file >= 0;
}

/* False: the file is now shorter than announced. Only the end of the connection can tell the client. */
static bool read_file(struct client *c)
{
    if (!buffer_reserve(&c->out, WRITE_SIZE)) return false;
    size_t want = buffer_room(&c->out);
    if ((off_t)want > c->file_left) want = (size_t)c->file_left;
    ssize_t got = read(c->file, buffer_end(&c->out), want);
    if (got <= 0) return false;
    c->out.len += (size_t)got;
    c->file_left -= got;
    if (c->file_left == 0) {
        close(c->file);
        c->file = -1;
    }
    return true;
}

/* Writes as much as the client takes. False: the client is gone. */
static bool client_flush(struct client *c)
{
    for (int n = 0; n < TURN_WRITES && client_pending(c); n++) {
        if (c->file >= 0 && c->out.len < WRITE_SIZE && !read_file(c)) return false;
        /* sendfile() has no MSG_NOSIGNAL, and SIGPIPE is at its default in this process. So it is not used. */
        ssize_t sent = send(c->fd, buffer_front(&c->out), c->out.len, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN || errno == EINTR;
        buffer_consume(&c->out, (size_t)sent);
    }
    return true;
}

/* ---- requests ---- */

/* Serves the request at the front of the bytes that the client has sent. */
static enum step next_request(struct server *s, struct client *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_request request;
    /* Old clients send empty lines after a body (RFC 9112, 2.2). */
    while (c->in.len > 0 && (*buffer_front(&c->in) == '\r' || *buffer_front(&c->in) == '\n')) buffer_consume(&c->in, 1);
    if (c->in.len == 0) return NEEDS_INPUT;
    enum step step = s->hooks.take(s->hooks.app, c);
    if (step != NOT_MINE) return step;

    int status = http_parse(buffer_front(&c->in), c->in.len, &request);
    if (status == HTTP_MORE) return NEEDS_INPUT;
    if (status) return client_refuse(c, status, NULL);
    if (request.content_length > BODY_MAX) return client_refuse(c, 413, "a body has at most 1 MiB");
    size_t len = request.head_len + request.content_length;
    if (c->in.len < len) {
        if (!request.expects_continue || c->continued) return NEEDS_INPUT;
        c->continued = true;
        return buffer_append(&c->out, go_on, sizeof go_on - 1) ? NEEDS_INPUT : FAILED;
    }
    step = s->hooks.route(s->hooks.app, c, &request, buffer_front(&c->in) + request.head_len);
    if (step != ANSWERED) return step;
    c->closing = !request.keep_alive;
    c->continued = false;
    buffer_consume(&c->in, len);
    c->deadline = s->now + (c->in.len > 0 ? REQUEST_MS : IDLE_MS);
    return ANSWERED;
}

/* Serves requests and writes answers until one of the two has to wait. HANDED_OVER, FAILED: the client goes. */
static enum step serve(struct server *s, struct client *c)
{
    for (;;) {
        enum step step = ANSWERED;
        while (step == ANSWERED && !c->closing && c->file < 0 && c->out.len < WRITE_SIZE) step = next_request(s, c);
        c->blocked = step == BLOCKED;
        if (step == HANDED_OVER) return step;
        if (step == FAILED || !client_flush(c)) return FAILED;
        if (client_pending(c)) {
            c->deadline = s->now + REQUEST_MS;
            return NEEDS_OUTPUT;
        }
        if (c->closing) {
            /* If a connection is closed with unread bytes, the kernel resets it, and the client may lose the answer. So
             * only our side is closed, and the server waits for the client's end. */
            c->lingering = true;
            c->deadline = s->now + LINGER_MS;
            return c->ended || shutdown(c->fd, SHUT_WR) < 0 ? FAILED : NEEDS_INPUT;
        }
        if (step == BLOCKED) return step;
        if (step == NEEDS_INPUT) return c->ended ? FAILED : step;
    }
}

/* ---- the loop ---- */

static enum step turn(struct server *s, struct client *c, int ready)
{
    if (ready & ~POLLOUT) { /* this includes errors: reading says which one */
        if (c->in.len == 0 && !c->lingering) c->deadline = s->now + REQUEST_MS;
        if (!client_receive(c)) return FAILED;
    }
    return c->lingering ? NEEDS_INPUT : serve(s, c);
}

/* Whether the client stays. If not, it is freed. */
static bool stays(struct client *c, enum step step)
{
    if (step == HANDED_OVER) client_forget(c);
    else if (step == FAILED) client_close(c);
    return step != HANDED_OVER && step != FAILED;
}

static short awaited(const struct client *c)
{
    if (client_pending(c)) return POLLOUT;
    return c->blocked || c->ended ? 0 : POLLIN;
}

static bool has_room(struct server *s)
{
    if (s->count < s->size) return true;
    size_t size = s->size ? s->size * 2 : 64;
    struct pollfd *polls = realloc(s->polls, size * sizeof *polls);
    if (polls) s->polls = polls;
    struct client **clients = realloc(s->clients, size * sizeof *clients);
    if (clients) s->clients = clients;
    if (polls && clients) s->size = size;
    return polls && clients;
}

static void accept_clients(struct server *s)
{
    for (int n = 0; n < TURN_ACCEPTS; n++) {
        int fd = accept4(s->polls[LISTENER].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (fd < 0 && errno == EAGAIN) return;
        struct client *c = fd >= 0 && has_room(s) ? client_new(fd) : NULL;
        if (!c) {
            /* Out of descriptors or memory. The listener stays readable: without a pause poll() would not wait. */
            if (fd >= 0) close(fd);
            s->accept_at = s->now + ACCEPT_PAUSE_MS;
            return;
        }
        /* Mostly the request is there already. A client that is handed over then never enters the table. */
        if (!stays(c, turn(s, c, POLLIN))) continue;
        s->clients[s->count] = c;
        s->polls[s->count++] = (struct pollfd){fd, awaited(c), 0};
    }
}

/* Each client that is ready has its turn. A client that is too late is closed. True: some are blocked. */
static bool serve_clients(struct server *s)
{
    bool blocked = false;
    for (size_t i = s->count; i-- > FIRST_CLIENT;) { /* backwards: the last client fills the place of one that goes */
        struct client *c = s->clients[i];
        enum step step = NEEDS_INPUT;
        if (s->polls[i].revents || c->blocked) step = turn(s, c, s->polls[i].revents);
        if (step != HANDED_OVER && s->now >= c->deadline) step = FAILED;
        if (stays(c, step)) {
            s->polls[i].events = awaited(c);
            blocked |= c->blocked;
        } else {
            s->count--;
            s->polls[i] = s->polls[s->count];
            s->clients[i] = s->clients[s->count];
        }
    }
    return blocked;
}

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static volatile sig_atomic_t stopping;
static sigset_t while_waiting; /* the mask while server_run waits */

static void on_signal(int signal)
{
    (void)signal;
    stopping = 1;
}

void server_catch_signals(void)
{
    sigset_t blocked;
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, &while_waiting);
    sigdelset(&while_waiting, SIGINT);
    sigdelset(&while_waiting, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool server_run(struct server *s)
{
    bool blocked = false, idle = true; /* idle: the hook of the watched descriptor has nothing left to do */
    while (!stopping) {
        bool paused = s->now < s->accept_at;
        long wait = blocked || !idle ? RETRY_MS : paused ? ACCEPT_PAUSE_MS : 1000;
        struct timespec timeout = {wait / 1000, wait % 1000 * 1000000};
        s->polls[LISTENER].events = paused ? 0 : POLLIN;
        s->polls[WATCHED].events = idle ? POLLIN : 0;
        if (ppoll(s->polls, s->count, &timeout, &while_waiting) < 0) {
            if (errno == EINTR) continue;
            return false;
        }
        s->now = clock_ms();
        if (!idle || s->polls[WATCHED].revents) idle = s->hooks.ready(s->hooks.app);
        blocked = serve_clients(s);
        if (s->polls[LISTENER].revents) accept_clients(s);
    }
    return true;
}

static int listen_on(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 65535) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

bool server_open(struct server *s, int port, struct hooks hooks)
{
    *s = (struct server){.hooks = hooks, .port = port, .now = clock_ms()};
    int listener = listen_on(&s->port);
    if (listener < 0) return false;
    if (!has_room(s)) {
        close(listener);
        return false;
    }
    s->polls[LISTENER].fd = listener;
    s->polls[WATCHED].fd = hooks.watched; /* poll() skips a negative one */
    s->count = FIRST_CLIENT;
    return true;
}

void server_close(struct server *s)
{
    close(s->polls[LISTENER].fd);
    for (size_t i = FIRST_CLIENT; i < s->count; i++) client_close(s->clients[i]);
    free(s->polls);
    free(s->clients);
}
