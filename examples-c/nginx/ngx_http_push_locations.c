/* The directives of a location: what it serves, and which grant subscribers get there. */
#include "ngx_http_push.h"

static char *ngx_http_push_serve(ngx_conf_t *cf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    ngx_http_push_main_conf_t *mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_push_module);

    if (clcf->handler != NULL && clcf->handler != handler) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "another directive answers here already; a location takes one of push_subscribe, push_publish, "
                           "push_publish_user, push_begin, push_end and push_status");
        return NGX_CONF_ERROR;
    }
    clcf->handler = handler;
    mcf->used = 1;
    return NGX_CONF_OK;
}

static char *ngx_http_push_compile(ngx_conf_t *cf, ngx_str_t *text, ngx_http_complex_value_t *value)
{
    ngx_http_compile_complex_value_t compile;

    ngx_memzero(&compile, sizeof compile);
    compile.cf = cf;
    compile.value = text;
    compile.complex_value = value;
    return ngx_http_compile_complex_value(&compile) == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}

static ngx_flag_t ngx_http_push_is_name(u_char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* The variable at the end of the `len` bytes of a word, as "$name" or "${name}", if there is one. */
static ngx_str_t ngx_http_push_last_variable(u_char *word, size_t len)
{
    ngx_str_t none = ngx_null_string, found;
    size_t end = len, begin;
    ngx_flag_t braced = end != 0 && word[end - 1] == '}';

    end -= braced ? 1 : 0;
    for (begin = end; begin != 0 && ngx_http_push_is_name(word[begin - 1]); begin--) { /* void */ }
    if (begin == end) {
        return none;
    }
    if (braced) {
        if (begin == 0 || word[begin - 1] != '{') {
            return none;
        }
        begin--;
    }
    if (begin == 0 || word[begin - 1] != '$') {
        return none;
    }
    found.data = word + begin - 1;
    found.len = len - (begin - 1);
    return found;
}

static ngx_array_t *ngx_http_push_values(ngx_conf_t *cf)
{
    ngx_str_t *words = cf->args->elts;
    ngx_http_push_value_t *value;
    ngx_array_t *values;
    ngx_str_t last;
    ngx_uint_t i;

    values = ngx_array_create(cf->pool, cf->args->nelts, sizeof(ngx_http_push_value_t));
    for (i = 1; values != NULL && i < cf->args->nelts; i++) {
        value = ngx_array_push(values);
        if (value == NULL || ngx_http_push_compile(cf, &words[i], &value->text) != NGX_CONF_OK
            || ngx_http_push_check_value(cf, (const char *) words[0].data, &value->text) != NGX_CONF_OK)
        {
            return NULL;
        }
        /* An asterisk in this place is no part of a variable's name. */
        value->pattern = words[i].len != 0 && words[i].data[words[i].len - 1] == '*';
        ngx_str_null(&last);
        if (value->pattern) {
            last = ngx_http_push_last_variable(words[i].data, words[i].len - 1);
        }
        if (ngx_http_push_compile(cf, &last, &value->last) != NGX_CONF_OK) {
            return NULL;
        }
    }
    return values;
}

/* push_subscribe [channel ...]; */
char *ngx_http_push_set_subscribe(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_loc_conf_t *plcf = conf;
    ngx_http_push_value_t *value;
    ngx_uint_t i;

    (void) cmd;
    if (plcf->subscribe) {
        return "is duplicate";
    }
    plcf->subscribe = 1;
    if (cf->args->nelts > 1) {
        plcf->channels = ngx_http_push_values(cf);
        if (plcf->channels == NULL) {
            return NGX_CONF_ERROR;
        }
        value = plcf->channels->elts;
        for (i = 0; i < plcf->channels->nelts; i++) {
            if (value[i].pattern) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "push_subscribe \"%V\" ends in *, as no channel's name does; push_grant takes patterns",
                                   &value[i].text.value);
                return NGX_CONF_ERROR;
            }
        }
    }
    return ngx_http_push_serve(cf, ngx_http_push_subscribe_handler);
}

/* push_grant pattern ...; and push_grant_publish pattern ...; */
char *ngx_http_push_set_grant(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_array_t **field = (ngx_array_t **) (void *) ((char *) conf + cmd->offset);

    if (*field != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }
    *field = ngx_http_push_values(cf);
    return *field != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}

/* push_publish channel [event=value] [key=value] [except=value]; and push_publish_user user, with the same. */
char *ngx_http_push_set_publish(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_loc_conf_t *plcf = conf;
    const struct {
        const char *name;
        ngx_http_complex_value_t **field;
    } known[] = { { "event=", &plcf->event }, { "key=", &plcf->key }, { "except=", &plcf->except } };
    const size_t count = sizeof known / sizeof known[0];
    ngx_str_t *words = cf->args->elts, text;
    ngx_uint_t i;
    size_t at, prefix;

    if (plcf->publish) {
        return "is not the only push_publish or push_publish_user here";
    }
    plcf->publish = 1;
    plcf->to_user = cmd->name.len == sizeof("push_publish_user") - 1;
    if (ngx_http_push_compile(cf, &words[1], &plcf->channel) != NGX_CONF_OK
        || ngx_http_push_check_value(cf, (const char *) cmd->name.data, &plcf->channel) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }
    for (i = 2; i < cf->args->nelts; i++) {
        for (at = 0; at < count; at++) {
            if (ngx_strncmp(words[i].data, known[at].name, ngx_strlen(known[at].name)) == 0) {
                break;
            }
        }
        if (at == count) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V \"%V\": event=, key= and except= are known", &cmd->name,
                               &words[i]);
            return NGX_CONF_ERROR;
        }
        prefix = ngx_strlen(known[at].name);
        text.data = words[i].data + prefix;
        text.len = words[i].len - prefix;
        *known[at].field = ngx_pcalloc(cf->pool, sizeof(ngx_http_complex_value_t));
        if (*known[at].field == NULL || ngx_http_push_compile(cf, &text, *known[at].field) != NGX_CONF_OK
            || ngx_http_push_check_value(cf, known[at].name, *known[at].field) != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }
    return ngx_http_push_serve(cf, ngx_http_push_publish_handler);
}

/* push_begin channel; and push_end channel; */
char *ngx_http_push_set_mark(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_loc_conf_t *plcf = conf;
    ngx_str_t *words = cf->args->elts;

    if (plcf->mark != NULL) {
        return "is not the only push_begin or push_end here";
    }
    plcf->mark = cmd->name.len == sizeof("push_end") - 1 ? push_end : push_begin;
    if (ngx_http_push_compile(cf, &words[1], &plcf->channel) != NGX_CONF_OK
        || ngx_http_push_check_value(cf, "push_publish", &plcf->channel) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }
    return ngx_http_push_serve(cf, ngx_http_push_mark_handler);
}

/* push_status; */
char *ngx_http_push_set_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    (void) cmd;
    (void) conf;
    return ngx_http_push_serve(cf, ngx_http_push_status_handler);
}
