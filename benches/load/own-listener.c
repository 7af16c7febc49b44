/* own-listener: the smallest host there is, for measuring the library behind its own listener. It starts a server from
 * the options on its command line, says how long that took, and waits to be ended. Publishing goes by the control API.
 *
 *     own-listener listen=127.0.0.1:8090 control=127.0.0.1:8091 control_key=... threads=1
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "descriptors.h"
#include "push.h"

enum { LIFETIME_S = 3600 };

static int set(push_config *config, char *option)
{
    char err[256], *value = strchr(option, '=');
    if (!value) {
        fprintf(stderr, "own-listener: not name=value: %s\n", option);
        return 0;
    }
    *value++ = 0;
    if (push_config_set(config, option, value, err, sizeof err) == PUSH_OK) return 1;
    fprintf(stderr, "own-listener: %s\n", err);
    return 0;
}

int main(int argc, char **argv)
{
    push_server *server;
    char err[256];
    sigset_t ends;
    struct timespec lifetime = {.tv_sec = LIFETIME_S};

    raise_descriptor_limit();
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    push_config *config = push_config_new();
    for (int i = 1; i < argc; i++)
        if (!set(config, argv[i])) return 2;
    uint64_t before = now_ns();
    if (push_start(config, &server, err, sizeof err) != PUSH_OK) {
        fprintf(stderr, "own-listener: %s\n", err);
        return 1;
    }
    printf("listening after %llu ns\n", (unsigned long long)(now_ns() - before));
    fflush(stdout);
    push_config_free(config);
    sigtimedwait(&ends, NULL, &lifetime);
    return push_stop(server, 100) == PUSH_OK ? 0 : 1;
}
