/* The HTTP/1 that legacy-server.c speaks for itself: buffers, request heads, queries, answers, files.
 * This code knows no sockets and nothing of libpush. */
#ifndef LEGACY_HTTP_H
#define LEGACY_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    HTTP_HEAD_MAX = 16 << 10,
    HTTP_MORE = -1 /* http_parse: the head is not all there yet */
};

/* Bytes come in at the end and go out at the front. A buffer starts zeroed. An empty one holds little memory. */
struct buffer {
    char *memory;
    size_t start, len, size;
};

/* False: out of memory. */
bool buffer_reserve(struct buffer *buffer, size_t room);
bool buffer_append(struct buffer *buffer, const void *bytes, size_t len);
void buffer_consume(struct buffer *buffer, size_t len);
void buffer_free(struct buffer *buffer);
static inline char *buffer_front(struct buffer *buffer) { return buffer->memory + buffer->start; }
static inline char *buffer_end(struct buffer *buffer) { return buffer_front(buffer) + buffer->len; }
static inline size_t buffer_room(const struct buffer *buffer) { return buffer->size - buffer->start - buffer->len; }

/* A piece of the request, not ending in NUL, valid while the request is. */
struct slice {
    const char *at;
    size_t len;
};

bool slice_is(struct slice slice, const char *text);

struct http_request {
    struct slice method, path, query; /* path and query as sent, not decoded */
    size_t head_len;                  /* with the empty line */
    size_t content_length;
    int minor; /* HTTP/1.0 or 1.1 */
    bool keep_alive;
    bool expects_continue;
};

/* Reads the head at the front of `bytes`. Returns 0 if `request` has it, HTTP_MORE, or the status to refuse it with. */
int http_parse(const char *bytes, size_t len, struct http_request *request);

/* Decodes the first parameter of that name into `out`. Returns 1 if it did, 0 if there is none, and -1 if it is
 * malformed or longer than `size` allows. */
int http_parameter(struct slice query, const char *name, char *out, size_t size);

struct http_answer {
    int status;
    const char *type;
    const char *headers; /* further ones, each ending in CRLF, or NULL */
    const void *body;    /* NULL: the caller sends the `len` bytes itself */
    size_t len;
};

/* Writes an answer to the request. False: out of memory. */
bool http_answer(struct buffer *out, const struct http_request *request, const struct http_answer *answer);

/* The same with a body of {"error":"message"}.  `message` needs no escaping in JSON; NULL: the status in words. */
bool http_error(struct buffer *out, const struct http_request *request, int status, const char *headers,
                const char *message);

/* Reads a number of an argument, from 0 to `max`. As in the library's options, it has digits only, and no 0 before it.
 * Then it can't be taken for another one: strtol would read "+80", " 080" and the first digits of 4294967376. */
bool read_number(const char *text, long max, long *number);

/* Opens the file that `path` names below the directory `root`. -1: there is no such file that may be served. */
int http_open(int root, struct slice path, off_t *size, const char **type);

#endif
