/* push_subscribe. It runs as the location's content handler, so after access rules, auth_basic and auth_request. */
#include "ngx_http_push.h"

/* The request has no body, or an empty one. */
static ngx_int_t ngx_http_push_serve(ngx_http_request_t *r, ngx_uint_t references)
{
    ngx_http_push_subscription_t subscription;
    ngx_int_t rc;

    r->request_body_no_buffering = 0;
    r->read_event_handler = ngx_http_block_reading;
    rc = ngx_http_push_evaluate(r, &subscription);
    if (rc != NGX_OK) {
        return rc;
    }
    if (ngx_http_push_server() == NULL) {
        return ngx_http_push_unavailable(r, &subscription);
    }
    if (ngx_http_push_can_hand_over(r, references)) {
        return ngx_http_push_hand_over(r, &subscription);
    }
    return ngx_http_push_relay(r, &subscription);
}

/* ---- the body: two readers might see its end in different places, so there must be none. If its length is not known
 * before, in chunks or on HTTP/2, nginx alone reads it, and the hub never sees it. It may turn out to be empty. ---- */

static ngx_int_t ngx_http_push_no_body(ngx_http_request_t *r)
{
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: a subscriber's request must have no body");
    return NGX_HTTP_BAD_REQUEST;
}

/* Bytes of the body that have come. nginx adds a buffer without bytes for its end. */
static ngx_flag_t ngx_http_push_has_body(ngx_http_request_t *r)
{
    ngx_chain_t *chain = r->request_body != NULL ? r->request_body->bufs : NULL;

    for ( ; chain != NULL; chain = chain->next) {
        if (ngx_buf_size(chain->buf) != 0) {
            return 1;
        }
    }
    return 0;
}

/* More of the body has come, or nothing in time. The content handler has returned before, so the only reference to the
 * request is the one from reading the body. */
static void ngx_http_push_read_on(ngx_http_request_t *r)
{
    ngx_int_t rc = ngx_http_read_unbuffered_request_body(r);

    if ((rc == NGX_OK || rc == NGX_AGAIN) && ngx_http_push_has_body(r)) {
        rc = ngx_http_push_no_body(r);
    } else if (rc == NGX_OK) {
        rc = ngx_http_push_serve(r, 1);
    } else if (rc == NGX_AGAIN) {
        return;
    }
    ngx_http_finalize_request(r, rc);
}

/* nginx has read what came with the head. The content handler is still running, so there are two references to
 * the request: the handler's, and the one from reading the body, which ends here or in read_on. */
static void ngx_http_push_read_first(ngx_http_request_t *r)
{
    ngx_int_t rc;

    if (ngx_http_push_has_body(r)) {
        rc = ngx_http_push_no_body(r);
    } else if (r->reading_body) {
        r->read_event_handler = ngx_http_push_read_on;
        return;
    } else {
        rc = ngx_http_push_serve(r, 2);
    }
    ngx_http_finalize_request(r, rc);
}

ngx_int_t ngx_http_push_subscribe_handler(ngx_http_request_t *r)
{
    ngx_int_t rc;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: a subscriber's request can't be a subrequest");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    /* OPTIONS: the hub answers preflights. */
    if (!(r->method & (NGX_HTTP_GET | NGX_HTTP_OPTIONS))) {
        return ngx_http_push_not_allowed(r, "GET, OPTIONS");
    }
    /* With discard_body another handler drops the body, and nobody can tell any more whether it was empty. */
    if (r->http_version < NGX_HTTP_VERSION_10 || r->headers_in.content_length_n > 0 || r->discard_body) {
        return ngx_http_push_no_body(r);
    }
    /* So nginx shows the body as it comes. Otherwise it would keep all of it, in a file if it is long, to be refused. */
    r->request_body_no_buffering = 1;
    rc = ngx_http_read_client_request_body(r, ngx_http_push_read_first);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}
