/* Makes the library's threads behave as if other work had the CPU: each rests for a moment after system calls.
 *
 *   cc -shared -fPIC -O2 -o target/stress/rest.so tests/stress/rest.c -ldl
 *   REST_US=5000 LD_PRELOAD=$PWD/target/stress/rest.so tests/clients/run
 *
 * A thread rests after each send, and after one in four of the other calls, for up to REST_US microseconds (2000 by
 * default); each rest is random. The names of the library's threads begin with "push-": a
 * host's own threads, and the clients, are as fast as ever.  This makes the time long in which something is half done:
 * a message sent and not yet counted, a connection read and not yet subscribed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned longest_us = 2000;

/* This must not be later: a test may check who reads the environment. */
__attribute__((constructor)) static void read_the_environment(void)
{
    const char *wanted = getenv("REST_US");
    if (wanted) longest_us = (unsigned)atoi(wanted);
}

/* A thread of the library gets its name before it first calls any of these. */
static int is_of_the_library(void)
{
    static __thread int known = -1;
    if (known < 0) {
        char name[16] = "";
        prctl(PR_GET_NAME, name);
        known = strncmp(name, "push-", 5) == 0;
    }
    return known;
}

/* Rests after one in `of` calls. */
static void rest(unsigned of)
{
    static __thread unsigned seed = 1;
    if (!is_of_the_library() || (unsigned)rand_r(&seed) % of != 0) return;
    int kept = errno;
    usleep((unsigned)rand_r(&seed) % (longest_us + 1));
    errno = kept;
}

/* Defines the function NAME: libc's, and then perhaps a rest. */
#define RESTS(OF, TYPE, NAME, PARAMETERS, ARGUMENTS)                            \
    TYPE NAME PARAMETERS                                                        \
    {                                                                           \
        static TYPE(*next) PARAMETERS;                                          \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #NAME);                   \
        TYPE result = next ARGUMENTS;                                           \
        rest(OF);                                                               \
        return result;                                                          \
    }

RESTS(1, ssize_t, send, (int fd, const void *bytes, size_t len, int flags), (fd, bytes, len, flags))
RESTS(1, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
RESTS(4, ssize_t, recv, (int fd, void *bytes, size_t len, int flags), (fd, bytes, len, flags))
RESTS(4, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
RESTS(4, int, accept4, (int fd, __SOCKADDR_ARG address, socklen_t *len, int flags),
      (fd, address, len, flags))
RESTS(4, int, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout), (fd, events, most, timeout))
/* The wake-up of another thread. */
RESTS(4, ssize_t, write, (int fd, const void *bytes, size_t len), (fd, bytes, len))
