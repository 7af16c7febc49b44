/* CPU time and memory of the server's processes, from /proc. */
#ifndef LOAD_PROCSTAT_H
#define LOAD_PROCSTAT_H

#include <stdint.h>

struct procstat {
    uint64_t cpu_ns;       /* time on a CPU of all threads, from schedstat: ns, not ticks */
    uint64_t switches;     /* how often a thread was put on a CPU */
    long pss_kb;           /* proportional set size: shared pages count by their share */
};

struct procstat procstat_read(const int *pids, int count);

/* The peak of the resident size since procstat_reset_peak, in kB, or -1 if the kernel does not report it. */
long procstat_peak_kb(const int *pids, int count);
void procstat_reset_peak(const int *pids, int count);

/* The resident size now, in kB. */
long procstat_rss_kb(const int *pids, int count);

#endif
