/* own-listener: the smallest host, to measure the library behind its own listener. It starts a server, prints how long
 * that took, and waits for a signal to end. The control API publishes.
 *
 *     own-listener listen=127.0.0.1:8090 control=127.0.0.1:8091 control_key=... threads=1
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "clock.h"
#include "host.h"

int main(int argc, char **argv)
{
    sigset_t ends;
    host_begin(&ends);
    uint64_t before = now_ns();
    push_server *server = host_start(argc - 1, argv + 1);
    printf("listening after %llu ns\n", (unsigned long long)(now_ns() - before));
    fflush(stdout);
    sigwaitinfo(&ends, NULL);
    return host_stop(server);
}
