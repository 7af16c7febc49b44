#define _GNU_SOURCE
#include "storm.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "swarm.h"
#include "tally.h"

enum { TRIES = 10, GRACE_S = 10 };

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void give_up(const char *what, int is, int of)
{
    fprintf(stderr, "pushload: storm: %s: %d of %d\n", what, is, of);
    _exit(1);
}

/* The first time. The clients get their tickets. */
static void come(struct swarm *swarm, const struct options *options)
{
    swarm_connect(swarm, options->subscribers);
    swarm_pump_for(swarm, options->settle_ms);
    if (swarm->open != options->subscribers) give_up("connected", swarm->open, options->subscribers);
    if (!options->tls) return;
    int with = 0;
    for (int i = 0; i < options->subscribers; i++) with += secure_has_ticket(swarm->subscribers[i].secure);
    if (with != options->subscribers) give_up("got a ticket", with, options->subscribers);
}

static struct storm_result come_back(struct swarm *swarm, const struct options *options)
{
    struct storm_result result = {0};
    uint64_t began = now_ns();
    swarm_connect(swarm, options->subscribers);
    for (int tries = 1; tries < TRIES && swarm->failed && now_ns() < swarm->deadline_ns; tries++)
        result.again += swarm_retry(swarm);
    result.seconds = (double)(now_ns() - began) / NS_PER_S;
    result.open = swarm->open - swarm->ended_early;
    result.failed = options->subscribers - result.open;
    result.resumed = swarm->resumed;
    return result;
}

/* False: the other process has ended. */
static bool hear(int from)
{
    char byte;
    ssize_t len;
    do len = read(from, &byte, 1);
    while (len < 0 && errno == EINTR);
    return len == 1;
}

static void run(const struct options *all, uint64_t deadline_ns, int go, int results)
{
    struct options options = *all;
    struct swarm swarm;
    struct tally tally;
    options.path = all->storm_path;
    options.subscribers = all->storm;
    options.first_step = 0;
    swarm_start(&swarm, &options, deadline_ns);
    tally_start(&tally, 1);
    swarm.tally = &tally;
    swarm.per_address = 1;

    come(&swarm, &options);
    swarm_cut(&swarm);
    swarm_prepare(&swarm);
    if (write(results, "r", 1) != 1 || !hear(go)) _exit(1);

    struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none)) die("SCHED_IDLE");
    options.ramp = all->storm;
    struct storm_result result = come_back(&swarm, &options);
    if (tally.deliveries) give_up("got messages of another channel", (int)tally.deliveries, 0);
    if (write(results, &result, sizeof result) != sizeof result) _exit(1);
    hear(go); /* the clients stay until this process is told to end */
    swarm_stop(&swarm);
    _exit(0);
}

void storm_start(struct storm *storm, const struct options *options, uint64_t deadline_ns)
{
    int go[2], results[2];
    if (pipe(go) || pipe(results)) die("pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
        close(go[1]);
        close(results[0]);
        alarm((unsigned)options->deadline_s + GRACE_S); /* it is not inherited */
        run(options, deadline_ns, go[0], results[1]);
    }
    close(go[0]);
    close(results[1]);
    *storm = (struct storm){.go = go[1], .result = results[0]};
    if (!hear(storm->result)) {
        fprintf(stderr, "pushload: the storm's clients could not connect\n");
        exit(1);
    }
}

void storm_break(struct storm *storm)
{
    if (write(storm->go, "g", 1) != 1) die("storm");
}

bool storm_over(struct storm *storm, struct storm_result *result)
{
    struct pollfd wait = {.fd = storm->result, .events = POLLIN};
    if (poll(&wait, 1, 0) != 1) return false;
    /* It comes in one piece, since it is smaller than PIPE_BUF. */
    if (read(storm->result, result, sizeof *result) == sizeof *result) return true;
    fprintf(stderr, "pushload: the storm ended early\n");
    exit(1);
}

void storm_stop(struct storm *storm)
{
    close(storm->go);
    while (hear(storm->result)) {}
}
