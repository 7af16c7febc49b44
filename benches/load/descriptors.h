/* Raises the limit of descriptors as far as the machine allows. Each connection needs one on either side. */
#ifndef LOAD_DESCRIPTORS_H
#define LOAD_DESCRIPTORS_H

#include <sys/resource.h>

static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

#endif
