/* floor: the least that a single-threaded push server can do. The CPU time of real servers is compared with it.
 *
 * It has a WebSocket handshake with a constant answer, SSE, long-poll (a GET of /poll waits for the next message), and
 * POST /pub. On a POST each subscriber gets one bare send() of a frame that is made once. Clients' messages are not
 * parsed. There are no queues, no backpressure and no history, and a frame that the kernel does not take at once is
 * lost. So nobody can use it as a server, but no server can deliver a message to a socket for less than this send().
 *
 *     floor PORT
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "descriptors.h"
#include "listening.h"

enum { MAX_DESCRIPTORS = 1 << 20, EVENTS = 512, BUFFER = 1 << 20, MAX_PAYLOAD = 65535, REST_MS = 1000, LIFETIME_S = 3600 };

/* The descriptors of one transport, and the index of each descriptor in that list. */
struct audience {
    int *members;
    int count;
};

static struct audience websockets, event_streams, polls;
static struct audience *audience_of[MAX_DESCRIPTORS];
static int place_of[MAX_DESCRIPTORS];
static char input[BUFFER + 1], frame[MAX_PAYLOAD + 256];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void join(struct audience *audience, int fd)
{
    audience_of[fd] = audience;
    place_of[fd] = audience->count;
    audience->members[audience->count++] = fd;
}

static void leave(int fd)
{
    struct audience *audience = audience_of[fd];
    if (!audience) return;
    int last = audience->members[--audience->count];
    audience->members[place_of[fd]] = last;
    place_of[last] = place_of[fd];
    audience_of[fd] = NULL;
}

static void say(int fd, const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_to(const struct audience *audience, size_t len)
{
    for (int i = 0; i < audience->count; i++) send(audience->members[i], frame, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void publish_websocket(const char *payload, size_t len)
{
    size_t head = 0;
    frame[head++] = (char)0x81;
    if (len < 126) {
        frame[head++] = (char)len;
    } else {
        frame[head++] = 126;
        frame[head++] = (char)(len >> 8);
        frame[head++] = (char)len;
    }
    memcpy(frame + head, payload, len);
    send_to(&websockets, head + len);
}

static void publish_event(const char *payload, size_t len)
{
    memcpy(frame, "data: ", 6);
    memcpy(frame + 6, payload, len);
    memcpy(frame + 6 + len, "\n\n", 2);
    send_to(&event_streams, len + 8);
}

static void answer_polls(const char *payload, size_t len)
{
    size_t head = (size_t)sprintf(frame, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
    memcpy(frame + head, payload, len);
    send_to(&polls, head + len);
    for (int i = 0; i < polls.count; i++) audience_of[polls.members[i]] = NULL;
    polls.count = 0;
}

static void publish(const char *payload, size_t len)
{
    if (websockets.count) publish_websocket(payload, len);
    if (event_streams.count) publish_event(payload, len);
    if (polls.count) answer_polls(payload, len);
}

static void subscribe(int fd, const char *request)
{
    if (!strncmp(request, "GET /poll", 9)) {
        join(&polls, fd);
    } else if (strstr(request, "websocket")) {
        join(&websockets, fd);
        say(fd, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    } else {
        join(&event_streams, fd);
        say(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    }
}

/* Handles one POST at `request`. Returns the bytes after it, or NULL if it is incomplete. */
static char *take_publish(int fd, char *request, char *end)
{
    char *body = strstr(request, "\r\n\r\n"), *length = strcasestr(request, "Content-Length:");
    size_t len = length ? strtoul(length + 15, NULL, 10) : 0;
    if (!body || len > MAX_PAYLOAD) return NULL;
    body += 4;
    if (body + len > end) return NULL;
    publish(body, len);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    return body + len;
}

/* If a publish is incomplete at the end of a read, this waits for the rest: the publisher sends it at once. */
static char *rest_of_publish(int fd, char *request, char **end)
{
    size_t have = (size_t)(*end - request);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, REST_MS) != 1) return NULL;
    memmove(input, request, have);
    ssize_t more = recv(fd, input + have, BUFFER - have, 0);
    if (more <= 0) return NULL;
    *end = input + have + more;
    **end = 0;
    return input;
}

static void readable(int fd)
{
    ssize_t len = recv(fd, input, BUFFER, MSG_DONTWAIT);
    if (len <= 0) {
        leave(fd);
        close(fd);
        return;
    }
    char *request = input, *end = input + len;
    *end = 0;
    while (request < end && !strncmp(request, "POST", 4)) {
        char *next = take_publish(fd, request, end);
        if (!next && !(next = rest_of_publish(fd, request, &end))) return;
        request = next;
    }
    /* Further bytes from a subscriber, such as a pong, are ignored. */
    if (request < end && !strncmp(request, "GET", 3) && !audience_of[fd]) subscribe(fd, request);
}

static void accept_all(int epoll, int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static void set_up(void)
{
    raise_descriptor_limit();
    struct audience *all[] = {&websockets, &event_streams, &polls};
    for (int i = 0; i < 3; i++)
        if (!(all[i]->members = calloc(MAX_DESCRIPTORS, sizeof(int)))) die("memory");
    alarm(LIFETIME_S); /* if its parent is gone */
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "floor PORT\n");
        return 2;
    }
    set_up();
    int listener = listen_on(atoi(argv[1])), epoll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) accept_all(epoll, listener);
            else readable(events[i].data.fd);
        }
    }
}
