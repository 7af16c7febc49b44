/* Writes the request for the hub, from the parts that nginx has parsed and not from the client's bytes. So the hub
 * reads the same request that nginx has checked, by access rules and auth_request. A client can slip nothing between
 * the two. */
#include "ngx_http_push.h"

/* The functions run twice, for the size and for the bytes. With `p` NULL they write nothing. */
typedef struct {
    u_char *p;
    size_t len;
} ngx_http_push_writer_t;

static void ngx_http_push_write(ngx_http_push_writer_t *w, const void *data, size_t len)
{
    if (w->p != NULL) {
        w->p = ngx_cpymem(w->p, data, len);
    }
    w->len += len;
}

static void ngx_http_push_write_text(ngx_http_push_writer_t *w, const char *text)
{
    ngx_http_push_write(w, text, ngx_strlen(text));
}

/* Escapes the bytes that a request line can't have. */
static void ngx_http_push_write_escaped(ngx_http_push_writer_t *w, u_char *data, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    u_char escaped[3] = { '%', 0, 0 };
    size_t i;

    for (i = 0; i < len; i++) {
        if (data[i] > 0x20 && data[i] < 0x7f && data[i] != '#') {
            ngx_http_push_write(w, &data[i], 1);
        } else {
            escaped[1] = (u_char) hex[data[i] >> 4];
            escaped[2] = (u_char) hex[data[i] & 15];
            ngx_http_push_write(w, escaped, 3);
        }
    }
}

/* These header lines are not passed on: the request has no body, and a relay is another connection. */
static ngx_flag_t ngx_http_push_is_among(ngx_table_elt_t *header, const ngx_str_t *name)
{
    for ( ; name->len != 0; name++) {
        if (header->key.len == name->len && ngx_strncasecmp(header->key.data, name->data, name->len) == 0) {
            return 1;
        }
    }
    return 0;
}

static ngx_flag_t ngx_http_push_is_left_out(ngx_table_elt_t *header, ngx_flag_t relayed, ngx_flag_t websocket,
    ngx_flag_t addressed, ngx_flag_t named)
{
    static const ngx_str_t always[] = {
        ngx_string("content-length"), ngx_string("transfer-encoding"), ngx_string("expect"), ngx_null_string
    };
    static const ngx_str_t host[] = { ngx_string("host"), ngx_null_string };
    static const ngx_str_t address[] = { ngx_string("forwarded"), ngx_string("x-forwarded-for"), ngx_null_string };
    static const ngx_str_t hop[] = {
        ngx_string("connection"), ngx_string("upgrade"), ngx_string("keep-alive"), ngx_string("te"),
        ngx_string("proxy-connection"), ngx_string("trailer"), ngx_string("http2-settings"), ngx_null_string
    };

    return ngx_http_push_is_among(header, always) || (addressed && ngx_http_push_is_among(header, address))
           || (named && ngx_http_push_is_among(header, host))
           || (relayed && ngx_http_push_is_among(header, hop + (websocket ? 2 : 0)));
}

/* Whether nginx knows the client by another address than its socket's: by the PROXY protocol, or real_ip_header. */
static ngx_flag_t ngx_http_push_is_proxied(ngx_connection_t *c)
{
    ngx_sockaddr_t peer;
    socklen_t len = sizeof peer;

    return c->proxy_protocol != NULL || getpeername(c->fd, &peer.sockaddr, &len) == -1
           || ngx_cmp_sockaddr(&peer.sockaddr, len, c->sockaddr, c->socklen, 1) != NGX_OK;
}

static ngx_flag_t ngx_http_push_is_clean(ngx_str_t *text)
{
    size_t i;

    for (i = 0; i < text->len; i++) {
        if (text->data[i] == '\r' || text->data[i] == '\n' || text->data[i] == '\0') {
            return 0;
        }
    }
    return 1;
}

/* The host and port of an absolute target, "GET http://host:port/path". They count in place of the Host line (RFC 9112,
 * section 3.2.2), for nginx as well. nginx keeps the host without the port. */
static ngx_str_t ngx_http_push_target_host(ngx_http_request_t *r)
{
    ngx_str_t host = ngx_null_string;
    u_char *end;

    r = r->main;
    if (r->host_start == NULL || r->http_version >= NGX_HTTP_VERSION_20) {
        return host;
    }
    host.data = r->host_start;
    end = r->request_line.data + r->request_line.len;
    while (&host.data[host.len] < end && ngx_strchr("/? ", host.data[host.len]) == NULL) {
        host.len++;
    }
    return host;
}

static ngx_int_t ngx_http_push_write_head(ngx_http_push_writer_t *w, ngx_http_request_t *r,
    ngx_http_push_subscription_t *subscription, ngx_flag_t relayed, ngx_flag_t addressed)
{
    ngx_list_part_t *part;
    ngx_table_elt_t *header;
    ngx_str_t host;
    ngx_flag_t old;
    u_char *mark;
    size_t path;
    ngx_uint_t i;

    mark = memchr(r->unparsed_uri.data, '?', r->unparsed_uri.len);
    path = mark != NULL ? (size_t) (mark - r->unparsed_uri.data) : r->unparsed_uri.len;
    ngx_http_push_write(w, r->method_name.data, r->method_name.len);
    ngx_http_push_write_text(w, " ");
    /* "GET http://host?query" has no path. */
    if (path == 0) {
        ngx_http_push_write_text(w, "/");
    }
    ngx_http_push_write_escaped(w, r->unparsed_uri.data, path);
    ngx_http_push_write_text(w, "?");
    ngx_http_push_write_escaped(w, subscription->parameters.data, subscription->parameters.len);
    /* The relay speaks HTTP/1.0: the answer is then never chunked, and ends with the connection. */
    old = relayed ? !subscription->websocket : r->http_version == NGX_HTTP_VERSION_10;
    ngx_http_push_write_text(w, old ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");

    host = ngx_http_push_target_host(r);
    if (host.len > 0) {
        ngx_http_push_write_text(w, "Host: ");
        ngx_http_push_write(w, host.data, host.len);
        ngx_http_push_write_text(w, "\r\n");
    }
    for (part = &r->headers_in.headers.part; part != NULL; part = part->next) {
        header = part->elts;
        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_push_is_left_out(&header[i], relayed, subscription->websocket, addressed,
                                          host.len > 0)) {
                continue;
            }
            /* nginx's parsers let none of these pass, but checking it again costs little. */
            if (!ngx_http_push_is_clean(&header[i].key) || !ngx_http_push_is_clean(&header[i].value)) {
                return NGX_HTTP_BAD_REQUEST;
            }
            ngx_http_push_write(w, header[i].key.data, header[i].key.len);
            ngx_http_push_write_text(w, ": ");
            ngx_http_push_write(w, header[i].value.data, header[i].value.len);
            ngx_http_push_write_text(w, "\r\n");
        }
    }
    if (addressed) {
        /* The hub sees a socket pair, or a proxy's socket. Only nginx knows the client's address, and a client's own
         * header must not replace it. */
        ngx_http_push_write_text(w, "X-Forwarded-For: ");
        ngx_http_push_write(w, r->connection->addr_text.data, r->connection->addr_text.len);
        ngx_http_push_write_text(w, "\r\n");
    }
    ngx_http_push_write_text(w, "\r\n");
    /* Bytes that the client has sent behind its request, such as a WebSocket frame. A relay sends them by itself. */
    if (!relayed) {
        ngx_http_push_write(w, r->header_in->pos, r->header_in->last - r->header_in->pos);
    }
    return NGX_OK;
}

ngx_int_t ngx_http_push_head(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription, ngx_flag_t relayed,
    ngx_str_t *head)
{
    ngx_http_push_writer_t writer = { NULL, 0 };
    ngx_flag_t addressed = relayed || ngx_http_push_is_proxied(r->connection);
    ngx_int_t rc;

    rc = ngx_http_push_write_head(&writer, r, subscription, relayed, addressed);
    if (rc != NGX_OK) {
        return rc;
    }
    head->len = writer.len;
    head->data = ngx_pnalloc(r->pool, head->len);
    if (head->data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    writer.p = head->data;
    writer.len = 0;
    return ngx_http_push_write_head(&writer, r, subscription, relayed, addressed);
}
