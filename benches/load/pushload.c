/* pushload: a neutral swarm of subscribers and a publisher for push servers.
 *
 * It opens N subscribers, publishes M messages over one kept HTTP connection, and prints one line of JSON: deliveries,
 * losses, doubles, breaks of order, latency, and the CPU and memory that the server's processes used in each phase.
 *
 * Method. The server's CPU time is the kernel's account of its threads. It is read between the phases, while the server
 * is quiet:
 *
 *     start | connect N | quiet | memory | publish and deliver M | quiet | end
 *           '--accept--'                 '------- deliver -------'
 *
 * One thread does all of this, on a CPU that the caller chooses (taskset). Latency runs from the moment when a publish
 * is given to the kernel until the subscriber's bytes are read here. So it includes the time in which this program
 * reads for earlier subscribers; that is the same for every server. No loop runs past the deadline.
 *
 * With --kept the messages are published before the subscribers come, and with --told these are to get a text because
 * they have come. Then the phase from `start` to `memory` is what is measured: joined_cpu_us, and joined_bytes.
 *
 * With --tls subscribers speak TLS (secure.h), and everything is measured and checked as without. --handshakes measures
 * the handshakes alone (handshakes.h), and --storm what a crowd that comes back does to the others (storm.h).
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "descriptors.h"
#include "handshakes.h"
#include "options.h"
#include "procstat.h"
#include "publisher.h"
#include "secure.h"
#include "storm.h"
#include "swarm.h"
#include "tally.h"

enum { QUIET_MS = 50 };

/* The messages are published once. With --slow they are published three times: to warm up, with all subscribers
 * reading, and with the slow ones not reading. One process does all three, because p99 differs between two processes by
 * more than a slow reader may change it. So it is with --storm: the last time as many are published as the storm
 * lasts. */
enum series { WARM_UP, ALL_READ, MEASURED, SERIES };

struct run {
    struct options options;
    struct tally tallies[SERIES];
    uint64_t wanted[SERIES]; /* deliveries */
    struct swarm swarm;
    struct publisher publisher;
    struct storm storm;
    struct storm_result storm_result;
    struct procstat at_start, at_first_step, after_accept, at_idle, before_all_read, before_storm, at_end;
    uint64_t bytes_at_idle;
    double connect_s;
    long rss_before_kb, peak_kb;
    int first_step_open;
    bool in_time;
};

static uint64_t expected(const struct run *run, int readers)
{
    return (uint64_t)readers * (uint64_t)run->options.messages;
}

static int readers_at_last(const struct run *run)
{
    return run->swarm.open > run->options.slow ? run->swarm.open - run->options.slow : 0;
}

/* Waits for messages that are still on their way, as long as some come. */
static void drain(struct run *run, const struct tally *tally, uint64_t wanted)
{
    uint64_t progress = now_ns(), seen = tally->deliveries;
    while (tally->deliveries < wanted) {
        uint64_t now = now_ns();
        if (now > progress + (uint64_t)run->options.drain_ms * NS_PER_MS) return;
        if (now > run->swarm.deadline_ns) {
            run->in_time = false;
            return;
        }
        swarm_pump(&run->swarm, 20);
        publisher_reap(&run->publisher);
        if (tally->deliveries != seen) {
            seen = tally->deliveries;
            progress = now;
        }
    }
}

/* Publishes what the subscribers are to find. They come when all of it is answered. */
static void publish_first(struct run *run)
{
    struct options *o = &run->options;
    tally_start(&run->tallies[MEASURED], (uint64_t)o->subscribers * (uint64_t)o->messages);
    run->swarm.tally = &run->tallies[MEASURED];
    publisher_start(&run->publisher, o);
    run->in_time = publisher_run(&run->publisher, &run->swarm, o->messages);
    while (run->publisher.unanswered && now_ns() < run->swarm.deadline_ns) {
        swarm_pump(&run->swarm, 1);
        publisher_reap(&run->publisher);
    }
    swarm_pump_for(&run->swarm, QUIET_MS);
}

/* Waits for what subscribers get because they have come: what was published before, or what they are to be told. */
static void await_first(struct run *run)
{
    struct swarm *swarm = &run->swarm;
    if (run->options.kept) {
        run->wanted[MEASURED] = expected(run, swarm->open);
        drain(run, &run->tallies[MEASURED], run->wanted[MEASURED]);
        tally_finish(&run->tallies[MEASURED]);
    }
    while (swarm->told < swarm->to_tell && now_ns() < swarm->deadline_ns) swarm_pump(swarm, 5);
}

/* The CPU time is read before `--settle`, because a server's housekeeping in that time (a garbage collector, timers) is
 * no part of accepting. Memory is read after it. */
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
    await_first(run);
    swarm_pump_for(&run->swarm, o->settle_ms);
    run->at_idle = procstat_read(o->pids, o->pid_count);
    run->bytes_at_idle = run->swarm.bytes;
}

/* Publishes all messages once, and waits until all reading subscribers have them. */
static void deliver(struct run *run, enum series series, int readers)
{
    struct tally *tally = &run->tallies[series];
    run->wanted[series] = expected(run, readers);
    tally_start(tally, run->wanted[series]);
    run->swarm.tally = tally;
    run->in_time = publisher_run(&run->publisher, &run->swarm, run->options.messages) && run->in_time;
    drain(run, tally, run->wanted[series]);
    tally_finish(tally);
}

/* Publishes as long as the storm lasts, at least once, and waits until all subscribers have the messages. */
static void deliver_in_storm(struct run *run)
{
    struct options *o = &run->options;
    struct tally *tally = &run->tallies[MEASURED];
    uint64_t period_ns = (uint64_t)(1e9 / o->rate), due = now_ns();
    tally_start(tally, (uint64_t)run->swarm.open * (uint64_t)(o->rate * o->deadline_s));
    run->swarm.tally = tally;
    storm_break(&run->storm);
    do {
        run->in_time = publisher_run(&run->publisher, &run->swarm, 1);
        run->wanted[MEASURED] += (uint64_t)run->swarm.open;
        for (due += period_ns; run->in_time && now_ns() < due; run->in_time = now_ns() < run->swarm.deadline_ns) {
            swarm_pump(&run->swarm, 1);
            publisher_reap(&run->publisher);
        }
    } while (run->in_time && !storm_over(&run->storm, &run->storm_result));
    drain(run, tally, run->wanted[MEASURED]);
    tally_finish(tally);
}

static void deliver_all(struct run *run)
{
    struct options *o = &run->options;
    publisher_start(&run->publisher, o);
    procstat_reset_peak(o->pids, o->pid_count);
    run->rss_before_kb = procstat_rss_kb(o->pids, o->pid_count);
    if (o->slow || o->storm) {
        deliver(run, WARM_UP, run->swarm.open);
        swarm_pump_for(&run->swarm, o->storm ? QUIET_MS : 0);
        run->before_all_read = procstat_read(o->pids, o->pid_count);
        deliver(run, ALL_READ, run->swarm.open);
    }
    if (o->slow) swarm_slow_down(&run->swarm);
    if (o->storm) {
        swarm_pump_for(&run->swarm, QUIET_MS);
        run->before_storm = procstat_read(o->pids, o->pid_count);
        deliver_in_storm(run);
    } else {
        deliver(run, MEASURED, readers_at_last(run));
    }
    swarm_pump_for(&run->swarm, QUIET_MS); /* this includes the polls that follow the last answers */
    run->at_end = procstat_read(o->pids, o->pid_count);
    run->peak_kb = procstat_peak_kb(o->pids, o->pid_count);
}

static double per(double sum, double count)
{
    return count > 0 ? sum / count : 0;
}

static void print_connections(const struct run *run)
{
    int open = run->swarm.open, added = open - run->first_step_open;
    const struct procstat *base = run->first_step_open ? &run->at_first_step : &run->at_start;
    printf("{\"open\":%d,\"failed\":%d,\"ended_early\":%d,\"connect_s\":%.3f,", open, run->swarm.failed,
           run->swarm.ended_early, run->connect_s);
    printf("\"accept_cpu_us\":%.3f,", per((double)(run->after_accept.cpu_ns - run->at_start.cpu_ns) / 1e3, open));
    printf("\"joined_cpu_us\":%.3f,\"joined_bytes\":%.1f,\"untold\":%d,",
           per((double)(run->at_idle.cpu_ns - run->at_start.cpu_ns) / 1e3, open), per((double)run->bytes_at_idle, open),
           run->swarm.to_tell - run->swarm.told);
    printf("\"pss_kb_start\":%ld,\"pss_kb_idle\":%ld,\"memory_per_subscriber\":%.1f,", run->at_start.pss_kb,
           run->at_idle.pss_kb, per((double)(run->at_idle.pss_kb - base->pss_kb) * 1024, added));
}

static void print_latencies(const struct run *run)
{
    const struct tally *t = &run->tallies[MEASURED];
    printf("\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,", tally_quantile_ms(t, 0.5),
           tally_quantile_ms(t, 0.9), tally_quantile_ms(t, 0.99), tally_quantile_ms(t, 1));
    if (run->options.slow || run->options.storm) printf("\"p99_all_read_ms\":%.3f,", tally_quantile_ms(&run->tallies[ALL_READ], 0.99));
}

static void print_deliveries(const struct run *run)
{
    uint64_t cpu_ns = run->at_end.cpu_ns - run->at_idle.cpu_ns;
    uint64_t wanted = 0, deliveries = 0, repeats = 0, skipped = 0;
    for (int i = 0; i < SERIES; i++) {
        wanted += run->wanted[i];
        deliveries += run->tallies[i].deliveries;
        repeats += run->tallies[i].repeats;
        skipped += run->tallies[i].skipped;
    }
    uint64_t once = deliveries - repeats, last_ns = run->tallies[MEASURED].last_ns;
    double span = last_ns ? (double)(last_ns - run->publisher.first_ns) / 1e9 : 0;
    printf("\"expected\":%llu,\"deliveries\":%llu,\"lost\":%lld,\"repeats\":%llu,\"skipped\":%llu,",
           (unsigned long long)wanted, (unsigned long long)deliveries, (long long)(wanted - once),
           (unsigned long long)repeats, (unsigned long long)skipped);
    printf("\"span_s\":%.4f,\"deliveries_per_s\":%.0f,\"cpu_s\":%.4f,\"cpu_us_per_delivery\":%.4f,\"switches\":%llu,", span,
           per((double)once, span), (double)cpu_ns / 1e9, per((double)cpu_ns / 1e3, (double)once),
           (unsigned long long)(run->at_end.switches - run->at_idle.switches));
    print_latencies(run);
    printf("\"pss_kb_end\":%ld,\"extra_peak_kb\":%ld,", run->at_end.pss_kb, run->peak_kb - run->rss_before_kb);
}

/* The CPU time of the storm is that of its series, without what the deliveries take otherwise. */
static void print_storm(const struct run *run)
{
    const struct storm_result *storm = &run->storm_result;
    double cpu_ns = (double)(run->at_end.cpu_ns - run->before_storm.cpu_ns);
    double each_ns = per((double)(run->before_storm.cpu_ns - run->before_all_read.cpu_ns),
                         (double)run->tallies[ALL_READ].deliveries);
    double of_clients = cpu_ns - each_ns * (double)run->tallies[MEASURED].deliveries;
    printf("\"storm_open\":%d,\"storm_failed\":%d,\"storm_again\":%d,\"storm_resumed\":%d,\"storm_s\":%.3f,",
           storm->open, storm->failed, storm->again, storm->resumed, storm->seconds);
    printf("\"storm_cpu_us\":%.3f,\"storm_deliveries\":%llu,", per(of_clients / 1e3, storm->open),
           (unsigned long long)run->tallies[MEASURED].deliveries);
}

int main(int argc, char **argv)
{
    static struct run run;
    struct options *o = &run.options;
    options_parse(o, argc, argv);
    raise_descriptor_limit();
    /* The last resort if a system call hangs. The loops check the deadline themselves. */
    alarm((unsigned)o->deadline_s + 10);
    if (o->tls) secure_set_up(o->tls);
    uint64_t deadline_ns = now_ns() + (uint64_t)o->deadline_s * NS_PER_S;
    if (o->storm) storm_start(&run.storm, o, deadline_ns);
    swarm_start(&run.swarm, o, deadline_ns);
    if (o->handshakes) {
        handshakes_measure(&run.swarm, o);
        return 0;
    }

    run.in_time = true;
    if (o->kept) publish_first(&run);
    connect_all(&run);
    run.at_end = run.at_idle;
    if (o->messages && !o->kept && readers_at_last(&run)) deliver_all(&run);

    print_connections(&run);
    if (o->messages) print_deliveries(&run);
    if (o->storm) print_storm(&run);
    printf("\"in_time\":%s}\n", run.in_time && now_ns() < run.swarm.deadline_ns ? "true" : "false");
    if (o->storm) storm_stop(&run.storm);
    swarm_stop(&run.swarm);
    return 0;
}
