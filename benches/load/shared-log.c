/* shared-log: publishes into a log that hubs share.
 *
 *     shared-log throughput COUNT OPTION=VALUE...    COUNT messages of 100 B, as fast as the queue takes them, until all
 *                                                    are in the log and applied. Prints how many seconds it took
 *     shared-log stamp COUNT RATE OPTION=VALUE...    COUNT messages of 128 B with the time in them, RATE a second
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "host.h"

enum { SMALL = 100, STAMPED = 128 };

static void die(const char *what, push_status status)
{
    fprintf(stderr, "%s: %s\n", what, push_strerror(status));
    exit(1);
}

static void nap(uint64_t ns)
{
    struct timespec wait = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    nanosleep(&wait, NULL);
}

/* Publishes, and waits until the message is in the log. The first time this is also the wait for the log. */
static void settle(push_server *server)
{
    push_message message = PUSH_MESSAGE_INIT;
    push_position at;
    message.channel = "other";
    message.data = "x";
    message.len = 1;
    push_status status = push_publish_message(server, &message, &at);
    if (status != PUSH_OK) die("the log", status);
}

static void publish(push_server *server, const char *data, size_t len)
{
    for (;;) {
        push_status status = push_publish(server, "bench", data, len);
        if (status == PUSH_OK) return;
        if (status != PUSH_ERR_BUSY) die("publish", status);
        nap(100000);
    }
}

static int throughput(push_server *server, long count)
{
    char data[SMALL];
    memset(data, '.', sizeof data);
    settle(server);
    uint64_t began = now_ns();
    for (long n = 0; n < count; n++) publish(server, data, sizeof data);
    settle(server);
    printf("{\"seconds\":%.6f}\n", (double)(now_ns() - began) / 1e9);
    return host_stop(server);
}

static int stamp(push_server *server, long count, double rate)
{
    settle(server);
    uint64_t began = now_ns();
    for (long n = 0; n < count; n++) {
        uint64_t due = began + (uint64_t)((double)n * 1e9 / rate), now;
        while ((now = now_ns()) < due) nap(due - now);
        char data[STAMPED + 1];
        memset(data, '.', sizeof data);
        int used = snprintf(data, sizeof data, "@%020" PRIu64, now_ns());
        data[used] = '.';
        publish(server, data, STAMPED);
    }
    settle(server);
    return host_stop(server);
}

int main(int argc, char **argv)
{
    sigset_t ends;
    host_begin(&ends);
    sigprocmask(SIG_UNBLOCK, &ends, NULL);
    if (argc > 3 && !strcmp(argv[1], "throughput")) return throughput(host_start(argc - 3, argv + 3), atol(argv[2]));
    if (argc > 4 && !strcmp(argv[1], "stamp")) return stamp(host_start(argc - 4, argv + 4), atol(argv[2]), atof(argv[3]));
    fprintf(stderr, "usage: shared-log throughput COUNT OPTION=VALUE... | stamp COUNT RATE OPTION=VALUE...\n");
    return 2;
}
