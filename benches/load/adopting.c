/* adopting: a host with the floor's loop, to measure push_adopt without the loop of an older server around it. It
 * accepts, reads, and hands every connection over. Its command line has the library's options. The control API
 * publishes. With -u each connection has a user of its own.
 *
 *     adopting [-u] PORT control=127.0.0.1:8091 control_key=... threads=1
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host.h"
#include "listening.h"

enum { EVENTS = 512, HEAD_SIZE = 16 << 10 };

static push_server *server;
static int epoll;
static bool users;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The head goes with the descriptor, complete or not: the library reads on. Connections that it refuses are closed,
 * without a look at the reason. */
static void hand_over(int fd, const char *head, size_t len)
{
    static const char *const every[] = {"*"};
    static unsigned last_user;
    char user[32];
    push_grant grant = PUSH_GRANT_INIT;
    grant.patterns = every;
    grant.pattern_count = 1;
    grant.flags = PUSH_GRANT_KEEP_ALIVE; /* each connection of the load is one client */
    if (users) {
        snprintf(user, sizeof user, "user-%06u", ++last_user);
        grant.user = user;
    }
    if (push_adopt(server, fd, head, len, &grant) != PUSH_OK) close(fd);
}

static void readable(int fd)
{
    char head[HEAD_SIZE];
    ssize_t len = recv(fd, head, sizeof head, MSG_DONTWAIT);
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL); /* from here on the library watches it */
    if (len > 0) hand_over(fd, head, (size_t)len);
    else close(fd);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) close(fd);
    }
}

static void watch(int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("watch");
}

int main(int argc, char **argv)
{
    sigset_t ends;
    struct epoll_event events[EVENTS];
    if (argc > 1 && !strcmp(argv[1], "-u")) {
        users = true;
        argc--;
        argv++;
    }
    if (argc < 2) {
        fprintf(stderr, "adopting [-u] PORT [option=value]...\n");
        return 2;
    }
    host_begin(&ends);
    server = host_start(argc - 2, argv + 2);
    int listener = listen_on(atoi(argv[1])), signals = signalfd(-1, &ends, SFD_CLOEXEC), one = 1;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    watch(listener);
    watch(signals);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == signals) return host_stop(server);
            if (events[i].data.fd == listener) accept_all(listener);
            else readable(events[i].data.fd);
        }
    }
}
