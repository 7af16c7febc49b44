/* Relayed clients are told before their worker goes. At a reload, or when nginx is to quit, a worker has as much time as
 * worker_shutdown_timeout says, and then cuts what it still has. So it spreads its relayed clients over that time, and
 * has the hub tell each of them to come back later. Clients that were handed over are not concerned.
 *
 * The hub is told by the end of our sending side of the pair. It answers with the client's last words, which go to the
 * client as everything else does, and ends its own side. */
#include "ngx_http_push.h"

enum {
    STEP_MS = 25,
    /* The last quarter of the time, but no more than this, is left for the last words to reach those told last. */
    TAIL_MS = 500
};

/* Of this worker. */
static struct {
    ngx_queue_t clients; /* of ngx_http_push_ctx_t: relayed, and not told yet */
    ngx_uint_t total;    /* how many there were when it began */
    ngx_uint_t told;
    ngx_msec_t began;
    ngx_msec_t spread;
    ngx_flag_t leaving;
    ngx_event_t timer;
    ngx_connection_t dummy; /* events are logged by the descriptor of `data` */
} leave;

/* A client may go on sending. Nobody reads that any more. */
static ssize_t ngx_http_push_discard(ngx_connection_t *c, u_char *buf, size_t size)
{
    (void) c;
    (void) buf;
    return (ssize_t) size;
}

static void ngx_http_push_tell(ngx_http_push_ctx_t *ctx)
{
    ngx_connection_t *c = ctx->peer;

    ngx_http_push_relay_ended(ctx);
    c->send = ngx_http_push_discard;
    if (shutdown(c->fd, SHUT_WR) == -1) {
        ngx_log_error(NGX_LOG_INFO, c->log, ngx_socket_errno, "push: shutdown() of a relayed client failed");
    }
    leave.told++;
}

static void ngx_http_push_leave_some(ngx_event_t *event)
{
    ngx_msec_t elapsed = ngx_current_msec - leave.began;
    ngx_flag_t all = elapsed >= leave.spread;
    /* The first goes at once. */
    ngx_uint_t due = all ? 0 : 1 + (ngx_uint_t) (leave.total * (uint64_t) elapsed / leave.spread);

    while (!ngx_queue_empty(&leave.clients) && (all || leave.told < due)) {
        ngx_http_push_tell(ngx_queue_data(ngx_queue_head(&leave.clients), ngx_http_push_ctx_t, relayed));
    }
    if (!ngx_queue_empty(&leave.clients)) {
        ngx_add_timer(event, STEP_MS);
    }
}

void ngx_http_push_leave_init(ngx_cycle_t *cycle)
{
    ngx_memzero(&leave, sizeof leave);
    ngx_queue_init(&leave.clients);
    leave.dummy.fd = (ngx_socket_t) -1;
    leave.timer.handler = ngx_http_push_leave_some;
    leave.timer.data = &leave.dummy;
    leave.timer.log = cycle->log;
    /* The clients themselves keep the worker. */
    leave.timer.cancelable = 1;
}

void ngx_http_push_relay_begins(ngx_http_push_ctx_t *ctx, ngx_connection_t *c)
{
    ctx->peer = c;
    ngx_queue_insert_tail(&leave.clients, &ctx->relayed);
    /* A request on a connection that the worker already had. */
    if (leave.leaving && !leave.timer.timer_set) {
        ngx_add_timer(&leave.timer, STEP_MS);
    }
}

void ngx_http_push_relay_ended(ngx_http_push_ctx_t *ctx)
{
    if (ctx->peer != NULL) {
        ngx_queue_remove(&ctx->relayed);
        ctx->peer = NULL;
    }
}

void ngx_http_push_leave(ngx_cycle_t *cycle)
{
    ngx_core_conf_t *ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    ngx_msec_t time = ccf->shutdown_timeout;
    ngx_queue_t *q;

    /* Without a limit the worker stays as long as its clients do. */
    if (leave.leaving || time == 0) {
        return;
    }
    leave.leaving = 1;
    leave.began = ngx_current_msec;
    leave.spread = time - ngx_min(time / 4, TAIL_MS);
    for (q = ngx_queue_head(&leave.clients); q != ngx_queue_sentinel(&leave.clients); q = ngx_queue_next(q)) {
        leave.total++;
    }
    ngx_http_push_leave_some(&leave.timer);
}

void ngx_http_push_leave_end(void)
{
    if (leave.timer.timer_set) {
        ngx_del_timer(&leave.timer);
    }
}
