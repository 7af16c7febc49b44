/* publish start: measures the time from starting a host's process until its listener takes connections. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "publish.h"

enum { STARTS = 21 };

extern char **environ;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Starts the host once. Returns the whole time in ms. `*call_ms` gets the time of push_start, as the host prints it. */
static double start_once(const char *host, double *call_ms)
{
    int out[2];
    char line[128] = "";
    unsigned long long call_ns = 0;
    char *arguments[] = {(char *)host, "listen=127.0.0.1:0", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    if (pipe(out)) die("pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    uint64_t begin = now_ns();
    if (posix_spawn(&pid, host, &actions, NULL, arguments, environ)) die(host);
    close(out[1]);
    ssize_t len = read(out[0], line, sizeof line - 1);
    double ms = (double)(now_ns() - begin) / 1e6;
    if (len <= 0 || sscanf(line, "listening after %llu", &call_ns) != 1) die("the host did not start");
    *call_ms = (double)call_ns / 1e6;
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    close(out[0]);
    posix_spawn_file_actions_destroy(&actions);
    return ms;
}

void publish_start(const char *host)
{
    double whole[STARTS], call[STARTS];
    for (int i = 0; i < STARTS; i++) whole[i] = start_once(host, &call[i]);
    printf("{\"start_ms\":%.3f,\"push_start_ms\":%.3f}\n", publish_median(whole, STARTS), publish_median(call, STARTS));
}
