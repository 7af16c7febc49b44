/* HTTP/1 heads, answers and files; see http.h.  Strict where a proxy in front might read a request differently:
 * bare LF, folded headers, Transfer-Encoding and a second Content-Length are refused (RFC 9112, 11.2). */
#define _GNU_SOURCE
#include "http.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool read_number(const char *text, long max, long *number)
{
    size_t len = strspn(text, "0123456789");
    if (len == 0 || text[len] || (len > 1 && *text == '0')) return false;
    /* A number that is too large for a long may not be taken for its greatest one. */
    errno = 0;
    *number = strtol(text, NULL, 10);
    return errno == 0 && *number <= max;
}

/* ---- buffers ---- */

enum { KEPT_SIZE = 64 << 10 }; /* larger memory is not kept for an empty buffer */

bool buffer_reserve(struct buffer *buffer, size_t room)
{
    if (buffer_room(buffer) >= room) return true;
    if (buffer->start) {
        memmove(buffer->memory, buffer_front(buffer), buffer->len);
        buffer->start = 0;
    }
    if (buffer_room(buffer) >= room) return true;
    size_t size = buffer->size * 2 > buffer->len + room ? buffer->size * 2 : buffer->len + room;
    char *memory = realloc(buffer->memory, size);
    if (!memory) return false;
    buffer->memory = memory;
    buffer->size = size;
    return true;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t len)
{
    if (len == 0) return true;
    if (!buffer_reserve(buffer, len)) return false;
    memcpy(buffer_end(buffer), bytes, len);
    buffer->len += len;
    return true;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
    buffer->start += len;
    buffer->len -= len;
    if (buffer->len > 0) return;
    buffer->start = 0;
    if (buffer->size > KEPT_SIZE) buffer_free(buffer);
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->memory);
    *buffer = (struct buffer){0};
}

/* ---- request heads ---- */

bool slice_is(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && memcmp(slice.at, text, slice.len) == 0;
}

static bool slice_is_nocase(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && strncasecmp(slice.at, text, slice.len) == 0;
}

static struct slice slice_trim(struct slice slice)
{
    while (slice.len && (*slice.at == ' ' || *slice.at == '\t')) slice.at++, slice.len--;
    while (slice.len && (slice.at[slice.len - 1] == ' ' || slice.at[slice.len - 1] == '\t')) slice.len--;
    return slice;
}

/* Splits off the part before `mark`, and the mark. Without a mark it takes all of it. */
static struct slice slice_until(struct slice *rest, char mark)
{
    const char *found = rest->len ? memchr(rest->at, mark, rest->len) : NULL;
    struct slice piece = {rest->at, found ? (size_t)(found - rest->at) : rest->len};
    size_t taken = piece.len + (found ? 1 : 0);
    rest->at += taken;
    rest->len -= taken;
    return piece;
}

/* Visible ASCII. In a name the separators of RFC 9110, 5.6.2 are not allowed. */
static bool is_token(struct slice slice)
{
    for (size_t i = 0; i < slice.len; i++) {
        unsigned char byte = (unsigned char)slice.at[i];
        if (byte <= ' ' || byte >= 127 || strchr("\"(),/:;<=>?@[\\]{}", byte)) return false;
    }
    return slice.len > 0;
}

static int parse_request_line(struct slice line, struct http_request *request)
{
    request->method = slice_until(&line, ' ');
    struct slice target = slice_until(&line, ' ');
    if (!is_token(request->method) || target.len == 0 || target.at[0] != '/') return 400;
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.at[i] <= ' ' || target.at[i] == 127) return 400;
    if (slice_is(line, "HTTP/1.1")) request->minor = 1;
    else if (!slice_is(line, "HTTP/1.0")) return line.len >= 5 && memcmp(line.at, "HTTP/", 5) == 0 ? 505 : 400;
    request->keep_alive = request->minor == 1;
    request->path = slice_until(&target, '?');
    request->query = target;
    return 0;
}

/* This is more than any caller allows; each compares with its own bound. */
static bool parse_length(struct slice text, size_t *length)
{
    size_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') return false;
        if (value < (size_t)1 << 40) value = value * 10 + (size_t)(text.at[i] - '0');
    }
    *length = value;
    return text.len > 0;
}

static int parse_header(struct slice line, struct http_request *request, bool *has_length)
{
    if (!memchr(line.at, ':', line.len)) return 400;
    struct slice name = slice_until(&line, ':'), value = slice_trim(line);
    if (!is_token(name)) return 400; /* a blank before the colon, or a folded line */
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.at[i] < ' ' && value.at[i] != '\t') || value.at[i] == 127) return 400;

    if (slice_is_nocase(name, "Content-Length")) {
        if (*has_length || !parse_length(value, &request->content_length)) return 400;
        *has_length = true;
    } else if (slice_is_nocase(name, "Transfer-Encoding")) {
        return 501;
    } else if (slice_is_nocase(name, "Expect")) {
        if (!slice_is_nocase(value, "100-continue")) return 417;
        request->expects_continue = request->minor == 1;
    } else if (slice_is_nocase(name, "Connection")) {
        while (value.len) {
            struct slice option = slice_trim(slice_until(&value, ','));
            if (slice_is_nocase(option, "close")) request->keep_alive = false;
            else if (slice_is_nocase(option, "keep-alive") && request->minor == 0) request->keep_alive = true;
        }
    }
    return 0;
}

int http_parse(const char *bytes, size_t len, struct http_request *request)
{
    bool has_length = false;
    size_t at = 0;
    *request = (struct http_request){0};
    for (;;) {
        const char *end = at < len ? memchr(bytes + at, '\n', len - at) : NULL;
        if (!end) return len < HTTP_HEAD_MAX ? HTTP_MORE : 431;
        struct slice line = {bytes + at, (size_t)(end - (bytes + at))};
        at += line.len + 1;
        if (at > HTTP_HEAD_MAX) return 431;
        if (line.len == 0 || line.at[--line.len] != '\r') return 400;
        if (line.len == 0) break;
        int status = request->method.at ? parse_header(line, request, &has_length) : parse_request_line(line, request);
        if (status) return status;
    }
    request->head_len = at;
    return request->method.at ? 0 : 400;
}

/* ---- queries and paths ---- */

static int hex(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    if ((digit | 32) >= 'a' && (digit | 32) <= 'f') return (digit | 32) - 'a' + 10;
    return -1;
}

/* Decodes %XX, and + if it means a blank. False: the text is malformed, has a NUL, or does not fit. */
static bool decode(struct slice text, bool plus, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        int byte = (unsigned char)text.at[i];
        if (byte == '%') {
            int high = i + 2 < text.len ? hex(text.at[i + 1]) : -1, low = i + 2 < text.len ? hex(text.at[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            byte = high * 16 + low;
            i += 2;
        } else if (byte == '+' && plus) {
            byte = ' ';
        }
        if (byte == 0 || n + 1 >= size) return false;
        out[n++] = (char)byte;
    }
    out[n] = 0;
    return true;
}

int http_parameter(struct slice query, const char *name, char *out, size_t size)
{
    while (query.len) {
        struct slice value = slice_until(&query, '&');
        if (slice_is(slice_until(&value, '='), name)) return decode(value, true, out, size) ? 1 : -1;
    }
    return 0;
}

/* "/a/b" becomes "a/b" and "/" becomes "index.html". False if a name is empty, since an absolute path is outside of
 * the root, or if it starts with a dot: ".." is outside, too, and hidden files are not meant to be served. */
static bool relative_path(struct slice path, char *out, size_t size)
{
    if (!decode(path, false, out, size)) return false;
    size_t len = strlen(out);
    if (out[len - 1] == '/') {
        if (len + sizeof "index.html" > size) return false;
        memcpy(out + len, "index.html", sizeof "index.html");
    }
    for (const char *slash = out; slash; slash = strchr(slash + 1, '/'))
        if (slash[1] == '/' || slash[1] == '.' || slash[1] == 0) return false;
    memmove(out, out + 1, strlen(out));
    return true;
}

/* ---- answers ---- */

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
    }
}

/* The date is formatted once a second, however many answers are sent in it. */
static const char *date(void)
{
    static char text[32];
    static time_t formatted;
    time_t now = time(NULL);
    struct tm tm;
    if (now != formatted && gmtime_r(&now, &tm)) {
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        formatted = now;
    }
    return text;
}

bool http_answer(struct buffer *out, const struct http_request *request, const struct http_answer *answer)
{
    char head[512];
    const char *connection = !request->keep_alive    ? "Connection: close\r\n"
                             : request->minor == 0 ? "Connection: keep-alive\r\n"
                                                   : "";
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                     "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n%s%s\r\n",
                     answer->status, reason(answer->status), date(), answer->type, answer->len,
                     answer->headers ? answer->headers : "", connection);
    if (n < 0 || (size_t)n >= sizeof head || !buffer_append(out, head, (size_t)n)) return false;
    bool bodiless = !answer->body || (request->method.at && slice_is(request->method, "HEAD"));
    return bodiless || buffer_append(out, answer->body, answer->len);
}

bool http_error(struct buffer *out, const struct http_request *request, int status, const char *headers,
                const char *message)
{
    char body[320];
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}\n", message ? message : reason(status));
    if (n < 0 || (size_t)n >= sizeof body) return false;
    return http_answer(out, request,
                       &(struct http_answer){status, "application/json", headers, body, (size_t)n});
}

/* ---- files ---- */

static const char *content_type(const char *path)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".json", "application/json"},
        {".txt", "text/plain; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".ico", "image/x-icon"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcasecmp(dot, types[i][0]) == 0) return types[i][1];
    return "application/octet-stream";
}

int http_open(int root, struct slice path, off_t *size, const char **type)
{
    char name[1024];
    struct stat stat;
    if (!relative_path(path, name, sizeof name)) return -1;
    /* Without O_NONBLOCK, opening a FIFO would wait for its writer, and all clients would wait, too. */
    int file = openat(root, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return -1;
    if (fstat(file, &stat) < 0 || !S_ISREG(stat.st_mode)) {
        close(file);
        return -1;
    }
    *size = stat.st_size;
    *type = content_type(name);
    return file;
}
