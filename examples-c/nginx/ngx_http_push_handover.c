/* HTTP/1, plain or over TLS that the kernel encrypts and decrypts: the client's socket itself goes to the hub, and nginx
 * no longer has the connection. */
#include "ngx_http_push.h"

#if (NGX_HTTP_SSL)

#include <linux/tls.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* Whether the kernel has the keys of a direction (TLS_TX, TLS_RX). */
static ngx_flag_t ngx_http_push_in_kernel(ngx_connection_t *c, int direction)
{
    struct tls_crypto_info info;
    socklen_t len = sizeof info;

    return getsockopt(c->fd, SOL_TLS, direction, &info, &len) == 0;
}

/* OpenSSL may keep bytes of the client that it has decrypted, and nobody would see them once the socket is the hub's. So
 * all that is there is read now, behind the request. When nothing more is there, OpenSSL keeps nothing: it reads no more
 * than one record from the kernel, which keeps parts of records. */
static ngx_int_t ngx_http_push_read_on_tls(ngx_http_request_t *r)
{
    ngx_connection_t *c = r->connection;
    ngx_buf_t *b = r->header_in;
    ssize_t n;

    while (b->last < b->end) {
        n = c->recv(c, b->last, b->end - b->last);
        if (n == NGX_AGAIN) {
            return NGX_OK;
        }
        if (n <= 0) {
            break;
        }
        b->last += n;
    }
    /* There is no room, or the client has gone. A relay sees to both. */
    return NGX_DECLINED;
}

static ngx_flag_t ngx_http_push_is_encrypted_by_kernel(ngx_http_request_t *r)
{
    ngx_connection_t *c = r->connection;

    return ngx_http_push_in_kernel(c, TLS_TX) && ngx_http_push_in_kernel(c, TLS_RX) && !c->ssl->in_early
           && ngx_http_push_read_on_tls(r) == NGX_OK && c->ssl->saved_read_handler == NULL
           && c->ssl->saved_write_handler == NULL;
}

#endif

/* Whether the socket is the client's, has no other request on it, and is used by no code after this handler. */
static ngx_flag_t ngx_http_push_is_free(ngx_http_request_t *r, ngx_uint_t references)
{
    ngx_connection_t *c = r->connection;

#if (NGX_HTTP_V2)
    if (r->stream != NULL) {
        return 0;
    }
#endif
    /* A higher count means that a mirror's subrequest, or a thread, still needs the request. */
    return c->type == SOCK_STREAM && !c->shared && !c->buffered && r->main->count == references && !r->main->blocked
           && r->postponed == NULL && !r->header_sent;
}

ngx_flag_t ngx_http_push_can_hand_over(ngx_http_request_t *r, ngx_uint_t references)
{
    if (!ngx_http_push_is_free(r, references)) {
        return 0;
    }
#if (NGX_HTTP_SSL)
    if (r->connection->ssl != NULL) {
        return ngx_http_push_is_encrypted_by_kernel(r);
    }
#endif
    return 1;
}

/* Takes the socket off nginx's epoll before another process has it. epoll watches the open file, and goes on for as
 * long as any process has that file open, even if this one closes its descriptor. */
static ngx_int_t ngx_http_push_unwatch(ngx_connection_t *c)
{
    if (ngx_del_conn) {
        if (c->read->active || c->write->active) {
            return ngx_del_conn(c, 0);
        }
        return NGX_OK;
    }
    if ((c->read->active || c->read->disabled) && ngx_del_event(c->read, NGX_READ_EVENT, 0) != NGX_OK) {
        return NGX_ERROR;
    }
    if ((c->write->active || c->write->disabled) && ngx_del_event(c->write, NGX_WRITE_EVENT, 0) != NGX_OK) {
        return NGX_ERROR;
    }
    return NGX_OK;
}

/* The request ends as any other: cleanup handlers (limit_conn has one), the log phase, the counters of stub_status. But
 * ngx_http_finalize_request() is not called: it may keep the connection, linger on it, or shut the socket down. Here
 * only the descriptor is closed, and the client does not notice. */
static void ngx_http_push_handed_over(ngx_http_request_t *r)
{
    ngx_connection_t *c = r->connection;

    ngx_http_free_request(r, 0);
    ngx_http_close_connection(c);
}

ngx_int_t ngx_http_push_hand_over(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    ngx_connection_t *c = r->connection;
    ngx_http_push_ctx_t *ctx = ngx_http_push_ctx(r);
    ngx_str_t head;
    ngx_int_t rc;
    push_status status;
    int fd;

    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_push_head(r, subscription, 0, &head);
    if (rc != NGX_OK) {
        return rc;
    }
    /* An answer before this one on the same connection has corked the socket. */
    if (c->tcp_nopush == NGX_TCP_NOPUSH_SET) {
        if (ngx_tcp_push(c->fd) == -1) {
            return NGX_ERROR;
        }
        c->tcp_nopush = NGX_TCP_NOPUSH_UNSET;
    }
    fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
    if (fd == -1) {
        ngx_log_error(NGX_LOG_ALERT, c->log, ngx_errno, "push: fcntl(F_DUPFD_CLOEXEC) failed");
        return ngx_http_push_unavailable(r, subscription);
    }
    if (ngx_http_push_unwatch(c) != NGX_OK) {
        (void) close(fd);
        return NGX_ERROR;
    }
    status = ngx_http_push_adopt(fd, &head, &subscription->grant);
    if (status != PUSH_OK) {
        /* The socket is still ours, and we have to answer. */
        (void) close(fd);
        if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
            return NGX_ERROR;
        }
#if (NGX_HTTP_SSL)
        /* The hub is too old for TLS in the kernel, or built without TLS. */
        if (status == PUSH_ERR_UNSUPPORTED && c->ssl != NULL) {
            return ngx_http_push_relay(r, subscription);
        }
#endif
        if (status == PUSH_ERR_DESCRIPTOR) {
            ngx_log_error(NGX_LOG_INFO, c->log, 0, "push: the client has gone");
            return NGX_HTTP_CLIENT_CLOSED_REQUEST;
        }
        return ngx_http_push_not_taken(r, subscription, status);
    }
    /* From here on the hub talks with the client: nothing may be sent, received or configured on c->fd. */
#if (NGX_HTTP_SSL)
    if (c->ssl != NULL) {
        /* nginx frees its part of TLS, and says nothing to the client. */
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
    }
#endif
    ctx->via = NGX_HTTP_PUSH_VIA_HANDOVER;
    r->keepalive = 0;
    r->lingering_close = 0;
    /* This is for the log. Only the hub knows whether it takes the request. */
    r->headers_out.status = subscription->websocket ? NGX_HTTP_SWITCHING_PROTOCOLS : NGX_HTTP_OK;
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_push_handed_over;
    /* nginx still uses the request in this event, so it can't be freed now. This reference holds it until the event
     * ends. */
    r->main->count++;
    (void) ngx_http_post_request(r, &ctx->posted);
    return NGX_DONE;
}
