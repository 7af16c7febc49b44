/* A host of the library for measurements: a server from the options on its command line, and its end. */
#ifndef LOAD_HOST_H
#define LOAD_HOST_H

#include <signal.h>

#include "push.h"

enum { HOST_LIFETIME_S = 3600 }; /* should whoever started it be gone */

/* Raises the limit of descriptors, and blocks the signals that end the host, which go to `ends`. To be called first. */
void host_begin(sigset_t *ends);
/* From `count` options, each name=value. Ends the process with an error where one is wrong. */
push_server *host_start(int count, char **options);
/* The exit code. */
int host_stop(push_server *server);

#endif
