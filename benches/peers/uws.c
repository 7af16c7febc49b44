/* uWebSockets as a peer. This program calls the library of PyPI's socketify through its C interface, without Python, so
 * that it is measured at its best. Each WebSocket on /sub is subscribed to one topic; POST /pub publishes to it.
 *
 *     uws LIBRARY PORT
 *
 * The declarations below are the part of that interface used here, as version 0.0.31 of the package has it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../load/descriptors.h"

enum { PLAIN = 0, TEXT = 1, MAX_BODY = 2 << 20, LIFETIME_S = 3600 };

typedef struct app app;
typedef struct response response;
typedef struct request request;
typedef struct websocket websocket;

struct tls_options {
    const char *texts[6];
    int low_memory;
};

struct listen_config {
    int port;
    const char *host;
    int options;
};

struct behavior {
    int compression;
    unsigned max_payload;
    unsigned short idle_timeout;
    unsigned max_backpressure;
    bool close_on_backpressure;
    bool reset_idle_timeout_on_send;
    bool send_pings;
    unsigned short max_lifetime;
    void (*upgrade)(void);
    void (*open)(websocket *, void *);
    void (*message)(websocket *, const char *, size_t, int, void *);
    void (*drain)(websocket *, void *);
    void (*ping)(void);
    void (*pong)(void);
    void (*close)(websocket *, int, const char *, size_t, void *);
    void (*subscription)(void);
};

static struct {
    void *(*get_loop)(void);
    app *(*create_app)(int, struct tls_options);
    void (*post)(int, app *, const char *, void (*)(response *, request *, void *), void *);
    void (*ws)(int, app *, const char *, struct behavior, void *);
    void (*listen)(int, app *, struct listen_config, void (*)(void *, struct listen_config, void *), void *);
    void (*run)(int, app *);
    bool (*publish)(int, app *, const char *, size_t, const char *, size_t, int, bool);
    bool (*subscribe)(int, websocket *, const char *, size_t);
    void (*on_data)(int, response *, void (*)(response *, const char *, size_t, bool, void *), void *);
    void (*on_aborted)(int, response *, void (*)(response *, void *), void *);
    void (*end)(int, response *, const char *, size_t, bool);
} uws;

static const char topic[] = "bench";
static char body[MAX_BODY];
static size_t body_len;
static app *the_app;

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "uws: %s\n", dlerror());
        exit(1);
    }
    return found;
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "uws: %s\n", dlerror());
        exit(1);
    }
    /* POSIX's way around ISO C's separation of object and function pointers. */
    *(void **)&uws.get_loop = symbol(library, "uws_get_loop");
    *(void **)&uws.create_app = symbol(library, "uws_create_app");
    *(void **)&uws.post = symbol(library, "uws_app_post");
    *(void **)&uws.ws = symbol(library, "uws_ws");
    *(void **)&uws.listen = symbol(library, "uws_app_listen_with_config");
    *(void **)&uws.run = symbol(library, "uws_app_run");
    *(void **)&uws.publish = symbol(library, "uws_publish");
    *(void **)&uws.subscribe = symbol(library, "uws_ws_subscribe");
    *(void **)&uws.on_data = symbol(library, "uws_res_on_data");
    *(void **)&uws.on_aborted = symbol(library, "uws_res_on_aborted");
    *(void **)&uws.end = symbol(library, "uws_res_end");
}

static void on_open(websocket *socket, void *unused)
{
    (void)unused;
    uws.subscribe(PLAIN, socket, topic, sizeof topic - 1);
}

/* The interface calls these without a check for NULL. */
static void on_message(websocket *socket, const char *data, size_t len, int opcode, void *unused)
{
    (void)socket, (void)data, (void)len, (void)opcode, (void)unused;
}

static void on_close(websocket *socket, int code, const char *reason, size_t len, void *unused)
{
    (void)socket, (void)code, (void)reason, (void)len, (void)unused;
}

static void on_drain(websocket *socket, void *unused)
{
    (void)socket, (void)unused;
}

static void on_aborted(response *answer, void *unused)
{
    (void)answer, (void)unused;
    body_len = 0;
}

/* There is one publisher, so there is one body at a time. */
static void on_body(response *answer, const char *data, size_t len, bool last, void *unused)
{
    (void)unused;
    if (body_len + len > sizeof body) return;
    memcpy(body + body_len, data, len);
    body_len += len;
    if (!last) return;
    uws.publish(PLAIN, the_app, topic, sizeof topic - 1, body, body_len, TEXT, false);
    body_len = 0;
    uws.end(PLAIN, answer, "", 0, false);
}

static void on_post(response *answer, request *unused, void *unused_too)
{
    (void)unused, (void)unused_too;
    uws.on_aborted(PLAIN, answer, on_aborted, NULL);
    uws.on_data(PLAIN, answer, on_body, NULL);
}

static void on_listen(void *listener, struct listen_config config, void *unused)
{
    (void)unused;
    if (listener) return;
    fprintf(stderr, "uws: can't listen on port %d\n", config.port);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "uws LIBRARY PORT\n");
        return 2;
    }
    raise_descriptor_limit();
    alarm(LIFETIME_S);
    load(argv[1]);
    uws.get_loop();
    the_app = uws.create_app(PLAIN, (struct tls_options){.low_memory = 0});
    struct behavior behavior = {
        .max_payload = MAX_BODY, .idle_timeout = 120, .max_backpressure = 16 << 20, .send_pings = true,
        .open = on_open, .message = on_message, .drain = on_drain, .close = on_close,
    };
    uws.ws(PLAIN, the_app, "/sub", behavior, NULL);
    uws.post(PLAIN, the_app, "/pub", on_post, NULL);
    uws.listen(PLAIN, the_app, (struct listen_config){atoi(argv[2]), "127.0.0.1", 0}, on_listen, NULL);
    uws.run(PLAIN, the_app);
    return 0;
}
