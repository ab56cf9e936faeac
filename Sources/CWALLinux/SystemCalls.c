#define _GNU_SOURCE
#include "CWALLinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// Debian 12's headers know STATX_DIOALIGN only in part; the numbers are the kernel's ABI
// (include/uapi/linux/stat.h, Linux 6.1).
#define CWAL_STATX_DIOALIGN 0x00002000U
#define CWAL_STATX_DIO_MEM_ALIGN_OFFSET 0x98
#define CWAL_STATX_DIO_OFFSET_ALIGN_OFFSET 0x9c

#define NEGATED_ERRNO(call)                 \
    do {                                    \
        __typeof__(call) result_ = (call);  \
        return result_ < 0 ? -errno : result_; \
    } while (0)

int cwal_open(const char *path, int cwal_flags, unsigned mode) {
    CWAL_SIMULATED(open, path, cwal_flags);
    int flags = O_CLOEXEC;
    bool reads = cwal_flags & CWAL_OPEN_READ, writes = cwal_flags & CWAL_OPEN_WRITE;
    flags |= reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;
    if (cwal_flags & CWAL_OPEN_CREATE) flags |= O_CREAT;
    if (cwal_flags & CWAL_OPEN_EXCLUSIVE) flags |= O_EXCL;
    if (cwal_flags & CWAL_OPEN_DIRECT) flags |= O_DIRECT;
    if (cwal_flags & CWAL_OPEN_DIRECTORY) flags |= O_DIRECTORY;
    int fd;
    do fd = open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int cwal_close(int fd) {
    CWAL_SIMULATED(close, fd);
    NEGATED_ERRNO(close(fd));
}

int cwal_exists(const char *path) {
    CWAL_SIMULATED(exists, path);
    if (access(path, F_OK) == 0) return 1;
    return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

int64_t cwal_free_space(const char *path) {
    CWAL_SIMULATED(free_space, path);
    struct statvfs status;
    if (statvfs(path, &status) < 0) return -errno;
    uint64_t free;
    uint64_t block = status.f_frsize > 0 ? status.f_frsize : status.f_bsize;
    if (__builtin_mul_overflow((uint64_t)status.f_bavail, block, &free) || free > INT64_MAX) return INT64_MAX;
    return (int64_t)free;
}

int cwal_make_directory(const char *path, unsigned mode) {
    CWAL_SIMULATED(make_directory, path);
    NEGATED_ERRNO(mkdir(path, mode));
}

int cwal_rename(const char *from, const char *to) {
    CWAL_SIMULATED(rename, from, to);
    NEGATED_ERRNO(rename(from, to));
}

int cwal_unlink(const char *path) {
    CWAL_SIMULATED(unlink, path);
    NEGATED_ERRNO(unlink(path));
}

ssize_t cwal_pread(int fd, void *buffer, size_t length, uint64_t offset) {
    CWAL_SIMULATED(read, fd, buffer, length, offset);
    NEGATED_ERRNO(pread(fd, buffer, length, (off_t)offset));
}

ssize_t cwal_pwrite(int fd, const void *buffer, size_t length, uint64_t offset) {
    CWAL_SIMULATED(write, fd, buffer, length, offset, false);
    NEGATED_ERRNO(pwrite(fd, buffer, length, (off_t)offset));
}

ssize_t cwal_pwrite_durable(int fd, const void *buffer, size_t length, uint64_t offset) {
    CWAL_SIMULATED(write, fd, buffer, length, offset, true);
    struct iovec vector = {.iov_base = (void *)buffer, .iov_len = length};
    NEGATED_ERRNO(pwritev2(fd, &vector, 1, (off_t)offset, RWF_DSYNC));
}

int cwal_fdatasync(int fd) {
    CWAL_SIMULATED(synchronize, fd);
    NEGATED_ERRNO(fdatasync(fd));
}

int cwal_fsync(int fd) {
    CWAL_SIMULATED(synchronize, fd);
    NEGATED_ERRNO(fsync(fd));
}

int cwal_syncfs(int fd) { NEGATED_ERRNO(syncfs(fd)); }

int cwal_allocate(int fd, uint64_t length) {
    CWAL_SIMULATED(allocate, fd, length);
    NEGATED_ERRNO(fallocate(fd, 0, 0, (off_t)length));
}

int cwal_punch_hole(int fd, uint64_t offset, uint64_t length) {
    CWAL_SIMULATED_AS(0);
    NEGATED_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length));
}

int cwal_truncate(int fd, uint64_t length) {
    CWAL_SIMULATED(truncate, fd, length);
    NEGATED_ERRNO(ftruncate(fd, (off_t)length));
}

int cwal_status(int fd, struct cwal_file_status *status) {
    CWAL_SIMULATED(status, fd, status);
    // The kernel's struct statx is 256 bytes; a raw buffer, since the header's may lack the newest fields.
    union {
        struct statx known;
        unsigned char raw[512];
    } buffer;
    memset(&buffer, 0, sizeof buffer);
    unsigned mask = STATX_SIZE | STATX_MODE | STATX_INO | CWAL_STATX_DIOALIGN;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, mask, &buffer) < 0) return -errno;
    status->size = buffer.known.stx_size;
    status->inode = buffer.known.stx_ino;
    status->mode = buffer.known.stx_mode;
    status->direct_alignment_known = buffer.known.stx_mask & CWAL_STATX_DIOALIGN;
    memcpy(&status->direct_memory_alignment, buffer.raw + CWAL_STATX_DIO_MEM_ALIGN_OFFSET, 4);
    memcpy(&status->direct_offset_alignment, buffer.raw + CWAL_STATX_DIO_OFFSET_ALIGN_OFFSET, 4);
    return 0;
}

int cwal_lock_exclusive(int fd) {
    CWAL_SIMULATED(lock_exclusive, fd);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    NEGATED_ERRNO(fcntl(fd, F_OFD_SETLK, &lock));
}

int cwal_unlock(int fd) {
    CWAL_SIMULATED(unlock, fd);
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    NEGATED_ERRNO(fcntl(fd, F_OFD_SETLK, &lock));
}

int cwal_lock_is_held(int fd) {
    CWAL_SIMULATED(lock_is_held, fd);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0) return -errno;
    return lock.l_type != F_UNLCK;
}

int cwal_filesystem_space(int fd, uint64_t *available, uint64_t *total) {
    struct statvfs space;
    if (fstatvfs(fd, &space) < 0) return -errno;
    *available = (uint64_t)space.f_bavail * space.f_frsize;
    *total = (uint64_t)space.f_blocks * space.f_frsize;
    return 0;
}

int cwal_filesystem_type(int fd, uint64_t *magic) {
    CWAL_SIMULATED_AS(-ENOSYS);
    struct statfs status;
    if (fstatfs(fd, &status) < 0) return -errno;
    *magic = (uint64_t)status.f_type;
    return 0;
}

char *cwal_list_directory(const char *path, size_t *length, int *error) {
    CWAL_SIMULATED(list, path, length, error);
    DIR *directory = opendir(path);
    if (!directory) {
        *error = -errno;
        return NULL;
    }
    char *names = NULL;
    size_t used = 0, room = 0;
    while (true) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        size_t needed = used + strlen(entry->d_name) + 1;
        if (needed > room) {
            room = needed * 2;
            char *larger = realloc(names, room);
            if (!larger) {
                errno = ENOMEM;
                break;
            }
            names = larger;
        }
        memcpy(names + used, entry->d_name, needed - used);
        used = needed;
    }
    *error = -errno;
    closedir(directory);
    if (*error != 0) {
        free(names);
        return NULL;
    }
    *length = used;
    // An empty directory is no error.
    return names ? names : malloc(1);
}
