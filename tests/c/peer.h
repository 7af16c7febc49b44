/* The client's end of a connection: raw bytes, HTTP and WebSocket frames as a client writes and reads them.
 * No function here waits longer than it is told to. */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include "check.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer {
    int fd;
    char *data; /* bytes that were read and not consumed; a NUL follows at `len` */
    size_t len, size;
    bool ended; /* no more bytes come */
};

/* Both ends of a connection: the client's, and the one that a host would have accepted. */
void unix_pair(struct peer *client, int *accepted);
void tcp_pair(struct peer *client, int *accepted);
/* Connects to "127.0.0.1:8090" or "unix:/path". Returns -1 if nothing listens there. */
int dial(const char *address);
/* Writes "127.0.0.1:PORT" with a port that is free at this moment. It is not one of those that the system gives to
 * clients: some client could have it while a test's server is away. TEST_PORTS=FIRST-LAST chooses others. */
void free_address(char *address, size_t size);
struct peer peer_of(int fd);
void peer_close(struct peer *peer);
/* Closes so that the other end gets a reset. */
void peer_reset(struct peer *peer);

bool peer_send(struct peer *peer, const void *bytes, size_t len);
bool peer_print(struct peer *peer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads once. False: nothing came in that time, or the connection ended. */
bool peer_fill(struct peer *peer, int timeout_ms);
/* Reads until `text` has come. */
bool peer_expect(struct peer *peer, const char *text);
/* Reads until the other end closes. */
bool peer_read_to_end(struct peer *peer, int timeout_ms);
/* The number of times that `text` has come. */
int peer_count(const struct peer *peer, const char *text);
void peer_consume(struct peer *peer, size_t len);
/* Consumes everything up to and with `text`, reading until it comes. */
bool peer_skip_past(struct peer *peer, const char *text);

/* "GET /push?query" with Host and `lines`. Each line ends in CRLF. */
bool peer_get(struct peer *peer, const char *query, const char *lines);

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
struct frame {
    int opcode;
    uint16_t code; /* of a close */
    size_t len;
    char *data; /* in the peer's memory, ending in NUL; valid until the next read */
};
/* The request of a WebSocket. */
void ws_request(char *text, size_t size, const char *query, const char *lines);
/* Sends it and reads the answer, which must be 101. */
bool ws_open(struct peer *peer, const char *query, const char *lines);
bool ws_send(struct peer *peer, int opcode, const void *data, size_t len);
/* The next frame. False: none came in that time. */
bool ws_next(struct peer *peer, struct frame *frame, int timeout_ms);
/* Whether the next frame is this text. */
bool ws_expect(struct peer *peer, const char *text);
/* Reads frames up to a close and answers it. Returns its code, or 0 if none came. */
int ws_close_code(struct peer *peer);

#endif
