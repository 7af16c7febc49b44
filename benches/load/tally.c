#include "tally.h"

#include <stdlib.h>

/* 32 MB: room for all deliveries of most runs, and for an even sample of the large ones. */
#define MAX_LATENCIES (4u << 20)

void tally_start(struct tally *tally, uint64_t expected)
{
    *tally = (struct tally){.stride = expected / MAX_LATENCIES + 1};
    tally->latency_room = (size_t)(expected / tally->stride) + 1;
    tally->latencies = malloc(tally->latency_room * sizeof *tally->latencies);
    if (!tally->latencies) tally->latency_room = 0;
}

void tally_add(struct tally *tally, uint32_t *next, uint32_t seq, uint64_t published_ns, uint64_t arrived_ns)
{
    if (tally->deliveries++ % tally->stride == 0 && tally->latency_count < tally->latency_room)
        tally->latencies[tally->latency_count++] = arrived_ns - published_ns;
    tally->last_ns = arrived_ns;
    if (seq < *next) {
        tally->repeats++;
        return;
    }
    tally->skipped += seq - *next;
    *next = seq + 1;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

void tally_finish(struct tally *tally)
{
    qsort(tally->latencies, tally->latency_count, sizeof *tally->latencies, ascending);
}

double tally_quantile_ms(const struct tally *tally, double quantile)
{
    if (!tally->latency_count) return 0;
    return (double)tally->latencies[(size_t)((double)(tally->latency_count - 1) * quantile)] / 1e6;
}
