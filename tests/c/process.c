/* See process.h. */
#include "process.h"
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    REQUIRE(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

int descriptor_count(void)
{
    return count_entries("/proc/self/fd") - 1; /* without the one that reads it */
}

void print_descriptors(void)
{
    char path[64], target[256];
    for (int fd = 0; fd < 4096; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, target, sizeof target - 1);
        if (len > 0) fprintf(stderr, "    descriptor %d: %.*s\n", fd, (int)len, target);
    }
}

bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static bool read_thread(const char *id, struct thread *thread)
{
    char path[300], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", id);
    FILE *file = fopen(path, "r");
    if (!file) return false; /* it ended meanwhile */
    *thread = (struct thread){.id = atoi(id)};
    while (fgets(line, sizeof line, file)) {
        unsigned long long mask;
        if (sscanf(line, "Name: %31[^\n]", thread->name) == 1) continue;
        if (sscanf(line, "SigBlk: %llx", &mask) == 1) thread->blocked = mask;
    }
    fclose(file);
    return true;
}

size_t list_threads(struct thread *threads, size_t size)
{
    DIR *directory = opendir("/proc/self/task");
    size_t count = 0;
    REQUIRE(directory != NULL);
    for (struct dirent *entry; count < size && (entry = readdir(directory));) {
        if (entry->d_name[0] != '.' && read_thread(entry->d_name, &threads[count])) count++;
    }
    closedir(directory);
    return count;
}

int thread_count(void)
{
    return count_entries("/proc/self/task");
}

int thread_count_at_most(int limit)
{
    int count = thread_count();
    for (int64_t until = now_ms() + PATIENCE_MS; count > limit && now_ms() < until; count = thread_count()) sleep_ms(2);
    return count;
}

int threads_named(const char *prefix)
{
    struct thread threads[MAX_THREADS];
    int found = 0;
    for (size_t i = 0, count = list_threads(threads, MAX_THREADS); i < count; i++) {
        found += strncmp(threads[i].name, prefix, strlen(prefix)) == 0;
    }
    return found;
}

void in_threads(int count, void *(*function)(void *))
{
    pthread_t threads[MAX_THREADS];
    REQUIRE(count <= MAX_THREADS);
    for (int i = 0; i < count; i++) REQUIRE(pthread_create(&threads[i], NULL, function, NULL) == 0);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}

size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static char left_over[256];

void temporary_directory(char *path, size_t size)
{
    snprintf(path, size, "%s/push-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    REQUIRE(mkdtemp(path) != NULL);
    snprintf(left_over, sizeof left_over, "%s", path);
}

void remove_left_over(void)
{
    char path[sizeof left_over];
    memcpy(path, left_over, sizeof path);
    *left_over = 0; /* removing may fail and end the test itself */
    if (*path) remove_directory(path);
}

void remove_directory(const char *path)
{
    char name[512];
    DIR *directory = opendir(path);
    REQUIRE(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        join_path(name, sizeof name, path, entry->d_name);
        if (unlink(name) != 0) remove_directory(name);
    }
    closedir(directory);
    if (strcmp(path, left_over) == 0) *left_over = 0;
    CHECK_EQ(rmdir(path), 0);
}

bool write_file(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    bool whole = fwrite(bytes, 1, len, file) == len;
    return fclose(file) == 0 && whole;
}

void join_path(char *path, size_t size, const char *directory, const char *name)
{
    REQUIRE((size_t)snprintf(path, size, "%s/%s", directory, name) < size);
}
