/* A disk that fails, or that loses its power, for a program that loads this library by LD_PRELOAD.
 *
 *   cc -shared -fPIC -O1 -o ledger.so ledger.c -ldl -lpthread
 *   DISK_DIRECTORY=/tmp/log DISK_LEDGER=/tmp/ledger LD_PRELOAD=$PWD/ledger.so pushd ...
 *
 * The library passes each call on the files of one directory to the system, and writes it into a ledger.  A test that
 * kills the program reads from the ledger which bytes were synced, and removes any part of the others (ledger.rs).  The
 * library syncs nothing: it only writes into the ledger that a file was synced.  A sync takes at most DISK_SYNC_US
 * microseconds.
 *
 * DISK_BOOT names a file that the program reads in place of the kernel's name of this boot.  The test writes another name
 * into it after a loss of power.
 *
 * DISK_FAULTS names a file with lines "CALL ERRNO", for instance "fdatasync 5".  As long as the file exists, these calls
 * fail.  Half of the writes that fail have written some of their bytes.
 *
 * An entry of the ledger has a byte for its kind, a handle (four bytes), an offset (eight), a length (four), and as many
 * bytes as the length says.
 *   O  a file is opened to be written (its name); the offset is 1 if it becomes empty
 *   W  bytes are written at the offset
 *   P  the write before this entry has written only so many bytes (the offset)
 *   T  a file is cut at the offset
 *   R  a file is renamed (both names, with a zero byte in between)
 *   U  a file is removed (its name)
 *   F  the call before this entry has failed
 *   S  a file was synced; the offset is the number of entries when the sync began
 *   E  the sync of a file has failed; the offset is as for S
 *   D  the directory was synced; the offset is as for S
 * The library writes S, E and D after the call, and all others before it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 4096
#define OF_THE_DIRECTORY UINT32_MAX
#define BOOT "/proc/sys/kernel/random/boot_id"

static const char *directory, *boot, *faults;
static size_t directory_length;
static unsigned longest_sync_us;
static int ledger = -1;
/* The handle of each descriptor.  0: the file is not in the directory. */
static uint32_t handles[DESCRIPTORS], last_handle;
static uint64_t entries;
/* Lets one call in at a time, so that the ledger has the calls in their order. */
static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;

/* The system's function of this name. */
#define NEXT(NAME) ((__typeof__(&NAME))next_of(#NAME))

static void *next_of(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("DISK_LEDGER"), *sync_us = getenv("DISK_SYNC_US");
    directory = getenv("DISK_DIRECTORY");
    boot = getenv("DISK_BOOT");
    faults = getenv("DISK_FAULTS");
    if (sync_us) longest_sync_us = (unsigned)atoi(sync_us);
    if (!directory || !path) return;
    directory_length = strlen(directory);
    int fd = NEXT(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* A high number, so that the program's descriptors have the numbers that they have without this library. */
    ledger = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    close(fd);
    if (ledger < 0) abort();
}

static void note(char kind, uint32_t handle, uint64_t offset, const void *bytes, uint32_t length)
{
    struct iovec parts[] = {
        {&kind, 1}, {&handle, sizeof handle}, {&offset, sizeof offset}, {&length, sizeof length}, {(void *)bytes, length}
    };
    int kept = errno;
    ssize_t wanted = (ssize_t)(1 + sizeof handle + sizeof offset + sizeof length + length);
    if (NEXT(writev)(ledger, parts, 5) != wanted) abort();
    entries++;
    errno = kept;
}

/* The name of a file in the directory.  The directory itself has the name "". */
static const char *name_in_directory(const char *path)
{
    if (ledger < 0 || strncmp(path, directory, directory_length) != 0) return NULL;
    path += directory_length;
    return *path == '/' ? path + 1 : *path == 0 ? path : NULL;
}

static uint32_t handle_of(int fd)
{
    return ledger >= 0 && fd >= 0 && fd < DESCRIPTORS ? handles[fd] : 0;
}

/* True if this call should fail; errno then says how. */
static int fails(const char *call)
{
    FILE *file = faults ? fopen(faults, "re") : NULL;
    if (!file) return 0;
    char name[32];
    int number, found = 0;
    while (!found && fscanf(file, "%31s %d", name, &number) == 2) found = strcmp(name, call) == 0;
    fclose(file);
    if (found) errno = number;
    return found;
}

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    if (boot && strcmp(path, BOOT) == 0) return next(boot, flags, mode);
    const char *name = name_in_directory(path);
    if (!name || (*name && (flags & O_ACCMODE) == O_RDONLY)) return next(path, flags, mode);
    pthread_mutex_lock(&one_call);
    uint32_t handle = *name ? ++last_handle : OF_THE_DIRECTORY;
    if (*name) note('O', handle, (flags & O_TRUNC) != 0, name, (uint32_t)strlen(name));
    int fd = fails("open") ? -1 : next(path, flags, mode);
    if (fd >= DESCRIPTORS) abort();
    if (fd >= 0) handles[fd] = handle;
    else if (*name) note('F', 0, 0, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(NEXT(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(NEXT(open64), path, flags, mode);
}

int close(int fd)
{
    if (ledger >= 0 && fd == ledger) abort();
    if (handle_of(fd)) handles[fd] = 0;
    return NEXT(close)(fd);
}

/* How many bytes of a write that fails are written: in half of the cases none. */
static size_t random_part(size_t length)
{
    static unsigned seed = 2;
    return rand_r(&seed) % 2 && length ? (size_t)rand_r(&seed) % length : 0;
}

/* Writes bytes at an offset. */
static ssize_t written(int fd, const void *bytes, size_t length, off_t offset, int moves)
{
    pthread_mutex_lock(&one_call);
    note('W', handles[fd], (uint64_t)offset, bytes, (uint32_t)length);
    ssize_t result, part;
    if (fails("write")) {
        int error = errno;
        part = NEXT(pwrite64)(fd, bytes, random_part(length), offset);
        result = -1;
        errno = error;
    } else {
        result = part = moves ? NEXT(write)(fd, bytes, length) : NEXT(pwrite64)(fd, bytes, length, offset);
    }
    if (part < 0) note('F', 0, 0, NULL, 0);
    else if ((size_t)part < length) note('P', 0, (uint64_t)part, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (!handle_of(fd)) return NEXT(write)(fd, bytes, length);
    return written(fd, bytes, length, lseek(fd, 0, SEEK_CUR), 1);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    if (!handle_of(fd)) return NEXT(pwrite)(fd, bytes, length, offset);
    return written(fd, bytes, length, offset, 0);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    if (!handle_of(fd)) return NEXT(pwrite64)(fd, bytes, length, offset);
    return written(fd, bytes, length, offset, 0);
}

/* The ledger has no entry for these calls, so a program that begins to use them is stopped. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (handle_of(fd)) abort();
    return NEXT(writev)(fd, parts, count);
}

static int cut(int fd, off_t length)
{
    pthread_mutex_lock(&one_call);
    note('T', handles[fd], (uint64_t)length, NULL, 0);
    int result = fails("ftruncate") ? -1 : NEXT(ftruncate64)(fd, length);
    if (result < 0) note('F', 0, 0, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return result;
}

int ftruncate(int fd, off_t length)
{
    return handle_of(fd) ? cut(fd, length) : NEXT(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return handle_of(fd) ? cut(fd, length) : NEXT(ftruncate64)(fd, length);
}

static int synced(int fd, const char *call)
{
    static unsigned seed = 1;
    uint32_t handle = handles[fd];
    pthread_mutex_lock(&one_call);
    unsigned rest_us = longest_sync_us ? (unsigned)rand_r(&seed) % longest_sync_us : 0;
    uint64_t before = entries;
    pthread_mutex_unlock(&one_call);
    usleep(rest_us);
    pthread_mutex_lock(&one_call);
    int result = fails(call) ? -1 : 0;
    int is_directory = handle == OF_THE_DIRECTORY;
    if (result == 0) note(is_directory ? 'D' : 'S', handle, before, NULL, 0);
    else if (!is_directory) note('E', handle, before, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return result;
}

int fsync(int fd)
{
    return handle_of(fd) ? synced(fd, "fsync") : NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
    return handle_of(fd) ? synced(fd, "fdatasync") : NEXT(fdatasync)(fd);
}

int rename(const char *from, const char *to)
{
    const char *old = name_in_directory(from), *new = name_in_directory(to);
    if (!old && !new) return NEXT(rename)(from, to);
    if (!old || !new) abort();
    char both[512];
    int length = snprintf(both, sizeof both, "%s%c%s", old, 0, new);
    if (length <= 0 || length >= (int)sizeof both) abort();
    pthread_mutex_lock(&one_call);
    note('R', 0, 0, both, (uint32_t)length);
    int result = fails("rename") ? -1 : NEXT(rename)(from, to);
    if (result < 0) note('F', 0, 0, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return result;
}

int unlink(const char *path)
{
    const char *name = name_in_directory(path);
    if (!name) return NEXT(unlink)(path);
    pthread_mutex_lock(&one_call);
    note('U', 0, 0, name, (uint32_t)strlen(name));
    int result = fails("unlink") ? -1 : NEXT(unlink)(path);
    if (result < 0) note('F', 0, 0, NULL, 0);
    pthread_mutex_unlock(&one_call);
    return result;
}
