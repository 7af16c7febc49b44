/* A text that is looked for in bytes that come in pieces, for each of many subscribers. */
#ifndef LOAD_NEEDLE_H
#define LOAD_NEEDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_NEEDLE = 64 };

struct needle {
    const char *text;
    uint8_t len;  /* 0: nothing is looked for */
    /* Where to go on if a byte does not fit after so many that did: the length of the longest end of these with which
     * the text begins. */
    uint8_t back[MAX_NEEDLE + 1];
};

/* `text` stays the caller's. It has at most MAX_NEEDLE bytes. */
void needle_set(struct needle *needle, const char *text);

/* Looks on. `*at` is the number of bytes of the text that came last, at first 0. Once the text has come, this returns
 * true, and `*at` is its length. */
bool needle_find(const struct needle *needle, uint8_t *at, const char *data, size_t len);

#endif
