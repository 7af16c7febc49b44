/* publish waking: publishes to one subscriber, whose shard sleeps each time.
 *
 * Waking a thread is the kernel's work. So the same is measured with a bare eventfd and a bare thread that waits for it
 * in epoll_wait: a library that has to wake a thread can't do it for less. Both are measured twice. First the library's
 * threads are on CPU 0 and the publisher is on CPU 1. Then the kernel interrupts an idle CPU, which in a virtual
 * machine goes through the hypervisor. The second time both are on CPU 1, and the woken thread may run before the call
 * returns. Without pinning, the scheduler would mix the two cases. Between two messages the publisher spins, so that
 * its CPU and caches stay as warm as those of a busy host.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "publish.h"

enum { SAMPLES = 10000, WARM_UP = 500, PARK_NS = 100000 };

static double samples[SAMPLES];
static char payload[100];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Measures `act` many times, with time between for the other side to go to sleep. Returns the median in ns, without the
 * cost of reading the clock. */
static double measure(void (*act)(void *), void *argument)
{
    double clock[101];
    for (int i = -WARM_UP; i < SAMPLES; i++) {
        uint64_t start = now_ns();
        act(argument);
        uint64_t end = now_ns();
        if (i >= 0) samples[i] = (double)(end - start);
        while (now_ns() < end + PARK_NS) continue;
    }
    for (size_t i = 0; i < 101; i++) {
        uint64_t start = now_ns();
        clock[i] = (double)(now_ns() - start);
    }
    return publish_median(samples, SAMPLES) - publish_median(clock, 101);
}

static int subscribe(push_server *server)
{
    static const char request[] = "GET /push?channel=news HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    char where[128], answer[1024];
    publish_check("push_listen_address", push_listen_address(server, 0, where, sizeof where));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(where, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0) die("request");
    ssize_t len = recv(fd, answer, sizeof answer - 1, 0);
    if (len < 12 || strncmp(answer, "HTTP/1.1 101", 12)) die("handshake");
    return fd;
}

static void publish_one(void *server)
{
    publish_check("push_publish", push_publish(server, "news", payload, sizeof payload));
}

/* Reads all bytes that came, so that the shard's socket never becomes full. */
static void *read_all(void *argument)
{
    static char sink[1 << 16];
    int fd = *(int *)argument;
    while (recv(fd, sink, sizeof sink, 0) > 0) continue;
    return NULL;
}

static double library_ns(int library_cpu, int publisher_cpu)
{
    pthread_t reader;
    publish_pin(library_cpu);
    push_server *server = publish_server((const char *[]){"listen", "127.0.0.1:0", "threads", "1", NULL});
    int fd = subscribe(server);
    if (pthread_create(&reader, NULL, read_all, &fd)) die("thread");
    publish_pin(publisher_cpu);
    double ns = measure(publish_one, server);
    publish_check("push_stop", push_stop(server, 0));
    pthread_join(reader, NULL);
    close(fd);
    return ns;
}

static void wake(void *argument)
{
    uint64_t one = 1;
    if (write(*(int *)argument, &one, sizeof one) != sizeof one) die("eventfd");
}

static void *park(void *argument)
{
    int fd = *(int *)argument, epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    uint64_t count;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    while (epoll_wait(epoll, &event, 1, -1) == 1 && read(fd, &count, sizeof count) == sizeof count)
        if (count >= UINT32_MAX) break; /* the end */
    close(epoll);
    return NULL;
}

static double bare_ns(int library_cpu, int publisher_cpu)
{
    pthread_t thread;
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t end = UINT32_MAX;
    publish_pin(library_cpu);
    if (fd < 0 || pthread_create(&thread, NULL, park, &fd)) die("thread");
    publish_pin(publisher_cpu);
    double ns = measure(wake, &fd);
    if (write(fd, &end, sizeof end) != sizeof end) die("eventfd");
    pthread_join(thread, NULL);
    close(fd);
    return ns;
}

void publish_waking(void)
{
    memset(payload, 'x', sizeof payload);
    double bare = bare_ns(0, 1), library = library_ns(0, 1), bare_same = bare_ns(1, 1), library_same = library_ns(1, 1);
    printf("{\"waking_ns\":%.1f,\"bare_eventfd_ns\":%.1f,\"waking_same_cpu_ns\":%.1f,\"bare_same_cpu_ns\":%.1f}\n", library,
           bare, library_same, bare_same);
}
