#define _GNU_SOURCE
#include "publisher.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The requests differ only in the mark, so the request is built once. */
static void build_request(struct publisher *publisher)
{
    const struct options *o = publisher->options;
    size_t body = strlen(o->publish_prefix) + o->size + strlen(o->publish_suffix);
    publisher->request = malloc(8192 + body);
    if (!publisher->request) die("memory");
    publisher->prefix_len = (size_t)snprintf(
        publisher->request, 8192 + body,
        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n%sContent-Length: %zu\r\n\r\n%s", o->publish_path,
        o->publish_type, o->publish_headers, body, o->publish_prefix);
    char *payload = publisher->request + publisher->prefix_len;
    memset(payload, 'x', o->size);
    strcpy(payload + o->size, o->publish_suffix);
    publisher->request_len = publisher->prefix_len + o->size + strlen(o->publish_suffix);
}

void publisher_start(struct publisher *publisher, const struct options *options)
{
    int one = 1;
    *publisher = (struct publisher){.options = options};
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)options->publish_port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    publisher->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (publisher->fd < 0 || connect(publisher->fd, (struct sockaddr *)&address, sizeof address)) die("publisher");
    setsockopt(publisher->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    build_request(publisher);
}

/* Sends all the bytes. While the server takes no more, this reads for the swarm: the server may be waiting for that. */
static bool send_all(struct publisher *publisher, struct swarm *swarm)
{
    size_t sent = 0;
    while (sent < publisher->request_len) {
        size_t left = publisher->request_len - sent;
        ssize_t n = send(publisher->fd, publisher->request + sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            swarm_pump(swarm, 1);
            if (now_ns() > swarm->deadline_ns) return false;
        } else {
            die("publish");
        }
    }
    return true;
}

static bool publish(struct publisher *publisher, struct swarm *swarm)
{
    struct marker marker = {.published_ns = now_ns(), .seq = publisher->next++};
    if (!publisher->first_ns) publisher->first_ns = marker.published_ns;
    marker_write(publisher->request + publisher->prefix_len, marker);
    publisher->unanswered++;
    return send_all(publisher, swarm);
}

/* The end of a chunked body, or NULL if it is incomplete. Some servers answer a publish with one. */
static char *chunked_end(char *body)
{
    char *end = strncmp(body, "0\r\n\r\n", 5) ? strstr(body, "\r\n0\r\n\r\n") : body - 2;
    return end ? end + 7 : NULL;
}

/* The end of the first complete answer in the buffer, or NULL. */
static char *answer_end(struct publisher *publisher)
{
    char value[32], *body = strstr(publisher->answers, "\r\n\r\n");
    if (!body) return NULL;
    body += 4;
    if (http_header(publisher->answers, "Transfer-Encoding", value, sizeof value)) return chunked_end(body);
    size_t length = http_header(publisher->answers, "Content-Length", value, sizeof value) ? strtoul(value, NULL, 10) : 0;
    char *end = body + length;
    return end <= publisher->answers + publisher->answers_len ? end : NULL;
}

static void take_answers(struct publisher *publisher)
{
    for (char *end; (end = answer_end(publisher));) {
        int status = http_status(publisher->answers);
        if (status < 200 || status > 299) {
            fprintf(stderr, "pushload: publish answered: %.300s\n", publisher->answers);
            exit(1);
        }
        publisher->answers_len -= (size_t)(end - publisher->answers);
        memmove(publisher->answers, end, publisher->answers_len + 1);
        publisher->unanswered--;
    }
}

void publisher_reap(struct publisher *publisher)
{
    for (;;) {
        size_t room = sizeof publisher->answers - 1 - publisher->answers_len;
        ssize_t n = recv(publisher->fd, publisher->answers + publisher->answers_len, room, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            fprintf(stderr, "pushload: the server closed the publisher's connection\n");
            exit(1);
        }
        publisher->answers_len += (size_t)n;
        publisher->answers[publisher->answers_len] = 0;
        take_answers(publisher);
    }
}

bool publisher_run(struct publisher *publisher, struct swarm *swarm, int messages)
{
    const struct options *o = publisher->options;
    uint64_t start = now_ns();
    for (int sent = 0; sent < messages;) {
        uint64_t now = now_ns(), due = o->rate > 0 ? start + (uint64_t)(sent / o->rate * 1e9) : 0;
        if (now > swarm->deadline_ns) return false;
        if (now >= due && publisher->unanswered < o->window) {
            if (!publish(publisher, swarm)) return false;
            sent++;
            if (o->rate == 0) continue; /* back to back: no pause */
            swarm_pump(swarm, 0);
        } else {
            uint64_t wait_ms = due > now ? (due - now) / NS_PER_MS : 0;
            swarm_pump(swarm, wait_ms > 100 ? 100 : (int)wait_ms);
        }
        publisher_reap(publisher);
    }
    return true;
}
