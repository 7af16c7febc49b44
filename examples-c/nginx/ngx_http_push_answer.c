/* Answers that the module itself gives. The library words refusals, in the form of its own. */
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
    /* A filter that compresses an event stream holds it back. */
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
    /* In a subrequest, such as an SSI include, this ends the answer, and not the page around it. */
    buf->last_buf = r == r->main;
    buf->last_in_chain = 1;
    out.buf = buf;
    out.next = NULL;
    return ngx_http_output_filter(r, &out);
}

/* Takes the header lines of a response of the library, up to the empty line. nginx writes some of them itself. */
static ngx_int_t ngx_http_push_take_lines(ngx_http_request_t *r, u_char *line, const char **type, u_char **body)
{
    static const char *const own[] = { "Content-Length", "Connection", "Cache-Control", "Date" };
    u_char *end, *value;
    ngx_uint_t i;

    for ( ; (end = (u_char *) ngx_strstr(line, "\r\n")) != NULL && end != line; line = end + 2) {
        *end = '\0';
        value = (u_char *) ngx_strstr(line, ": ");
        if (value == NULL) {
            return NGX_ERROR;
        }
        *value = '\0';
        value += 2;
        for (i = 0; i < sizeof own / sizeof own[0] && ngx_strcmp(line, own[i]) != 0; i++) { /* void */ }
        if (i < sizeof own / sizeof own[0]) {
            continue;
        }
        if (ngx_strcmp(line, "Content-Type") == 0) {
            *type = (const char *) value;
        } else if (ngx_http_push_add_header(r, (const char *) line, (const char *) value) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    *body = end + 2;
    return end != NULL ? NGX_OK : NGX_ERROR;
}

/* The library writes the response, as for the clients that it refuses itself. With `page` a 503 gets nginx's own page,
 * so that error_page applies. */
static ngx_int_t ngx_http_push_refuse(ngx_http_request_t *r, int32_t why, const char *code, const char *message,
    ngx_str_t *head, ngx_flag_t page)
{
    u_char *response = ngx_pnalloc(r->pool, PUSH_REFUSAL_MAX + 1), *line;
    const char *type = "text/plain";
    ngx_int_t status;
    ngx_str_t body;
    size_t len;

    if (response == NULL
        || push_refusal(ngx_http_push_server(), why, code, message, head->data, head->len, response, PUSH_REFUSAL_MAX,
                        &len) != PUSH_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    response[len] = '\0';
    line = (u_char *) ngx_strstr(response, "\r\n");
    status = ngx_atoi(response + sizeof("HTTP/1.1 ") - 1, 3);
    if (line == NULL || status == NGX_ERROR || ngx_http_push_take_lines(r, line + 2, &type, &body.data) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (page && status == NGX_HTTP_SERVICE_UNAVAILABLE) {
        return status;
    }
    body.len = response + len - body.data;
    return ngx_http_push_answer(r, status, &body, type);
}

/* A call for a publisher or an operator has failed. */
ngx_int_t ngx_http_push_answer_status(ngx_http_request_t *r, push_status status)
{
    ngx_str_t nothing = ngx_null_string;

    if (status != PUSH_ERR_INVALID && status != PUSH_ERR_TOO_LARGE) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: %s", push_strerror(status));
    }
    return ngx_http_push_refuse(r, status, NULL, NULL, &nothing, 0);
}

static ngx_int_t ngx_http_push_turn_away(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription,
    push_status status)
{
    ngx_str_t head;
    /* By its head the library knows an EventSource, which never comes back after an error status. */
    ngx_int_t rc = ngx_http_push_head(r, subscription, 1, &head);

    return rc == NGX_OK ? ngx_http_push_refuse(r, status, NULL, NULL, &head, 1) : rc;
}

ngx_int_t ngx_http_push_unavailable(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    return ngx_http_push_turn_away(r, subscription, PUSH_ERR_BUSY);
}

/* The library has not taken a subscriber. As everywhere in nginx, mistakes of clients are logged as info. */
ngx_int_t ngx_http_push_not_taken(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription, push_status status)
{
    ngx_uint_t level = status == PUSH_ERR_INVALID || status == PUSH_ERR_TOO_LARGE ? NGX_LOG_INFO : NGX_LOG_ERR;

    ngx_log_error(level, r->connection->log, 0, "push: not handed over: %s", push_strerror(status));
    return ngx_http_push_turn_away(r, subscription, status);
}

ngx_int_t ngx_http_push_not_plain(ngx_http_request_t *r)
{
    ngx_str_t nothing = ngx_null_string;

    return ngx_http_push_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE, "content_encoding",
                                "a message is published as it comes; send it without Content-Encoding", &nothing, 0);
}

ngx_int_t ngx_http_push_not_allowed(ngx_http_request_t *r, const char *allow)
{
    if (ngx_http_push_add_header(r, "Allow", allow) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_HTTP_NOT_ALLOWED;
}
