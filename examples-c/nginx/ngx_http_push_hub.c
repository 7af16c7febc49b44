/* The hub in a worker. It starts with the worker, is tried again while it can't start, and stops when the worker ends.
 * The master never runs this code: threads do not survive a fork. */
#include "ngx_http_push.h"

/* Of this worker. */
static struct {
    push_server *server;
    ngx_event_t retry;
    ngx_event_t flush;
    ngx_connection_t dummy; /* events are logged by the descriptor of `data` */
    ngx_msec_t every;
    ngx_msec_t drain;
    ngx_flag_t used;
} hub;

static void ngx_http_push_start(ngx_log_t *log)
{
    char err[NGX_HTTP_PUSH_ERR_LEN] = "";
    ngx_http_push_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_push_module);
    push_status status = push_start(mcf->config, &hub.server, err, sizeof err);

    if (status == PUSH_OK) {
        return;
    }
    /* A hub that can't be reached is no error. Here a hub has refused us, or the port of an embedded hub is taken. The
     * worker serves everything else meanwhile. */
    hub.server = NULL;
    ngx_log_error(NGX_LOG_ERR, log, 0, "push: not started: %s: %s; trying again in %M ms", push_strerror(status), err,
                  hub.every);
    ngx_add_timer(&hub.retry, hub.every);
}

static void ngx_http_push_retry(ngx_event_t *event)
{
    if (!ngx_exiting && !ngx_terminate && !ngx_quit) {
        ngx_http_push_start(event->log);
    }
}

/* At the end of a turn of the event loop, all connections that it handed over go to the hub in one message. */
static void ngx_http_push_flush(ngx_event_t *event)
{
    (void) event;
    if (hub.server != NULL) {
        (void) push_flush(hub.server);
    }
}

push_status ngx_http_push_adopt(int fd, ngx_str_t *head, const push_grant *grant)
{
    push_status status = push_adopt_more(hub.server, fd, head->data, head->len, grant);

    if (status == PUSH_OK && !hub.flush.posted) {
        ngx_post_event(&hub.flush, &ngx_posted_events);
    }
    return status;
}

ngx_int_t ngx_http_push_init_process(ngx_cycle_t *cycle)
{
    ngx_http_push_main_conf_t *mcf;

    /* Cache managers and loaders call this, too. */
    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) {
        return NGX_OK;
    }
    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_push_module);
    if (mcf == NULL || !mcf->used) {
        return NGX_OK;
    }
    ngx_memzero(&hub, sizeof hub);
    hub.used = 1;
    hub.every = mcf->retry;
    hub.drain = mcf->drain;
    hub.dummy.fd = (ngx_socket_t) -1;
    hub.retry.handler = ngx_http_push_retry;
    hub.retry.data = &hub.dummy;
    hub.retry.log = cycle->log;
    hub.flush.handler = ngx_http_push_flush;
    hub.flush.data = &hub.dummy;
    hub.flush.log = cycle->log;
    /* This timer must not keep a worker that has to end. */
    hub.retry.cancelable = 1;
    ngx_http_push_leave_init(cycle);
    if (ngx_http_push_log_open(cycle, mcf->config) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0, "push: the library's log lines will be missing");
    }
    ngx_http_push_start(cycle->log);
    return NGX_OK;
}

void ngx_http_push_quit(ngx_cycle_t *cycle)
{
    ngx_http_push_main_conf_t *mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_push_module);

    if (mcf->attach.len != 0) {
        ngx_http_push_leave(cycle);
    } else if (hub.server != NULL) {
        /* The hub goes with the worker, and from now on nobody publishes here. While nginx still relays, the hub sends
         * everybody away. */
        (void) push_drain(hub.server, (uint32_t) hub.drain);
    }
}

void ngx_http_push_exit_process(ngx_cycle_t *cycle)
{
    push_status status;

    if (!hub.used) {
        return;
    }
    if (hub.retry.timer_set) {
        ngx_del_timer(&hub.retry);
    }
    ngx_http_push_leave_end();
    if (hub.flush.posted) {
        ngx_delete_posted_event(&hub.flush);
    }
    if (hub.server != NULL) {
        status = push_stop(hub.server, (uint32_t) hub.drain);
        if (status != PUSH_OK) {
            ngx_log_error(NGX_LOG_ERR, cycle->log, 0, "push: stop: %s", push_strerror(status));
        }
        hub.server = NULL;
    }
    ngx_http_push_log_close();
    hub.used = 0;
}

push_server *ngx_http_push_server(void)
{
    return hub.server;
}
