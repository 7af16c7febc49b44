/* What pushload is asked to do, parsed once from its command line. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum transport { TRANSPORT_WS, TRANSPORT_SSE, TRANSPORT_STREAM, TRANSPORT_POLL };

enum { MAX_PIDS = 64 };

struct options {
    enum transport transport;
    int port;
    int publish_port;          /* where to publish, when that is another port than the subscribers' */
    const char *path;          /* the subscribers' URL */
    const char *publish_path;  /* the publisher's URL */
    char headers[2048];        /* further header lines of a subscriber's request, each with its CRLF */
    char publish_headers[2048];
    const char *publish_type;
    const char *publish_prefix;  /* put before the payload, where a server wants an envelope */
    const char *publish_suffix;

    int subscribers;
    int first_step;   /* measure memory after this many subscribers as well; the difference is the slope */
    int slow;         /* this many of the subscribers stop reading in the last of three series of messages */
    int segment;      /* the largest TCP segment that subscribers take, or 0; see swarm.c */
    int messages;
    size_t size;      /* bytes of a payload */
    double rate;      /* messages a second; 0: back to back */
    int window;       /* publishes that may be unanswered when back to back */
    int ramp;         /* handshakes under way at once */
    int settle_ms;    /* quiet time between the phases */
    int drain_ms;     /* without a delivery for this long, the rest counts as lost */
    int deadline_s;   /* the whole run, whatever happens */

    int pids[MAX_PIDS];  /* the server's processes */
    int pid_count;
};

/* Ends the process with status 2 and a sentence when the command line is wrong. */
void options_parse(struct options *options, int argc, char **argv);

#endif
