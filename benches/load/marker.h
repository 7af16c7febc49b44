/* The mark at the beginning of each payload: "@@", 16 hex digits with the time of publishing in ns, 8 hex digits with
 * the message's number. Subscribers look for it in the bytes as they come, so no server's framing is parsed. */
#ifndef LOAD_MARKER_H
#define LOAD_MARKER_H

#include <stdint.h>
#include <stddef.h>

#define MARKER_LEN 26

struct marker {
    uint64_t published_ns;
    uint32_t seq;
};

/* The last bytes that came on a connection. They may be the first part of a mark. */
struct marker_scan {
    uint8_t held_len;
    char held[MARKER_LEN - 1];
};

typedef void marker_fn(void *subscriber, struct marker marker);

/* Writes MARKER_LEN bytes. */
void marker_write(char *out, struct marker marker);

/* Calls `found` for each mark that these bytes complete. */
void marker_scan(struct marker_scan *scan, const char *data, size_t len, marker_fn *found, void *subscriber);

#endif
