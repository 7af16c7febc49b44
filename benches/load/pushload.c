/* pushload: a neutral swarm of subscribers and a publisher for push servers.
 *
 * It opens N subscribers, publishes M messages over one kept HTTP connection, and prints one line of JSON: deliveries,
 * losses, doubles, breaks of order, latency, and what the server's processes used of CPU and memory in each phase.
 *
 * Method. The server's time is the kernel's account of its threads, read between the phases while the server is quiet:
 *
 *     start | connect N | quiet | memory | publish and deliver M | quiet | end
 *           '--accept--'                 '------- deliver -------'
 *
 * One thread does all of this, on a CPU that the caller gives it (taskset). Latency runs from the moment that a publish
 * is handed to the kernel until the subscriber's bytes are read here, so it contains this program's own reading of the
 * subscribers before; every server is measured with the same. No loop runs past the deadline.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "options.h"
#include "procstat.h"
#include "publisher.h"
#include "swarm.h"
#include "tally.h"

enum { QUIET_MS = 50 };

struct run {
    struct options options;
    struct tally tally;
    struct swarm swarm;
    struct publisher publisher;
    struct procstat at_start, at_first_step, after_accept, at_idle, at_end;
    double connect_s;
    long rss_before_kb, peak_kb;
    int first_step_open;
    bool in_time;
};

/* The time is read before `--settle` because a server's own housekeeping (a garbage collector, timers) in that while
 * is no part of an accept; memory is read after it. */
static void connect_all(struct run *run)
{
    struct options *o = &run->options;
    uint64_t start = now_ns();
    run->at_start = procstat_read(o->pids, o->pid_count);
    if (o->first_step) {
        swarm_connect(&run->swarm, o->first_step);
        swarm_pump_for(&run->swarm, o->settle_ms);
        run->first_step_open = run->swarm.open;
        run->at_first_step = procstat_read(o->pids, o->pid_count);
    }
    swarm_connect(&run->swarm, o->subscribers);
    run->connect_s = (double)(now_ns() - start) / 1e9;
    swarm_pump_for(&run->swarm, QUIET_MS);
    run->after_accept = procstat_read(o->pids, o->pid_count);
    swarm_pump_for(&run->swarm, o->settle_ms);
    run->at_idle = procstat_read(o->pids, o->pid_count);
}

static uint64_t expected(const struct run *run)
{
    int readers = run->swarm.open - (run->options.slow < run->swarm.open ? run->options.slow : run->swarm.open);
    return (uint64_t)readers * (uint64_t)run->options.messages;
}

/* Waits for what is still on its way, as long as something comes. */
static void drain(struct run *run)
{
    uint64_t progress = now_ns(), seen = run->tally.deliveries;
    while (run->tally.deliveries < expected(run)) {
        uint64_t now = now_ns();
        if (now > progress + (uint64_t)run->options.drain_ms * NS_PER_MS) return;
        if (now > run->swarm.deadline_ns) {
            run->in_time = false;
            return;
        }
        swarm_pump(&run->swarm, 20);
        publisher_reap(&run->publisher);
        if (run->tally.deliveries != seen) {
            seen = run->tally.deliveries;
            progress = now;
        }
    }
}

static void deliver_all(struct run *run)
{
    struct options *o = &run->options;
    publisher_start(&run->publisher, o);
    procstat_reset_peak(o->pids, o->pid_count);
    run->rss_before_kb = procstat_rss_kb(o->pids, o->pid_count);
    run->in_time = publisher_run(&run->publisher, &run->swarm);
    drain(run);
    swarm_pump_for(&run->swarm, QUIET_MS); /* the polls that follow the last answers belong to it */
    run->at_end = procstat_read(o->pids, o->pid_count);
    run->peak_kb = procstat_peak_kb(o->pids, o->pid_count);
    tally_finish(&run->tally);
}

static double per(double sum, double count)
{
    return count > 0 ? sum / count : 0;
}

static void print_connections(const struct run *run)
{
    int open = run->swarm.open, added = open - run->first_step_open;
    const struct procstat *base = run->first_step_open ? &run->at_first_step : &run->at_start;
    printf("{\"open\":%d,\"failed\":%d,\"ended_early\":%d,\"slow_ended\":%d,\"connect_s\":%.3f,", open, run->swarm.failed,
           run->swarm.ended_early, run->swarm.slow_ended, run->connect_s);
    printf("\"accept_cpu_us\":%.3f,", per((double)(run->after_accept.cpu_ns - run->at_start.cpu_ns) / 1e3, open));
    printf("\"pss_kb_start\":%ld,\"pss_kb_idle\":%ld,\"memory_per_subscriber\":%.1f,", run->at_start.pss_kb,
           run->at_idle.pss_kb, per((double)(run->at_idle.pss_kb - base->pss_kb) * 1024, added));
}

static void print_deliveries(const struct run *run)
{
    const struct tally *t = &run->tally;
    uint64_t cpu_ns = run->at_end.cpu_ns - run->at_idle.cpu_ns, once = t->deliveries - t->repeats;
    double span = t->deliveries ? (double)(t->last_ns - run->publisher.first_ns) / 1e9 : 0;
    printf("\"expected\":%llu,\"deliveries\":%llu,\"lost\":%lld,\"repeats\":%llu,\"skipped\":%llu,",
           (unsigned long long)expected(run), (unsigned long long)t->deliveries, (long long)(expected(run) - once),
           (unsigned long long)t->repeats, (unsigned long long)t->skipped);
    printf("\"span_s\":%.4f,\"deliveries_per_s\":%.0f,\"cpu_s\":%.4f,\"cpu_us_per_delivery\":%.4f,\"switches\":%llu,", span,
           per((double)once, span), (double)cpu_ns / 1e9, per((double)cpu_ns / 1e3, (double)once),
           (unsigned long long)(run->at_end.switches - run->at_idle.switches));
    printf("\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,", tally_quantile_ms(t, 0.5),
           tally_quantile_ms(t, 0.9), tally_quantile_ms(t, 0.99), tally_quantile_ms(t, 1));
    printf("\"pss_kb_end\":%ld,\"extra_peak_kb\":%ld,", run->at_end.pss_kb, run->peak_kb - run->rss_before_kb);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    static struct run run;
    struct options *o = &run.options;
    options_parse(o, argc, argv);
    raise_descriptor_limit();
    /* The last resort, should a system call hang: the loops look at the deadline themselves. */
    alarm((unsigned)o->deadline_s + 10);
    tally_start(&run.tally, (uint64_t)o->subscribers * (uint64_t)o->messages);
    swarm_start(&run.swarm, o, &run.tally, now_ns() + (uint64_t)o->deadline_s * NS_PER_S);

    connect_all(&run);
    run.in_time = true;
    if (o->messages && run.swarm.open > o->slow) deliver_all(&run);

    print_connections(&run);
    if (o->messages) print_deliveries(&run);
    printf("\"in_time\":%s}\n", run.in_time && now_ns() < run.swarm.deadline_ns ? "true" : "false");
    swarm_stop(&run.swarm);
    return 0;
}
