#define _GNU_SOURCE
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptors.h"

void host_begin(sigset_t *ends)
{
    raise_descriptor_limit();
    sigemptyset(ends);
    sigaddset(ends, SIGTERM);
    sigaddset(ends, SIGINT);
    sigaddset(ends, SIGALRM);
    sigprocmask(SIG_BLOCK, ends, NULL);
    alarm(HOST_LIFETIME_S);
}

static void set(push_config *config, char *option)
{
    char err[256], *value = strchr(option, '=');
    if (value) {
        *value++ = 0;
        if (push_config_set(config, option, value, err, sizeof err) == PUSH_OK) return;
        fprintf(stderr, "%s\n", err);
    } else {
        fprintf(stderr, "not name=value: %s\n", option);
    }
    exit(2);
}

push_server *host_start(int count, char **options)
{
    push_server *server;
    char err[256];
    push_config *config = push_config_new();
    for (int i = 0; i < count; i++) set(config, options[i]);
    push_status status = push_start(config, &server, err, sizeof err);
    push_config_free(config);
    if (status == PUSH_OK) return server;
    fprintf(stderr, "%s\n", err);
    exit(1);
}

int host_stop(push_server *server)
{
    return push_stop(server, 100) == PUSH_OK ? 0 : 1;
}
