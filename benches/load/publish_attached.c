/* publish attached: measures the cost of publishing for a host with a hub in another process. It starts the hub. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "publish.h"

enum { PAYLOAD = 100, PIPELINED = 200000, SERIES = 7, ALONE = 20000, ANSWER = 30, WARM_UP = 2000, HUB_CPU = 0, HOST_CPU = 1 };

extern char **environ;

static const char payload[PAYLOAD] = "what the hosts of other processes publish";
static pid_t hub;

static void end_hub(void)
{
    kill(hub, SIGKILL);
    waitpid(hub, NULL, 0);
}

/* The hub runs on its own CPU, so that the figure does not depend on the scheduler. */
static void start_hub(const char *pushd, char *listen)
{
    char *arguments[] = {(char *)pushd, "-o", "listen=none", "-o", "threads=1", "-o", listen, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    /* It logs to stderr that it listens. This log is not wanted here. */
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", 1, 0);
    publish_pin(HUB_CPU);
    if (posix_spawn(&hub, pushd, &actions, NULL, arguments, environ)) {
        perror(pushd);
        exit(1);
    }
    atexit(end_hub);
    publish_pin(HOST_CPU);
}

/* The same round trip without a hub: a process on the hub's CPU answers each 100 bytes with 30. Most of the time is the
 * kernel's work of waking two sleeping processes on other CPUs. */
static double bare_round_trip_us(void)
{
    static double trips[ALONE];
    char bytes[PAYLOAD] = {0};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) {
        perror("socketpair");
        exit(1);
    }
    pid_t echo = fork();
    if (!echo) {
        close(pair[0]);
        publish_pin(HUB_CPU);
        while (read(pair[1], bytes, PAYLOAD) > 0 && write(pair[1], bytes, ANSWER) > 0) {}
        _exit(0);
    }
    close(pair[1]);
    publish_pin(HOST_CPU);
    for (int i = 0; i < ALONE; i++) {
        uint64_t begin = now_ns();
        if (write(pair[0], bytes, PAYLOAD) != PAYLOAD || read(pair[0], bytes, ANSWER) <= 0) {
            perror("a bare round trip");
            exit(1);
        }
        trips[i] = (double)(now_ns() - begin) / 1e3;
    }
    close(pair[0]);
    waitpid(echo, NULL, 0);
    return publish_median(trips, ALONE);
}

/* Publishes and waits for the position. Answers come in order, so all earlier publishes are then acknowledged, too. */
static void publish_and_wait(push_server *server)
{
    push_message message = PUSH_MESSAGE_INIT;
    push_position position;
    message.channel = "news";
    message.data = payload;
    message.len = PAYLOAD;
    publish_check("push_publish_message", push_publish_message(server, &message, &position));
}

static double pipelined_per_s(push_server *server)
{
    uint64_t begin = now_ns();
    for (int i = 1; i < PIPELINED; i++) {
        push_status status;
        /* BUSY: `attach_buffer` is full of messages that the hub has not acknowledged. */
        while ((status = push_publish(server, "news", payload, PAYLOAD)) == PUSH_ERR_BUSY)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        publish_check("push_publish", status);
    }
    publish_and_wait(server);
    return PIPELINED * 1e9 / (double)(now_ns() - begin);
}

void publish_attached(const char *pushd, const char *directory)
{
    char listen[512], attach[512];
    static double series[SERIES], alone[ALONE];
    /* This forks, so it comes before there are threads. */
    double bare_us = bare_round_trip_us();
    mkdir(directory, 0755);
    snprintf(listen, sizeof listen, "attach_listen=unix:%s/publish.sock", directory);
    snprintf(attach, sizeof attach, "unix:%s/publish.sock", directory);
    unlink(attach + 5);
    start_hub(pushd, listen);
    push_server *server = publish_server((const char *[]){"attach", attach, "attach_timeout", "10s", NULL});
    for (int i = 0; i < WARM_UP; i++) publish_and_wait(server);
    for (int i = 0; i < ALONE; i++) {
        uint64_t begin = now_ns();
        publish_and_wait(server);
        alone[i] = (double)(now_ns() - begin) / 1e3;
    }
    for (int i = 0; i < SERIES; i++) series[i] = pipelined_per_s(server);
    printf("{\"acknowledged_per_s\":%.0f,\"one_at_a_time_us\":%.2f,\"bare_round_trip_us\":%.2f}\n",
           publish_median(series, SERIES), publish_median(alone, ALONE), bare_us);
    publish_check("push_stop", push_stop(server, 1000));
}
