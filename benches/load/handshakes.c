#define _GNU_SOURCE
#include "handshakes.h"

#include <stdio.h>

#include "clock.h"
#include "procstat.h"

enum { WARM_UP = 200, QUIET_MS = 100 };

struct phase {
    int done, failed, resumed;
    double cpu_us, seconds;
};

/* `count` clients come, with the tickets that they have. */
static struct phase come(struct swarm *swarm, const struct options *o, int count)
{
    struct procstat before = procstat_read(o->pids, o->pid_count);
    uint64_t began = now_ns();
    swarm_connect(swarm, count);
    struct phase phase = {.seconds = (double)(now_ns() - began) / NS_PER_S};
    swarm_pump_for(swarm, QUIET_MS); /* the server notices that they have gone */
    struct procstat after = procstat_read(o->pids, o->pid_count);
    phase.done = swarm->open;
    phase.failed = count - swarm->open;
    phase.resumed = swarm->resumed;
    phase.cpu_us = swarm->open ? (double)(after.cpu_ns - before.cpu_ns) / 1e3 / swarm->open : 0;
    swarm_cut(swarm);
    return phase;
}

void handshakes_measure(struct swarm *swarm, const struct options *o)
{
    /* The clients of the warm-up have tickets then, so those that are measured are others. */
    int warm_up = o->subscribers > 2 * WARM_UP ? WARM_UP : 0, count = o->subscribers - warm_up;
    struct swarm measured = *swarm;
    measured.subscribers += warm_up;
    if (warm_up) {
        come(swarm, o, warm_up);
        come(swarm, o, warm_up);
    }
    struct phase full = come(&measured, o, count), again = come(&measured, o, count);
    printf("{\"open\":%d,\"failed\":%d,\"ended_early\":0,\"full_cpu_us\":%.3f,\"resumed_cpu_us\":%.3f,", full.done,
           full.failed + again.failed, full.cpu_us, again.cpu_us);
    printf("\"full_s\":%.3f,\"resumed_s\":%.3f,\"not_full\":%d,\"not_resumed\":%d,\"in_time\":%s}\n", full.seconds,
           again.seconds, full.resumed, again.done - again.resumed, now_ns() < swarm->deadline_ns ? "true" : "false");
}
