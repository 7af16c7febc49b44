/* push_publish: the request's body goes to a channel. push_publish_user: to a user. push_begin and push_end: its
 * stream begins or ends. The answer is that of the control API: {"id":"EPOCH-NUMBER"}. */
#include "ngx_http_push.h"

typedef struct {
    push_message message;
    const char *user;            /* NULL: the message goes to its channel */
    push_status (*mark)(push_server *server, const char *channel, push_position *out);
    push_position position;
} ngx_http_push_publication_t;

/* Runs on a thread of the pool. */
static push_status ngx_http_push_publish_call(ngx_http_push_task_t *task)
{
    ngx_http_push_publication_t *publication = task->data;

    if (publication->mark != NULL) {
        return publication->mark(task->server, publication->message.channel, &publication->position);
    }
    if (publication->user != NULL) {
        return push_publish_user(task->server, publication->user, &publication->message, &publication->position);
    }
    return push_publish_message(task->server, &publication->message, &publication->position);
}

static ngx_int_t ngx_http_push_publish_answer(ngx_http_push_task_t *task)
{
    ngx_http_push_publication_t *publication = task->data;
    ngx_http_request_t *r = task->request;
    ngx_str_t body;

    if (task->status != PUSH_OK) {
        return ngx_http_push_answer_status(r, task->status);
    }
    body.data = ngx_pnalloc(r->pool, sizeof("{\"id\":\"\"}\n") + sizeof publication->position.text);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    body.len = ngx_sprintf(body.data, "{\"id\":\"%s\"}\n", publication->position.text) - body.data;
    return ngx_http_push_answer(r, NGX_HTTP_OK, &body, "application/json");
}

/* Reads all of a buffer, which may be in a file. */
static u_char *ngx_http_push_copy(ngx_http_request_t *r, ngx_buf_t *buf, u_char *to)
{
    off_t at;
    ssize_t n;

    if (ngx_buf_in_memory(buf)) {
        return ngx_cpymem(to, buf->pos, buf->last - buf->pos);
    }
    for (at = buf->file_pos; at < buf->file_last; at += n) {
        n = ngx_read_file(buf->file, to, (size_t) (buf->file_last - at), at);
        if (n <= 0) {
            ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0, "push: the body's file is shorter than it was");
            return NULL;
        }
        to += n;
    }
    return to;
}

static ngx_int_t ngx_http_push_body(ngx_http_request_t *r, ngx_str_t *body)
{
    ngx_chain_t *chain, *first = r->request_body != NULL ? r->request_body->bufs : NULL;
    u_char *end;

    ngx_str_null(body);
    if (first != NULL && first->next == NULL && ngx_buf_in_memory(first->buf)) {
        /* The usual case: it is published from where it is. */
        body->data = first->buf->pos;
        body->len = first->buf->last - first->buf->pos;
        return NGX_OK;
    }
    for (chain = first; chain != NULL; chain = chain->next) {
        body->len += ngx_buf_size(chain->buf);
    }
    if (body->len == 0) {
        return NGX_OK;
    }
    body->data = end = ngx_pnalloc(r->pool, body->len);
    for (chain = first; chain != NULL && end != NULL; chain = chain->next) {
        end = ngx_http_push_copy(r, chain->buf, end);
    }
    return end != NULL ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

/* The place of the request in a trace, or NULL. If there are several, nobody knows which of them counts; the library
 * ignores one that is not valid. */
static const char *ngx_http_push_trace(ngx_http_request_t *r)
{
    ngx_list_part_t *part;
    ngx_table_elt_t *line, *found = NULL;
    ngx_uint_t i;
    u_char *text;

    for (part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        line = part->elts;
        for (i = 0; i < part->nelts; i++) {
            if (line[i].key.len != 11 || ngx_strncasecmp(line[i].key.data, (u_char *) "traceparent", 11) != 0) {
                continue;
            }
            if (found != NULL) {
                return NULL;
            }
            found = &line[i];
        }
    }
    if (found == NULL || (text = ngx_pnalloc(r->pool, found->value.len + 1)) == NULL) {
        return NULL;
    }
    *ngx_cpymem(text, found->value.data, found->value.len) = '\0';
    return (const char *) text;
}

static ngx_int_t ngx_http_push_publish(ngx_http_request_t *r)
{
    ngx_http_push_loc_conf_t *plcf = ngx_http_get_module_loc_conf(r, ngx_http_push_module);
    ngx_http_push_ctx_t *ctx = ngx_http_push_ctx(r);
    ngx_http_push_publication_t *publication = ngx_pcalloc(r->pool, sizeof *publication);
    push_message message = PUSH_MESSAGE_INIT;
    ngx_table_elt_t *type = r->headers_in.content_type;
    ngx_str_t text, body;
    ngx_int_t rc;

    if (ctx == NULL || publication == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_push_text(r, &plcf->channel, &text);
    if (rc != NGX_OK) {
        /* DECLINED: the body is empty. The library would refuse it, too. */
        return rc == NGX_DECLINED ? ngx_http_push_answer_status(r, PUSH_ERR_INVALID) : rc;
    }
    if (plcf->to_user) {
        publication->user = (const char *) text.data;
    } else {
        message.channel = (const char *) text.data;
    }
    rc = ngx_http_push_text(r, plcf->event, &text);
    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }
    message.event = (const char *) text.data;
    rc = ngx_http_push_text(r, plcf->key, &text);
    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }
    message.key = (const char *) text.data;
    rc = ngx_http_push_text(r, plcf->except, &text);
    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }
    message.except = (const char *) text.data;
    if (plcf->publish_trace) {
        message.trace = ngx_http_push_trace(r);
    }
    rc = ngx_http_push_body(r, &body);
    if (rc != NGX_OK) {
        return rc;
    }
    message.data = body.data;
    message.len = body.len;
    if (type != NULL && type->value.len >= 24
        && ngx_strncasecmp(type->value.data, (u_char *) "application/octet-stream", 24) == 0)
    {
        message.flags |= PUSH_MESSAGE_BINARY;
    }
    publication->message = message;
    ctx->task.request = r;
    ctx->task.call = ngx_http_push_publish_call;
    ctx->task.answer = ngx_http_push_publish_answer;
    ctx->task.data = publication;
    return ngx_http_push_run(&ctx->task);
}

static void ngx_http_push_body_read(ngx_http_request_t *r)
{
    ngx_int_t rc = ngx_http_push_publish(r);

    /* DONE: a thread has the request. Reading the body has raised its count, which stays until the thread is done. */
    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}

/* The module does not decompress, so a compressed body would be published as it is. */
static ngx_flag_t ngx_http_push_is_plain(ngx_http_request_t *r)
{
    ngx_list_part_t *part;
    ngx_table_elt_t *line;
    ngx_uint_t i;

    for (part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        line = part->elts;
        for (i = 0; i < part->nelts; i++) {
            if (line[i].key.len == 16 && ngx_strncasecmp(line[i].key.data, (u_char *) "Content-Encoding", 16) == 0
                && line[i].value.len != 0
                && (line[i].value.len != 8 || ngx_strncasecmp(line[i].value.data, (u_char *) "identity", 8) != 0))
            {
                return 0;
            }
        }
    }
    return 1;
}

ngx_int_t ngx_http_push_publish_handler(ngx_http_request_t *r)
{
    ngx_int_t rc;

    if (!(r->method & (NGX_HTTP_POST | NGX_HTTP_PUT))) {
        return ngx_http_push_not_allowed(r, "POST, PUT");
    }
    if (!ngx_http_push_is_plain(r)) {
        rc = ngx_http_discard_request_body(r);
        return rc != NGX_OK ? rc : ngx_http_push_not_plain(r);
    }
    r->request_body_in_single_buf = 1;
    rc = ngx_http_read_client_request_body(r, ngx_http_push_body_read);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

ngx_int_t ngx_http_push_mark_handler(ngx_http_request_t *r)
{
    ngx_http_push_loc_conf_t *plcf = ngx_http_get_module_loc_conf(r, ngx_http_push_module);
    ngx_http_push_ctx_t *ctx;
    ngx_http_push_publication_t *publication;
    ngx_str_t text;
    ngx_int_t rc;

    if (r->method != NGX_HTTP_POST) {
        return ngx_http_push_not_allowed(r, "POST");
    }
    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    ctx = ngx_http_push_ctx(r);
    publication = ngx_pcalloc(r->pool, sizeof *publication);
    if (ctx == NULL || publication == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_push_text(r, &plcf->channel, &text);
    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? ngx_http_push_answer_status(r, PUSH_ERR_INVALID) : rc;
    }
    publication->message.channel = (const char *) text.data;
    publication->mark = plcf->mark;
    ctx->task.request = r;
    ctx->task.call = ngx_http_push_publish_call;
    ctx->task.answer = ngx_http_push_publish_answer;
    ctx->task.data = publication;
    rc = ngx_http_push_run(&ctx->task);
    if (rc == NGX_DONE) {
        /* The reference of this handler ends when it returns. The thread's answer ends another one. */
        r->main->count++;
    }
    return rc;
}
