#include "marker.h"

#include <stdio.h>
#include <string.h>

void marker_write(char *out, struct marker marker)
{
    char text[MARKER_LEN + 1];
    snprintf(text, sizeof text, "@@%016llx%08x", (unsigned long long)marker.published_ns, marker.seq);
    memcpy(out, text, MARKER_LEN);
}

static int hex(const char *p, int digits, uint64_t *out)
{
    uint64_t value = 0;
    for (int i = 0; i < digits; i++) {
        int digit;
        if (p[i] >= '0' && p[i] <= '9') digit = p[i] - '0';
        else if (p[i] >= 'a' && p[i] <= 'f') digit = p[i] - 'a' + 10;
        else return 0;
        value = value << 4 | (uint64_t)digit;
    }
    *out = value;
    return 1;
}

/* A single '@' also occurs in frame headers (a length of 64), so the bytes after it decide. */
static int read_mark(const char *p, struct marker *marker)
{
    uint64_t seq;
    if (p[0] != '@' || p[1] != '@' || !hex(p + 2, 16, &marker->published_ns) || !hex(p + 18, 8, &seq)) return 0;
    marker->seq = (uint32_t)seq;
    return 1;
}

static void hold(struct marker_scan *scan, const char *data, size_t len)
{
    memcpy(scan->held, data, len);
    scan->held_len = (uint8_t)len;
}

/* Looks for a mark that began in the held bytes. Returns the number of new bytes that it used, or -1 if they are too
 * few to decide. */
static int join(struct marker_scan *scan, const char *data, size_t len, marker_fn *found, void *subscriber)
{
    char joined[2 * MARKER_LEN];
    size_t held = scan->held_len, take = len < MARKER_LEN ? len : MARKER_LEN, total = held + take;
    struct marker marker;

    memcpy(joined, scan->held, held);
    memcpy(joined + held, data, take);
    scan->held_len = 0;
    for (size_t i = 0; i < held; i++) {
        if (joined[i] != '@') continue;
        if (total - i < MARKER_LEN) {
            hold(scan, joined + i, total - i);
            return -1;
        }
        if (read_mark(joined + i, &marker)) {
            found(subscriber, marker);
            return (int)(i + MARKER_LEN - held);
        }
    }
    return 0;
}

void marker_scan(struct marker_scan *scan, const char *data, size_t len, marker_fn *found, void *subscriber)
{
    const char *p = data, *end = data + len;
    struct marker marker;

    if (scan->held_len) {
        int used = join(scan, data, len, found, subscriber);
        if (used < 0) return;
        p += used;
    }
    while (p < end && (p = memchr(p, '@', (size_t)(end - p)))) {
        if (end - p < MARKER_LEN) {
            hold(scan, p, (size_t)(end - p));
            return;
        }
        if (read_mark(p, &marker)) {
            found(subscriber, marker);
            p += MARKER_LEN;
        } else {
            p++;
        }
    }
}
