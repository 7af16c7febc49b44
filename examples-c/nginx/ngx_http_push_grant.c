/* Evaluates the configuration's variables: the channels that a subscriber gets, and its grant. */
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
    /* The text would be cut there, and mean something else. */
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

/* NULL, or the reason why a text may not be used. A client that can choose a part of a name must not get all names that
 * begin with it. So only an asterisk of the configuration makes a pattern, and an empty variable does not widen it. */
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

/* Adds the values that are not empty to the two lists, of const char *. A value that is not safe is logged at `level`. */
static ngx_int_t ngx_http_push_add(ngx_http_request_t *r, const char *directive, ngx_array_t *values, ngx_uint_t level,
    ngx_array_t *names, ngx_array_t *patterns)
{
    ngx_http_push_value_t *value = values->elts;
    ngx_uint_t i;
    ngx_int_t rc;
    ngx_str_t text;
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
            ngx_log_error(level, r->connection->log, 0,
                          "push: %s \"%V\" is \"%V\": %s", directive, &value[i].text.value, &text, unsafe);
            return NGX_HTTP_FORBIDDEN;
        }
        listed = ngx_array_push(value[i].pattern ? patterns : names);
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
    ngx_int_t rc;

    if (value == NULL) {
        return NGX_OK;
    }
    rc = ngx_http_push_text(r, value, &text);
    if (rc != NGX_OK && rc != NGX_DECLINED) {
        return rc;
    }
    /* An empty variable does not mean "never": it is mostly one that was not set. */
    if (rc == NGX_DECLINED || ngx_http_push_read_expiry(&text, expires_at) != NGX_OK) {
        /* A connection without the end that was meant would be worse than no connection. */
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

/* Whether the hub will see a WebSocket, and no other transport. The relay and the log depend on it. */
static ngx_flag_t ngx_http_push_is_websocket(ngx_http_request_t *r, ngx_str_t *parameters)
{
    ngx_array_t *pairs;
    ngx_http_push_pair_t *pair;
    ngx_flag_t whole;
    ngx_uint_t i;

    /* In HTTP/2 such a header means nothing (RFC 9113, section 8.2.2). */
    if (r->http_version != NGX_HTTP_VERSION_11 || !ngx_http_push_header_is(r->headers_in.upgrade, "websocket")) {
        return 0;
    }
    pairs = ngx_http_push_pairs(r->pool, parameters, &whole);
    pair = pairs != NULL ? pairs->elts : NULL;
    /* The hub reads them in the same way: of several, the last one counts. */
    for (i = pairs != NULL ? pairs->nelts : 0; i > 0; i--) {
        if (ngx_http_push_is(&pair[i - 1].name, "transport")) {
            return ngx_http_push_is(&pair[i - 1].value, "ws");
        }
    }
    return 1;
}

ngx_int_t ngx_http_push_evaluate(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription)
{
    ngx_http_push_loc_conf_t *plcf = ngx_http_get_module_loc_conf(r, ngx_http_push_module);
    push_grant grant = PUSH_GRANT_INIT;
    ngx_array_t subscribe, channels, patterns, publish_channels, publish_patterns;
    ngx_str_t text;
    ngx_int_t rc, on;

    ngx_memzero(subscription, sizeof *subscription);
    if (ngx_array_init(&subscribe, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&channels, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&patterns, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&publish_channels, r->pool, 4, sizeof(const char *)) != NGX_OK
        || ngx_array_init(&publish_patterns, r->pool, 4, sizeof(const char *)) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (plcf->channels != NULL) {
        /* Clients choose these names, so their mistakes are info. The configuration can't have a pattern here. */
        rc = ngx_http_push_add(r, "push_subscribe", plcf->channels, NGX_LOG_INFO, &subscribe, &patterns);
        if (rc != NGX_OK) {
            return rc;
        }
        /* All values are empty. The client must not name its own channels instead, within a grant beside them. */
        if (subscribe.nelts == 0) {
            ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: push_subscribe's values are all empty");
            return NGX_HTTP_FORBIDDEN;
        }
    }
    if (plcf->grant != NULL) {
        /* These values come from an application, which should be right. */
        rc = ngx_http_push_add(r, "push_grant", plcf->grant, NGX_LOG_ERR, &channels, &patterns);
        if (rc != NGX_OK) {
            return rc;
        }
    }
    if (plcf->grant_publish != NULL) {
        rc = ngx_http_push_add(r, "push_grant_publish", plcf->grant_publish, NGX_LOG_ERR, &publish_channels,
                               &publish_patterns);
        if (rc != NGX_OK) {
            return rc;
        }
    }
    grant.subscribe = subscribe.elts;
    grant.subscribe_count = subscribe.nelts;
    grant.channels = channels.elts;
    grant.channel_count = channels.nelts;
    grant.patterns = patterns.elts;
    grant.pattern_count = patterns.nelts;
    grant.publish_channels = publish_channels.elts;
    grant.publish_channel_count = publish_channels.nelts;
    grant.publish_patterns = publish_patterns.elts;
    grant.publish_pattern_count = publish_patterns.nelts;

    rc = ngx_http_push_text(r, plcf->user, &text);
    if (rc == NGX_OK) {
        grant.user = (const char *) text.data;
    } else if (rc != NGX_DECLINED) {
        return rc;
    }
    /* It is about a user. One location may serve visitors with a name and others without. */
    if (grant.user != NULL) {
        rc = ngx_http_push_text(r, plcf->info, &text);
        if (rc == NGX_OK) {
            grant.info = (const char *) text.data;
        } else if (rc != NGX_DECLINED) {
            return rc;
        }
    }
    /* The library would refuse it as well, but later, and this log would not say why. A user may have its own channel. */
    if (subscribe.nelts == 0 && channels.nelts == 0 && patterns.nelts == 0 && grant.user == NULL) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "push: no channel is allowed to this request");
        return NGX_HTTP_FORBIDDEN;
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
    subscription->websocket = ngx_http_push_is_websocket(r, &subscription->parameters);
    return NGX_OK;
}
