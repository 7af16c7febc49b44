/* Functions that the parts of the publish benchmark share. */
#ifndef LOAD_PUBLISH_H
#define LOAD_PUBLISH_H

#include <stdint.h>
#include <stddef.h>

#include "push.h"

/* Starts a server from a list of "name", "value", ..., NULL. Ends the process if that fails. */
push_server *publish_server(const char *const *options);

/* Ends the process with a sentence unless the status is PUSH_OK. */
void publish_check(const char *what, push_status status);

/* The median of `count` values, which are sorted in place. */
double publish_median(double *values, size_t count);

/* Pins the calling thread, and the threads that it starts from now on, to one CPU. -1: to all CPUs that it had at the
 * start. */
void publish_pin(int cpu);

/* Each prints one line of JSON. */
void publish_alone(void);
void publish_threads(void);
void publish_waking(void);
void publish_channels(size_t channels);
void publish_start(const char *host);
void publish_attached(const char *pushd, const char *directory);

#endif
