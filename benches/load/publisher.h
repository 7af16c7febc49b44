/* The publisher: one kept HTTP connection, on the swarm's thread. */
#ifndef LOAD_PUBLISHER_H
#define LOAD_PUBLISHER_H

#include <stdint.h>

#include "options.h"
#include "swarm.h"

struct publisher {
    const struct options *options;
    int fd;
    int unanswered;
    uint32_t next;         /* the number of the next message */
    uint64_t first_ns;     /* when the first one was sent */
    char *request;
    size_t prefix_len;     /* of the request, up to the mark */
    size_t request_len;
    char answers[8192];
    size_t answers_len;
};

void publisher_start(struct publisher *publisher, const struct options *options);

/* Publishes this number of messages at the chosen rate, and serves the swarm meanwhile. False if the deadline came
 * first. */
bool publisher_run(struct publisher *publisher, struct swarm *swarm, int messages);

/* Reads answers. Ends the process if one is an error, because the measurement is worthless then. */
void publisher_reap(struct publisher *publisher);

#endif
