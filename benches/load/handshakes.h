/* What handshakes of TLS cost a server. Each client connects, shakes hands, takes its tickets and hangs up. Then all of
 * them come once more, and resume. */
#ifndef LOAD_HANDSHAKES_H
#define LOAD_HANDSHAKES_H

#include "options.h"
#include "swarm.h"

/* Measures, and prints one line of JSON. */
void handshakes_measure(struct swarm *swarm, const struct options *options);

#endif
