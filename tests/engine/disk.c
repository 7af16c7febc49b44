/*
 * A disk that hangs, or whose power can be cut.  A test preloads this library into a server.
 *
 * While the file exists that PUSH_DISK_HANGS names, no sync returns.  After each sync the library notes the size that the
 * file had when the sync began.  It writes the size into the directory that PUSH_DISK_SYNCED names, into a file that is
 * named after the inode.  The bytes behind that size may be lost when the power fails.  The segments of a log only grow,
 * so the size is enough.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(int fd, const char *name)
{
    const char *hangs = getenv("PUSH_DISK_HANGS"), *directory = getenv("PUSH_DISK_SYNCED");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    int result, known = fstat(fd, &file) == 0;

    while (hangs && access(hangs, F_OK) == 0)
        usleep(2000);
    result = real(fd);
    if (result == 0 && known && directory && S_ISREG(file.st_mode)) {
        char path[4096], size[32];
        int note;
        snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)file.st_ino);
        /* One write of a fixed length: a process that is killed has written all of it or nothing. */
        snprintf(size, sizeof size, "%020llu", (unsigned long long)file.st_size);
        note = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (note >= 0) {
            if (pwrite(note, size, 20, 0) != 20)
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
