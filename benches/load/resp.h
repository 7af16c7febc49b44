/* As much of Redis' protocol as a bare client needs: it sends requests that are made already, and counts the answers. */
#ifndef LOAD_RESP_H
#define LOAD_RESP_H

#include <stdbool.h>
#include <stddef.h>

struct resp {
    int fd;
    size_t len; /* bytes in `in` */
    char in[1 << 20];
};

/* Connects to the Unix socket of a server. Ends the process with an error if it can't. */
void resp_connect(struct resp *r, const char *path);
void resp_send(struct resp *r, const void *bytes, size_t len);
/* Waits for the next answer. Returns its length; it stands at the front of `in` until resp_drop. */
size_t resp_answer(struct resp *r);
void resp_drop(struct resp *r, size_t len);
/* Whether `text` occurs in the next `len` bytes of `in`. */
bool resp_has(const struct resp *r, size_t len, const char *text);

#endif
