/* The deliveries: counts, order, latency. A fast figure with a lost message is a failure, so the numbers that each
 * subscriber gets are checked. */
#ifndef LOAD_TALLY_H
#define LOAD_TALLY_H

#include <stddef.h>
#include <stdint.h>

struct tally {
    uint64_t deliveries;  /* marks seen, doubles included */
    uint64_t repeats;     /* marks with a number not above the last one: a double, or out of order */
    uint64_t skipped;     /* numbers jumped over */
    uint64_t last_ns;     /* when the last one came */
    uint64_t *latencies;
    size_t latency_count;
    size_t latency_room;
    uint64_t stride;      /* one latency in so many is kept, so that memory stays bounded */
};

void tally_start(struct tally *tally, uint64_t expected);

/* Counts a mark that came to a subscriber that was waiting for number `*next`. */
void tally_add(struct tally *tally, uint32_t *next, uint32_t seq, uint64_t published_ns, uint64_t arrived_ns);

/* Sorts the latencies. Call once, before tally_quantile_ms. */
void tally_finish(struct tally *tally);
double tally_quantile_ms(const struct tally *tally, double quantile);

#endif
