/* push_subscribe: runs as the location's content handler, so after access rules, auth_basic and auth_request. */
#include "ngx_http_push.h"

ngx_int_t ngx_http_push_subscribe_handler(ngx_http_request_t *r)
{
    ngx_http_push_subscription_t subscription;
    ngx_int_t rc;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: a subscriber's request can't be a subrequest");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    /* OPTIONS: the hub answers preflights. */
    if (!(r->method & (NGX_HTTP_GET | NGX_HTTP_OPTIONS))) {
        return ngx_http_push_not_allowed(r, "GET, OPTIONS");
    }
    if (r->http_version < NGX_HTTP_VERSION_10 || r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        /* Where a body ends two readers might see differently. */
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: a subscriber's request has no body");
        return NGX_HTTP_BAD_REQUEST;
    }
    rc = ngx_http_push_evaluate(r, &subscription);
    if (rc != NGX_OK) {
        return rc;
    }
    if (ngx_http_push_server() == NULL) {
        return ngx_http_push_unavailable(r, &subscription);
    }
    if (ngx_http_push_can_hand_over(r)) {
        return ngx_http_push_hand_over(r, &subscription);
    }
    return ngx_http_push_relay(r, &subscription);
}
