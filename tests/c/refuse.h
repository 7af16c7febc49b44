/* The system refuses calls that a test names. A program includes this once. The functions here replace those of libc,
 * also for the library, since the program's symbols come first. */
#ifndef TESTS_REFUSE_H
#define TESTS_REFUSE_H

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *_Atomic failing; /* the function that fails */
static atomic_int countdown; /* calls until the first one that fails, this one included; 0 or less: it has failed */
static atomic_int lasting = 1; /* how many calls fail in a row */
static int with_error;
static const char *_Atomic following; /* the function that fails from then on, with the same error */
static int following_times;
static _Thread_local bool spared; /* this thread's calls do not fail */

/* Whether this call has to fail. */
static bool fails(const char *name)
{
    const char *wanted = failing;
    if (spared || !wanted || strcmp(wanted, name) != 0) return false;
    int left = --countdown;
    bool failed = left <= 0 && left > -lasting;
    if (failed && left == 1 - lasting && following) {
        failing = following;
        lasting = following_times;
        countdown = 1;
        following = NULL;
    }
    return failed;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

#define REFUSABLE(type, name, parameters, arguments)            \
    type name parameters                                        \
    {                                                           \
        type(*function) parameters;                             \
        if (fails(#name)) return errno = with_error, (type)-1;  \
        *(void **)&function = real(#name);                      \
        return function arguments;                              \
    }

REFUSABLE(int, epoll_create1, (int flags), (flags))
REFUSABLE(int, eventfd, (unsigned value, int flags), (value, flags))
REFUSABLE(int, socket, (int domain, int type, int protocol), (domain, type, protocol))
REFUSABLE(int, bind, (int fd, __CONST_SOCKADDR_ARG address, socklen_t len), (fd, address, len))
REFUSABLE(int, listen, (int fd, int backlog), (fd, backlog))
REFUSABLE(int, getsockname, (int fd, __SOCKADDR_ARG address, socklen_t *len), (fd, address, len))
REFUSABLE(int, getpeername, (int fd, __SOCKADDR_ARG address, socklen_t *len), (fd, address, len))
REFUSABLE(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len), (fd, level, name, value, len))
REFUSABLE(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),
          (fd, level, name, value, len))
REFUSABLE(int, accept4, (int fd, __SOCKADDR_ARG address, socklen_t *len, int flags), (fd, address, len, flags))
REFUSABLE(ssize_t, send, (int fd, const void *bytes, size_t len, int flags), (fd, bytes, len, flags))
REFUSABLE(ssize_t, recv, (int fd, void *bytes, size_t len, int flags), (fd, bytes, len, flags))
REFUSABLE(ssize_t, write, (int fd, const void *bytes, size_t len), (fd, bytes, len))
REFUSABLE(int, chmod, (const char *path, mode_t mode), (path, mode))

/* "epoll_ctl": a call of any kind; "EPOLL_CTL_ADD" and "EPOLL_CTL_MOD": a call of that kind. */
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    int (*function)(int, int, int, struct epoll_event *);
    bool refused = fails("epoll_ctl") || (operation == EPOLL_CTL_ADD && fails("EPOLL_CTL_ADD")) ||
                   (operation == EPOLL_CTL_MOD && fails("EPOLL_CTL_MOD"));
    if (refused) return errno = with_error, -1;
    *(void **)&function = real("epoll_ctl");
    return function(epoll, operation, fd, event);
}

/* "sendmsg": any call; "SCM_RIGHTS": one that passes descriptors. With the error 0 only one byte is taken. */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*function)(int, const struct msghdr *, int);
    *(void **)&function = real("sendmsg");
    if (!fails("sendmsg") && !(message->msg_controllen > 0 && fails("SCM_RIGHTS"))) return function(fd, message, flags);
    if (with_error) return errno = with_error, -1;
    struct msghdr less = *message;
    struct iovec byte = {message->msg_iov->iov_base, 1};
    less.msg_iov = &byte;
    less.msg_iovlen = 1;
    return function(fd, &less, flags);
}

/* Descriptors in a message are closed, and the message is marked as cut. The kernel does this if there is no room for
 * them (unix(7)). */
static void lose_descriptors(struct msghdr *message)
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    for (size_t at = CMSG_LEN(0); at < header->cmsg_len; at += sizeof(int)) {
        int passed;
        memcpy(&passed, (char *)header + at, sizeof passed);
        close(passed);
    }
    message->msg_controllen = 0;
    message->msg_flags |= MSG_CTRUNC;
}

/* "recvmsg": any call, and with the error 0 only one byte comes; "MSG_CTRUNC": one that brings descriptors. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t (*function)(int, struct msghdr *, int);
    *(void **)&function = real("recvmsg");
    bool refused = fails("recvmsg");
    if (refused && with_error) return errno = with_error, -1;
    size_t len = message->msg_iov->iov_len;
    if (refused) message->msg_iov->iov_len = 1;
    ssize_t got = function(fd, message, flags);
    message->msg_iov->iov_len = len;
    if (got > 0 && CMSG_FIRSTHDR(message) && fails("MSG_CTRUNC")) lose_descriptors(message);
    return got;
}

int fcntl(int fd, int command, ...)
{
    int (*function)(int, int, ...);
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (fails("fcntl")) return errno = with_error, -1;
    *(void **)&function = real("fcntl");
    return function(fd, command, argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int (*function)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (fails("pthread_create")) return EAGAIN;
    *(void **)&function = real("pthread_create");
    return function(thread, attributes, run, argument);
}

#endif
