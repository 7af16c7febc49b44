/* Calls that wait for the hub's answer. Calls to pushd run on a thread of the pool, so that a hub that is slow or gone
 * delays no other request of this worker. An embedded hub answers at once, so it is called directly. */
#include "ngx_http_push.h"

/* Of this worker. */
static ngx_uint_t running;

static uint64_t ngx_http_push_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* Runs on a thread of the pool. */
static void ngx_http_push_task_call(void *data, ngx_log_t *log)
{
    ngx_http_push_task_t *task = *(ngx_http_push_task_t **) data;

    (void) log;
    /* The call was behind others that waited for a hub that does not answer. It does not wait as long once more. */
    task->status = ngx_http_push_now() > task->call_by ? PUSH_ERR_BUSY : task->call(task);
}

/* The handler is also called while the call is under way, when the connection can be written. */
static void ngx_http_push_task_write(ngx_http_request_t *r)
{
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);

    if (ctx == NULL || ctx->task.running) {
        return;
    }
    r->write_event_handler = ngx_http_request_empty_handler;
    ngx_http_finalize_request(r, ctx->task.answer(&ctx->task));
}

/* Runs in the event loop again. Until now `blocked` has kept the request, even if the client has gone. If nginx has
 * given the request up meanwhile, its write handler is one that ends it. */
static void ngx_http_push_task_done(ngx_event_t *event)
{
    ngx_http_push_task_t *task = event->data;
    ngx_http_request_t *r = task->request;
    ngx_connection_t *c = r->connection;

    if (event->timedout) {
        /* The answer is overdue. The call can't be taken back, so the request goes on waiting. */
        ngx_log_error(NGX_LOG_ALERT, c->log, 0, "push: a call to the hub took too long");
        event->timedout = 0;
        return;
    }
    if (event->timer_set) {
        ngx_del_timer(event);
    }
    running--;
    ngx_http_set_log_request(c->log, r);
    task->running = 0;
    r->main->blocked--;
    r->aio = 0;
    if (r->done) {
        c->write->handler(c->write);
        return;
    }
    r->write_event_handler(r);
    ngx_http_run_posted_requests(c);
}

/* The request's count was raised before. The end of this call finalizes the request. */
ngx_int_t ngx_http_push_run(ngx_http_push_task_t *task)
{
    ngx_http_request_t *r = task->request;
    ngx_http_push_main_conf_t *mcf = ngx_http_get_module_main_conf(r, ngx_http_push_module);
    ngx_thread_task_t *thread_task;

    task->server = ngx_http_push_server();
    if (task->server == NULL) {
        task->status = PUSH_ERR_BUSY;
        return task->answer(task);
    }
    if (mcf->thread_pool == NULL) {
        task->status = task->call(task);
        return task->answer(task);
    }
    if (running >= NGX_HTTP_PUSH_MAX_TASKS) {
        task->status = PUSH_ERR_BUSY;
        return task->answer(task);
    }
    thread_task = ngx_thread_task_alloc(r->pool, sizeof(ngx_http_push_task_t *));
    if (thread_task == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    *(ngx_http_push_task_t **) thread_task->ctx = task;
    thread_task->handler = ngx_http_push_task_call;
    thread_task->event.handler = ngx_http_push_task_done;
    thread_task->event.data = task;
    thread_task->event.log = r->connection->log;
    task->call_by = ngx_http_push_now() + mcf->attach_timeout;
    task->running = 1;
    if (ngx_thread_task_post(mcf->thread_pool, thread_task) != NGX_OK) {
        task->running = 0;
        task->status = PUSH_ERR_BUSY;
        return task->answer(task);
    }
    /* A worker that has to end does so when no timer is left. This one keeps it while a request waits for an answer. */
    ngx_add_timer(&thread_task->event, mcf->attach_timeout + NGX_HTTP_PUSH_OVERTIME);
    running++;
    r->main->blocked++;
    r->aio = 1;
    r->write_event_handler = ngx_http_push_task_write;
    return NGX_DONE;
}
