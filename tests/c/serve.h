/* Servers for tests, and the connections that are handed to them. */
#ifndef TESTS_SERVE_H
#define TESTS_SERVE_H

#include "check.h"
#include "peer.h"

/* Options as name, value, name, value, NULL.  Without "listen" there is no listener. */
push_config *configure(const char *first, ...) __attribute__((sentinel));
/* A server with these options. If it does not start, the test ends. */
push_server *serve(const char *first, ...) __attribute__((sentinel));
push_server *serve_config(push_config *config); /* frees the config */
/* Ends a server. If a function of the host is late, events and lines may be dropped: push_stop with PATIENCE_MS tells
 * them all. */
void stop(push_server *server);
/* Makes a directory, and the address of a hub's attach socket in it. */
void attach_address(char *directory, size_t directory_size, char *address, size_t size);
/* Gives a server that many times the options of serve, with one thread. Each time it logs a line. */
void reload_times(push_server *server, int count);
/* Whether a descriptor becomes readable within this time. */
bool readable(int fd, int timeout_ms);

/* A grant for every channel. */
push_grant grant_of_every_channel(void);

/* Hands over one end of a new connection, with nothing read of it, and returns the other. */
struct peer adopted(push_server *server, const push_grant *grant);
/* The same, then asks for `query` over WebSocket and waits for the answer. */
struct peer adopted_ws(push_server *server, const push_grant *grant, const char *query);
/* The same over SSE, NDJSON stream or poll: `transport` is its name in the query. */
struct peer adopted_http(push_server *server, const push_grant *grant, const char *transport, const char *query);

/* A message. The caller owns its strings. */
push_message text_message(const char *channel, const char *text);

push_stats stats_of(push_server *server);
/* Waits for a gauge to reach a number. */
bool wait_for_connections(push_server *server, uint64_t count);
bool wait_for_subscriptions(push_server *server, uint64_t count);

/* Waits for the next event of that kind, and returns its connection. 0: it did not come. */
push_connection expect_event(push_server *server, push_event *event, uint32_t kind);

#endif
