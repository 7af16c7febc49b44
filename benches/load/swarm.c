#define _GNU_SOURCE
#include "swarm.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

/* After some ten thousand connections from one address to one port, finding a free port takes longer than the rest of
 * connecting. So the subscribers come in groups from different addresses of the loopback network. */
enum { PER_ADDRESS = 4000, SLOW_SEGMENT = 536, READ_SIZE = 256 << 10, EVENTS = 1024 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

void swarm_start(struct swarm *swarm, const struct options *options, uint64_t deadline_ns)
{
    *swarm = (struct swarm){.options = options, .deadline_ns = deadline_ns};
    swarm->subscribers = calloc((size_t)options->subscribers, sizeof *swarm->subscribers);
    swarm->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!swarm->subscribers || swarm->epoll < 0) die("swarm");
}

/* The kernel sizes the server's send buffer by the segment size that the client announces; on loopback it holds
 * megabytes. With small segments the server has to keep what its subscribers have not read yet, as over a real
 * network. */
static void limit_segment(int fd, int segment)
{
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
}

static void make_slow(int fd)
{
    int window = 1; /* the kernel raises it to its minimum */
    limit_segment(fd, SLOW_SEGMENT);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
}

static void bind_source(int fd, int number)
{
    int late = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(number / PER_ADDRESS));
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) die("bind");
}

static void subscriber_connect(struct swarm *swarm, struct subscriber *subscriber)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (swarm->options->segment) limit_segment(fd, swarm->options->segment);
    if (subscriber->slow) make_slow(fd);
    bind_source(fd, (int)(subscriber - swarm->subscribers));
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)swarm->options->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    subscriber->fd = fd;
    subscriber->state = SUBSCRIBER_CONNECTING;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLIN, .data.ptr = subscriber};
    if (epoll_ctl(swarm->epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static bool settled(const struct swarm *swarm, int under_way)
{
    return swarm->started - swarm->open - swarm->failed <= under_way || now_ns() > swarm->deadline_ns;
}

void swarm_connect(struct swarm *swarm, int count)
{
    while (swarm->started < count && now_ns() < swarm->deadline_ns) {
        struct subscriber *subscriber = &swarm->subscribers[swarm->started];
        subscriber->slow = swarm->started < swarm->options->slow;
        if (swarm->options->transport == TRANSPORT_POLL && !(subscriber->cursor = calloc(1, sizeof *subscriber->cursor)))
            die("memory");
        subscriber_connect(swarm, subscriber);
        swarm->started++;
        if (swarm->started % 64 == 0) swarm_pump(swarm, 0);
        while (!settled(swarm, swarm->options->ramp)) swarm_pump(swarm, 10);
    }
    while (!settled(swarm, 0)) swarm_pump(swarm, 10);
}

void subscriber_end(struct swarm *swarm, struct subscriber *subscriber)
{
    if (subscriber->state == SUBSCRIBER_OPEN) swarm->ended_early++;
    else swarm->failed++;
    close(subscriber->fd);
    subscriber->fd = -1;
    subscriber->state = SUBSCRIBER_ENDED;
}

static int stream_request(const struct options *options, char *out, size_t size)
{
    /* The key of RFC 6455's example. Its answer is a constant. */
    static const char *wanted[] = {
        [TRANSPORT_WS] = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        [TRANSPORT_SSE] = "Accept: text/event-stream\r\n",
        [TRANSPORT_STREAM] = "Accept: application/x-ndjson\r\n",
    };
    return snprintf(out, size, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", options->path, wanted[options->transport],
                    options->headers);
}

void subscriber_send_request(struct swarm *swarm, struct subscriber *subscriber)
{
    char request[4096];
    int len = swarm->options->transport == TRANSPORT_POLL
                  ? long_poll_request(swarm->options, subscriber->cursor, request, sizeof request)
                  : stream_request(swarm->options, request, sizeof request);
    if (len >= (int)sizeof request || send(subscriber->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        subscriber_end(swarm, subscriber);
}

static void opened(struct swarm *swarm, struct subscriber *subscriber)
{
    subscriber->state = SUBSCRIBER_OPEN;
    swarm->open++;
}

static void connected(struct swarm *swarm, struct subscriber *subscriber)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(subscriber->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        subscriber_end(swarm, subscriber);
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = subscriber};
    epoll_ctl(swarm->epoll, EPOLL_CTL_MOD, subscriber->fd, &event);
    subscriber->state = SUBSCRIBER_HANDSHAKE;
    subscriber_send_request(swarm, subscriber);
    /* A poll that waits gets no answer, so its request is the whole handshake. */
    if (subscriber->state == SUBSCRIBER_HANDSHAKE && swarm->options->transport == TRANSPORT_POLL)
        opened(swarm, subscriber);
}

/* The answer's head comes in one piece, since it is the server's first write on the connection. Returns the bytes after
 * it. */
static char *handshake(struct swarm *swarm, struct subscriber *subscriber, char *data)
{
    char *end = strstr(data, "\r\n\r\n");
    int wanted = swarm->options->transport == TRANSPORT_WS ? 101 : 200;
    if (!end || http_status(data) != wanted) {
        if (swarm->failed < 3) fprintf(stderr, "pushload: handshake answered: %.200s\n", data);
        subscriber_end(swarm, subscriber);
        return NULL;
    }
    opened(swarm, subscriber);
    return end + 4;
}

/* Answers a ping. Frames are not parsed, so only a ping that comes alone is seen, as pings do. The masking key is 0. */
static void answer_ping(struct subscriber *subscriber, const char *data, size_t len)
{
    char pong[6 + 125] = {(char)0x8a};
    if (len < 2 || (unsigned char)data[0] != 0x89 || (size_t)data[1] != len - 2 || len - 2 > 125) return;
    pong[1] = (char)(0x80 | data[1]);
    memcpy(pong + 6, data + 2, len - 2);
    if (send(subscriber->fd, pong, len + 4, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return; /* the next read sees the error */
}

struct arrival {
    struct swarm *swarm;
    struct subscriber *subscriber;
    uint64_t at_ns;
};

static void delivered(void *context, struct marker marker)
{
    struct arrival *arrival = context;
    tally_add(arrival->swarm->tally, &arrival->subscriber->next, marker.seq, marker.published_ns, arrival->at_ns);
}

void subscriber_feed(struct swarm *swarm, struct subscriber *subscriber, const char *data, size_t len)
{
    struct arrival arrival = {swarm, subscriber, now_ns()};
    marker_scan(&subscriber->scan, data, len, delivered, &arrival);
}

static void received(struct swarm *swarm, struct subscriber *subscriber, char *data, size_t len)
{
    char *rest = data;
    if (subscriber->state == SUBSCRIBER_HANDSHAKE && !(rest = handshake(swarm, subscriber, data))) return;
    len -= (size_t)(rest - data);
    if (swarm->options->transport == TRANSPORT_POLL) {
        long_poll_feed(swarm, subscriber, rest, len);
        return;
    }
    if (swarm->options->transport == TRANSPORT_WS) answer_ping(subscriber, rest, len);
    subscriber_feed(swarm, subscriber, rest, len);
}

static void readable(struct swarm *swarm, struct subscriber *subscriber)
{
    static char data[READ_SIZE + 1];
    ssize_t len;
    do {
        len = recv(subscriber->fd, data, READ_SIZE, MSG_DONTWAIT);
        if (len < 0 && errno == EAGAIN) return;
        if (len <= 0) {
            subscriber_end(swarm, subscriber);
            return;
        }
        data[len] = 0;
        received(swarm, subscriber, data, (size_t)len);
    } while (len == READ_SIZE && subscriber->state == SUBSCRIBER_OPEN);
}

void swarm_pump(struct swarm *swarm, int wait_ms)
{
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(swarm->epoll, events, EVENTS, wait_ms);
    for (int i = 0; i < count; i++) {
        struct subscriber *subscriber = events[i].data.ptr;
        if (subscriber->state == SUBSCRIBER_CONNECTING) connected(swarm, subscriber);
        else if (subscriber->state != SUBSCRIBER_ENDED) readable(swarm, subscriber);
    }
}

void swarm_pump_for(struct swarm *swarm, int ms)
{
    uint64_t end = now_ns() + (uint64_t)ms * NS_PER_MS;
    while (now_ns() < end && now_ns() < swarm->deadline_ns) swarm_pump(swarm, 5);
}

void swarm_slow_down(struct swarm *swarm)
{
    for (int i = 0; i < swarm->started; i++)
        if (swarm->subscribers[i].slow && swarm->subscribers[i].fd >= 0)
            epoll_ctl(swarm->epoll, EPOLL_CTL_DEL, swarm->subscribers[i].fd, NULL);
}

void swarm_stop(struct swarm *swarm)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < swarm->started; i++) {
        struct subscriber *subscriber = &swarm->subscribers[i];
        if (subscriber->fd < 0) continue;
        setsockopt(subscriber->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(subscriber->fd);
    }
}
