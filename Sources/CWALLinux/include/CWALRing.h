// A small io_uring on the three system calls themselves: writes from registered memory to a registered file, each with
// its own RWF_DSYNC, and a wake-up from other threads. swift-system's IORing has neither per-request flags nor a public
// sync request, and liburing would be one more library for everybody who links the log.
//
// One thread at a time uses a ring, except for `cwal_ring_wake`.
#ifndef CWALRING_H
#define CWALRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cwal_ring {
    int fd;
    int wake_fd;               // an eventfd on which the ring keeps a read pending
    unsigned entries;
    unsigned unsubmitted;
    unsigned *sq_head, *sq_tail, *sq_mask, *sq_array;
    unsigned *cq_head, *cq_tail, *cq_mask;
    void *sqes, *cqes;
    void *rings;
    size_t rings_length, sqes_length;
    uint64_t wake_value;       // where the kernel puts what it reads from `wake_fd`
    bool wake_is_armed;
    bool has_buffers, has_files;
};

struct cwal_ring_completion {
    uint64_t tag;
    int32_t result;            // bytes written, or the negated errno
};

/// Makes a ring for `depth` writes in flight. Returns 0 or the negated errno: -ENOSYS, -EPERM and the like mean that
/// the kernel or a sandbox does not allow it.
int cwal_ring_open(struct cwal_ring *ring, unsigned depth);
void cwal_ring_close(struct cwal_ring *ring);

/// Reserves `count` places for registered memory and one for a file. Without them (negated errno) writes go
/// unregistered.
int cwal_ring_reserve(struct cwal_ring *ring, unsigned count);
/// Registers memory in a place. 0, or the negated errno, after which the place is empty.
int cwal_ring_set_buffer(struct cwal_ring *ring, unsigned place, void *memory, size_t length);
/// Registers the file; -1 takes it out.
int cwal_ring_set_file(struct cwal_ring *ring, int fd);

/// Prepares a write. `place` is that of the registered memory the bytes lie in, -1 for unregistered memory;
/// `registered_file`: the registered one instead of `fd`. `durable`: with RWF_DSYNC.
void cwal_ring_write(
    struct cwal_ring *ring, int fd, bool registered_file, const void *bytes, unsigned length, uint64_t offset,
    int place, bool durable, uint64_t tag);
/// Hands over what is prepared. 0, or the negated errno: then nothing of it reaches the kernel, now or later.
int cwal_ring_submit(struct cwal_ring *ring);
/// Sleeps until a completion or a wake-up is there; may end without one. 0 or the negated errno.
int cwal_ring_wait(struct cwal_ring *ring);
/// Takes the next completion; false if there is none. Wake-ups are swallowed.
bool cwal_ring_next(struct cwal_ring *ring, struct cwal_ring_completion *completion);
/// Ends a wait early. From any thread.
void cwal_ring_wake(struct cwal_ring *ring);

#endif
