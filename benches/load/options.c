#define _GNU_SOURCE
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "marker.h"
#include "needle.h"

static const char USAGE[] =
    "pushload --port PORT --path /sub --publish /pub [--pid PID,...]\n"
    "  --transport ws|sse|stream|poll   how subscribers connect (ws)\n"
    "  --tls off|1.2|1.3                TLS of subscribers (off); publishing is always without\n"
    "  --publish-port PORT              where to publish, if elsewhere\n"
    "  --header LINE                    a header of subscribers' requests; repeatable\n"
    "  --publish-header LINE            a header of publishes; repeatable\n"
    "  --publish-type TYPE              Content-Type of publishes (text/plain)\n"
    "  --publish-prefix, --publish-suffix TEXT   around each payload\n"
    "  --subscribers N (1000)  --first-step N (0)  --slow N (0)  --segment BYTES (0: the kernel's)\n"
    "  --messages N (100)  --size BYTES (128)  --rate PER_SECOND (10; 0: back to back)  --window N (64)\n"
    "  --ramp N (256)  --settle MS (500)  --drain MS (5000)  --deadline S (120)\n"
    "  --handshakes 0|1 (0)             subscribers only shake hands, and come again with their tickets; needs --tls\n"
    "  --storm N (0) --storm-path /sub  so many clients come back at once, while the last series is delivered\n"
    "  --kept 0|1 (0)                   messages are published first; the path asks for what is kept\n"
    "  --told TEXT                      waits until all subscribers have got this text, after the last has come\n"
    "  --some N (0) --some-path /sub    every Nth subscriber has this path; only these are told\n";

static void fail(const char *what, const char *value)
{
    fprintf(stderr, "pushload: %s: %s\n%s", what, value, USAGE);
    exit(2);
}

static long number(const char *name, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || value < min || value > max) fail(name, text);
    return value;
}

static enum transport transport_named(const char *name)
{
    if (!strcmp(name, "ws")) return TRANSPORT_WS;
    if (!strcmp(name, "sse")) return TRANSPORT_SSE;
    if (!strcmp(name, "stream")) return TRANSPORT_STREAM;
    if (!strcmp(name, "poll")) return TRANSPORT_POLL;
    fail("unknown transport", name);
    return TRANSPORT_WS;
}

static enum tls tls_named(const char *name)
{
    if (!strcmp(name, "off")) return TLS_OFF;
    if (!strcmp(name, "1.2")) return TLS_12;
    if (!strcmp(name, "1.3")) return TLS_13;
    fail("unknown version of TLS", name);
    return TLS_OFF;
}

static void add_header(char *headers, size_t size, const char *line)
{
    size_t used = strlen(headers);
    if (used + strlen(line) + 3 > size) fail("too many headers", line);
    snprintf(headers + used, size - used, "%s\r\n", line);
}

static void add_pids(struct options *o, char *list)
{
    for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ",")) {
        if (o->pid_count == MAX_PIDS) fail("too many processes", pid);
        o->pids[o->pid_count++] = (int)number("--pid", pid, 1, 1 << 22);
    }
}

static void set(struct options *o, const char *name, char *value)
{
    if (!strcmp(name, "--transport")) o->transport = transport_named(value);
    else if (!strcmp(name, "--tls")) o->tls = tls_named(value);
    else if (!strcmp(name, "--port")) o->port = (int)number(name, value, 1, 65535);
    else if (!strcmp(name, "--publish-port")) o->publish_port = (int)number(name, value, 1, 65535);
    else if (!strcmp(name, "--path")) o->path = value;
    else if (!strcmp(name, "--publish")) o->publish_path = value;
    else if (!strcmp(name, "--header")) add_header(o->headers, sizeof o->headers, value);
    else if (!strcmp(name, "--publish-header")) add_header(o->publish_headers, sizeof o->publish_headers, value);
    else if (!strcmp(name, "--publish-type")) o->publish_type = value;
    else if (!strcmp(name, "--publish-prefix")) o->publish_prefix = value;
    else if (!strcmp(name, "--publish-suffix")) o->publish_suffix = value;
    else if (!strcmp(name, "--subscribers")) o->subscribers = (int)number(name, value, 1, 1000000);
    else if (!strcmp(name, "--first-step")) o->first_step = (int)number(name, value, 0, 1000000);
    else if (!strcmp(name, "--slow")) o->slow = (int)number(name, value, 0, 1000000);
    else if (!strcmp(name, "--segment")) o->segment = (int)number(name, value, 0, 65535);
    else if (!strcmp(name, "--messages")) o->messages = (int)number(name, value, 0, 10000000);
    else if (!strcmp(name, "--size")) o->size = (size_t)number(name, value, MARKER_LEN, 64 << 20);
    else if (!strcmp(name, "--rate")) o->rate = (double)number(name, value, 0, 1000000);
    else if (!strcmp(name, "--window")) o->window = (int)number(name, value, 1, 10000);
    else if (!strcmp(name, "--ramp")) o->ramp = (int)number(name, value, 1, 100000);
    else if (!strcmp(name, "--settle")) o->settle_ms = (int)number(name, value, 0, 60000);
    else if (!strcmp(name, "--drain")) o->drain_ms = (int)number(name, value, 1, 60000);
    else if (!strcmp(name, "--deadline")) o->deadline_s = (int)number(name, value, 1, 3600);
    else if (!strcmp(name, "--handshakes")) o->handshakes = (int)number(name, value, 0, 1);
    else if (!strcmp(name, "--storm")) o->storm = (int)number(name, value, 0, 1000000);
    else if (!strcmp(name, "--storm-path")) o->storm_path = value;
    else if (!strcmp(name, "--kept")) o->kept = (int)number(name, value, 0, 1);
    else if (!strcmp(name, "--told")) o->told = value;
    else if (!strcmp(name, "--some")) o->some = (int)number(name, value, 0, 1000000);
    else if (!strcmp(name, "--some-path")) o->some_path = value;
    else if (!strcmp(name, "--pid")) add_pids(o, value);
    else fail("unknown option", name);
}

void options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){
        .transport = TRANSPORT_WS, .path = "/sub", .publish_path = "/pub", .publish_type = "text/plain",
        .publish_prefix = "", .publish_suffix = "", .subscribers = 1000, .messages = 100, .size = 128, .rate = 10,
        .window = 64, .ramp = 256, .settle_ms = 500, .drain_ms = 5000, .deadline_s = 120, .storm_path = "/sub",
        .told = "", .some_path = "/sub",
    };
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) fail("needs a value", argv[i]);
        set(o, argv[i], argv[i + 1]);
    }
    if (!o->port) fail("needed", "--port");
    if (!o->publish_port) o->publish_port = o->port;
    if (o->first_step >= o->subscribers) o->first_step = 0;
    if (o->slow >= o->subscribers) fail("--slow must leave a reader", "");
    if (o->handshakes && !o->tls) fail("--handshakes needs --tls", "");
    if (o->handshakes && (o->storm || o->slow || o->first_step)) fail("--handshakes goes with no other measurement", "");
    if (o->storm && o->slow) fail("--storm and --slow exclude each other", "");
    if (o->storm && !o->messages) fail("--storm needs --messages", "");
    if (o->storm && o->rate == 0) fail("--storm needs a --rate", "");
    if (o->storm && o->transport == TRANSPORT_POLL) fail("--storm does not poll", "");
    if (o->kept && !o->messages) fail("--kept needs --messages", "");
    if (o->kept && (o->storm || o->slow || o->first_step || o->handshakes))
        fail("--kept goes with no other measurement", "");
    if (strlen(o->told) > MAX_NEEDLE) fail("--told is too long", o->told);
    if ((o->kept || o->told[0] || o->some) && o->transport == TRANSPORT_POLL)
        fail("--kept, --told and --some do not poll", "");
    if ((o->told[0] || o->some) && (o->storm || o->handshakes))
        fail("--told and --some do not go with --storm and --handshakes", "");
}
