/* The options of pushload, parsed from its command line. */
#ifndef LOAD_OPTIONS_H
#define LOAD_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum transport { TRANSPORT_WS, TRANSPORT_SSE, TRANSPORT_STREAM, TRANSPORT_POLL };

enum tls { TLS_OFF, TLS_12, TLS_13 };

enum { MAX_PIDS = 64 };

struct options {
    enum transport transport;
    enum tls tls;              /* of the subscribers; the publisher has none */
    int port;
    int publish_port;          /* the port for publishing, if it is not the subscribers' */
    const char *path;          /* the subscribers' URL */
    const char *publish_path;  /* the publisher's URL */
    char headers[2048];        /* further header lines of a subscriber's request, each with its CRLF */
    char publish_headers[2048];
    const char *publish_type;
    const char *publish_prefix;  /* goes before the payload, if a server needs an envelope */
    const char *publish_suffix;

    int subscribers;
    int first_step;   /* measure memory after this many subscribers as well; the difference is the slope */
    int slow;         /* so many subscribers stop reading in the last of three series of messages */
    int segment;      /* the largest TCP segment that subscribers take, or 0; see swarm.c */
    int messages;
    size_t size;      /* bytes of a payload */
    double rate;      /* messages a second; 0: back to back */
    int window;       /* publishes that may be unanswered when back to back */
    int ramp;         /* handshakes under way at once */
    int settle_ms;    /* quiet time between the phases */
    int drain_ms;     /* if no delivery comes for so long, the rest counts as lost */
    int deadline_s;   /* the whole run, whatever happens */

    int handshakes;           /* 1: subscribers only shake hands, and come again with their tickets; see handshakes.h */
    int storm;                /* so many more clients come back at once in the last series; see storm.h */
    const char *storm_path;   /* their URL */

    int kept;                 /* 1: the messages are published before the subscribers come, whose URL asks for them */
    const char *told;         /* a text that subscribers are to get when all have come, or "" */
    int some;                 /* every such subscriber has another URL, and only these wait for `told`; 0: none has */
    const char *some_path;

    int pids[MAX_PIDS];  /* the server's processes */
    int pid_count;
};

/* If the command line is wrong, ends the process with status 2 and a sentence. */
void options_parse(struct options *options, int argc, char **argv);

#endif
