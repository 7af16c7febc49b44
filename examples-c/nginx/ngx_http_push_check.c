/* Checks whether the hub may live in a worker. That is known only when all of the configuration was read. A core
 * module's init_conf is the one place after `worker_processes` that can still refuse a configuration: `nginx -t` shows
 * the error, and a reload goes on with the old configuration. */
#include "ngx_http_push.h"

static char *ngx_http_push_check(ngx_cycle_t *cycle, void *conf)
{
    ngx_core_conf_t *ccf;
    ngx_http_push_main_conf_t *mcf;

    (void) conf;
    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_push_module);
    if (mcf == NULL || !mcf->used || mcf->attach.len != 0) {
        return NGX_CONF_OK;
    }
    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    /* Unset means 1. We can't rely on the order of the modules' init_conf. */
    if (ccf->worker_processes != NGX_CONF_UNSET && ccf->worker_processes > 1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "push: without push_attach the hub lives in the worker, and there are %i of them: "
                      "set \"worker_processes 1\", or run pushd and name its socket with push_attach",
                      ccf->worker_processes);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static void *ngx_http_push_check_create_conf(ngx_cycle_t *cycle)
{
    /* init_conf is called only for modules with a conf. */
    return ngx_pcalloc(cycle->pool, sizeof(ngx_uint_t));
}

static ngx_core_module_t ngx_http_push_check_module_ctx = {
    ngx_string("push_check"),
    ngx_http_push_check_create_conf,
    ngx_http_push_check
};

ngx_module_t ngx_http_push_check_module = {
    NGX_MODULE_V1,
    &ngx_http_push_check_module_ctx,
    NULL,
    NGX_CORE_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};
