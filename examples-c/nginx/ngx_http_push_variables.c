/* The module's context of a request, and the module's variables. */
#include "ngx_http_push.h"

ngx_http_push_ctx_t *ngx_http_push_ctx(ngx_http_request_t *r)
{
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof *ctx);
        if (ctx != NULL) {
            ngx_http_set_ctx(r, ctx, ngx_http_push_module);
        }
    }
    return ctx;
}

/* $push_via: for access logs. */
static ngx_int_t ngx_http_push_via(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    static ngx_str_t names[] = { ngx_null_string, ngx_string("handover"), ngx_string("relay") };
    ngx_http_push_ctx_t *ctx = ngx_http_get_module_ctx(r, ngx_http_push_module);

    (void) data;
    if (ctx == NULL || ctx->via == NGX_HTTP_PUSH_VIA_NONE) {
        v->not_found = 1;
        return NGX_OK;
    }
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = (unsigned) names[ctx->via].len;
    v->data = names[ctx->via].data;
    return NGX_OK;
}

/* $push_arg_NAME: the same as $arg_NAME, but decoded, as publishers and subscribers mean it. */
static ngx_int_t ngx_http_push_argument(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t *name = (ngx_str_t *) data, value;
    size_t prefix = sizeof("push_arg_") - 1, i;
    u_char *src, *dst;

    if (ngx_http_arg(r, name->data + prefix, name->len - prefix, &value) != NGX_OK) {
        v->not_found = 1;
        return NGX_OK;
    }
    src = ngx_pnalloc(r->pool, 2 * value.len + 1);
    if (src == NULL) {
        return NGX_ERROR;
    }
    for (i = 0; i < value.len; i++) {
        src[i] = value.data[i] == '+' ? ' ' : value.data[i];
    }
    v->data = dst = src + value.len;
    ngx_unescape_uri(&dst, &src, value.len, 0);
    v->len = (unsigned) (dst - v->data);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    return NGX_OK;
}

static ngx_http_variable_t variables[] = {
    { ngx_string("push_via"), NULL, ngx_http_push_via, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },
    { ngx_string("push_arg_"), NULL, ngx_http_push_argument, 0, NGX_HTTP_VAR_PREFIX, 0 },
    ngx_http_null_variable
};

ngx_int_t ngx_http_push_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t *variable, *added;

    for (variable = variables; variable->name.len != 0; variable++) {
        added = ngx_http_add_variable(cf, &variable->name, variable->flags);
        if (added == NULL) {
            return NGX_ERROR;
        }
        added->get_handler = variable->get_handler;
        added->data = variable->data;
    }
    return NGX_OK;
}
