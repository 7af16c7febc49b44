/* What the configuration's variables say that a subscriber gets and may have. */
#include "ngx_http_push.h"

ngx_int_t ngx_http_push_text(ngx_http_request_t *r, ngx_http_complex_value_t *value, ngx_str_t *text)
{
    ngx_str_t evaluated;

    ngx_str_null(text);
    if (value == NULL) {
        return NGX_DECLINED;
    }
    if (ngx_http_complex_value(r, value, &evaluated) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (evaluated.len == 0) {
        return NGX_DECLINED;
    }
    /* It would be cut there, and mean something else. */
    if (memchr(evaluated.data, '\0', evaluated.len) != NULL) {
        return NGX_HTTP_BAD_REQUEST;
    }
    text->data = ngx_pnalloc(r->pool, evaluated.len + 1);
    if (text->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    text->len = evaluated.len;
    ngx_cpystrn(text->data, evaluated.data, evaluated.len + 1);
    return NGX_OK;
}

/* A grant's lists, of const char *. */
typedef struct {
    ngx_array_t channels;
    ngx_array_t patterns;
} ngx_http_push_granted_t;

/* NULL, or why a text may not be used.  Who can choose a part of a name must not get all that begin with it: only what
 * the configuration itself says may be a pattern, and no variable makes it match more by being empty. */
static const char *ngx_http_push_unsafe(ngx_http_request_t *r, ngx_http_push_value_t *value, ngx_str_t *text)
{
    ngx_str_t last;

    if (value->text.lengths == NULL) {
        return NULL;
    }
    if (value->pattern ? memchr(text->data, '*', text->len - 1) != NULL : text->data[text->len - 1] == '*') {
        return "only an asterisk of the configuration makes a pattern";
    }
    if (value->last.lengths != NULL && (ngx_http_complex_value(r, &value->last, &last) != NGX_OK || last.len == 0)) {
        return "the variable before its asterisk is empty";
    }
    return NULL;
}

/* Adds the values that are not empty to the grant and, where given, to `named`. */
static ngx_int_t ngx_http_push_add(ngx_http_request_t *r, const char *directive, ngx_array_t *values, ngx_array_t *named,
    ngx_http_push_granted_t *granted)
{
    ngx_http_push_value_t *value = values->elts;
    ngx_uint_t i, level;
    ngx_int_t rc;
    ngx_str_t text, *name;
    const char **listed, *unsafe;

    for (i = 0; i < values->nelts; i++) {
        rc = ngx_http_push_text(r, &value[i].text, &text);
        if (rc == NGX_DECLINED) {
            continue;
        }
        if (rc != NGX_OK) {
            return rc;
        }
        unsafe = ngx_http_push_unsafe(r, &value[i], &text);
        if (unsafe != NULL) {
            /* Clients choose names; what push_grant gets from an application should be right. */
            level = named != NULL ? NGX_LOG_INFO : NGX_LOG_ERR;
            ngx_log_error(level, r->connection->log, 0,
                          "push: %s \"%V\" is \"%V\": %s", directive, &value[i].text.value, &text, unsafe);
            return NGX_HTTP_FORBIDDEN;
        }
        if (named != NULL) {
            name = ngx_array_push(named);
            if (name == NULL) {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }
            *name = text;
        }
        listed = ngx_array_push(value[i].pattern ? &granted->patterns : &granted->channels);
        if (listed == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        *listed = (const char *) text.data;
    }
    return NGX_OK;
}

static ngx_int_t ngx_http_push_expiry(ngx_http_request_t *r, ngx_http_complex_value_t *value, int64_t *expires_at)
{
    ngx_str_t text;
    ngx_int_t rc = ngx_http_push_text(r, value, &text);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : rc;
    }
    if (ngx_http_push_read_expiry(&text, expires_at) != NGX_OK) {
        /* Without an end where one was meant, it would be worse than no connection. */
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "push: push_expires \"%V\" is no time", &text);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_OK;
}

static ngx_flag_t ngx_http_push_header_is(ngx_table_elt_t *header, const char *value)
{
    return header != NULL && header->value.len == ngx_strlen(value)
           && ngx_strncasecmp(header->value.data, (u_char *) value, header->value.len) == 0;
}

/* The transport, as the hub will see it; it matters here for the relay and for errors. */
static void ngx_http_push_transport(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    u_char *p = subscription->parameters.data, *end = p + subscription->parameters.len, *next;
    ngx_table_elt_t *accept = NULL;
    ngx_list_part_t *part;
    ngx_table_elt_t *header;
    ngx_uint_t i;
    /* In HTTP/2 such a header means nothing (RFC 9113, section 8.2.2). */
    ngx_flag_t upgrade = r->http_version == NGX_HTTP_VERSION_11
                         && ngx_http_push_header_is(r->headers_in.upgrade, "websocket");

    for ( ; p < end; p = next + 1) {
        next = memchr(p, '&', end - p);
        if (next == NULL) {
            next = end;
        }
        if (next - p > 10 && ngx_strncmp(p, "transport=", 10) == 0) {
            subscription->websocket = upgrade && next - p == 12 && ngx_strncmp(p + 10, "ws", 2) == 0;
            subscription->sse = (next - p == 13 && ngx_strncmp(p + 10, "sse", 3) == 0);
            return;
        }
    }
    subscription->websocket = upgrade;
    if (subscription->websocket) {
        return;
    }
    /* nginx keeps Accept apart only where a module that negotiates is built in. */
    for (part = &r->headers_in.headers.part; part != NULL && accept == NULL; part = part->next) {
        header = part->elts;
        for (i = 0; i < part->nelts; i++) {
            if (header[i].key.len == 6 && ngx_strncasecmp(header[i].key.data, (u_char *) "accept", 6) == 0) {
                accept = &header[i];
                break;
            }
        }
    }
    subscription->sse = accept != NULL
                        && ngx_strcasestrn(accept->value.data, "text/event-stream", 16) != NULL;
}

ngx_int_t ngx_http_push_evaluate(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    ngx_http_push_loc_conf_t *plcf = ngx_http_get_module_loc_conf(r, ngx_http_push_module);
    push_grant grant = PUSH_GRANT_INIT;
    ngx_http_push_granted_t granted;
    ngx_str_t text;
    ngx_int_t rc, on;

    ngx_memzero(subscription, sizeof *subscription);
    if (ngx_array_init(&granted.channels, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&granted.patterns, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&subscription->channels, r->pool, 4, sizeof(ngx_str_t)) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (plcf->channels != NULL) {
        rc = ngx_http_push_add(r, "push_subscribe", plcf->channels, &subscription->channels, &granted);
        if (rc != NGX_OK) {
            return rc;
        }
        /* All are empty.  None are named for the client to name its own, by the grant that may stand beside them. */
        if (subscription->channels.nelts == 0) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: push_subscribe's values are all empty");
            return NGX_HTTP_FORBIDDEN;
        }
    }
    if (plcf->grant != NULL) {
        rc = ngx_http_push_add(r, "push_grant", plcf->grant, NULL, &granted);
        if (rc != NGX_OK) {
            return rc;
        }
    }
    /* The library would refuse it as well, but later and without a word here. */
    if (granted.channels.nelts == 0 && granted.patterns.nelts == 0) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: no channel is allowed to this request");
        return NGX_HTTP_FORBIDDEN;
    }
    grant.channels = granted.channels.elts;
    grant.channel_count = granted.channels.nelts;
    grant.patterns = granted.patterns.elts;
    grant.pattern_count = granted.patterns.nelts;

    rc = ngx_http_push_text(r, plcf->user, &text);
    if (rc == NGX_OK) {
        grant.user = (const char *) text.data;
    } else if (rc != NGX_DECLINED) {
        return rc;
    }
    rc = ngx_http_push_expiry(r, plcf->expires, &grant.expires_at);
    if (rc != NGX_OK) {
        return rc;
    }
    rc = ngx_http_push_text(r, plcf->client_publish, &text);
    if (rc == NGX_OK) {
        on = ngx_http_push_read_switch(&text);
        if (on == NGX_ERROR) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "push: push_client_publish \"%V\" is neither on (or 1) nor off (or 0); taken as off", &text);
        } else if (on) {
            grant.flags |= PUSH_GRANT_PUBLISH;
        }
    } else if (rc != NGX_DECLINED) {
        return rc;
    }
    if (plcf->keep_alive) {
        grant.flags |= PUSH_GRANT_KEEP_ALIVE;
    }
    subscription->grant = grant;

    if (plcf->parameters == NULL) {
        subscription->parameters = r->args;
    } else if (ngx_http_complex_value(r, plcf->parameters, &subscription->parameters) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_http_push_transport(r, subscription);
    return NGX_OK;
}
