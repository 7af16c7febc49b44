/* Passes the library's log lines from its thread to nginx's error log. No function of nginx may be called from another
 * thread. So each line goes as a packet through a socket, and the event loop reads it. */
#include "ngx_http_push.h"

enum { LINE_MAX_LEN = 1500 };

static struct {
    int write_fd;
    ngx_connection_t *reader;
    ngx_atomic_t dropped;
} channel = { -1, NULL, 0 };

/* Runs on the library's thread. */
static void ngx_http_push_log_line(void *user_data, int32_t level, const char *line)
{
    char packet[1 + LINE_MAX_LEN];
    size_t len = strlen(line);

    (void) user_data;
    if (len > LINE_MAX_LEN) {
        len = LINE_MAX_LEN;
    }
    packet[0] = (char) level;
    memcpy(packet + 1, line, len);
    if (send(channel.write_fd, packet, 1 + len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        __atomic_add_fetch(&channel.dropped, 1, __ATOMIC_RELAXED);
    }
}

static ngx_uint_t ngx_http_push_log_level(int level)
{
    switch (level) {
    case PUSH_LOG_ERROR:
        return NGX_LOG_ERR;
    case PUSH_LOG_WARN:
        return NGX_LOG_WARN;
    case PUSH_LOG_INFO:
        return NGX_LOG_NOTICE;
    default:
        return NGX_LOG_INFO;
    }
}

static void ngx_http_push_log_drain(ngx_connection_t *c)
{
    u_char packet[1 + LINE_MAX_LEN];
    ngx_atomic_uint_t dropped;
    ssize_t n;

    for ( ;; ) {
        n = recv(c->fd, packet, sizeof packet, MSG_DONTWAIT);
        if (n < 0 && ngx_socket_errno == NGX_EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        ngx_log_error(ngx_http_push_log_level(packet[0]), c->log, 0, "push: %*s", (size_t) n - 1, packet + 1);
    }
    dropped = __atomic_exchange_n(&channel.dropped, 0, __ATOMIC_RELAXED);
    if (dropped) {
        ngx_log_error(NGX_LOG_WARN, c->log, 0, "push: %uA log lines were dropped", dropped);
    }
}

static void ngx_http_push_log_readable(ngx_event_t *event)
{
    ngx_connection_t *c = event->data;

    /* nginx closes idle connections when a worker is to end. This is how a module learns of it. */
    if (c->close) {
        c->close = 0;
        c->idle = 0;
        ngx_http_push_quit((ngx_cycle_t *) ngx_cycle);
        return;
    }
    ngx_http_push_log_drain(c);
    event->ready = 0;
    (void) ngx_handle_read_event(event, 0);
}

ngx_int_t ngx_http_push_log_open(ngx_cycle_t *cycle, push_config *config)
{
    int pair[2];
    ngx_connection_t *c;

    /* Bytes bound the queue of a SEQPACKET socket. Datagrams have ten packets at most (net.unix.max_dgram_qlen). */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_socket_errno, "push: socketpair() failed");
        return NGX_ERROR;
    }
    c = ngx_get_connection(pair[0], cycle->log);
    if (c == NULL) {
        goto failed;
    }
    c->read->handler = ngx_http_push_log_readable;
    c->read->log = cycle->log;
    /* It is no client, so the shutdown timer must not close it. nginx's own channel to the master does the same. */
    c->read->channel = 1;
    c->idle = 1;
    c->write->log = cycle->log;
    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_free_connection(c);
        c->fd = (ngx_socket_t) -1;
        goto failed;
    }
    channel.reader = c;
    channel.write_fd = pair[1];
    channel.dropped = 0;
    push_config_on_log(config, ngx_http_push_log_line, NULL, NULL);
    return NGX_OK;

failed:

    (void) close(pair[0]);
    (void) close(pair[1]);
    return NGX_ERROR;
}

/* Runs after push_stop, when no line can come any more. */
void ngx_http_push_log_close(void)
{
    if (channel.reader == NULL) {
        return;
    }
    ngx_http_push_log_drain(channel.reader);
    ngx_close_connection(channel.reader);
    (void) close(channel.write_fd);
    channel.reader = NULL;
    channel.write_fd = -1;
}
