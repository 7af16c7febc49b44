/* Checks constant values of directives, so that `nginx -t` shows a mistake, and not each request. The library checks
 * the same again. */
#include "ngx_http_push.h"

/* The bytes of a value that an error shows. nginx cuts off the end of a long line, where the reason stands. */
#define MAX_SHOWN 256

/* A short text of UTF-8 without control characters. Returns NULL, or what is wrong with it. */
static const char *ngx_http_push_bad_text(ngx_str_t *text, size_t max)
{
    u_char *p = text->data, *end = p + text->len;
    uint32_t code;

    if (text->len == 0) {
        return "is empty";
    }
    if (text->len > max) {
        return max == NGX_HTTP_PUSH_MAX_EVENT  ? "is longer than 127 bytes"
               : max == NGX_HTTP_PUSH_MAX_INFO ? "is longer than 1024 bytes"
                                               : "is longer than 255 bytes";
    }
    while (p < end) {
        code = *p < 0x80 ? *p++ : ngx_utf8_decode(&p, (size_t) (end - p));
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
            return "is not UTF-8";
        }
        if (code < 0x20 || (code >= 0x7f && code < 0xa0)) {
            return "has control characters";
        }
    }
    return NULL;
}

static const char *ngx_http_push_bad_user(ngx_str_t *text)
{
    return ngx_http_push_bad_text(text, NGX_HTTP_PUSH_MAX_NAME);
}

static const char *ngx_http_push_bad_info(ngx_str_t *text)
{
    return ngx_http_push_bad_text(text, NGX_HTTP_PUSH_MAX_INFO);
}

/* A user to whom something is published. The library makes a channel's name of it. */
static const char *ngx_http_push_bad_recipient(ngx_str_t *text)
{
    if (text->len > NGX_HTTP_PUSH_MAX_RECIPIENT) {
        return "is longer than 250 bytes";
    }
    if (text->len != 0 && text->data[text->len - 1] == '*') {
        return "ends in *, as the name of no user's channel does";
    }
    return ngx_http_push_bad_user(text);
}

const char *ngx_http_push_bad_channel(ngx_str_t *text)
{
    if (text->len != 0 && text->data[text->len - 1] == '*') {
        return "ends in *, as no channel's name does; push_grant takes patterns";
    }
    return ngx_http_push_bad_text(text, NGX_HTTP_PUSH_MAX_NAME);
}

const char *ngx_http_push_bad_pattern(ngx_str_t *text)
{
    ngx_str_t prefix = *text;

    if (text->len == 0 || text->data[text->len - 1] != '*') {
        return ngx_http_push_bad_text(text, NGX_HTTP_PUSH_MAX_NAME);
    }
    prefix.len--;
    if (memchr(prefix.data, '*', prefix.len) != NULL) {
        return "has a * before its end";
    }
    return prefix.len == 0 ? NULL : ngx_http_push_bad_text(&prefix, NGX_HTTP_PUSH_MAX_NAME);
}

static const char *ngx_http_push_bad_event(ngx_str_t *text)
{
    if (text->len >= 5 && ngx_strncmp(text->data, "push-", 5) == 0) {
        return "begins with push-, as the library's own events do";
    }
    return ngx_http_push_bad_text(text, NGX_HTTP_PUSH_MAX_EVENT);
}

/* The id of a client: a UUID. */
static const char *ngx_http_push_bad_client(ngx_str_t *text)
{
    size_t i;
    u_char c;

    for (i = 0; i < text->len; i++) {
        c = ngx_tolower(text->data[i]);
        if (i == 8 || i == 13 || i == 18 || i == 23 ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            break;
        }
    }
    return i == 36 && text->len == 36 ? NULL : "is no UUID, as the id of a client is";
}

static const char *ngx_http_push_bad_expiry(ngx_str_t *text)
{
    int64_t at;

    return ngx_http_push_read_expiry(text, &at) == NGX_OK ? NULL
           : "is no time; off, a time from now such as 8h, or @SECONDS since 1970 are allowed";
}

static const char *ngx_http_push_bad_switch(ngx_str_t *text)
{
    return ngx_http_push_read_switch(text) != NGX_ERROR ? NULL : "is neither on (or 1) nor off (or 0)";
}

static ngx_flag_t ngx_http_push_is_one_of(ngx_str_t *value, const char *const *words)
{
    for ( ; *words != NULL; words++) {
        if (value->len == ngx_strlen(*words) && ngx_strncmp(value->data, *words, value->len) == 0) {
            return 1;
        }
    }
    return 0;
}

static ngx_flag_t ngx_http_push_is_digit(u_char c)
{
    return c >= '0' && c <= '9';
}

/* Whether no number in a text has a zero before it, as in 007s. The hub refuses these, and so do the directives. */
static ngx_flag_t ngx_http_push_is_plain(ngx_str_t *text)
{
    size_t i;

    for (i = 0; i + 1 < text->len; i++) {
        if (text->data[i] == '0' && ngx_http_push_is_digit(text->data[i + 1])
            && (i == 0 || !ngx_http_push_is_digit(text->data[i - 1])))
        {
            return 0;
        }
    }
    return 1;
}

static const struct {
    ngx_str_t directive;
    const char *(*bad)(ngx_str_t *text);
} checks[] = {
    { ngx_string("push_subscribe"), ngx_http_push_bad_channel },
    { ngx_string("push_grant"), ngx_http_push_bad_pattern },
    { ngx_string("push_grant_publish"), ngx_http_push_bad_pattern },
    { ngx_string("push_user"), ngx_http_push_bad_user },
    { ngx_string("push_info"), ngx_http_push_bad_info },
    { ngx_string("push_expires"), ngx_http_push_bad_expiry },
    { ngx_string("push_client_publish"), ngx_http_push_bad_switch },
    { ngx_string("push_publish"), ngx_http_push_bad_channel },
    { ngx_string("push_publish_user"), ngx_http_push_bad_recipient },
    { ngx_string("event="), ngx_http_push_bad_event },
    { ngx_string("key="), ngx_http_push_bad_user },
    { ngx_string("except="), ngx_http_push_bad_client },
};

char *ngx_http_push_check_value(ngx_conf_t *cf, const char *name, ngx_http_complex_value_t *value)
{
    size_t shown = value->value.len;
    const char *bad = NULL;
    ngx_uint_t i;

    for (i = 0; value->lengths == NULL && i < sizeof checks / sizeof checks[0]; i++) {
        if (ngx_strcmp(checks[i].directive.data, name) == 0) {
            bad = checks[i].bad(&value->value);
        }
    }
    if (bad == NULL) {
        return NGX_CONF_OK;
    }
    if (shown > MAX_SHOWN) {
        /* Not a part of a character. */
        for (shown = MAX_SHOWN; shown != 0 && (value->value.data[shown] & 0xc0) == 0x80; shown--) { /* void */ }
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s \"%*s%s\" %s", name, shown, value->value.data,
                       shown < value->value.len ? "..." : "", bad);
    return NGX_CONF_ERROR;
}

/* A directive with one value. */
char *ngx_http_push_set_value(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_complex_value_t **field = (ngx_http_complex_value_t **) (void *) ((char *) conf + cmd->offset);
    char *rc = ngx_http_set_complex_value_slot(cf, cmd, conf);

    return rc != NGX_CONF_OK ? rc : ngx_http_push_check_value(cf, (const char *) cmd->name.data, *field);
}

char *ngx_http_push_set_msec(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t *words = cf->args->elts;

    if (!ngx_http_push_is_plain(&words[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V \"%V\": a time without a zero before its number is allowed",
                           &cmd->name, &words[1]);
        return NGX_CONF_ERROR;
    }
    return ngx_conf_set_msec_slot(cf, cmd, conf);
}

/* push_expires. A fixed time that is past is no error: with the same file nginx did start before, and its other
 * locations must not go down with this one when it starts again. */
char *ngx_http_push_set_expires(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_push_loc_conf_t *plcf = conf;
    char *rc = ngx_http_push_set_value(cf, cmd, conf);
    int64_t at;

    if (rc == NGX_CONF_OK && plcf->expires->lengths == NULL
        && ngx_http_push_read_expiry(&plcf->expires->value, &at) == NGX_OK && at != 0 && at <= ngx_time())
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "push_expires \"%V\" is in the past, so every subscriber gets 403",
                           &plcf->expires->value);
    }
    return rc;
}

/* A time that must not be 0. */
char *ngx_http_push_set_time(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_msec_t *field = (ngx_msec_t *) (void *) ((char *) conf + cmd->offset);
    char *rc = ngx_http_push_set_msec(cf, cmd, conf);

    if (rc == NGX_CONF_OK && *field == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V 0: a time from 1ms is allowed", &cmd->name);
        return NGX_CONF_ERROR;
    }
    return rc;
}

ngx_int_t ngx_http_push_read_switch(ngx_str_t *text)
{
    static const char *const on[] = { "on", "1", NULL };
    static const char *const off[] = { "off", "0", NULL };

    return ngx_http_push_is_one_of(text, on) ? 1 : ngx_http_push_is_one_of(text, off) ? 0 : NGX_ERROR;
}

ngx_int_t ngx_http_push_read_expiry(ngx_str_t *text, int64_t *expires_at)
{
    ngx_int_t seconds;

    *expires_at = 0;
    if (text->len == 3 && ngx_strncmp(text->data, "off", 3) == 0) {
        return NGX_OK;
    }
    if (text->len == 0 || !ngx_http_push_is_plain(text)) {
        return NGX_ERROR;
    }
    if (text->data[0] == '@') {
        seconds = ngx_atoi(text->data + 1, text->len - 1);
    } else {
        seconds = ngx_parse_time(text, 1);
        if (seconds > 0 && seconds <= NGX_MAX_INT_T_VALUE - ngx_time()) {
            seconds += ngx_time();
        }
    }
    if (seconds == NGX_ERROR || seconds == 0) {
        return NGX_ERROR;
    }
    *expires_at = seconds;
    return NGX_OK;
}
