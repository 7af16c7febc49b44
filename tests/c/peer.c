/* See peer.h. */
#include "peer.h"
#include "check.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct peer peer_of(int fd)
{
    return (struct peer){.fd = fd};
}

void unix_pair(struct peer *client, int *accepted)
{
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    *client = peer_of(fds[0]);
    *accepted = fds[1];
}

void tcp_pair(struct peer *client, int *accepted)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *client = peer_of(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    REQUIRE(connect(client->fd, (struct sockaddr *)&address, len) == 0);
    *accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    REQUIRE(*accepted >= 0);
    close(listener);
}

static int dial_to(const struct sockaddr *address, socklen_t len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, address, len) == 0) return fd;
    int saved = errno;
    if (fd >= 0) close(fd);
    errno = saved;
    return -1;
}

int dial(const char *address)
{
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un path = {.sun_family = AF_UNIX};
        snprintf(path.sun_path, sizeof path.sun_path, "%s", address + 5);
        return dial_to((struct sockaddr *)&path, sizeof path);
    }
    const char *port = strrchr(address, ':');
    REQUIRE(port != NULL);
    struct sockaddr_in ip = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(port + 1)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return dial_to((struct sockaddr *)&ip, sizeof ip);
}

void free_address(char *address, size_t size)
{
    static int count;
    int first = 10000, last = 31999;
    const char *chosen = getenv("TEST_PORTS");
    if (chosen) REQUIRE(sscanf(chosen, "%d-%d", &first, &last) == 2 && first > 0 && last >= first && last < 65536);
    for (int tries = 0; tries <= last - first; tries++) {
        int port = first + (getpid() * 31 + count++) % (last - first + 1), on = 1;
        struct sockaddr_in ip = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
        bool is_free = bind(fd, (struct sockaddr *)&ip, sizeof ip) == 0;
        close(fd);
        snprintf(address, size, "127.0.0.1:%d", port);
        if (is_free) return;
    }
    REQUIRE(!"no port is free");
}

void peer_close(struct peer *peer)
{
    if (peer->fd >= 0) close(peer->fd);
    free(peer->data);
    *peer = peer_of(-1);
}

void peer_reset(struct peer *peer)
{
    struct linger linger = {1, 0};
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    peer_close(peer);
}

bool peer_send(struct peer *peer, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t sent = send(peer->fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

bool peer_print(struct peer *peer, const char *format, ...)
{
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    REQUIRE(len >= 0 && (size_t)len < sizeof text);
    return peer_send(peer, text, (size_t)len);
}

bool peer_fill(struct peer *peer, int timeout_ms)
{
    struct pollfd ready = {peer->fd, POLLIN, 0};
    if (peer->ended || poll(&ready, 1, timeout_ms < 0 ? 0 : timeout_ms) <= 0) return false;
    if (peer->size - peer->len < 65536 + 1) {
        peer->size = peer->size * 2 + 65536 + 1;
        peer->data = realloc(peer->data, peer->size);
        REQUIRE(peer->data != NULL);
    }
    ssize_t got = recv(peer->fd, peer->data + peer->len, 65536, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    peer->ended = got <= 0;
    peer->len += got > 0 ? (size_t)got : 0;
    peer->data[peer->len] = 0;
    return got > 0;
}

static const char *find(const struct peer *peer, const char *text)
{
    return peer->len ? memmem(peer->data, peer->len, text, strlen(text)) : NULL;
}

bool peer_expect(struct peer *peer, const char *text)
{
    int64_t until = now_ms() + PATIENCE_MS;
    while (!find(peer, text)) {
        if (!peer_fill(peer, (int)(until - now_ms())) && (peer->ended || now_ms() >= until)) return false;
    }
    return true;
}

bool peer_read_to_end(struct peer *peer, int timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    while (!peer->ended && now_ms() <= until) peer_fill(peer, (int)(until - now_ms()));
    return peer->ended;
}

int peer_count(const struct peer *peer, const char *text)
{
    int count = 0;
    size_t step = strlen(text);
    for (size_t at = 0; at < peer->len;) {
        const char *found = memmem(peer->data + at, peer->len - at, text, step);
        if (!found) break;
        at = (size_t)(found - peer->data) + step;
        count++;
    }
    return count;
}

void peer_consume(struct peer *peer, size_t len)
{
    peer->len -= len;
    memmove(peer->data, peer->data + len, peer->len);
    peer->data[peer->len] = 0;
}

bool peer_skip_past(struct peer *peer, const char *text)
{
    if (!peer_expect(peer, text)) return false;
    peer_consume(peer, (size_t)(find(peer, text) - peer->data) + strlen(text));
    return true;
}

bool peer_get(struct peer *peer, const char *query, const char *lines)
{
    return peer_print(peer, "GET /push?%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, lines);
}
