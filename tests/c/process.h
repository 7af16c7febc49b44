/* Facts about this process, from the kernel. */
#ifndef TESTS_PROCESS_H
#define TESTS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int descriptor_count(void);
/* Prints them on stderr, for a test that found too many. */
void print_descriptors(void);
/* Whether a descriptor is open. */
bool is_open(int fd);

enum { MAX_THREADS = 128 };
struct thread {
    pid_t id;
    char name[32];
    uint64_t blocked; /* signal mask: signal n is bit n - 1 */
};
/* Returns how many were written to `threads`. */
size_t list_threads(struct thread *threads, size_t size);
int thread_count(void);
/* The same, but a thread that has been joined may take a moment to leave /proc. */
int thread_count_at_most(int limit);
/* Counts the library's threads with such a name, for instance "push-shard-". */
int threads_named(const char *prefix);

/* Runs a function in so many threads at once, and waits until all have returned. */
void in_threads(int count, void *(*function)(void *));

/* Bytes that malloc has handed out. */
size_t heap_bytes(void);

/* Makes a new directory for the test's files, and removes it with all that is in it. */
void temporary_directory(char *path, size_t size);
void remove_directory(const char *path);
/* The same for a test that gives up. */
void remove_left_over(void);
bool write_file(const char *path, const void *bytes, size_t len);
/* Makes "directory/name". Ends the test if it does not fit. */
void join_path(char *path, size_t size, const char *directory, const char *name);

#endif
