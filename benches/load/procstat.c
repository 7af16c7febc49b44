#include "procstat.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add_thread(const char *path, struct procstat *sum)
{
    FILE *file = fopen(path, "r");
    unsigned long long ran, waited, slices;
    if (!file) return; /* the thread ended between readdir and here */
    if (fscanf(file, "%llu %llu %llu", &ran, &waited, &slices) == 3) {
        sum->cpu_ns += ran;
        sum->switches += slices;
    }
    fclose(file);
}

static void add_threads(int pid, struct procstat *sum)
{
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        add_thread(path, sum);
    }
    closedir(dir);
}

/* The number after `key` in a file of a process in /proc, or -1 if there is none. */
static long field_kb(int pid, const char *name, const char *key)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (value < 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key))) value = strtol(line + strlen(key), NULL, 10);
    fclose(file);
    return value;
}

static long sum_kb(const int *pids, int count, const char *name, const char *key)
{
    long sum = 0;
    for (int i = 0; i < count; i++) {
        long value = field_kb(pids[i], name, key);
        if (value < 0) return -1;
        sum += value;
    }
    return sum;
}

struct procstat procstat_read(const int *pids, int count) {
    struct procstat sum = {0, 0, 0};
    for (int i = 0; i < count; i++) add_threads(pids[i], &sum);
    sum.pss_kb = sum_kb(pids, count, "smaps_rollup", "Pss:");
    return sum;
}

long procstat_peak_kb(const int *pids, int count)
{
    return sum_kb(pids, count, "status", "VmHWM:");
}

long procstat_rss_kb(const int *pids, int count)
{
    return sum_kb(pids, count, "status", "VmRSS:");
}

void procstat_reset_peak(const int *pids, int count)
{
    for (int i = 0; i < count; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/clear_refs", pids[i]);
        int fd = open(path, O_WRONLY);
        if (fd < 0) continue;
        /* 5: "reset the peak resident set size", proc(5). */
        if (write(fd, "5", 1) != 1) perror(path);
        close(fd);
    }
}
