/* Long-polling on a kept connection: request, answer, next request. It supports two kinds of cursor: libpush's
 * Push-Position, and Nchan's validators. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swarm.h"

enum { MAX_HEAD = 4096 };

int long_poll_request(const struct options *options, const struct poll_cursor *cursor, char *out, size_t size)
{
    char since[128] = "", etag[96] = "", modified[96] = "";
    if (cursor->position[0])
        snprintf(since, sizeof since, "%csince=%s", strchr(options->path, '?') ? '&' : '?', cursor->position);
    if (cursor->etag[0]) snprintf(etag, sizeof etag, "If-None-Match: %s\r\n", cursor->etag);
    if (cursor->modified[0]) snprintf(modified, sizeof modified, "If-Modified-Since: %s\r\n", cursor->modified);
    return snprintf(out, size, "GET %s%s HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n", options->path, since,
                    options->headers, etag, modified);
}

/* Reads a head: the cursor, and the length of the body. False if the answer is an error. */
static bool read_head(struct poll_cursor *cursor, const char *head)
{
    char length[32], value[96];
    if (http_status(head) >= 400) {
        fprintf(stderr, "pushload: poll answered: %.200s\n", head);
        return false;
    }
    if (http_header(head, "Push-Position", value, sizeof cursor->position)) strcpy(cursor->position, value);
    if (http_header(head, "Etag", value, sizeof cursor->etag)) strcpy(cursor->etag, value);
    if (http_header(head, "Last-Modified", value, sizeof cursor->modified)) strcpy(cursor->modified, value);
    cursor->body_left = http_header(head, "Content-Length", length, sizeof length) ? (uint32_t)strtoul(length, NULL, 10) : 0;
    return true;
}

/* Reads a head that is complete in `data`. Returns its length, or -1 if the answer is an error. */
static long whole_head(struct poll_cursor *cursor, char *data, char *end)
{
    char after = end[4];
    end[4] = 0;
    bool good = read_head(cursor, data);
    end[4] = after;
    return good ? end + 4 - data : -1;
}

/* Reads a head. Pieces of one are kept until it is complete. Returns the number of bytes of `data` that it
 * took, or -1 to stop. `data` ends in NUL. */
static long take_head(struct poll_cursor *cursor, char *data, size_t len)
{
    char *end = cursor->head_len ? NULL : strstr(data, "\r\n\r\n");
    if (end) return whole_head(cursor, data, end);

    uint32_t before = cursor->head_len;
    size_t take = len < MAX_HEAD - before ? len : MAX_HEAD - before;
    char *head = realloc(cursor->head, MAX_HEAD + 1);
    if (!head || take == 0) return -1;
    memcpy(head + before, data, take);
    head[before + take] = 0;
    cursor->head = head;
    cursor->head_len = before + (uint32_t)take;
    if (!(end = strstr(head, "\r\n\r\n"))) return (long)take;

    long used = whole_head(cursor, head, end);
    cursor->head_len = 0;
    return used < 0 ? -1 : used - (long)before;
}

void long_poll_feed(struct swarm *swarm, struct subscriber *subscriber, char *data, size_t len)
{
    struct poll_cursor *cursor = subscriber->cursor;
    while (len > 0 && subscriber->state == SUBSCRIBER_OPEN) {
        size_t used;
        if (cursor->body_left == 0) {
            long head = take_head(cursor, data, len);
            if (head < 0) {
                subscriber_end(swarm, subscriber);
                return;
            }
            used = (size_t)head;
            if (cursor->head_len) return; /* the head goes on in the next read */
        } else {
            used = len < cursor->body_left ? len : cursor->body_left;
            subscriber_feed(swarm, subscriber, data, used);
            cursor->body_left -= (uint32_t)used;
        }
        data += used;
        len -= used;
        if (cursor->body_left == 0) {
            subscriber->scan.held_len = 0;
            subscriber_send_request(swarm, subscriber);
        }
    }
}
