/* The storm: clients that were cut off, and come back all at once, each from an address of its own.
 *
 * A process of its own does it, which yields the CPU to the process that measures. So the others' latencies have the
 * server's work for the storm in them, and not the load's. */
#ifndef LOAD_STORM_H
#define LOAD_STORM_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

struct storm_result {
    int open;
    int failed;   /* never came back */
    int again;    /* were cut off before they were served, and came once more; counted each time */
    int resumed;  /* shook hands with their ticket */
    double seconds;
};

struct storm {
    int go, result; /* pipes */
};

/* Starts the process. Returns when its clients have been connected once, have their tickets, and were cut off. Ends
 * this process with an error if they could not connect. */
void storm_start(struct storm *storm, const struct options *options, uint64_t deadline_ns);

void storm_break(struct storm *storm);

/* Whether all clients are back, or have failed for good. */
bool storm_over(struct storm *storm, struct storm_result *result);

/* Ends the process, and so its connections. */
void storm_stop(struct storm *storm);

#endif
