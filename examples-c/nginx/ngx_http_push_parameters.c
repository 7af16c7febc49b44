/* push_parameters: checks the pairs of the query that have no variables, by the rules of the hub. The value of a
 * variable can't reach beyond the "&" around its pair, so "last=0&$args" is as wrong as "last=0". */
#include "ngx_http_push.h"

/* Decodes %XX and "+" (URL Standard, section 5.1). Returns the end of what it writes, which is never longer. */
static u_char *ngx_http_push_decode(u_char *to, u_char *p, u_char *end)
{
    ngx_int_t code;

    for ( ; p < end; p++) {
        code = end - p > 2 && *p == '%' ? ngx_hextoi(p + 1, 2) : NGX_ERROR;
        if (code != NGX_ERROR) {
            p += 2;
        }
        *to++ = (u_char) (code != NGX_ERROR ? code : *p == '+' ? ' ' : *p);
    }
    return to;
}

ngx_array_t *ngx_http_push_pairs(ngx_pool_t *pool, ngx_str_t *query, ngx_flag_t *whole)
{
    u_char *p = query->data, *end = p + query->len, *next, *equals, *to;
    ngx_array_t *pairs = ngx_array_create(pool, 4, sizeof(ngx_http_push_pair_t));
    ngx_http_push_pair_t *pair;

    *whole = 1;
    to = ngx_pnalloc(pool, query->len + 1);
    if (pairs == NULL || to == NULL) {
        return NULL;
    }
    for ( ; p < end; p = next + 1) {
        next = memchr(p, '&', end - p);
        next = next != NULL ? next : end;
        if (memchr(p, '$', next - p) != NULL) {
            *whole = 0;
            continue;
        }
        if (next == p) {
            continue;
        }
        equals = memchr(p, '=', next - p);
        equals = equals != NULL ? equals : next;
        pair = ngx_array_push(pairs);
        if (pair == NULL) {
            return NULL;
        }
        pair->text.data = p;
        pair->text.len = next - p;
        pair->name.data = to;
        to = ngx_http_push_decode(to, p, equals);
        pair->name.len = to - pair->name.data;
        pair->value.data = to;
        to = equals < next ? ngx_http_push_decode(to, equals + 1, next) : to;
        pair->value.len = to - pair->value.data;
    }
    return pairs;
}

ngx_flag_t ngx_http_push_is(ngx_str_t *text, const char *word)
{
    return text->len == ngx_strlen(word) && ngx_strncmp(text->data, word, text->len) == 0;
}

/* Names that mean the header Last-Event-ID. */
static ngx_flag_t ngx_http_push_is_event_id(ngx_str_t *name)
{
    static const char *const names[] = { "lastEventId", "Last-Event-ID", "last_event_id" };
    ngx_uint_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (name->len == ngx_strlen(names[i]) && ngx_strncasecmp(name->data, (u_char *) names[i], name->len) == 0) {
            return 1;
        }
    }
    return 0;
}

/* EPOCH-SEQ: 1 to 34 letters and digits, and a number of 64 bits in at most 20 digits. */
static ngx_flag_t ngx_http_push_is_position(ngx_str_t *text)
{
    static const char largest[] = "18446744073709551615";
    size_t epoch = text->len, digits, i;

    while (epoch != 0 && text->data[epoch - 1] >= '0' && text->data[epoch - 1] <= '9') {
        epoch--;
    }
    digits = text->len - epoch;
    if (digits < 1 || digits > 20 || (digits == 20 && ngx_strncmp(text->data + epoch, largest, 20) > 0)) {
        return 0;
    }
    if (epoch < 2 || epoch > 35 || text->data[epoch - 1] != '-') {
        return 0;
    }
    for (i = 0; i < epoch - 1; i++) {
        if (!isalnum(text->data[i]) || text->data[i] >= 0x80) {
            return 0;
        }
    }
    return 1;
}

ngx_int_t ngx_http_push_number(ngx_str_t *text)
{
    /* The library takes no zero before a number. */
    return text->len > 1 && text->data[0] == '0' ? NGX_ERROR : ngx_atoi(text->data, text->len);
}

static const char *ngx_http_push_bad_pair(ngx_str_t *name, ngx_str_t *value)
{
    ngx_int_t last;

    if (ngx_http_push_is(name, "last")) {
        last = ngx_http_push_number(value);
        return last >= 1 && last <= 10000 ? NULL : "has a last that is not a number from 1 to 10000";
    }
    if (ngx_http_push_is(name, "format")) {
        return ngx_http_push_is(value, "raw") || ngx_http_push_is(value, "json") ? NULL
               : "has a format other than raw and json";
    }
    if (ngx_http_push_is(name, "transport")) {
        return ngx_http_push_is(value, "ws") || ngx_http_push_is(value, "sse") || ngx_http_push_is(value, "stream")
                       || ngx_http_push_is(value, "poll") ? NULL
               : "has a transport other than ws, sse, stream and poll";
    }
    if (ngx_http_push_is(name, "wait")) {
        return ngx_http_push_is(value, "0") ? NULL : "has a wait other than 0";
    }
    return NULL;
}

static const char *ngx_http_push_bad_parameters(ngx_array_t *pairs, ngx_flag_t whole)
{
    ngx_http_push_pair_t *pair = pairs->elts;
    ngx_str_t since = ngx_null_string, seen = ngx_null_string;
    const char *bad;
    ngx_uint_t i;

    for (i = 0; i < pairs->nelts; i++) {
        bad = ngx_http_push_bad_pair(&pair[i].name, &pair[i].value);
        if (bad != NULL) {
            return bad;
        }
        /* Of several, the last one counts. */
        if (ngx_http_push_is(&pair[i].name, "since")) {
            since = pair[i].value;
        } else if (ngx_http_push_is_event_id(&pair[i].name)) {
            seen = pair[i].value;
        }
    }
    /* A Last-Event-ID, of which any is taken, replaces `since`. A variable may have either. */
    if (whole && seen.len == 0 && since.len != 0 && !ngx_http_push_is(&since, "start")
        && !ngx_http_push_is_position(&since))
    {
        return "has a since that is neither start nor a position";
    }
    return NULL;
}

/* push_parameters query; */
char *ngx_http_push_set_parameters(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_loc_conf_t *plcf = conf;
    char *rc = ngx_http_set_complex_value_slot(cf, cmd, conf);
    ngx_array_t *pairs;
    ngx_flag_t whole;
    const char *bad;

    if (rc != NGX_CONF_OK) {
        return rc;
    }
    pairs = ngx_http_push_pairs(cf->pool, &plcf->parameters->value, &whole);
    if (pairs == NULL) {
        return NGX_CONF_ERROR;
    }
    bad = ngx_http_push_bad_parameters(pairs, whole);
    if (bad != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "push_parameters \"%V\" %s", &plcf->parameters->value, bad);
        return NGX_CONF_ERROR;
    }
    return NGX_CONF_OK;
}
