/* A listening socket on the loopback address, with the largest backlog. */
#ifndef LOAD_LISTENING_H
#define LOAD_LISTENING_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

/* Returns -1 with errno on an error. */
static inline int listen_on(int port)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 65535)) return -1;
    return listener;
}

#endif
