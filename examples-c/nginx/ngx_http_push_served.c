/* Checks the directives of a location together: whether there is a request that it can serve. Values with variables are
 * not known before a request, so only the others count. */
#include "ngx_http_push.h"

/* The library's bound of a grant. No option changes it. */
#define MAX_GRANTED 1000
/* The bytes that may stand before the * of a pattern that a client asks for. */
#define MAX_PREFIX 64

typedef struct {
    ngx_conf_t *cf;
    ngx_str_t *location;
    ngx_uint_t max_channels;     /* of a request */
    ngx_uint_t max_patterns;     /* likewise */
    ngx_flag_t user_channel;     /* the hub is known to have this option on */
} ngx_http_push_place_t;

static char *ngx_http_push_too_many(ngx_http_push_place_t *place, const char *directives, ngx_uint_t count,
    ngx_uint_t max, const char *bound)
{
    ngx_log_error(NGX_LOG_EMERG, place->cf->log, 0, "%s in location \"%V\": %ui channels, at most %ui are allowed%s",
                  directives, place->location, count, max, bound);
    return NGX_CONF_ERROR;
}

static ngx_uint_t ngx_http_push_constants(ngx_array_t *values)
{
    ngx_http_push_value_t *value = values != NULL ? values->elts : NULL;
    ngx_uint_t i, count = 0;

    for (i = 0; value != NULL && i < values->nelts; i++) {
        count += value[i].text.lengths == NULL;
    }
    return count;
}

/* Adds a name to a list, unless it is there. */
static ngx_int_t ngx_http_push_add_name(ngx_array_t *names, ngx_str_t *name)
{
    ngx_str_t *known = names->elts;
    ngx_uint_t i;

    for (i = 0; i < names->nelts; i++) {
        if (known[i].len == name->len && ngx_memcmp(known[i].data, name->data, name->len) == 0) {
            return NGX_OK;
        }
    }
    known = ngx_array_push(names);
    if (known == NULL) {
        return NGX_ERROR;
    }
    *known = *name;
    return NGX_OK;
}

/* Whether a switch is on for each request. */
static ngx_flag_t ngx_http_push_is_on(ngx_http_complex_value_t *value)
{
    return value != NULL && value->lengths == NULL && ngx_http_push_read_switch(&value->value) == 1;
}

static char *ngx_http_push_check_counts(ngx_http_push_place_t *place, ngx_http_push_loc_conf_t *conf)
{
    ngx_uint_t granted = ngx_http_push_constants(conf->grant), listed = ngx_http_push_constants(conf->channels),
               published = ngx_http_push_constants(conf->grant_publish), i;
    ngx_http_push_value_t *value;
    ngx_array_t names;

    /* The library counts this list before it drops repetitions. */
    if (listed > MAX_GRANTED) {
        return ngx_http_push_too_many(place, "push_subscribe", listed, MAX_GRANTED, "");
    }
    if (ngx_array_init(&names, place->cf->temp_pool, 4, sizeof(ngx_str_t)) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
    value = listed != 0 ? conf->channels->elts : NULL;
    for (i = 0; value != NULL && i < conf->channels->nelts; i++) {
        if (value[i].text.lengths == NULL && ngx_http_push_add_name(&names, &value[i].text.value) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }
    if (names.nelts + granted > MAX_GRANTED) {
        return ngx_http_push_too_many(place, listed != 0 ? "push_subscribe and push_grant" : "push_grant",
                                      names.nelts + granted, MAX_GRANTED, "");
    }
    if (published > MAX_GRANTED) {
        return ngx_http_push_too_many(place, "push_grant_publish", published, MAX_GRANTED, "");
    }
    if (published != 0 && ngx_http_push_is_on(conf->client_publish)
        && names.nelts + granted + published > MAX_GRANTED)
    {
        return ngx_http_push_too_many(place, "push_grant_publish", names.nelts + granted + published, MAX_GRANTED,
                                      " (push_client_publish adds those of push_subscribe and push_grant)");
    }
    if (names.nelts > place->max_channels) {
        return ngx_http_push_too_many(place, "push_subscribe", names.nelts, place->max_channels,
                                      " (push_option max_channels)");
    }
    return NGX_CONF_OK;
}

static ngx_flag_t ngx_http_push_is_of_users(ngx_str_t *name)
{
    return name->len >= 5 && ngx_memcmp(name->data, "user:", 5) == 0;
}

/* With the option user_channel the library takes no grant that has the channels of users in it. */
static char *ngx_http_push_check_users(ngx_http_push_place_t *place, const char *directive, ngx_array_t *values)
{
    ngx_http_push_value_t *value = values != NULL ? values->elts : NULL;
    ngx_uint_t i;

    for (i = 0; value != NULL && i < values->nelts; i++) {
        if (value[i].text.lengths == NULL && ngx_http_push_is_of_users(&value[i].text.value)) {
            ngx_log_error(NGX_LOG_EMERG, place->cf->log, 0,
                          "%s \"%V\" in location \"%V\" begins with user:, as the names do that belong to the library "
                          "(push_option user_channel)",
                          directive, &value[i].text.value, place->location);
            return NGX_CONF_ERROR;
        }
    }
    return NGX_CONF_OK;
}

/* Whether a grant may allow a channel, or cover a pattern. One with variables may allow any. A variable makes no
 * pattern. */
static ngx_flag_t ngx_http_push_may_allow(ngx_array_t *grant, ngx_str_t *name, ngx_flag_t pattern)
{
    ngx_http_push_value_t *value = grant != NULL ? grant->elts : NULL;
    ngx_str_t text;
    ngx_uint_t i;

    for (i = 0; value != NULL && i < grant->nelts; i++) {
        text = value[i].text.value;
        if (pattern && !value[i].pattern) {
            continue;
        }
        if (value[i].pattern) {
            text.len--;
        }
        if (value[i].text.lengths != NULL
            || ((value[i].pattern ? text.len <= name->len : text.len == name->len)
                && ngx_memcmp(text.data, name->data, text.len) == 0))
        {
            return 1;
        }
    }
    return 0;
}

static const char *ngx_http_push_bad_asked(ngx_http_push_place_t *place, ngx_array_t *grant, ngx_str_t *name)
{
    const char *bad = ngx_http_push_bad_channel(name);

    if (bad == NULL && memmem(name->data, name->len, "\xef\xbf\xbd", 3) != NULL) {
        bad = "has U+FFFD, which stands for bytes that are not UTF-8";
    }
    if (bad == NULL && place->user_channel && ngx_http_push_is_of_users(name)) {
        bad = "is the channel of a user, which no client may name (push_option user_channel)";
    }
    return bad != NULL || ngx_http_push_may_allow(grant, name, 0) ? bad : "is not granted by push_grant";
}

static const char *ngx_http_push_bad_asked_pattern(ngx_array_t *grant, ngx_str_t *pattern)
{
    const char *bad;

    if (pattern->len == 0 || pattern->data[pattern->len - 1] != '*') {
        return "does not end in *, as a pattern does; one channel is named with channel=";
    }
    bad = ngx_http_push_bad_pattern(pattern);
    if (bad != NULL) {
        return bad;
    }
    if (memmem(pattern->data, pattern->len, "\xef\xbf\xbd", 3) != NULL) {
        return "has U+FFFD, which stands for bytes that are not UTF-8";
    }
    if (ngx_http_push_is_of_users(pattern)) {
        return "begins with user:, as the names do that no pattern fits";
    }
    if (pattern->len > MAX_PREFIX + 1) {
        return "has more than 64 bytes before its *";
    }
    return ngx_http_push_may_allow(grant, pattern, 1) ? NULL : "is not covered by a pattern of push_grant";
}

static char *ngx_http_push_bad_query(ngx_http_push_place_t *place, ngx_str_t *query, ngx_str_t *pair, const char *bad)
{
    ngx_log_error(NGX_LOG_EMERG, place->cf->log, 0, "push_parameters \"%V\" in location \"%V\": \"%V\" %s", query,
                  place->location, pair, bad);
    return NGX_CONF_ERROR;
}

/* The channels and patterns that push_parameters names. They count only where push_subscribe has none. */
static char *ngx_http_push_check_asked(ngx_http_push_place_t *place, ngx_http_push_loc_conf_t *conf)
{
    ngx_str_t *query = &conf->parameters->value, transport = ngx_null_string;
    ngx_http_push_pair_t *pair;
    ngx_array_t *pairs, names, patterns;
    ngx_flag_t whole, pattern;
    const char *bad;
    ngx_uint_t i;

    pairs = ngx_http_push_pairs(place->cf->temp_pool, query, &whole);
    if (pairs == NULL || ngx_array_init(&names, place->cf->temp_pool, 4, sizeof(ngx_str_t)) != NGX_OK
        || ngx_array_init(&patterns, place->cf->temp_pool, 4, sizeof(ngx_str_t)) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }
    pair = pairs->elts;
    for (i = 0; i < pairs->nelts; i++) {
        if (ngx_http_push_is(&pair[i].name, "transport")) {
            transport = pair[i].value;
        }
        pattern = ngx_http_push_is(&pair[i].name, "pattern");
        if (!pattern && !ngx_http_push_is(&pair[i].name, "channel")) {
            continue;
        }
        bad = pattern ? ngx_http_push_bad_asked_pattern(conf->grant, &pair[i].value)
                      : ngx_http_push_bad_asked(place, conf->grant, &pair[i].value);
        if (bad != NULL) {
            return ngx_http_push_bad_query(place, query, &pair[i].text, bad);
        }
        if (ngx_http_push_add_name(pattern ? &patterns : &names, &pair[i].value) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
        if (patterns.nelts > place->max_patterns) {
            return ngx_http_push_bad_query(place, query, &pair[i].text, "is more than push_option max_patterns allows");
        }
    }
    if (names.nelts > place->max_channels) {
        return ngx_http_push_too_many(place, "push_parameters", names.nelts, place->max_channels,
                                      " (push_option max_channels)");
    }
    /* A WebSocket can subscribe later, and a user may have a channel of its own. */
    if (whole && names.nelts == 0 && patterns.nelts == 0 && conf->user == NULL && transport.len != 0
        && !ngx_http_push_is(&transport, "ws"))
    {
        ngx_log_error(NGX_LOG_EMERG, place->cf->log, 0,
                      "push_parameters \"%V\" in location \"%V\" names no channel, and push_subscribe names none "
                      "either",
                      query, place->location);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}

char *ngx_http_push_check_served(ngx_conf_t *cf, ngx_http_push_loc_conf_t *conf, ngx_str_t *location)
{
    ngx_http_push_main_conf_t *mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_push_module);
    ngx_http_push_place_t place = { cf, location, NGX_MAX_INT_T_VALUE, NGX_MAX_INT_T_VALUE, 0 };

    /* The options of another process are not known here. Its bounds may be larger than a grant. */
    if (mcf->attach.len == 0) {
        place.max_channels = mcf->max_channels;
        place.max_patterns = mcf->max_patterns;
        place.user_channel = mcf->user_channel;
    }
    if (conf->mark != NULL && place.user_channel && conf->channel.lengths == NULL
        && ngx_http_push_is_of_users(&conf->channel.value))
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "%s \"%V\" in location \"%V\": the channel of a user does not end (push_option user_channel)",
                      conf->mark == push_end ? "push_end" : "push_begin", &conf->channel.value, location);
        return NGX_CONF_ERROR;
    }
    if (!conf->subscribe) {
        return NGX_CONF_OK;
    }
    if (conf->channels == NULL && conf->grant == NULL && conf->user == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "push_subscribe in location \"%V\" names no channel, so push_grant must say which ones clients "
                      "may ask for; \"push_grant *\" is all of them (push_user alone is enough for the hub's option "
                      "user_channel)", location);
        return NGX_CONF_ERROR;
    }
    if (conf->info != NULL && conf->user == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "push_info in location \"%V\" needs push_user: it is what others are told of the user", location);
        return NGX_CONF_ERROR;
    }
    if (place.user_channel
        && (ngx_http_push_check_users(&place, "push_subscribe", conf->channels) != NGX_CONF_OK
            || ngx_http_push_check_users(&place, "push_grant", conf->grant) != NGX_CONF_OK
            || ngx_http_push_check_users(&place, "push_grant_publish", conf->grant_publish) != NGX_CONF_OK))
    {
        return NGX_CONF_ERROR;
    }
    if (ngx_http_push_check_counts(&place, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }
    if (conf->channels != NULL || conf->parameters == NULL) {
        return NGX_CONF_OK;
    }
    return ngx_http_push_check_asked(&place, conf);
}
