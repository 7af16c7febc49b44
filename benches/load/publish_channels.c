/* publish channels: a million channels compared with a single one. One message of history keeps each in existence.
 *
 * The memory of a channel comes from two fillings: first one message for each channel, then a second one. The second
 * filling adds messages only, so the first one minus the second is the memory of the channels. Names have 8 bytes.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "procstat.h"
#include "publish.h"

enum { BATCHES = 11, BATCH = 100000, NAME = 8 };

static char payload[100];

static double pss_bytes(void)
{
    int self = getpid();
    return (double)procstat_read(&self, 1).pss_kb * 1024;
}

static void name_of(char *out, size_t number)
{
    snprintf(out, NAME + 1, "%c%07zu", 'a', number % 10000000);
}

static push_server *start(void)
{
    /* Nothing may be trimmed: the messages keep the channels in existence. */
    return publish_server((const char *[]){"listen", "none", "history_count", "4", "history_age", "1h", "history_total",
                                           "8GB", NULL});
}

static double to_one(push_server *server)
{
    uint64_t begin = now_ns();
    for (int i = 0; i < BATCH; i++) publish_check("publish", push_publish(server, "one", payload, sizeof payload));
    return (double)(now_ns() - begin) / BATCH;
}

/* Each publish is to another channel, far from the last one, so the caches have nothing of it. */
static double to_many(push_server *server, size_t channels)
{
    static size_t at;
    char name[NAME + 1];
    uint64_t spent = 0;
    for (int i = 0; i < BATCH; i++) {
        name_of(name, at = (at + 7919 * 127) % channels);
        uint64_t begin = now_ns();
        publish_check("publish", push_publish(server, name, payload, sizeof payload));
        spent += now_ns() - begin;
    }
    return (double)spent / BATCH;
}

static double median_to_one(push_server *server)
{
    double ns[BATCHES];
    to_one(server);
    for (int i = 0; i < BATCHES; i++) ns[i] = to_one(server);
    return publish_median(ns, BATCHES);
}

static void fill(push_server *server, size_t channels)
{
    char name[NAME + 1];
    for (size_t i = 0; i < channels; i++) {
        name_of(name, i);
        publish_check("publish", push_publish(server, name, "x", 1));
    }
}

void publish_channels(size_t channels)
{
    memset(payload, 'x', sizeof payload);
    push_server *server = start();
    double alone = median_to_one(server), base = pss_bytes();
    fill(server, channels);
    double once = pss_bytes() - base;
    fill(server, channels);
    double twice = pss_bytes() - base, among = median_to_one(server), scattered = to_many(server, channels);
    double message = (twice - once) / (double)channels, channel = once / (double)channels - message - NAME;
    printf("{\"channels\":%zu,\"to_one_alone_ns\":%.1f,\"to_one_among_all_ns\":%.1f,\"among_over_alone\":%.4f,"
           "\"to_scattered_ns\":%.1f,\"channel_bytes\":%.1f,\"message_of_1_byte_bytes\":%.1f}\n",
           channels, alone, among, among / alone, scattered, channel, message);
    publish_check("push_stop", push_stop(server, 0));
}
