/* The module's directives, and the configuration that they make. README.md says what each is for. */
#include "ngx_http_push.h"

static ngx_str_t option_set_elsewhere = ngx_string("use push_attach instead");

/* ---- the hub: http level ---- */

static char *ngx_http_push_set(ngx_conf_t *cf, push_config *config, const char *name, const char *value)
{
    char err[NGX_HTTP_PUSH_ERR_LEN] = "";

    if (push_config_set(config, name, value, err, sizeof err) != PUSH_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", err);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

/* Whether an option has the host check what clients publish. Its name may begin with channel.PATTERN. */
static ngx_flag_t ngx_http_push_asks_host(ngx_str_t *name, ngx_str_t value)
{
    static ngx_str_t option = ngx_string("client_publish");

    while (value.len != 0 && value.data[0] <= ' ') {
        value.data++;
        value.len--;
    }
    while (value.len != 0 && value.data[value.len - 1] <= ' ') {
        value.len--;
    }
    return name->len >= option.len && ngx_strcmp(name->data + name->len - option.len, option.data) == 0
        && value.len == sizeof("host") - 1 && ngx_strncmp(value.data, "host", value.len) == 0;
}

/* The value of an option that is a number. The library has found it to be one. It may have spaces around it: then the
 * hub alone counts. */
static ngx_uint_t ngx_http_push_bound(ngx_str_t *value)
{
    ngx_int_t bound = ngx_http_push_number(value);

    return bound != NGX_ERROR ? (ngx_uint_t) bound : NGX_MAX_INT_T_VALUE;
}

/* push_option name value; */
static char *ngx_http_push_option(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_main_conf_t *mcf = conf;
    ngx_str_t *words = cf->args->elts, *name;

    (void) cmd;
    if (ngx_strcmp(words[1].data, "attach") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "push_option attach: %V", &option_set_elsewhere);
        return NGX_CONF_ERROR;
    }
    if (ngx_strcmp(words[1].data, "log") == 0 || ngx_strcmp(words[1].data, "log_fd") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "push_option %V: the log goes to nginx's error log", &words[1]);
        return NGX_CONF_ERROR;
    }
    name = ngx_array_push(&mcf->options);
    if (name == NULL) {
        return NGX_CONF_ERROR;
    }
    *name = words[1];
    if (ngx_http_push_set(cf, mcf->config, (char *) words[1].data, (char *) words[2].data) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    /* Each message would wait for an answer that can't come. */
    if (ngx_http_push_asks_host(&words[1], words[2])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "push_option %V host: nginx takes no events, so nobody would check the messages; use "
                           "push_attach, set it where pushd is started, and attach the application there, too",
                           &words[1]);
        return NGX_CONF_ERROR;
    }
    if (ngx_strcmp(words[1].data, "max_channels") == 0) {
        mcf->max_channels = ngx_http_push_bound(&words[2]);
    } else if (ngx_strcmp(words[1].data, "max_patterns") == 0) {
        mcf->max_patterns = ngx_http_push_bound(&words[2]);
    } else if (ngx_strcmp(words[1].data, "user_channel") == 0) {
        mcf->user_channel = ngx_http_push_is(&words[2], "true");
    }
    return NGX_CONF_OK;
}

/* push_attach unix:path [name=text] [timeout=time] [buffer=size]; */
static char *ngx_http_push_attach(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    static const struct {
        ngx_str_t prefix;
        const char *option;
    } known[] = {
        { ngx_string("name="), "attach_name" },
        { ngx_string("timeout="), "attach_timeout" },
        { ngx_string("buffer="), "attach_buffer" },
    };
    ngx_http_push_main_conf_t *mcf = conf;
    ngx_str_t *words = cf->args->elts, text;
    ngx_uint_t i, k, count = sizeof known / sizeof known[0];
    ngx_int_t milliseconds;
    const char *value;

    (void) cmd;
    if (mcf->attach.len != 0) {
        return "is duplicate";
    }
    if (words[1].len < 6 || ngx_strncmp(words[1].data, "unix:", 5) != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "push_attach \"%V\": unix:PATH is allowed", &words[1]);
        return NGX_CONF_ERROR;
    }
    mcf->attach = words[1];
    if (ngx_http_push_set(cf, mcf->config, "attach", (char *) words[1].data) != NGX_CONF_OK
        || ngx_http_push_set(cf, mcf->config, "attach_name", "nginx") != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }
    for (i = 2; i < cf->args->nelts; i++) {
        for (k = 0; k < count; k++) {
            if (ngx_strncmp(words[i].data, known[k].prefix.data, known[k].prefix.len) == 0) {
                break;
            }
        }
        if (k == count) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "push_attach \"%V\": name=, timeout= and buffer= are known",
                               &words[i]);
            return NGX_CONF_ERROR;
        }
        value = (char *) words[i].data + known[k].prefix.len;
        if (ngx_http_push_set(cf, mcf->config, known[k].option, value) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
        if (ngx_strcmp(known[k].option, "attach_timeout") == 0) {
            text.data = (u_char *) value;
            text.len = ngx_strlen(value);
            milliseconds = ngx_parse_time(&text, 0);
            mcf->attach_timeout = milliseconds == NGX_ERROR ? 0 : (ngx_msec_t) milliseconds;
        }
    }
    return NGX_CONF_OK;
}

#define ANYWHERE (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF)
#define LOCATION (NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF)
#define IN_MAIN(field) NGX_HTTP_MAIN_CONF_OFFSET, offsetof(ngx_http_push_main_conf_t, field)
#define IN_LOCATION(field) NGX_HTTP_LOC_CONF_OFFSET, offsetof(ngx_http_push_loc_conf_t, field)

static ngx_command_t commands[] = {
    { ngx_string("push_attach"), NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE, ngx_http_push_attach,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },
    { ngx_string("push_option"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2, ngx_http_push_option,
      NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL },
    { ngx_string("push_drain"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_http_push_set_msec, IN_MAIN(drain), NULL },
    { ngx_string("push_retry"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_http_push_set_msec, IN_MAIN(retry), NULL },
    { ngx_string("push_thread_pool"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, ngx_conf_set_str_slot,
      IN_MAIN(thread_pool_name), NULL },

    { ngx_string("push_subscribe"), LOCATION | NGX_CONF_ANY, ngx_http_push_set_subscribe,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("push_grant"), ANYWHERE | NGX_CONF_1MORE, ngx_http_push_set_grant, IN_LOCATION(grant), NULL },
    { ngx_string("push_grant_publish"), ANYWHERE | NGX_CONF_1MORE, ngx_http_push_set_grant,
      IN_LOCATION(grant_publish), NULL },
    { ngx_string("push_user"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_value, IN_LOCATION(user), NULL },
    { ngx_string("push_info"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_value, IN_LOCATION(info), NULL },
    { ngx_string("push_expires"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_expires, IN_LOCATION(expires), NULL },
    { ngx_string("push_client_publish"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_value,
      IN_LOCATION(client_publish), NULL },
    { ngx_string("push_parameters"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_parameters,
      IN_LOCATION(parameters), NULL },
    { ngx_string("push_keep_alive"), ANYWHERE | NGX_CONF_FLAG, ngx_conf_set_flag_slot, IN_LOCATION(keep_alive), NULL },
    { ngx_string("push_relay_timeout"), ANYWHERE | NGX_CONF_TAKE1, ngx_http_push_set_time,
      IN_LOCATION(upstream.read_timeout), NULL },

    { ngx_string("push_publish"), LOCATION | NGX_CONF_1MORE, ngx_http_push_set_publish,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("push_publish_user"), LOCATION | NGX_CONF_1MORE, ngx_http_push_set_publish,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("push_publish_trace"), ANYWHERE | NGX_CONF_FLAG, ngx_conf_set_flag_slot,
      IN_LOCATION(publish_trace), NULL },
    { ngx_string("push_begin"), LOCATION | NGX_CONF_TAKE1, ngx_http_push_set_mark, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("push_end"), LOCATION | NGX_CONF_TAKE1, ngx_http_push_set_mark, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    { ngx_string("push_status"), LOCATION | NGX_CONF_NOARGS, ngx_http_push_set_status,
      NGX_HTTP_LOC_CONF_OFFSET, 0, NULL },
    ngx_null_command
};

/* ---- the confs ---- */

static void ngx_http_push_free_config(void *config)
{
    push_config_free(config);
}

static void *ngx_http_push_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_push_main_conf_t *mcf = ngx_pcalloc(cf->pool, sizeof *mcf);
    ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(cf->pool, 0);

    if (mcf == NULL || cleanup == NULL || ngx_array_init(&mcf->options, cf->pool, 4, sizeof(ngx_str_t)) != NGX_OK) {
        return NULL;
    }
    /* This makes options only. No thread of the library runs before a worker starts it. */
    mcf->config = push_config_new();
    if (mcf->config == NULL) {
        return NULL;
    }
    cleanup->handler = ngx_http_push_free_config;
    cleanup->data = mcf->config;
    mcf->attach_timeout = 2000;
    mcf->max_channels = 100; /* the library's default */
    mcf->drain = NGX_CONF_UNSET_MSEC;
    mcf->retry = NGX_CONF_UNSET_MSEC;
    /* Subscribers come through nginx, unless push_option sets listen. */
    if (push_config_set(mcf->config, "listen", "none", NULL, 0) != PUSH_OK) {
        return NULL;
    }
    ngx_str_set(&mcf->relay.host, "push hub");
    mcf->relay.peer.init = ngx_http_push_relay_init_peer;
    return mcf;
}

static char *ngx_http_push_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_push_main_conf_t *mcf = conf;
    ngx_str_t *name = mcf->options.elts;
    ngx_uint_t i;

    ngx_conf_init_msec_value(mcf->drain, 500);
    ngx_conf_init_msec_value(mcf->retry, 2000);
    if (mcf->retry == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "push_retry 0 would try without a pause; a time from 1ms is allowed");
        return NGX_CONF_ERROR;
    }
    /* The library takes it as 32 bits. */
    if (mcf->drain > 86400000) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "push_drain %M ms: at most 1d is allowed", mcf->drain);
        return NGX_CONF_ERROR;
    }
    if (mcf->attach.len == 0) {
        return NGX_CONF_OK;
    }
    for (i = 0; i < mcf->options.nelts; i++) {
        if (ngx_strcmp(name[i].data, "log_level") == 0) {
            continue;
        }
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      ngx_strcmp(name[i].data, "attach_name") == 0 || ngx_strcmp(name[i].data, "attach_timeout") == 0
                              || ngx_strcmp(name[i].data, "attach_buffer") == 0
                          ? "push_option %V: push_attach has name=, timeout= and buffer= for that"
                          : "push_option %V does nothing beside push_attach: it is an option of the hub, so set it where "
                            "pushd is started",
                      &name[i]);
        return NGX_CONF_ERROR;
    }
    if (mcf->used) {
        mcf->thread_pool =
            ngx_thread_pool_add(cf, mcf->thread_pool_name.len != 0 ? &mcf->thread_pool_name : NULL);
        if (mcf->thread_pool == NULL) {
            return NGX_CONF_ERROR;
        }
    }
    return NGX_CONF_OK;
}

static void *ngx_http_push_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_push_loc_conf_t *plcf = ngx_pcalloc(cf->pool, sizeof *plcf);

    if (plcf == NULL) {
        return NULL;
    }
    plcf->grant = plcf->grant_publish = NGX_CONF_UNSET_PTR;
    plcf->keep_alive = NGX_CONF_UNSET;
    plcf->publish_trace = NGX_CONF_UNSET;
    plcf->upstream.read_timeout = NGX_CONF_UNSET_MSEC;
    plcf->upstream.hide_headers = NGX_CONF_UNSET_PTR;
    plcf->upstream.pass_headers = NGX_CONF_UNSET_PTR;
    return plcf;
}

/* The configuration of the relay. Only its timeout can be set. */
static char *ngx_http_push_merge_upstream(ngx_conf_t *cf, ngx_http_upstream_conf_t *upstream,
    ngx_http_upstream_conf_t *prev)
{
    static ngx_str_t hidden[] = { ngx_string("Date"), ngx_string("Server"), ngx_null_string };
    ngx_http_push_main_conf_t *mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_push_module);
    ngx_hash_init_t hash;

    ngx_conf_merge_msec_value(upstream->read_timeout, prev->read_timeout, 300000);
    upstream->upstream = &mcf->relay;
    upstream->connect_timeout = upstream->send_timeout = 60000;
    upstream->buffer_size = ngx_pagesize;
    upstream->ignore_headers = NGX_CONF_BITMASK_SET | NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT | NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES
                               | NGX_HTTP_UPSTREAM_IGN_XA_LIMIT_RATE | NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING
                               | NGX_HTTP_UPSTREAM_IGN_XA_CHARSET;
    upstream->store_access = 0600;
    ngx_str_set(&upstream->module, "push");
    ngx_memzero(&hash, sizeof hash);
    hash.max_size = 64;
    hash.bucket_size = ngx_align(64, ngx_cacheline_size);
    hash.name = "push_hide_headers_hash";
    if (ngx_http_upstream_hide_headers_hash(cf, upstream, prev, hidden, &hash) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

static char *ngx_http_push_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_push_loc_conf_t *prev = parent, *conf = child;
    ngx_http_core_loc_conf_t *clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* The block of an `if` uses the handler of the location around it. */
    if (clcf->noname && clcf->handler == NULL) {
        conf->subscribe = prev->subscribe;
        conf->channels = prev->channels;
        conf->publish = prev->publish;
        conf->to_user = prev->to_user;
        conf->channel = prev->channel;
        conf->event = prev->event;
        conf->key = prev->key;
        conf->except = prev->except;
        conf->mark = prev->mark;
    }
    ngx_conf_merge_ptr_value(conf->grant, prev->grant, NULL);
    ngx_conf_merge_ptr_value(conf->grant_publish, prev->grant_publish, NULL);
    conf->user = conf->user != NULL ? conf->user : prev->user;
    conf->info = conf->info != NULL ? conf->info : prev->info;
    conf->expires = conf->expires != NULL ? conf->expires : prev->expires;
    conf->client_publish = conf->client_publish != NULL ? conf->client_publish : prev->client_publish;
    conf->parameters = conf->parameters != NULL ? conf->parameters : prev->parameters;
    ngx_conf_merge_value(conf->keep_alive, prev->keep_alive, 0);
    ngx_conf_merge_value(conf->publish_trace, prev->publish_trace, 0);
    if (ngx_http_push_check_served(cf, conf, &clcf->name) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    return ngx_http_push_merge_upstream(cf, &conf->upstream, &prev->upstream);
}

static ngx_http_module_t ngx_http_push_module_ctx = {
    ngx_http_push_add_variables,     /* preconfiguration */
    NULL,                            /* postconfiguration */
    ngx_http_push_create_main_conf,
    ngx_http_push_init_main_conf,
    NULL,
    NULL,
    ngx_http_push_create_loc_conf,
    ngx_http_push_merge_loc_conf
};

ngx_module_t ngx_http_push_module = {
    NGX_MODULE_V1,
    &ngx_http_push_module_ctx,
    commands,
    NGX_HTTP_MODULE,
    NULL,                            /* init master */
    NULL,                            /* init module */
    ngx_http_push_init_process,
    NULL,                            /* init thread */
    NULL,                            /* exit thread */
    ngx_http_push_exit_process,
    NULL,                            /* exit master */
    NGX_MODULE_V1_PADDING
};
