/* publish: measures the cost of push_publish for its caller, through the C ABI, inside one process.
 *
 *     publish alone            100 B to one channel that nobody subscribes to, default history
 *     publish threads          the same from 1 thread, and from 4 threads to 4 channels
 *     publish waking           to one subscriber on a sleeping shard, compared with a bare eventfd
 *     publish channels [N]     with N (1,000,000) existing channels, compared with 1, and the memory of a channel
 *     publish start HOST       from starting a host's process until its listener takes connections
 *     publish attached PUSHD DIRECTORY   from this process to a hub in another process, which it starts there
 */
#define _GNU_SOURCE
#include "publish.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

enum { PAYLOAD = 100, BATCHES = 21, BATCH = 100000, ROUNDS = 7, THREADS = 4, LIFETIME_S = 120 };

static const char payload[PAYLOAD + 1] = "{\"price\": 101.25, \"volume\": 300, \"at\": \"2026-01-01T00:00:00Z\", "
                                         "\"symbol\": \"EXAMPLE\", \"n\": 1}";

void publish_check(const char *what, push_status status)
{
    if (status == PUSH_OK) return;
    fprintf(stderr, "publish: %s: %s\n", what, push_strerror(status));
    exit(1);
}

push_server *publish_server(const char *const *options)
{
    char err[256] = "";
    push_server *server;
    push_config *config = push_config_new();
    for (; *options; options += 2)
        if (push_config_set(config, options[0], options[1], err, sizeof err) != PUSH_OK) break;
    if (err[0] || push_start(config, &server, err, sizeof err) != PUSH_OK) {
        fprintf(stderr, "publish: %s\n", err);
        exit(1);
    }
    push_config_free(config);
    return server;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double publish_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return values[count / 2];
}

void publish_pin(int cpu)
{
    static cpu_set_t all;
    cpu_set_t one;
    if (!CPU_COUNT(&all)) sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    if (cpu >= 0) CPU_SET((size_t)cpu, &one);
    /* On a machine with one CPU nothing is pinned. */
    if (cpu >= 0 && CPU_ISSET((size_t)cpu, &all)) sched_setaffinity(0, sizeof one, &one);
    else sched_setaffinity(0, sizeof all, &all);
}

static double publish_many(push_server *server, const char *channel, int count)
{
    uint64_t start = now_ns();
    for (int i = 0; i < count; i++) publish_check("push_publish", push_publish(server, channel, payload, PAYLOAD));
    return (double)(now_ns() - start) / count;
}

void publish_alone(void)
{
    double ns[BATCHES];
    push_server *server = publish_server((const char *[]){"listen", "none", NULL});
    publish_many(server, "news", BATCH);
    for (int i = 0; i < BATCHES; i++) ns[i] = publish_many(server, "news", BATCH);
    printf("{\"alone_ns\":%.1f}\n", publish_median(ns, BATCHES));
    publish_check("push_stop", push_stop(server, 0));
}

struct job {
    push_server *server;
    pthread_barrier_t *start;
    char channel[8];
};

static void *publish_job(void *argument)
{
    struct job *job = argument;
    pthread_barrier_wait(job->start);
    publish_many(job->server, job->channel, BATCH);
    return NULL;
}

/* The publications per second of all threads together. */
static double rate_of(push_server *server, int count)
{
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++) {
        jobs[i] = (struct job){.server = server, .start = &start};
        snprintf(jobs[i].channel, sizeof jobs[i].channel, "news%d", i);
        if (pthread_create(&threads[i], NULL, publish_job, &jobs[i])) exit(1);
    }
    pthread_barrier_wait(&start);
    uint64_t begin = now_ns();
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    return (double)count * BATCH * 1e9 / (double)(now_ns() - begin);
}

void publish_threads(void)
{
    double one[ROUNDS], four[ROUNDS], ratio[ROUNDS];
    push_server *server = publish_server((const char *[]){"listen", "none", NULL});
    rate_of(server, THREADS);
    for (int i = 0; i < ROUNDS; i++) {
        one[i] = rate_of(server, 1);
        four[i] = rate_of(server, THREADS);
        ratio[i] = four[i] / one[i];
    }
    printf("{\"one_thread_per_s\":%.0f,\"four_threads_per_s\":%.0f,\"four_over_one\":%.4f}\n", publish_median(one, ROUNDS),
           publish_median(four, ROUNDS), publish_median(ratio, ROUNDS));
    publish_check("push_stop", push_stop(server, 0));
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    alarm(LIFETIME_S);
    publish_pin(-1);
    if (!strcmp(what, "alone")) publish_alone();
    else if (!strcmp(what, "threads")) publish_threads();
    else if (!strcmp(what, "waking")) publish_waking();
    else if (!strcmp(what, "channels")) publish_channels(argc > 2 ? strtoul(argv[2], NULL, 10) : 1000000);
    else if (!strcmp(what, "start") && argc > 2) publish_start(argv[2]);
    else if (!strcmp(what, "attached") && argc > 3) publish_attached(argv[2], argv[3]);
    else {
        fprintf(stderr, "publish alone|threads|waking|channels [N]|start HOST|attached PUSHD DIRECTORY\n");
        return 2;
    }
    return 0;
}
