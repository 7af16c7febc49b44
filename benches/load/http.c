/* The parts of HTTP that a load generator reads. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swarm.h"

bool http_header(const char *head, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2] && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        const char *at = line + 2;
        if (strncasecmp(at, name, name_len) || at[name_len] != ':') continue;
        at += name_len + 1;
        at += strspn(at, " \t");
        size_t len = strcspn(at, "\r");
        if (len >= size) return false;
        memcpy(out, at, len);
        out[len] = 0;
        return true;
    }
    return false;
}

int http_status(const char *head)
{
    int status = 0;
    return sscanf(head, "HTTP/1.%*1d %d", &status) == 1 ? status : 0;
}
