/* bare-redis: what a log in Redis costs without a hub.
 *
 *     bare-redis replay SOCKET FILE    the requests that a hub sent, as a file of frames: one byte that is 1 if the request
 *                                      is timed, four of its length (native order), the request. At most eight are
 *                                      under way at a time, as a hub has it. Prints how many seconds the timed ones took
 *     bare-redis append SOCKET COUNT RATE    appends COUNT entries with the time in them, RATE a second
 *     bare-redis read SOCKET COUNT     follows the stream with reads that wait, and prints how old each entry was
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "resp.h"

enum { WINDOW = 8, PAYLOAD = 128, LIFETIME_S = 300 };

static struct resp redis;

static unsigned char *read_all(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) < 0) {
        perror(path);
        exit(1);
    }
    *len = (size_t)ftell(file);
    rewind(file);
    unsigned char *all = malloc(*len ? *len : 1);
    if (!all || fread(all, 1, *len, file) != *len) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return all;
}

/* Takes an answer. An append that Redis refuses would cost less than one that it does. */
static void take_answer(int timed)
{
    size_t len = resp_answer(&redis);
    if (redis.in[0] == '-' || (timed && !resp_has(&redis, len < 64 ? len : 64, "\r\nok\r\n"))) {
        fprintf(stderr, "refused: %.*s\n", (int)(len < 200 ? len : 200), redis.in);
        exit(1);
    }
    resp_drop(&redis, len);
}

static int replay(const char *path)
{
    size_t len, at = 0;
    unsigned char *all = read_all(path, &len);
    unsigned under_way = 0;
    uint64_t began = 0, requests = 0;
    while (at + 5 <= len) {
        uint32_t size;
        int timed = all[at];
        memcpy(&size, all + at + 1, sizeof size);
        at += 5;
        if (timed && !began) began = now_ns();
        if (under_way == (timed ? WINDOW : 1)) {
            take_answer(timed);
            under_way--;
        }
        resp_send(&redis, all + at, size);
        at += size;
        under_way++;
        requests += (uint64_t)timed;
        if (!timed)
            for (; under_way; under_way--) take_answer(0);
    }
    for (; under_way; under_way--) take_answer(1);
    printf("{\"seconds\":%.6f,\"requests\":%" PRIu64 "}\n", (double)(now_ns() - began) / 1e9, requests);
    free(all);
    return 0;
}

static int append(long count, double rate)
{
    uint64_t began = now_ns();
    for (long n = 0; n < count; n++) {
        uint64_t due = began + (uint64_t)((double)n * 1e9 / rate), now;
        while ((now = now_ns()) < due) {
            struct timespec wait = {0, (long)(due - now)};
            nanosleep(&wait, NULL);
        }
        char entry[PAYLOAD + 1], request[512];
        memset(entry, '.', sizeof entry);
        entry[PAYLOAD] = 0;
        int used = snprintf(entry, sizeof entry, "@%020" PRIu64, now_ns());
        entry[used] = '.';
        int len = snprintf(request, sizeof request, "*5\r\n$4\r\nXADD\r\n$4\r\nbare\r\n$1\r\n*\r\n$1\r\ne\r\n$%d\r\n%s\r\n",
                           PAYLOAD, entry);
        resp_send(&redis, request, (size_t)len);
        resp_drop(&redis, resp_answer(&redis));
    }
    return 0;
}

static int follow(long count)
{
    char last[64] = "$";
    for (long n = 0; n < count;) {
        char request[256];
        int len = snprintf(request, sizeof request,
                           "*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$4\r\nbare\r\n$%zu\r\n%s\r\n",
                           strlen(last), last);
        resp_send(&redis, request, (size_t)len);
        if (n == 0 && last[0] == '$') {
            printf("ready\n");
            fflush(stdout);
        }
        size_t got = resp_answer(&redis);
        uint64_t now = now_ns();
        for (char *at = redis.in; (at = memmem(at, (size_t)(redis.in + got - at), "@", 1)); at++, n++)
            printf("%" PRIu64 "\n", now - (uint64_t)strtoull(at + 1, NULL, 10));
        /* The id of the last entry stands behind the last "*2\r\n$". */
        for (char *at = redis.in; (at = memmem(at, (size_t)(redis.in + got - at), "*2\r\n$", 5)); at++) {
            char *id = memchr(at + 5, '\n', 8);
            if (id && id[1] >= '0' && id[1] <= '9') snprintf(last, sizeof last, "%.*s", (int)strcspn(id + 1, "\r"), id + 1);
        }
        resp_drop(&redis, got);
    }
    return 0;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm(LIFETIME_S);
    if (argc >= 3) resp_connect(&redis, argv[2]);
    if (argc == 4 && !strcmp(argv[1], "replay")) return replay(argv[3]);
    if (argc == 5 && !strcmp(argv[1], "append")) return append(atol(argv[3]), atof(argv[4]));
    if (argc == 4 && !strcmp(argv[1], "read")) return follow(atol(argv[3]));
    fprintf(stderr, "usage: bare-redis replay SOCKET FILE | append SOCKET COUNT RATE | read SOCKET COUNT\n");
    return 2;
}
