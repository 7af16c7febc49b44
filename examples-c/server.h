/* The server as it was before it had live push: one thread, one poll(), HTTP/1 with keep-alive and pipelining.
 * It knows nothing of libpush: the hooks serve the requests, and legacy-server.c fills them. */
#ifndef LEGACY_SERVER_H
#define LEGACY_SERVER_H

#include "http.h"
#include <poll.h>
#include <stdint.h>

/* How far a request was served. */
enum step {
    ANSWERED,
    NEEDS_INPUT,  /* it is not all there yet */
    NEEDS_OUTPUT, /* the answers before it have to be written first */
    BLOCKED,      /* it can't be served now: it stays in its buffer and is tried again soon */
    HANDED_OVER,  /* the client's socket has another owner */
    NOT_MINE,     /* hooks.take: an ordinary request */
    FAILED        /* the client has to be closed */
};

struct client {
    int fd;
    int file; /* it is sent after `out`, or -1 */
    off_t file_left;
    struct buffer in, out;
    int64_t deadline; /* when the client is closed, in ms of the monotonic clock */
    bool ended;       /* the client sends no more */
    bool closing;     /* no further request is served */
    bool lingering;   /* our side is shut down; bytes that still come are dropped */
    bool continued;   /* the request at the front of `in` was told to send its body */
    bool blocked;     /* the request at the front of `in` has to be tried again */
};

struct hooks {
    /* Sees everything that a client sends before the server does. */
    enum step (*take)(void *app, struct client *client);
    /* Answers a request that has come with all of its body. */
    enum step (*route)(void *app, struct client *client, struct http_request *request, const char *body);
    /* Called when `watched` is readable. False: call it again soon, readable or not. */
    bool (*ready)(void *app);
    int watched; /* a descriptor beside the clients', or -1 */
    void *app;
};

struct server {
    struct hooks hooks;
    struct pollfd *polls;
    struct client **clients; /* clients[i] is polled as polls[i]; the first places are not for clients */
    size_t count, size;
    int64_t now, accept_at;
    int port;
};

/* Listens on 127.0.0.1. Port 0 is any free port. False: see errno. */
bool server_open(struct server *server, int port, struct hooks hooks);
/* From now on SIGINT and SIGTERM end server_run, and nothing else. Call it before other threads begin: they block the
 * signals, too. */
void server_catch_signals(void);
/* Serves until such a signal comes. Signals come only while it waits, so that none is missed. False: see errno. */
bool server_run(struct server *server);
void server_close(struct server *server);

/* Each returns ANSWERED, or FAILED if memory is out. */
enum step client_answer(struct client *client, const struct http_request *request, int status, const char *type,
                        const char *body, size_t len);
enum step client_error(struct client *client, const struct http_request *request, int status, const char *headers,
                       const char *message);
/* Sends the file at the request's path below the directory `root`, or 404. */
enum step client_file(struct client *client, const struct http_request *request, int root);
/* Sends a whole response, and closes the connection. */
enum step client_end(struct client *client, const void *response, size_t len);
/* Answers and closes the connection, since nobody knows where its next request would begin. */
enum step client_refuse(struct client *client, int status, const char *message);

#endif
