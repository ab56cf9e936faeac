// What Glibc's module hides from Swift: O_DIRECT, fallocate, pwritev2, statx's direct I/O alignment,
// open-file-description locks, and the CPU's CRC32C instruction. One thin function a call; each
// returns what the system call returns, or the negated errno.
#ifndef CWALLINUX_H
#define CWALLINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "CWALRing.h"
#include "CWALSimulation.h"
#include "CWALThreads.h"

enum {
    CWAL_OPEN_READ = 1,
    CWAL_OPEN_WRITE = 2,
    CWAL_OPEN_CREATE = 4,
    CWAL_OPEN_EXCLUSIVE = 8,
    CWAL_OPEN_DIRECT = 16,
    CWAL_OPEN_DIRECTORY = 32,
};

struct cwal_file_status {
    uint64_t size;
    uint64_t inode;
    uint32_t mode;
    uint32_t direct_memory_alignment;  // 0: direct I/O is not supported on this file
    uint32_t direct_offset_alignment;
    bool direct_alignment_known;       // false: the kernel or file system does not say
};

int cwal_open(const char *path, int cwal_flags, unsigned mode);
int cwal_close(int fd);
int cwal_exists(const char *path);  // 1 or 0
/// Bytes of the file system that an unprivileged process may still use.
int64_t cwal_free_space(const char *path);
int cwal_make_directory(const char *path, unsigned mode);
int cwal_rename(const char *from, const char *to);
int cwal_unlink(const char *path);
/// The names in a directory without `.` and `..`, each ended by a NUL, in memory to be given to `free`; `length` is
/// that of all. NULL: `error` has the negated errno.
char *cwal_list_directory(const char *path, size_t *length, int *error);
ssize_t cwal_pread(int fd, void *buffer, size_t length, uint64_t offset);
ssize_t cwal_pwrite(int fd, const void *buffer, size_t length, uint64_t offset);
/// pwritev2 with RWF_DSYNC: returns once data and the metadata to read it are on stable storage.
ssize_t cwal_pwrite_durable(int fd, const void *buffer, size_t length, uint64_t offset);
int cwal_fdatasync(int fd);
int cwal_fsync(int fd);
/// Makes all of a file system durable.
int cwal_syncfs(int fd);
/// Reserves blocks and sets the size; the extents stay unwritten until real zeros are written.
int cwal_allocate(int fd, uint64_t length);
/// Gives blocks of a file back; they read as zeros then.
int cwal_punch_hole(int fd, uint64_t offset, uint64_t length);
int cwal_truncate(int fd, uint64_t length);
int cwal_status(int fd, struct cwal_file_status *status);
/// An exclusive lock owned by the open file description, over the whole file. -EAGAIN: held elsewhere.
int cwal_lock_exclusive(int fd);
/// Gives that lock up, for all who share the open file description.
int cwal_unlock(int fd);
/// 1: some other open file description holds the lock. 0: free.
int cwal_lock_is_held(int fd);
/// Free bytes for unprivileged users and total bytes of the file system.
int cwal_filesystem_space(int fd, uint64_t *available, uint64_t *total);
int cwal_filesystem_type(int fd, uint64_t *magic);

bool cwal_crc32c_instruction_available(void);
/// Undefined where `cwal_crc32c_instruction_available` says false. `state` is the raw register.
uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length);

#include "CWALRingProbe.h"
#include "CWALDoctor.h"
#include "CWALMemory.h"

#endif
