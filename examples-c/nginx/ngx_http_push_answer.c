/* Answers that the module itself gives; in the forms of the hub's control API and of its refusals. */
#include "ngx_http_push.h"

ngx_int_t ngx_http_push_add_header(ngx_http_request_t *r, const char *name, const char *value)
{
    ngx_table_elt_t *header = ngx_list_push(&r->headers_out.headers);

    if (header == NULL) {
        return NGX_ERROR;
    }
    ngx_memzero(header, sizeof *header);
    header->hash = 1;
    header->key.data = (u_char *) name;
    header->key.len = ngx_strlen(name);
    header->value.data = (u_char *) value;
    header->value.len = ngx_strlen(value);
    return NGX_OK;
}

ngx_int_t ngx_http_push_answer(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *body, const char *type)
{
    ngx_chain_t out;
    ngx_buf_t *buf;
    ngx_int_t rc;

    r->headers_out.status = status;
    r->headers_out.content_length_n = body->len;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = r->headers_out.content_type_len = ngx_strlen(type);
    r->headers_out.content_type_lowcase = NULL;
    /* What compresses an event stream holds it back. */
    if (ngx_http_push_add_header(r, "Cache-Control",
                                 ngx_strcmp(type, "text/event-stream") == 0 ? "no-store, no-transform" : "no-store")
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    buf = ngx_calloc_buf(r->pool);
    if (buf == NULL) {
        return NGX_ERROR;
    }
    buf->pos = body->data;
    buf->last = body->data + body->len;
    buf->memory = 1;
    /* Of a subrequest, such as an SSI include, the answer ends, and not the page around it. */
    buf->last_buf = r == r->main;
    buf->last_in_chain = 1;
    out.buf = buf;
    out.next = NULL;
    return ngx_http_output_filter(r, &out);
}

const char *ngx_http_push_reason(push_status status)
{
    switch (status) {
    case PUSH_ERR_INVALID:
        return "a channel, user, event or key is missing or not allowed";
    case PUSH_ERR_TIMEOUT:
        return "the hub has not answered in time; it may have been done, or will be";
    case PUSH_ERR_BUSY:
        return "the hub is away, or too much waits for it; nothing was done, try again";
    default:
        return push_strerror(status);
    }
}

ngx_int_t ngx_http_push_answer_status(ngx_http_request_t *r, push_status status)
{
    static const struct {
        push_status status;
        ngx_uint_t http;
        const char *code;
    } known[] = {
        { PUSH_ERR_INVALID, NGX_HTTP_BAD_REQUEST, "invalid" },
        { PUSH_ERR_TOO_LARGE, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, "too_large" },
        { PUSH_ERR_BUSY, NGX_HTTP_SERVICE_UNAVAILABLE, "busy" },
        { PUSH_ERR_CLOSED, NGX_HTTP_SERVICE_UNAVAILABLE, "busy" },
        { PUSH_ERR_LIMIT, NGX_HTTP_SERVICE_UNAVAILABLE, "full" },
        /* It may have been published, or will be: not the same as 503. */
        { PUSH_ERR_TIMEOUT, NGX_HTTP_GATEWAY_TIME_OUT, "timeout" },
        { PUSH_OK, NGX_HTTP_INTERNAL_SERVER_ERROR, "internal" },
    };
    const char *message = ngx_http_push_reason(status);
    ngx_str_t body;
    ngx_uint_t i;
    u_char *end;

    for (i = 0; known[i].status != PUSH_OK && known[i].status != status; i++) { /* void */ }
    if (known[i].http >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: %s", message);
    }
    if (known[i].http == NGX_HTTP_SERVICE_UNAVAILABLE && ngx_http_push_add_header(r, "Retry-After", "1") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    body.len = sizeof("{\"error\":{\"code\":\"\",\"message\":\"\"}}\n") + ngx_strlen(known[i].code) + 2 * ngx_strlen(message);
    body.data = ngx_pnalloc(r->pool, body.len);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    end = ngx_sprintf(body.data, "{\"error\":{\"code\":\"%s\",\"message\":\"", known[i].code);
    end = (u_char *) ngx_escape_json(end, (u_char *) message, ngx_strlen(message));
    end = ngx_cpymem(end, "\"}}\n", 4);
    body.len = end - body.data;
    return ngx_http_push_answer(r, known[i].http, &body, "application/json");
}

/* The hub is away, or full.  A browser's EventSource never comes back after an error status, so it is told in its own
 * way.  By chance not all come back at once. */
ngx_int_t ngx_http_push_unavailable(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    ngx_uint_t retry = 2000 + ngx_random() % 2001;
    u_char *text = ngx_pnalloc(r->pool, 128);
    ngx_str_t come_back;

    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (subscription->sse && r->method == NGX_HTTP_GET) {
        come_back.data = text;
        come_back.len = ngx_snprintf(text, 128, "retry: %ui\nevent: push-close\ndata: "
                                     "{\"type\":\"close\",\"code\":1001,\"reason\":\"the hub is away\"}\n\n", retry)
                        - text;
        return ngx_http_push_answer(r, NGX_HTTP_OK, &come_back, "text/event-stream");
    }
    *ngx_sprintf(text, "%ui", (retry + 999) / 1000) = '\0';
    /* nginx's own page, so that error_page applies. */
    if (ngx_http_push_add_header(r, "Retry-After", (const char *) text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

/* The library has not taken a subscriber.  As everywhere in nginx, what clients do wrong is logged as info. */
ngx_int_t ngx_http_push_not_taken(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription, push_status status)
{
    ngx_uint_t level = status == PUSH_ERR_INVALID || status == PUSH_ERR_TOO_LARGE ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, r->connection->log, 0, "push: not handed over: %s", ngx_http_push_reason(status));
    /* All but the first two may be otherwise the next time, and an EventSource comes back only after this one. */
    return status == PUSH_ERR_BUSY || status == PUSH_ERR_LIMIT || status == PUSH_ERR_CLOSED
           || (subscription->sse && status != PUSH_ERR_INVALID && status != PUSH_ERR_TOO_LARGE)
           ? ngx_http_push_unavailable(r, subscription)
           : ngx_http_push_answer_status(r, status);
}

/* 415 says what is taken (RFC 9110, 15.5.16). */
ngx_int_t ngx_http_push_not_plain(ngx_http_request_t *r)
{
    static ngx_str_t body = ngx_string("{\"error\":{\"code\":\"content_encoding\",\"message\":"
                                       "\"a message is published as it comes; send it without Content-Encoding\"}}\n");

    if (ngx_http_push_add_header(r, "Accept-Encoding", "identity") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return ngx_http_push_answer(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, &body, "application/json");
}

ngx_int_t ngx_http_push_not_allowed(ngx_http_request_t *r, const char *allow)
{
    if (ngx_http_push_add_header(r, "Allow", allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_HTTP_NOT_ALLOWED;
}
