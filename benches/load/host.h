/* A host of the library for measurements: starts a server from the options on its command line, and stops it. */
#ifndef LOAD_HOST_H
#define LOAD_HOST_H

#include <signal.h>

#include "push.h"

enum { HOST_LIFETIME_S = 3600 }; /* if its parent is gone */

/* Raises the limit of descriptors, and blocks the signals that end the host; they are in `ends`. Call this first. */
void host_begin(sigset_t *ends);
/* Starts a server with `count` options, each name=value. Ends the process with an error if one is wrong. */
push_server *host_start(int count, char **options);
/* The exit code. */
int host_stop(push_server *server);

#endif
