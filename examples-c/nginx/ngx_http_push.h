/* Live push in nginx: declarations that the module's parts share. README.md explains the directives, and
 * ngx_http_push_module.c has their table. */
#ifndef NGX_HTTP_PUSH_H
#define NGX_HTTP_PUSH_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>
#include <push.h>

#if !(NGX_THREADS)
#error "the push module needs an nginx built --with-threads, as Debian's is"
#endif

enum {
    NGX_HTTP_PUSH_ERR_LEN = 256,
    /* The library's bounds, in bytes: of channels, users and keys, of event types, and of what is told of a user. */
    NGX_HTTP_PUSH_MAX_NAME = 255,
    NGX_HTTP_PUSH_MAX_RECIPIENT = 250, /* a channel has its name behind "user:" */
    NGX_HTTP_PUSH_MAX_EVENT = 127,
    NGX_HTTP_PUSH_MAX_INFO = 1024,
    /* Calls of one worker that may wait for the hub at once. Further calls are answered with 503 immediately. */
    NGX_HTTP_PUSH_MAX_TASKS = 256,
    /* If such a call takes this many milliseconds longer than the library's own timeout, something is wrong. */
    NGX_HTTP_PUSH_OVERTIME = 60000
};

typedef struct {
    push_config *config;         /* the options, checked as they were read */
    ngx_array_t options;         /* of ngx_str_t: the names given with push_option */
    ngx_uint_t max_channels;     /* these options of an embedded hub */
    ngx_uint_t max_patterns;
    ngx_flag_t user_channel;
    ngx_str_t attach;            /* unix:PATH, or empty: the hub is embedded */
    ngx_msec_t attach_timeout;
    ngx_msec_t drain;
    ngx_msec_t retry;
    ngx_str_t thread_pool_name;
    ngx_thread_pool_t *thread_pool; /* for calls that wait for the hub; NULL if there are none */
    ngx_flag_t used;             /* a location needs the hub */
    ngx_http_upstream_srv_conf_t relay;
} ngx_http_push_main_conf_t;

/* A value of push_subscribe, push_grant or push_grant_publish. */
typedef struct {
    ngx_http_complex_value_t text;
    ngx_flag_t pattern;          /* it ends in an asterisk of the configuration; one in a variable does not count */
    ngx_http_complex_value_t last; /* the variable directly before that asterisk; without lengths if there is none */
} ngx_http_push_value_t;

typedef struct {
    /* push_subscribe */
    ngx_flag_t subscribe;
    ngx_array_t *channels;       /* of ngx_http_push_value_t, or NULL */
    ngx_array_t *grant;          /* likewise; NGX_CONF_UNSET_PTR while reading */
    ngx_array_t *grant_publish;  /* likewise */
    ngx_http_complex_value_t *user;
    ngx_http_complex_value_t *info;
    ngx_http_complex_value_t *expires;
    ngx_http_complex_value_t *client_publish;
    ngx_http_complex_value_t *parameters;
    ngx_flag_t keep_alive;
    ngx_http_upstream_conf_t upstream;
    /* push_publish, push_publish_user */
    ngx_flag_t publish;
    ngx_flag_t to_user;          /* `channel` is a user */
    ngx_http_complex_value_t channel;
    ngx_http_complex_value_t *event;
    ngx_http_complex_value_t *key;
    ngx_http_complex_value_t *except;
    ngx_flag_t publish_trace;
    /* push_begin, push_end: the call, or NULL. They use `channel`, too. */
    push_status (*mark)(push_server *server, const char *channel, push_position *out);
} ngx_http_push_loc_conf_t;

/* A call that waits for the hub; see ngx_http_push_task.c. */
typedef struct ngx_http_push_task_s ngx_http_push_task_t;

struct ngx_http_push_task_s {
    ngx_http_request_t *request;
    push_server *server;
    push_status status;
    uint64_t call_by;            /* milliseconds of the monotonic clock; later the call is not made */
    ngx_flag_t running;
    /* Makes the call. It runs on a thread of the pool, so it may touch nothing of nginx. */
    push_status (*call)(ngx_http_push_task_t *task);
    /* Answers the request, by `status`. It runs in the event loop. */
    ngx_int_t (*answer)(ngx_http_push_task_t *task);
    void *data;
};

typedef enum {
    NGX_HTTP_PUSH_VIA_NONE = 0,
    NGX_HTTP_PUSH_VIA_HANDOVER,
    NGX_HTTP_PUSH_VIA_RELAY
} ngx_http_push_via_e;

/* The module's context of one request. */
typedef struct {
    ngx_http_push_via_e via;
    /* Allocated before, so that nothing can fail once the connection has been handed over. */
    ngx_http_posted_request_t posted;
    /* For the relay: our end of a socket whose other end the hub has, until the upstream takes it; the head to send;
     * the answer's status line. */
    ngx_connection_t *relay;
    ngx_str_t head;
    ngx_http_status_t status;
    /* The connection at that end, and its place in the queue of _leave.c. NULL before, and once the client is told. */
    ngx_connection_t *peer;
    ngx_queue_t relayed;
    ngx_http_push_task_t task;
} ngx_http_push_ctx_t;

/* What a subscriber asks for, and its grant. */
typedef struct {
    push_grant grant;
    ngx_str_t parameters;
    ngx_flag_t websocket;        /* it asks for an upgrade to WebSocket, and for no other transport */
} ngx_http_push_subscription_t;

/* A parameter of a query. */
typedef struct {
    ngx_str_t text;              /* as it is written; the others are decoded */
    ngx_str_t name;
    ngx_str_t value;
} ngx_http_push_pair_t;

extern ngx_module_t ngx_http_push_module;
extern ngx_module_t ngx_http_push_check_module;

/* _locations.c: directives */
char *ngx_http_push_set_subscribe(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_grant(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_publish(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_mark(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* _values.c */
char *ngx_http_push_set_value(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_msec(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_expires(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_push_set_time(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* Checks a value without variables, by the rules of a directive or parameter. */
char *ngx_http_push_check_value(ngx_conf_t *cf, const char *name, ngx_http_complex_value_t *value);
const char *ngx_http_push_bad_channel(ngx_str_t *text); /* NULL, or what is wrong with it */
const char *ngx_http_push_bad_pattern(ngx_str_t *text); /* likewise; a name without a * at its end is allowed as well */
ngx_int_t ngx_http_push_read_switch(ngx_str_t *text); /* 1, 0, or NGX_ERROR */
/* off (0), @SECONDS since 1970, or a time from now. */
ngx_int_t ngx_http_push_read_expiry(ngx_str_t *text, int64_t *expires_at);

/* _parameters.c */
char *ngx_http_push_set_parameters(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* The pairs of a query that have no variables, decoded. `whole`: there are no others. NULL: no memory. */
ngx_array_t *ngx_http_push_pairs(ngx_pool_t *pool, ngx_str_t *query, ngx_flag_t *whole);
ngx_flag_t ngx_http_push_is(ngx_str_t *text, const char *word);
ngx_int_t ngx_http_push_number(ngx_str_t *text); /* or NGX_ERROR */

/* _served.c: checks a location once all its directives are known */
char *ngx_http_push_check_served(ngx_conf_t *cf, ngx_http_push_loc_conf_t *conf, ngx_str_t *location);

/* _hub.c */
ngx_int_t ngx_http_push_init_process(ngx_cycle_t *cycle);
void ngx_http_push_exit_process(ngx_cycle_t *cycle);
/* The worker is to end: no more connections, and the clients that it has are told. */
void ngx_http_push_quit(ngx_cycle_t *cycle);
push_server *ngx_http_push_server(void); /* NULL while there is no server */
push_status ngx_http_push_adopt(int fd, ngx_str_t *head, const push_grant *grant);

/* _log.c */
ngx_int_t ngx_http_push_log_open(ngx_cycle_t *cycle, push_config *config);
void ngx_http_push_log_close(void);

/* _subscribe.c, _publish.c, _status.c: content handlers */
ngx_int_t ngx_http_push_subscribe_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_push_publish_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_push_mark_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_push_status_handler(ngx_http_request_t *r);

/* _grant.c: NGX_OK, or the status to answer with */
ngx_int_t ngx_http_push_evaluate(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription);
/* Makes a value that ends in NUL. NGX_DECLINED: it is empty or `value` is NULL; else the status to answer with. */
ngx_int_t ngx_http_push_text(ngx_http_request_t *r, ngx_http_complex_value_t *value, ngx_str_t *text);

/* _head.c. With `relayed`, headers of this hop are left out, and it is HTTP/1.0, except for WebSockets. */
ngx_int_t ngx_http_push_head(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription, ngx_flag_t relayed,
    ngx_str_t *head);

/* _handover.c, _relay.c: what the content handler returns */
/* `references`: to the request, if no other code needs it. */
ngx_flag_t ngx_http_push_can_hand_over(ngx_http_request_t *r, ngx_uint_t references);
ngx_int_t ngx_http_push_hand_over(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription);
ngx_int_t ngx_http_push_relay(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription);
ngx_int_t ngx_http_push_relay_init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *uscf);

/* _leave.c: relayed clients are told before their worker goes */
void ngx_http_push_leave_init(ngx_cycle_t *cycle);
void ngx_http_push_leave(ngx_cycle_t *cycle); /* the worker is to end */
void ngx_http_push_leave_end(void);
void ngx_http_push_relay_begins(ngx_http_push_ctx_t *ctx, ngx_connection_t *c);
void ngx_http_push_relay_ended(ngx_http_push_ctx_t *ctx);

/* _task.c */
ngx_int_t ngx_http_push_run(ngx_http_push_task_t *task);

/* _answer.c: what a content handler returns */
ngx_int_t ngx_http_push_answer(ngx_http_request_t *r, ngx_uint_t status, ngx_str_t *body, const char *type);
ngx_int_t ngx_http_push_answer_status(ngx_http_request_t *r, push_status status);
ngx_int_t ngx_http_push_unavailable(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription);
ngx_int_t ngx_http_push_not_taken(ngx_http_request_t *r, ngx_http_push_subscription_t *subscription, push_status status);
ngx_int_t ngx_http_push_add_header(ngx_http_request_t *r, const char *name, const char *value);
ngx_int_t ngx_http_push_not_allowed(ngx_http_request_t *r, const char *allow);
ngx_int_t ngx_http_push_not_plain(ngx_http_request_t *r);

/* _variables.c */
ngx_int_t ngx_http_push_add_variables(ngx_conf_t *cf);
ngx_http_push_ctx_t *ngx_http_push_ctx(ngx_http_request_t *r); /* made if it is not there; NULL: no memory */

#endif
