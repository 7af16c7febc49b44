#define _GNU_SOURCE
#include "resp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

void resp_connect(struct resp *r, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    r->len = 0;
    r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    if (r->fd < 0 || connect(r->fd, (struct sockaddr *)&address, sizeof address) < 0) fail(path);
}

void resp_send(struct resp *r, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t sent = send(r->fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) fail("send");
        at += sent;
        len -= (size_t)sent;
    }
}

/* The length of the value at the front of `len` bytes, or 0 if it is not whole. */
static size_t value_len(const char *at, size_t len)
{
    const char *end = memchr(at, '\n', len);
    if (!end) return 0;
    size_t line = (size_t)(end - at) + 1;
    long count = strtol(at + 1, NULL, 10);
    switch (*at) {
    case '$':
    case '=':
    case '!':
        if (count < 0) return line;
        return len >= line + (size_t)count + 2 ? line + (size_t)count + 2 : 0;
    case '%': count *= 2; /* fallthrough */
    case '*':
    case '~':
    case '>':
        for (; count > 0; count--) {
            size_t one = line < len ? value_len(at + line, len - line) : 0;
            if (!one) return 0;
            line += one;
        }
        return line;
    default: return line;
    }
}

size_t resp_answer(struct resp *r)
{
    for (;;) {
        size_t len = r->len ? value_len(r->in, r->len) : 0;
        if (len) return len;
        if (r->len == sizeof r->in) {
            fprintf(stderr, "an answer of more than %zu bytes\n", sizeof r->in);
            exit(1);
        }
        ssize_t got = recv(r->fd, r->in + r->len, sizeof r->in - r->len, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail("the server has closed");
        r->len += (size_t)got;
    }
}

void resp_drop(struct resp *r, size_t len)
{
    r->len -= len;
    memmove(r->in, r->in + len, r->len);
}

bool resp_has(const struct resp *r, size_t len, const char *text)
{
    return memmem(r->in, len, text, strlen(text)) != NULL;
}
