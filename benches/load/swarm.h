/* The subscribers: thousands of connections on one epoll, in one thread. So the load uses only its own CPU, and leaves
 * the others to the server. */
#ifndef LOAD_SWARM_H
#define LOAD_SWARM_H

#include <stdbool.h>
#include <stdint.h>

#include "marker.h"
#include "needle.h"
#include "options.h"
#include "secure.h"
#include "tally.h"

enum subscriber_state {
    SUBSCRIBER_NONE,
    SUBSCRIBER_CONNECTING,
    SUBSCRIBER_SECURING,   /* the handshake of TLS */
    SUBSCRIBER_SETTLING,   /* after it, if that is all: tickets come */
    SUBSCRIBER_HANDSHAKE,
    SUBSCRIBER_OPEN,
    SUBSCRIBER_ENDED,
};

/* The cursor of a long-poll: the position from the last answer, in the form of the server. */
struct poll_cursor {
    char position[96];  /* libpush: Push-Position, sent back as since= */
    char etag[64];      /* Nchan: the pair of validators */
    char modified[48];
    char *head;         /* the part that came of an answer's head */
    uint32_t head_len;
    uint32_t body_left;
};

struct subscriber {
    int fd;
    uint8_t state;
    bool slow;
    uint8_t told;   /* see needle_find */
    uint32_t next;  /* the number it expects */
    struct marker_scan scan;
    struct poll_cursor *cursor;
    struct secure *secure;  /* NULL: without TLS */
};

struct swarm {
    const struct options *options;
    struct subscriber *subscribers;
    struct tally *tally;  /* where deliveries are counted; set before the first message */
    uint64_t deadline_ns;
    int epoll;
    int per_address;  /* so many come from one address */
    int started, open, failed, ended_early;
    int resumed;      /* handshakes of TLS that were resumed ones */
    struct needle needle;
    int to_tell, told;  /* open ones that wait for `--told`, and those that have got it */
    uint64_t bytes;     /* that came after the heads of answers; of polls with the heads */
};

void swarm_start(struct swarm *swarm, const struct options *options, uint64_t deadline_ns);

/* Connects subscribers until `count` exist, and waits until each is open or has failed. */
void swarm_connect(struct swarm *swarm, int count);

/* Connects once more those that have failed. Returns their number. */
int swarm_retry(struct swarm *swarm);

/* Ends all connections. The subscribers can connect again; those of TLS keep their tickets. */
void swarm_cut(struct swarm *swarm);

/* Makes what subscribers of TLS say first, so that nothing but sending it is left. */
void swarm_prepare(struct swarm *swarm);

/* Serves what is ready, waiting at most so long for it. */
void swarm_pump(struct swarm *swarm, int wait_ms);
void swarm_pump_for(struct swarm *swarm, int ms);

/* Stops reading for the slow subscribers. */
void swarm_slow_down(struct swarm *swarm);

void swarm_stop(struct swarm *swarm);

/* For the transports' code. */
void subscriber_send_request(struct swarm *swarm, struct subscriber *subscriber);
void subscriber_feed(struct swarm *swarm, struct subscriber *subscriber, const char *data, size_t len);
void subscriber_end(struct swarm *swarm, struct subscriber *subscriber);

/* long_poll.c: reads the answers on a kept connection, and sends the next request after each. */
int long_poll_request(const struct options *options, const struct poll_cursor *cursor, char *out, size_t size);
void long_poll_feed(struct swarm *swarm, struct subscriber *subscriber, char *data, size_t len);

/* http.c: the value of `name` ("Content-Length") in a head that ends in CRLF CRLF, into `out`; false if absent. */
bool http_header(const char *head, const char *name, char *out, size_t size);
int http_status(const char *head);

#endif
