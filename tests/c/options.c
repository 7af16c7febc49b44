/* Options: by name and text, from TOML, and the sentence that says what is wrong with them. */
#include "process.h"
#include "serve.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bounds of the reference, each with what is just outside. */
static const struct {
    const char *name, *good[3], *bad[7];
} bounds[] = {
    {"listen", {"none", "127.0.0.1:0", "localhost:1,unix:/x"}, {"", "80", "example.org:80", "127.0.0.1:65536"}},
    {"tls_certificate", {"", "/a.pem", "/a.pem,/b.pem"}, {NULL, NULL, NULL, NULL}},
    {"tls_key", {"", "/a.pem", "/a.pem,/b.pem"}, {NULL, NULL, NULL, NULL}},
    {"tls_client_ca", {"", "/a.pem", NULL}, {NULL, NULL, NULL, NULL}},
    {"tls_kernel", {"off", "auto", NULL}, {"", "on", "true", "Auto"}},
    {"path", {"/", "/push", "/a/b.c"}, {"", "push", "/a b", "/a?b"}},
    {"control", {"none", "unix:/x", "[::1]:9"}, {"x", "unix:", "127.0.0.1", "none,none"}},
    {"control_key", {"", "0123456789abcdef", NULL}, {"short", "0123456789 abcdef", "0123456789\nabcdef", NULL}},
    {"console", {"true", "false", NULL}, {"yes", "1", "", "TRUE"}},
    {"console_session", {"1s", "12h", "7d"}, {"999ms", "8d", "", "0"}},
    {"auth", {"none", "jwt", "host"}, {"", "None", "basic", NULL}},
    {"trace",
     {"none", "otlp:http://127.0.0.1:4318", "otlp:https://[::1]:443/v1/traces?a=b"},
     {"", "http://h:4318", "otlp:grpc://h:4317", "otlp:http://h", "otlp:http://u:p@h:1", "otlp:http://h:1/a b"}},
    {"trace_sample", {"0", "1", "1000000000"}, {"1000000001", "-1", "0.1", ""}},
    {"trace_service", {"libpush", "a service", NULL}, {"", NULL, NULL, NULL}},
    {"trace_timeout", {"100ms", "10m", NULL}, {"99ms", "11m", "0", NULL}},
    {"trace_queue", {"16", "1048576", NULL}, {"15", "1048577", "", NULL}},
    {"auth_timeout", {"100ms", "10m", NULL}, {"99ms", "11m", NULL, NULL}},
    {"threads", {"0", "1", "64"}, {"-1", "65", "two", "1.5", "+2", "0002", "00"}},
    {"allowed_origins",
     {"", "*", "https://a.example, https://*.b.example:8443"},
     {"a.example", "https://a/", "https://a b", "https://a:443"}},
    {"client_publish", {"true", "false", "host"}, {"yes", "1", "", "TRUE", "hosts"}},
    {"user_channel", {"true", "false", NULL}, {"on", "1", "", "TRUE"}},
    {"max_connections", {"0", "10000000", NULL}, {"10000001", "-1", "1e3", ""}},
    {"max_per_address", {"0", "10000000", NULL}, {"10000001", "-1", "x", ""}},
    {"max_per_user", {"0", "10000000", NULL}, {"10000001", "-1", "x", ""}},
    {"connect_rate", {"0", "1000000", NULL}, {"1000001", "-1", "1/s", ""}},
    {"connect_rate_per_address", {"0", "1000000", NULL}, {"1000001", "-1", "1/s", ""}},
    {"health_path", {"/healthz", "", "/a/b"}, {"healthz", "/a b", "/a?b", "/a#b"}},
    {"allowed_hosts", {"", "*", "push.example.org, *.example.net, [::1]"},
     {"https://example.org", "example.org:80", "*.*", "a/b"}},
    {"client_rate", {"0", "1000000", NULL}, {"1000001", "-1", "1/s", ""}},
    {"trusted_proxies", {"", "10.0.0.0/8, ::1, unix", "2001:db8::/32"},
     {"10.0.0.0/33", "10.0.0.0/08", "localhost", "unix:/x", NULL}},
    {"forwarded_header", {"x-forwarded-for", "forwarded", NULL}, {"", "X-Real-IP", "both", NULL}},
    {"proxy_protocol", {"true", "false", NULL}, {"on", "2", "", NULL}},
    {"max_channels", {"1", "10000", NULL}, {"0", "10001", "x", NULL}},
    {"max_patterns", {"0", "100", NULL}, {"101", "-1", "x", NULL}},
    {"patterns_total", {"1", "1000000", NULL}, {"0", "1000001", "x", NULL}},
    {"max_calls", {"1", "1000", NULL}, {"0", "1001", "x", NULL}},
    {"call_timeout", {"100ms", "10m", NULL}, {"99ms", "11m", "0", NULL}},
    {"max_message", {"1", "64MB", "64 KB"}, {"0", "65MB", "67108865", "1TB"}},
    {"max_client_message", {"1", "64MB", NULL}, {"0", "65MB", "-1", NULL}},
    {"max_head", {"1KB", "64KB", NULL}, {"1023", "65KB", "0", NULL}},
    {"outbox", {"4KB", "1GB", NULL}, {"4095", "2GB", "99999999999999999999", "+8KB", "08KB"}},
    {"outbox_total", {"1MB", "1024GB", NULL}, {"1048575", "1025GB", "0", NULL}},
    {"inbox_total", {"1MB", "1024GB", NULL}, {"1048575", "1025GB", "0", NULL}},
    {"mailbox", {"16", "1048576", NULL}, {"15", "1048577", "16KB", NULL}},
    {"events", {"open, message,close", "none", "call,publish,subscribe,unsubscribe"}, {"", "all", "request", "none,open"}},
    {"event_queue", {"16", "1048576", NULL}, {"15", "1048577", "", NULL}},
    {"head_timeout", {"100ms", "10m", "1"}, {"99ms", "11m", "0", "5 weeks"}},
    {"message_timeout", {"100ms", "1h", NULL}, {"99ms", "61m", "0", NULL}},
    {"heartbeat", {"100ms", "1d", "24h"}, {"99ms", "25h", "2d", NULL}},
    {"ping_timeout", {"100ms", "1h", NULL}, {"99ms", "61m", NULL, NULL}},
    {"poll_timeout", {"100ms", "1h", NULL}, {"99ms", "61m", NULL, NULL}},
    {"keep_alive", {"100ms", "1h", NULL}, {"99ms", "61m", NULL, NULL}},
    {"close_timeout", {"100ms", "10m", NULL}, {"99ms", "601s", NULL, NULL}},
    {"retry", {"100ms", "1h", NULL}, {"99ms", "61m", "+2s", "02s"}},
    {"key_window", {"0", "1d", NULL}, {"25h", "-1s", NULL, NULL}},
    {"history_count", {"0", "1000000", NULL}, {"1000001", "-1", NULL, NULL}},
    {"history_age", {"100ms", "365d", NULL}, {"99ms", "366d", NULL, NULL}},
    {"history_bytes", {"0", "16GB", NULL}, {"17GB", "-1", NULL, NULL}},
    {"history_total", {"0", "1024GB", NULL}, {"1025GB", "18446744073709551615KB", NULL, NULL}},
    {"presence_grace", {"0", "5s", "1h"}, {"61m", "-1s", "", NULL}},
    {"presence_detail", {"0", "100", "10000"}, {"10001", "-1", "all", NULL}},
    {"presence_total", {"1KB", "16MB", "1024GB"}, {"1023", "1025GB", "0", NULL}},
    {"jwt_secret", {"", "0123456789abcdef0123456789abcdef", "file:/x"}, {"short", NULL, NULL, NULL}},
    {"jwt_keys", {"", "/a.pem", "/a.pem,/b.pem"}, {"https://a/key", NULL, NULL, NULL}},
    {"jwt_jwks", {"", "/a.json", "{\"keys\":[]}"}, {"https://a/jwks", NULL, NULL, NULL}},
    {"jwt_audience", {"", "a", NULL}, {NULL, NULL, NULL, NULL}},
    {"jwt_issuer", {"", "a", NULL}, {NULL, NULL, NULL, NULL}},
    {"token_cookie", {"push_token", "a-b.c", NULL}, {"", "a b", "a;b", NULL}},
    {"log", {"callback", "pull", NULL}, {"", "Pull", "stderr", NULL}},
    {"log_fd", {"none", "0", "2147483647"}, {"", "-1", "2147483648", "stderr", "+2", "0002", "-0"}},
    {"log_level", {"error", "debug", NULL}, {"", "Info", "trace", NULL}},
    {"log_addresses", {"true", "false", NULL}, {"no", "0", "", NULL}},
    {"compression", {"true", "false", NULL}, {"deflate", "1", "", NULL}},
    {"slow_policy", {"disconnect", "drop-oldest", "latest"}, {"", "drop", "Latest", NULL}},
    {"engine", {"memory", "file:/var/lib/x", "redis://host"}, {"", "file:", "redis:host", "nats://"}},
    {"engine_namespace", {"push", "A-b_9", NULL}, {"", "a.b", "a b", NULL}},
    {"hub_name", {"auto", "web-1:9099", "a/b@c.d_e"}, {"", "a b", "a+b", "\xc3\xa4"}},
    {"engine_sync", {"interval", "always", "never"}, {"", "5s", "Never", NULL}},
    {"engine_timeout", {"0", "1m", NULL}, {"61s", "-1", "", NULL}},
    {"engine_retention_age", {"auto", "1m", "365d"}, {"", "59s", "366d", NULL}},
    {"engine_retention_bytes", {"auto", "1MB", "1048576GB"}, {"", "1023KB", "1048577GB", NULL}},
    {"engine_buffer", {"64KB", "16GB", NULL}, {"63KB", "17GB", "", NULL}},
    {"attach", {"none", "unix:/x", NULL}, {"", "/x", "127.0.0.1:1", "unix:"}},
    {"attach_name", {"host", "a b", NULL}, {"", NULL, NULL, NULL}},
    {"attach_timeout", {"0", "1m", NULL}, {"61s", "-1", "", NULL}},
    {"attach_buffer", {"64KB", "16GB", NULL}, {"63KB", "17GB", "", NULL}},
    {"attach_listen", {"none", "unix:/x", NULL}, {"", "/x", "127.0.0.1:1", "unix:"}},
    {"attach_mode", {"0600", "0777", NULL}, {"0400", "01777", "rw", ""}},
    {"attach_uids", {"", "0", "1,33"}, {"root", "-1", "1 2", "+1", "1,033"}},
    {"attach_gids", {"", "0", "1,33"}, {"root", "-1", "1 2", NULL}},
    {"channel.news.*.history_count", {"0", "1000000", NULL}, {"1000001", "x", NULL, NULL}},
    {"channel.news.*.client_publish", {"true", "false", "host"}, {"", "HOST", "1", NULL}},
    {"channel.news.*.presence", {"true", "false", NULL}, {"", "TRUE", "1", NULL}},
};

static void every_option_has_its_bounds(void)
{
    char err[1024];
    push_config *config = push_config_new();
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        for (size_t n = 0; n < 3 && bounds[i].good[n]; n++) {
            check_case("%s = %s", bounds[i].name, bounds[i].good[n]);
            strcpy(err, "untouched");
            CHECK_STATUS(push_config_set(config, bounds[i].name, bounds[i].good[n], err, sizeof err), PUSH_OK);
            CHECK_TEXT(err, "untouched");
        }
        for (size_t n = 0; n < sizeof bounds[i].bad / sizeof *bounds[i].bad && bounds[i].bad[n]; n++) {
            check_case("%s = %s", bounds[i].name, bounds[i].bad[n]);
            strcpy(err, "untouched");
            CHECK_STATUS(push_config_set(config, bounds[i].name, bounds[i].bad[n], err, sizeof err), PUSH_ERR_CONFIG);
            CHECK_HAS(err, bounds[i].name);
            CHECK_HAS(err, "allowed is ");
            /* The value is named too, but a secret is not. */
            bool secret = strcmp(bounds[i].name, "control_key") == 0 || strcmp(bounds[i].name, "jwt_secret") == 0 ||
                          strcmp(bounds[i].name, "jwt_jwks") == 0;
            /* A URL may have one. */
            secret = secret || (strcmp(bounds[i].name, "trace") == 0 && strchr(bounds[i].bad[n], '@'));
            if (secret) CHECK(strstr(err, bounds[i].bad[n]) == NULL);
            else CHECK_HAS(err, bounds[i].bad[n]);
        }
    }
    push_config_free(config);
}

static void unknown_options(void)
{
    static const char *const names[] = {"", "thread", "Threads", "threads ", "history", "channel", "channel.",
                                        "presence", "channel.x", "channel.x.path", "channel..history_count",
                                        "channel.a*b.history_count",
                                        "channel.a\nb.history_count"};
    char err[2048];
    push_config *config = push_config_new();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        check_case("name \"%s\"", names[i]);
        CHECK_STATUS(push_config_set(config, names[i], "1", err, sizeof err), PUSH_ERR_CONFIG);
        CHECK(strlen(err) > 10);
    }
    CHECK_STATUS(push_config_set(config, "thread", "1", err, sizeof err), PUSH_ERR_CONFIG);
    CHECK_HAS(err, "\"thread\"");
    CHECK_HAS(err, "did you mean threads?");
    /* This is as in the examples: a sentence that is too long ends between two words. */
    char small[64];
    CHECK_STATUS(push_config_set(config, "trusted_proxies", "localhost", small, sizeof small), PUSH_ERR_CONFIG);
    CHECK_TEXT(small, "option trusted_proxies: \"localhost\" is not allowed; allowed...");
    /* A text that is not UTF-8 is no option, and no value. */
    CHECK_STATUS(push_config_set(config, "\xff", "1", err, sizeof err), PUSH_ERR_INVALID);
    CHECK_STATUS(push_config_set(config, "threads", "\xff", err, sizeof err), PUSH_ERR_INVALID);
    for (int i = 0; i < 65; i++) {
        char name[64];
        snprintf(name, sizeof name, "channel.c%d.history_count", i);
        check_case("pattern %d", i);
        CHECK_STATUS(push_config_set(config, name, "1", err, sizeof err), i < 64 ? PUSH_OK : PUSH_ERR_CONFIG);
    }
    CHECK_HAS(err, "64");
    push_config_free(config);
}

/* Whether all of a text is UTF-8, so that it was not cut in the middle of a letter. */
static bool is_utf8(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        int more = *at < 0x80 ? 0 : *at >= 0xf0 ? 3 : *at >= 0xe0 ? 2 : *at >= 0xc0 ? 1 : -1;
        if (more < 0) return false;
        for (at++; more > 0; more--, at++) {
            if ((*at & 0xc0) != 0x80) return false;
        }
    }
    return true;
}

static void err_is_cut_to_its_size(void)
{
    char whole[2048], err[256];
    push_config *config = push_config_new();
    push_server *server = NULL;
    const char *value = "\xC3\x9C\xE2\x82\xAC\xF0\x9F\x8C\x8D\xC3\x9C\xE2\x82\xAC\xF0\x9F\x8C\x8D";
    CHECK_STATUS(push_config_set(config, "path", value, whole, sizeof whole), PUSH_ERR_CONFIG);
    CHECK_HAS(whole, value);
    for (size_t size = 0; size < 160; size++) {
        check_case("size %zu", size);
        memset(err, 0x55, sizeof err);
        CHECK_STATUS(push_config_set(config, "path", value, err, size), PUSH_ERR_CONFIG);
        for (size_t i = size; i < sizeof err; i++) CHECK_EQ(err[i], 0x55);
        if (size == 0) continue;
        size_t len = strnlen(err, size);
        CHECK(len < size);
        CHECK(is_utf8(err));
        if (strcmp(err, whole) != 0) {
            /* The text is cut, at the end of a word if one is near enough, and shows that it was cut. */
            bool says = size > 4;
            if (says) CHECK(len >= 3 && strcmp(err + len - 3, "...") == 0);
            CHECK(strncmp(err, whole, says ? len - 3 : len) == 0);
            CHECK(strlen(whole) >= size && 2 * len + 8 >= size);
        }
    }
    check_case(NULL);
    CHECK_STATUS(push_config_set(config, "path", value, NULL, 0), PUSH_ERR_CONFIG);
    CHECK_STATUS(push_config_set(config, "path", value, NULL, 99), PUSH_ERR_CONFIG);
    CHECK_STATUS(push_config_load(config, "/nowhere/at/all", NULL, 99), PUSH_ERR_SYSTEM);
    CHECK_STATUS(push_config_set(config, "control", "127.0.0.1:0", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_start(config, &server, NULL, 99), PUSH_ERR_CONFIG);
    for (size_t size = 0; size < 40; size++) {
        memset(err, 0x55, sizeof err);
        CHECK_STATUS(push_start(config, &server, err, size), PUSH_ERR_CONFIG);
        CHECK_STATUS(push_config_load(config, "/nowhere", err, size), PUSH_ERR_SYSTEM);
        CHECK(size == 0 || strnlen(err, size) < size);
        CHECK_EQ(err[size], 0x55);
    }
    CHECK(server == NULL);
    push_config_free(config);
}

/* Loads a file with that text. Returns the status, with the sentence in `err`. */
static push_status load(push_config *config, const char *text, size_t len, char *err, size_t err_len)
{
    char directory[128], path[256];
    temporary_directory(directory, sizeof directory);
    join_path(path, sizeof path, directory, "push.toml");
    REQUIRE(write_file(path, text, len));
    *err = 0;
    push_status status = push_config_load(config, path, err, err_len);
    remove_directory(directory);
    return status;
}

static void good_files(void)
{
    static const char text[] = "# as in the reference\nlisten = [\"127.0.0.1:0\", \"localhost:0\"]\nthreads = 1\n"
                               "client_publish = true\nhistory_age = \"5m\"\nmax_message = \"2KB\"\n\n"
                               "[channel.\"news.*\"]\nhistory_count = 3\nhistory_age = \"1h\"\n";
    char err[512], address[128], payload[2049] = "";
    push_config *config = push_config_new();
    CHECK_STATUS(load(config, text, strlen(text), err, sizeof err), PUSH_OK);
    CHECK_TEXT(err, "");
    CHECK_STATUS(load(config, "", 0, err, sizeof err), PUSH_OK); /* changes nothing */
    push_server *server = serve_config(config);
    CHECK_STATUS(push_listen_address(server, 0, address, sizeof address), PUSH_OK);
    CHECK_HAS(address, "127.0.0.1:");
    CHECK_STATUS(push_listen_address(server, 1, address, sizeof address), PUSH_OK);
    CHECK_STATUS(push_listen_address(server, 2, address, sizeof address), PUSH_ERR_NOT_FOUND);
    CHECK_STATUS(push_publish(server, "c", payload, 2048), PUSH_OK);
    CHECK_STATUS(push_publish(server, "c", payload, 2049), PUSH_ERR_TOO_LARGE);
    for (int i = 0; i < 10; i++) push_publish(server, "news.x", "x", 1);
    CHECK_EQ(stats_of(server).history_messages, 1 + 3);
    stop(server);
}

static void bad_files(void)
{
    static const struct {
        const char *text, *says;
    } files[] = {{"threads = ", "TOML"},
                 {"threads", "TOML"},
                 {"= 1", "TOML"},
                 {"threads = 1\nthreads = 2", "line 2: this name is set twice"},
                 {"[channel", "TOML"},
                 {"thread = 1", "thread"},
                 {"threads = 65", "65"},
                 {"threads = \"many\"", "many"},
                 {"threads = 1.5", "threads"},
                 {"threads = 2001-01-01", "threads"},
                 {"threads = {a = 1}", "threads"},
                 {"[threads]\na = 1", "threads"},
                 {"listen = [[1, 2], [{a = 1}]]", "listen"},
                 {"[channel]\nnews = 1", "news"},
                 {"[channel.news]\npath = \"/x\"", "path"},
                 {"[channel.\"a*b\"]\nhistory_count = 1", "a*b"},
                 {"[channel.news]\nhistory_count = \"x\"", "history_count"},
                 {"[channel.news.deep]\nhistory_count = 1", "channel.news.deep"}};
    char err[1024];
    push_config *config = push_config_new();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        check_case("%s", files[i].text);
        CHECK_STATUS(load(config, files[i].text, strlen(files[i].text), err, sizeof err), PUSH_ERR_CONFIG);
        CHECK_HAS(err, files[i].says);
    }
    check_case("a NUL");
    CHECK_STATUS(load(config, "threads = 1\0", 12, err, sizeof err), PUSH_ERR_CONFIG);
    check_case("not UTF-8");
    CHECK_STATUS(load(config, "path = \"/\xff\"", 11, err, sizeof err), PUSH_ERR_CONFIG);
    check_case(NULL);
    push_config_free(config);
}

static void files_of_brackets(void)
{
    enum { DEPTH = 200000 };
    char *text = malloc(2 * DEPTH + 16), err[256];
    push_config *config = push_config_new();
    static const char *const begins[] = {"listen = ", "a = {a="};
    REQUIRE(text != NULL);
    for (int i = 0; i < 2; i++) {
        /* A parser that makes a call for each bracket would run out of stack. */
        size_t len = (size_t)sprintf(text, "%s", begins[i]);
        memset(text + len, '[', DEPTH);
        memset(text + len + DEPTH, ']', DEPTH);
        CHECK_STATUS(load(config, text, len + 2 * DEPTH, err, sizeof err), PUSH_ERR_CONFIG);
    }
    for (size_t i = 0; i < DEPTH; i++) memcpy(text + i * 2, "a.", 2);
    memcpy(text + (size_t)DEPTH * 2, "a=1", 3);
    CHECK_STATUS(load(config, text, 2 * DEPTH + 3, err, sizeof err), PUSH_ERR_CONFIG);
    free(text);
    push_config_free(config);
}

static void files_that_can_not_be_read(void)
{
    char err[512];
    push_config *config = push_config_new();
    static const char *const paths[] = {"", "/nowhere/push.toml", "/", "/proc/self/mem"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        check_case("path \"%s\"", paths[i]);
        strcpy(err, "untouched");
        CHECK_STATUS(push_config_load(config, paths[i], err, sizeof err), PUSH_ERR_SYSTEM);
        CHECK(strcmp(err, "untouched") != 0);
        CHECK_HAS(err, paths[i]);
    }
    check_case(NULL);
    CHECK_STATUS(push_config_load(config, "/\xff", err, sizeof err), PUSH_ERR_INVALID);
    push_config_free(config);
}

static void a_bad_file_changes_nothing(void)
{
    char err[512], payload[64] = "";
    push_config *config = configure("max_message", "16", "threads", "1", NULL);
    CHECK_STATUS(load(config, "max_message = 64\nthreads = 65\n", 30, err, sizeof err), PUSH_ERR_CONFIG);
    CHECK_STATUS(push_config_set(config, "max_message", "0", NULL, 0), PUSH_ERR_CONFIG);
    push_server *server = serve_config(config);
    CHECK_STATUS(push_publish(server, "c", payload, 16), PUSH_OK);
    CHECK_STATUS(push_publish(server, "c", payload, 17), PUSH_ERR_TOO_LARGE);
    stop(server);
}

static void control_on_tcp_needs_a_key(void)
{
    char err[512] = "";
    push_server *server = (push_server *)77;
    push_config *config = configure("control", "127.0.0.1:0", "threads", "1", NULL);
    CHECK_STATUS(push_start(config, &server, err, sizeof err), PUSH_ERR_CONFIG);
    CHECK_HAS(err, "control_key");
    CHECK(server == (push_server *)77);
    CHECK_STATUS(push_config_set(config, "control_key", "0123456789abcdef", NULL, 0), PUSH_OK);
    server = serve_config(config);
    stop(server);
}

static void a_config_serves_many_servers(void)
{
    push_config *config = configure("threads", "1", "max_message", "4", NULL);
    push_server *first = NULL, *second = NULL;
    CHECK_STATUS(push_start(config, &first, NULL, 0), PUSH_OK);
    CHECK_STATUS(push_config_set(config, "max_message", "8", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_start(config, &second, NULL, 0), PUSH_OK);
    push_config_free(config);
    CHECK_STATUS(push_publish(first, "c", "12345", 5), PUSH_ERR_TOO_LARGE);
    CHECK_STATUS(push_publish(second, "c", "12345", 5), PUSH_OK);
    stop(first);
    stop(second);
}

static void a_running_server_takes_new_ones(void)
{
    char err[512] = "untouched";
    push_server *server = serve("max_message", "4", "threads", "1", NULL);
    push_config *config = configure("max_message", "8", "threads", "2", NULL);
    /* An option that can't change stays, which is no error. The log names it. */
    CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_OK);
    CHECK_TEXT(err, "untouched");
    CHECK_STATUS(push_config_set(config, "max_message", "2", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_publish(server, "c", "12345", 5), PUSH_OK); /* it was copied */
    CHECK_STATUS(push_config_set(config, "auth", "jwt", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_ERR_CONFIG); /* jwt without a key */
    CHECK_HAS(err, "jwt_secret");
    CHECK_STATUS(push_reload(server, config, NULL, 0), PUSH_ERR_CONFIG);
    CHECK_STATUS(push_publish(server, "c", "12345", 5), PUSH_OK); /* all or none */
    CHECK_STATUS(push_config_set(config, "auth", "none", NULL, 0), PUSH_OK);
    CHECK_STATUS(push_reload(server, config, err, sizeof err), PUSH_OK);
    push_config_free(config);
    CHECK_STATUS(push_publish(server, "c", "12345", 5), PUSH_ERR_TOO_LARGE);
    stop(server);
}

CHECK_MAIN(TEST(every_option_has_its_bounds), TEST(unknown_options), TEST(err_is_cut_to_its_size), TEST(good_files),
           TEST(bad_files), TEST(files_of_brackets), TEST(files_that_can_not_be_read), TEST(a_bad_file_changes_nothing),
           TEST(control_on_tcp_needs_a_key), TEST(a_config_serves_many_servers), TEST(a_running_server_takes_new_ones))
