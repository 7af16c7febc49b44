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
    *swarm = (struct swarm){.options = options, .deadline_ns = deadline_ns, .per_address = PER_ADDRESS};
    needle_set(&swarm->needle, options->told);
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

static void bind_source(int fd, uint32_t address)
{
    int late = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + address);
    if (bind(fd, (struct sockaddr *)&source, sizeof source)) die("bind");
}

static void prepare(const struct swarm *swarm, struct subscriber *subscriber)
{
    if (!swarm->options->tls) return;
    if (!subscriber->secure) subscriber->secure = secure_new();
    secure_prepare(subscriber->secure);
}

static void subscriber_connect(struct swarm *swarm, struct subscriber *subscriber)
{
    prepare(swarm, subscriber);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (swarm->options->segment) limit_segment(fd, swarm->options->segment);
    if (subscriber->slow) make_slow(fd);
    bind_source(fd, (uint32_t)((subscriber - swarm->subscribers) / swarm->per_address));
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

int swarm_retry(struct swarm *swarm)
{
    int failed = swarm->failed;
    swarm->failed = 0;
    for (int i = 0; i < swarm->started; i++)
        if (swarm->subscribers[i].state == SUBSCRIBER_ENDED) subscriber_connect(swarm, &swarm->subscribers[i]);
    while (!settled(swarm, 0)) swarm_pump(swarm, 10);
    return failed;
}

void swarm_prepare(struct swarm *swarm)
{
    for (int i = 0; i < swarm->options->subscribers; i++) prepare(swarm, &swarm->subscribers[i]);
}

static void forget_connection(struct subscriber *subscriber)
{
    if (subscriber->secure) secure_end(subscriber->secure);
    close(subscriber->fd);
    subscriber->fd = -1;
    subscriber->state = SUBSCRIBER_ENDED;
}

void subscriber_end(struct swarm *swarm, struct subscriber *subscriber)
{
    if (subscriber->state == SUBSCRIBER_OPEN) swarm->ended_early++;
    else swarm->failed++;
    forget_connection(subscriber);
}

/* Closes with a reset, so that no TIME_WAIT stays behind and disturbs the next run. */
static void hang_up(struct subscriber *subscriber)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    if (subscriber->fd < 0) return;
    setsockopt(subscriber->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    forget_connection(subscriber);
}

static ssize_t give(struct subscriber *subscriber, const char *data, size_t len)
{
    if (subscriber->secure) return secure_send(subscriber->secure, data, len);
    return send(subscriber->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t take(struct subscriber *subscriber, char *data, size_t size)
{
    if (subscriber->secure) return secure_recv(subscriber->secure, data, size);
    return recv(subscriber->fd, data, size, MSG_DONTWAIT);
}

static bool is_one_of_some(const struct swarm *swarm, const struct subscriber *subscriber)
{
    return swarm->options->some && (subscriber - swarm->subscribers) % swarm->options->some == 0;
}

static int stream_request(const struct options *options, const char *path, char *out, size_t size)
{
    /* The key of RFC 6455's example. Its answer is a constant. */
    static const char *wanted[] = {
        [TRANSPORT_WS] = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        [TRANSPORT_SSE] = "Accept: text/event-stream\r\n",
        [TRANSPORT_STREAM] = "Accept: application/x-ndjson\r\n",
    };
    return snprintf(out, size, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", path, wanted[options->transport],
                    options->headers);
}

void subscriber_send_request(struct swarm *swarm, struct subscriber *subscriber)
{
    char request[4096];
    const char *path = is_one_of_some(swarm, subscriber) ? swarm->options->some_path : swarm->options->path;
    int len = swarm->options->transport == TRANSPORT_POLL
                  ? long_poll_request(swarm->options, subscriber->cursor, request, sizeof request)
                  : stream_request(swarm->options, path, request, sizeof request);
    if (len >= (int)sizeof request || give(subscriber, request, (size_t)len) != len)
        subscriber_end(swarm, subscriber);
}

static bool waits_to_be_told(const struct swarm *swarm, const struct subscriber *subscriber)
{
    return swarm->needle.len && (!swarm->options->some || is_one_of_some(swarm, subscriber));
}

static void opened(struct swarm *swarm, struct subscriber *subscriber)
{
    subscriber->state = SUBSCRIBER_OPEN;
    swarm->open++;
    swarm->to_tell += waits_to_be_told(swarm, subscriber);
}

static void readable(struct swarm *swarm, struct subscriber *subscriber);

static void subscribe(struct swarm *swarm, struct subscriber *subscriber)
{
    subscriber->state = SUBSCRIBER_HANDSHAKE;
    subscriber_send_request(swarm, subscriber);
    /* A poll that waits gets no answer, so its request is the whole handshake. */
    if (subscriber->state == SUBSCRIBER_HANDSHAKE && swarm->options->transport == TRANSPORT_POLL)
        opened(swarm, subscriber);
}

/* The handshake of TLS is done. */
static void secured(struct swarm *swarm, struct subscriber *subscriber)
{
    if (secure_resumed(subscriber->secure)) swarm->resumed++;
    if (swarm->options->handshakes) subscriber->state = SUBSCRIBER_SETTLING;
    else subscribe(swarm, subscriber);
    /* Tickets may have come with its end. */
    if (subscriber->state != SUBSCRIBER_ENDED) readable(swarm, subscriber);
}

static void shake_hands(struct swarm *swarm, struct subscriber *subscriber)
{
    enum secure_progress progress = secure_handshake(subscriber->secure);
    if (progress == SECURE_DONE) secured(swarm, subscriber);
    else if (progress == SECURE_FAILED) subscriber_end(swarm, subscriber);
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
    if (!subscriber->secure) {
        subscribe(swarm, subscriber);
        return;
    }
    subscriber->state = SUBSCRIBER_SECURING;
    if (!secure_begin(subscriber->secure, subscriber->fd)) subscriber_end(swarm, subscriber);
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
    if (give(subscriber, pong, len + 4) < 0) return; /* the next read sees the error */
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

static void look_whether_told(struct swarm *swarm, struct subscriber *subscriber, const char *data, size_t len)
{
    if (subscriber->told == swarm->needle.len || !waits_to_be_told(swarm, subscriber)) return;
    swarm->told += needle_find(&swarm->needle, &subscriber->told, data, len);
}

static void received(struct swarm *swarm, struct subscriber *subscriber, char *data, size_t len)
{
    char *rest = data;
    if (subscriber->state == SUBSCRIBER_HANDSHAKE && !(rest = handshake(swarm, subscriber, data))) return;
    len -= (size_t)(rest - data);
    swarm->bytes += len;
    if (swarm->options->transport == TRANSPORT_POLL) {
        long_poll_feed(swarm, subscriber, rest, len);
        return;
    }
    if (swarm->options->transport == TRANSPORT_WS) answer_ping(subscriber, rest, len);
    look_whether_told(swarm, subscriber, rest, len);
    subscriber_feed(swarm, subscriber, rest, len);
}

/* All that this subscriber is for is done. */
static void settle(struct swarm *swarm, struct subscriber *subscriber)
{
    if (!secure_settled(subscriber->secure)) return;
    swarm->open++;
    hang_up(subscriber);
}

static void readable(struct swarm *swarm, struct subscriber *subscriber)
{
    static char data[READ_SIZE + 1];
    ssize_t len;
    do {
        len = take(subscriber, data, READ_SIZE);
        if (len < 0 && errno == EAGAIN) {
            if (subscriber->state == SUBSCRIBER_SETTLING) settle(swarm, subscriber);
            return;
        }
        /* Nothing was asked for yet in SETTLING. */
        if (len <= 0 || subscriber->state == SUBSCRIBER_SETTLING) {
            subscriber_end(swarm, subscriber);
            return;
        }
        data[len] = 0;
        received(swarm, subscriber, data, (size_t)len);
    } while (subscriber->state == SUBSCRIBER_OPEN &&
             (subscriber->secure ? secure_has_more(subscriber->secure) : len == READ_SIZE));
}

void swarm_pump(struct swarm *swarm, int wait_ms)
{
    static struct epoll_event events[EVENTS];
    int count = epoll_wait(swarm->epoll, events, EVENTS, wait_ms);
    for (int i = 0; i < count; i++) {
        struct subscriber *subscriber = events[i].data.ptr;
        if (subscriber->state == SUBSCRIBER_CONNECTING) connected(swarm, subscriber);
        else if (subscriber->state == SUBSCRIBER_SECURING) shake_hands(swarm, subscriber);
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

void swarm_cut(struct swarm *swarm)
{
    for (int i = 0; i < swarm->started; i++) {
        struct subscriber *subscriber = &swarm->subscribers[i];
        if (subscriber->state == SUBSCRIBER_NONE) continue;
        hang_up(subscriber);
        subscriber->state = SUBSCRIBER_NONE;
        subscriber->next = 0;
        subscriber->scan.held_len = 0;
    }
    swarm->started = swarm->open = swarm->failed = swarm->resumed = 0;
}

void swarm_stop(struct swarm *swarm)
{
    swarm_cut(swarm);
}
