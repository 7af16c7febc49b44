/* push_status: the hub's counters and gauges as JSON, under the names of push_stats. */
#include "ngx_http_push.h"

#define FIELD(name) { #name, offsetof(push_stats, name) }

static const struct {
    const char *name;
    size_t offset;
} fields[] = {
    FIELD(published), FIELD(duplicates), FIELD(busy), FIELD(deliveries), FIELD(bytes_sent), FIELD(accepted),
    FIELD(adopted), FIELD(refused), FIELD(slow_closed), FIELD(gaps), FIELD(received), FIELD(events_dropped),
    FIELD(logs_dropped), FIELD(connections), FIELD(websockets), FIELD(sse), FIELD(streams), FIELD(polls),
    FIELD(channels), FIELD(subscriptions), FIELD(history_messages), FIELD(history_bytes), FIELD(seq), FIELD(dropped),
    FIELD(replaced), FIELD(outboxes), FIELD(outbox_bytes), FIELD(mailbox), FIELD(events_waiting), FIELD(hosts),
    FIELD(logs_suppressed), FIELD(draining), FIELD(undone), FIELD(inbox_bytes), FIELD(ended_channels),
    FIELD(calls), FIELD(calls_given_up), FIELD(calls_waiting),
    FIELD(publish_checks), FIELD(publish_checks_given_up), FIELD(publish_checks_waiting),
    FIELD(patterns), FIELD(presence_members), FIELD(presence_bytes), FIELD(presence_refused)
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0], FIELD_LEN = 32 + NGX_INT64_LEN };

/* Runs on a thread of the pool. */
static push_status ngx_http_push_status_call(ngx_http_push_task_t *task)
{
    return push_stats_get(task->server, task->data, sizeof(push_stats));
}

static ngx_int_t ngx_http_push_status_answer(ngx_http_push_task_t *task)
{
    ngx_http_request_t *r = task->request;
    ngx_str_t body;
    u_char *end;
    size_t i;

    if (task->status != PUSH_OK) {
        return ngx_http_push_answer_status(r, task->status);
    }
    body.data = ngx_pnalloc(r->pool, FIELD_COUNT * FIELD_LEN);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    end = body.data;
    for (i = 0; i < FIELD_COUNT; i++) {
        end = ngx_sprintf(end, "%c\"%s\":%uL", i == 0 ? '{' : ',', fields[i].name,
                          *(uint64_t *) ((u_char *) task->data + fields[i].offset));
    }
    end = ngx_cpymem(end, "}\n", 2);
    body.len = end - body.data;
    return ngx_http_push_answer(r, NGX_HTTP_OK, &body, "application/json");
}

ngx_int_t ngx_http_push_status_handler(ngx_http_request_t *r)
{
    ngx_http_push_ctx_t *ctx = ngx_http_push_ctx(r);
    push_stats *stats = ngx_pcalloc(r->pool, sizeof *stats);
    ngx_int_t rc;

    if (!(r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD))) {
        return ngx_http_push_not_allowed(r, "GET, HEAD");
    }
    if (ctx == NULL || stats == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    ctx->task.request = r;
    ctx->task.call = ngx_http_push_status_call;
    ctx->task.answer = ngx_http_push_status_answer;
    ctx->task.data = stats;
    rc = ngx_http_push_run(&ctx->task);
    if (rc == NGX_DONE) {
        /* The reference of this handler ends when it returns. The thread's answer ends another one. */
        r->main->count++;
    }
    return rc;
}
