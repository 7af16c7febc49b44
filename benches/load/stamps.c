/* stamps: a subscriber that prints how old each message was when it had it, in ns.
 *
 *     stamps PORT COUNT     a stream at 127.0.0.1:PORT, channel `bench`; prints "ready" when it is subscribed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <signal.h>
#include <unistd.h>

#include "clock.h"

enum { LIFETIME_S = 300 };

int main(int argc, char **argv)
{
    static const char request[] = "GET /push?channel=bench&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static char in[1 << 16];
    size_t len = 0;
    int ready = 0;
    if (argc != 3) return 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm(LIFETIME_S);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        send(fd, request, sizeof request - 1, 0) < 0) {
        perror("connect");
        return 1;
    }
    for (long left = atol(argv[2]); left > 0;) {
        ssize_t got = recv(fd, in + len, sizeof in - len, 0);
        uint64_t now = now_ns();
        if (got <= 0) {
            fprintf(stderr, "the hub has closed\n");
            return 1;
        }
        len += (size_t)got;
        if (!ready && memmem(in, len, "\r\n\r\n", 4)) {
            ready = 1;
            printf("ready\n");
            fflush(stdout);
        }
        /* Whole lines only. */
        char *end = memrchr(in, '\n', len);
        if (!end) continue;
        size_t whole = (size_t)(end - in) + 1;
        for (char *at = in; (at = memmem(at, (size_t)(in + whole - at), "\"@", 2)); at += 2, left--)
            printf("%" PRIu64 "\n", now - (uint64_t)strtoull(at + 2, NULL, 10));
        len -= whole;
        memmove(in, in + whole, len);
    }
    return 0;
}
