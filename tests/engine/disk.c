/*
 * A disk that hangs, or whose power can be cut.  A test preloads this library into a server.
 *
 * While the file exists that PUSH_DISK_HANGS names, no sync returns.  After each sync the library notes where the content
 * of the file ended when the sync began.  It writes that into the directory that PUSH_DISK_SYNCED names, into a file that
 * is named after the inode.  The bytes behind that place may be lost when the power fails.  The content of a segment only
 * grows, so one place is enough.  Zeros that are written ahead are no content.  Before a descriptor has written any, its
 * content is the whole file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTORS 4096

/* Where the last bytes end that a descriptor has written and that are not all zeros. */
static off64_t ends[DESCRIPTORS];

static int any_content(const char *bytes, size_t length)
{
    return length > 0 && (bytes[0] != 0 || memcmp(bytes, bytes + 1, length - 1) != 0);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    ssize_t written = real(fd, bytes, length, offset);
    if (written > 0 && fd < DESCRIPTORS && any_content(bytes, length) && ends[fd] < offset + written)
        ends[fd] = offset + written;
    return written;
}

int close(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < DESCRIPTORS)
        ends[fd] = 0;
    return real(fd);
}

static int synced(int fd, const char *name)
{
    const char *hangs = getenv("PUSH_DISK_HANGS"), *directory = getenv("PUSH_DISK_SYNCED");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    int result, known = fstat(fd, &file) == 0;
    off64_t end = known && fd < DESCRIPTORS && ends[fd] ? ends[fd] : file.st_size;

    while (hangs && access(hangs, F_OK) == 0)
        usleep(2000);
    result = real(fd);
    if (result == 0 && known && directory && S_ISREG(file.st_mode)) {
        char path[4096], place[32];
        int note;
        snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)file.st_ino);
        /* One write of a fixed length: a process that is killed has written all of it or nothing. */
        snprintf(place, sizeof place, "%020llu", (unsigned long long)end);
        note = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (note >= 0) {
            if (pwrite(note, place, 20, 0) != 20)
                abort();
            close(note);
        }
    }
    return result;
}

int fsync(int fd)
{
    return synced(fd, "fsync");
}

int fdatasync(int fd)
{
    return synced(fd, "fdatasync");
}
