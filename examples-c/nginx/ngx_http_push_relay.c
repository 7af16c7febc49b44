/* TLS and HTTP/2: nginx has to encrypt and to frame the bytes, so it keeps the connection. A socket pair stands in for
 * the client's socket. One end goes to the hub with the grant, as a client's socket would. The other end is an upstream
 * of nginx. There is no listener that somebody else could connect to, and no token that could be forged, stolen or
 * replayed. */
#include "ngx_http_push.h"
#include <netinet/tcp.h>

static ngx_str_t peer_name = ngx_string("push hub");

/* ---- our end of the pair as a peer of ngx_http_upstream ---- */

static ngx_int_t ngx_http_push_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_request_t *r = data;
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);
    ngx_connection_t *c;

    if (ctx == NULL || ctx->relay == NULL) {
        return NGX_ERROR;
    }
    c = ctx->relay;
    ctx->relay = NULL;
    c->log = pc->log;
    c->type = SOCK_STREAM;
    c->recv = ngx_recv;
    c->send = ngx_send;
    c->recv_chain = ngx_recv_chain;
    c->send_chain = ngx_send_chain;
    c->log_error = pc->log_error;
    c->tcp_nopush = NGX_TCP_NOPUSH_DISABLED;
    c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
    c->read->log = pc->log;
    c->write->log = pc->log;
    c->write->ready = 1;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;
    if (ngx_add_conn) {
        if (ngx_add_conn(c) == NGX_ERROR) {
            ngx_close_connection(c);
            return NGX_ERROR;
        }
    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_close_connection(c);
        return NGX_ERROR;
    }
    pc->connection = c;
    ngx_http_push_relay_begins(ctx, c);
    /* This says "it is connected", as for an upstream that was kept alive. */
    return NGX_DONE;
}

static void ngx_http_push_free_peer(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
    (void) data;
    (void) state;
    pc->tries = 0;
}

ngx_int_t ngx_http_push_relay_init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *uscf)
{
    ngx_http_upstream_t *u = r->upstream;

    (void) uscf;
    u->peer.name = &peer_name;
    u->peer.get = ngx_http_push_get_peer;
    u->peer.free = ngx_http_push_free_peer;
    u->peer.data = r;
    u->peer.tries = 1;
    return NGX_OK;
}

/* ---- the request to the hub, and its answer ---- */

static ngx_int_t ngx_http_push_create_request(ngx_http_request_t *r)
{
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);
    ngx_chain_t *chain = ngx_alloc_chain_link(r->pool);
    ngx_buf_t *buf = ngx_calloc_buf(r->pool);

    if (chain == NULL || buf == NULL) {
        return NGX_ERROR;
    }
    buf->start = buf->pos = ctx->head.data;
    buf->end = buf->last = ctx->head.data + ctx->head.len;
    buf->temporary = 1;
    buf->flush = 1;
    chain->buf = buf;
    chain->next = NULL;
    /* The head takes the place of the request's body, since there is none. */
    r->upstream->request_bufs = chain;
    return NGX_OK;
}

static ngx_int_t ngx_http_push_reinit_request(ngx_http_request_t *r)
{
    (void) r;
    return NGX_OK;
}

static ngx_int_t ngx_http_push_take_header(ngx_http_request_t *r)
{
    ngx_http_upstream_t *u = r->upstream;
    ngx_http_upstream_main_conf_t *umcf = ngx_http_get_module_main_conf(r, ngx_http_upstream_module);
    ngx_http_upstream_header_t *known;
    ngx_table_elt_t *header = ngx_list_push(&u->headers_in.headers);

    if (header == NULL) {
        return NGX_ERROR;
    }
    header->hash = r->header_hash;
    header->key.len = r->header_name_end - r->header_name_start;
    header->value.len = r->header_end - r->header_start;
    header->key.data = ngx_pnalloc(r->pool, 2 * header->key.len + header->value.len + 2);
    if (header->key.data == NULL) {
        header->hash = 0;
        return NGX_ERROR;
    }
    header->value.data = header->key.data + header->key.len + 1;
    header->lowcase_key = header->value.data + header->value.len + 1;
    ngx_cpystrn(header->key.data, r->header_name_start, header->key.len + 1);
    ngx_cpystrn(header->value.data, r->header_start, header->value.len + 1);
    ngx_strlow(header->lowcase_key, header->key.data, header->key.len);
    known = ngx_hash_find(&umcf->headers_in_hash, header->hash, header->lowcase_key, header->key.len);
    return known != NULL ? known->handler(r, header, known->offset) : NGX_OK;
}

static ngx_int_t ngx_http_push_process_headers(ngx_http_request_t *r)
{
    ngx_http_upstream_t *u = r->upstream;
    ngx_int_t rc;

    for ( ;; ) {
        rc = ngx_http_parse_header_line(r, &u->buffer, 1);
        if (rc == NGX_OK) {
            rc = ngx_http_push_take_header(r);
            if (rc != NGX_OK) {
                return rc;
            }
            continue;
        }
        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }
        /* Chunks come in HTTP/1.1 only, and this speaks HTTP/1.1 only for an upgrade. */
        if (rc != NGX_HTTP_PARSE_HEADER_DONE || u->headers_in.chunked) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: the hub's answer is not understood");
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }
        if (u->headers_in.status_n == NGX_HTTP_SWITCHING_PROTOCOLS) {
            if (r->headers_in.upgrade == NULL || r->http_version != NGX_HTTP_VERSION_11) {
                return NGX_HTTP_UPSTREAM_INVALID_HEADER;
            }
            u->upgrade = 1;
        }
        /* The hub's own Connection line is not passed on. But an answer with Upgrade needs one (RFC 9110, 7.8). */
        if (u->headers_in.status_n == 426
            && ngx_http_push_add_header(r, "Connection", "Upgrade") != NGX_OK)
        {
            return NGX_ERROR;
        }
        return NGX_OK;
    }
}

static ngx_int_t ngx_http_push_process_status_line(ngx_http_request_t *r)
{
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);
    ngx_http_upstream_t *u = r->upstream;
    ngx_int_t rc = ngx_http_parse_status_line(r, &u->buffer, &ctx->status);

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }
    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: the hub does not speak HTTP");
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }
    if (u->state != NULL && u->state->status == 0) {
        u->state->status = ctx->status.code;
    }
    u->headers_in.status_n = ctx->status.code;
    u->headers_in.status_line.len = ctx->status.end - ctx->status.start;
    u->headers_in.status_line.data = ngx_pnalloc(r->pool, u->headers_in.status_line.len);
    if (u->headers_in.status_line.data == NULL) {
        return NGX_ERROR;
    }
    ngx_memcpy(u->headers_in.status_line.data, ctx->status.start, u->headers_in.status_line.len);
    u->process_header = ngx_http_push_process_headers;
    return ngx_http_push_process_headers(r);
}

static void ngx_http_push_abort_request(ngx_http_request_t *r)
{
    (void) r;
}

/* Runs before nginx closes our end. */
static void ngx_http_push_finalize_request(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);

    (void) rc;
    if (ctx != NULL) {
        ngx_http_push_relay_ended(ctx);
    }
    /* If a WebSocket's client sends at this moment, closing would reset the connection, and it might lose the close frame
     * that it was sent. */
    if (r->upstream->upgrade) {
        r->lingering_close = 1;
    }
}

/* ---- the start of it ---- */

/* If a client's network is gone without a word, nginx learns of it from the kernel, which gives up after some 15 minutes.
 * The hub can't look: it has only the pair, and counts the client meanwhile. So the kernel is to give up when the client's
 * machine has acknowledged nothing for send_timeout, the time after which nginx itself gives up a client that takes
 * nothing. Connections that nginx has accepted over a Unix socket or QUIC don't have the option, and it is no error. */
static void ngx_http_push_limit_silence(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t *clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    unsigned limit_ms = (unsigned) ngx_min(clcf->send_timeout, (ngx_msec_t) NGX_MAX_INT32_VALUE);

    /* Over HTTP/2, too, this is the descriptor of the client's connection. */
    (void) setsockopt(r->connection->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof limit_ms);
}

/* The request ended before nginx's upstream took the socket. */
static void ngx_http_push_relay_cleanup(void *data)
{
    ngx_http_push_ctx_t *ctx = data;

    ngx_http_push_relay_ended(ctx);
    if (ctx->relay != NULL) {
        ngx_close_connection(ctx->relay);
        ctx->relay = NULL;
    }
}

ngx_int_t ngx_http_push_relay(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    ngx_http_push_loc_conf_t *plcf = ngx_http_get_module_loc_conf(r, ngx_http_push_module);
    ngx_http_push_ctx_t *ctx = ngx_http_push_ctx(r);
    ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(r->pool, 0);
    ngx_http_upstream_t *u;
    push_status status;
    ngx_int_t rc;
    ngx_str_t nothing = ngx_null_string;
    int pair[2];

    if (ctx == NULL || cleanup == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_push_head(r, subscription, 1, &ctx->head);
    if (rc != NGX_OK) {
        return rc;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == -1) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, ngx_socket_errno, "push: socketpair() failed");
        return ngx_http_push_unavailable(r, subscription);
    }
    /* Later, at the limit of worker_connections, nginx's upstream could only answer 500. */
    ctx->relay = ngx_get_connection(pair[0], r->connection->log);
    if (ctx->relay == NULL) {
        (void) close(pair[0]);
        (void) close(pair[1]);
        return ngx_http_push_unavailable(r, subscription);
    }
    cleanup->handler = ngx_http_push_relay_cleanup;
    cleanup->data = ctx;
    status = ngx_http_push_adopt(pair[1], &nothing, &subscription->grant);
    if (status != PUSH_OK) {
        (void) close(pair[1]);
        return ngx_http_push_not_taken(r, subscription, status);
    }
    ngx_http_push_limit_silence(r);
    if (ngx_http_upstream_create(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ctx->via = NGX_HTTP_PUSH_VIA_RELAY;
    u = r->upstream;
    ngx_str_set(&u->schema, "push://");
    u->output.tag = (ngx_buf_tag_t) &ngx_http_push_module;
    u->conf = &plcf->upstream;
    u->create_request = ngx_http_push_create_request;
    u->reinit_request = ngx_http_push_reinit_request;
    u->process_header = ngx_http_push_process_status_line;
    u->abort_request = ngx_http_push_abort_request;
    u->finalize_request = ngx_http_push_finalize_request;
    u->buffering = 0;
    r->state = 0;
    /* nginx's upstream has a reference of its own, and ends it. */
    r->main->count++;
    ngx_http_upstream_init(r);
    return NGX_DONE;
}
