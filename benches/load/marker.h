/* The mark that each payload begins with: "@@", 16 hex digits of the time of publishing in ns, 8 hex digits of the
 * message's number. Subscribers look for it in the bytes as they come, so no server's framing has to be understood. */
#ifndef LOAD_MARKER_H
#define LOAD_MARKER_H

#include <stdint.h>
#include <stddef.h>

#define MARKER_LEN 26

struct marker {
    uint64_t published_ns;
    uint32_t seq;
};

/* The end of what one connection has sent so far, where a mark may have been cut in two. */
struct marker_scan {
    uint8_t held_len;
    char held[MARKER_LEN - 1];
};

typedef void marker_fn(void *subscriber, struct marker marker);

/* Writes MARKER_LEN bytes. */
void marker_write(char *out, struct marker marker);

/* Calls `found` for each mark that is complete with these bytes. */
void marker_scan(struct marker_scan *scan, const char *data, size_t len, marker_fn *found, void *subscriber);

#endif
