#define _GNU_SOURCE
#include "CWALRing.h"
#include "CWALSimulation.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAKE_TAG UINT64_MAX

static int setup(unsigned entries, struct io_uring_params *parameters) {
    return (int)syscall(SYS_io_uring_setup, entries, parameters);
}

static int enter(int fd, unsigned submit, unsigned complete, unsigned flags) {
    return (int)syscall(SYS_io_uring_enter, fd, submit, complete, flags, NULL, (size_t)0);
}

static int registration(int fd, unsigned what, const void *argument, unsigned count) {
    return syscall(SYS_io_uring_register, fd, what, argument, count) < 0 ? -errno : 0;
}

int cwal_ring_open(struct cwal_ring *ring, unsigned depth) {
    CWAL_SIMULATED(ring_open, ring, depth);
    memset(ring, 0, sizeof *ring);
    ring->fd = ring->wake_fd = -1;
    struct io_uring_params parameters = {0};
    // One entry more than writes: for the pending read on the eventfd.
    int fd = setup(depth + 1, &parameters);
    if (fd < 0) return -errno;
    ring->fd = fd;
    ring->entries = parameters.sq_entries;
    if (!(parameters.features & IORING_FEAT_SINGLE_MMAP) || !(parameters.features & IORING_FEAT_NODROP)) {
        cwal_ring_close(ring);
        return -ENOSYS;
    }
    size_t submission = parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned);
    size_t completion = parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_length = submission > completion ? submission : completion;
    ring->sqes_length = parameters.sq_entries * sizeof(struct io_uring_sqe);
    const int protection = PROT_READ | PROT_WRITE, mapping = MAP_SHARED | MAP_POPULATE;
    void *rings = mmap(NULL, ring->rings_length, protection, mapping, fd, IORING_OFF_SQ_RING);
    void *sqes = mmap(NULL, ring->sqes_length, protection, mapping, fd, IORING_OFF_SQES);
    ring->rings = rings == MAP_FAILED ? NULL : rings;
    ring->sqes = sqes == MAP_FAILED ? NULL : sqes;
    ring->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (!ring->rings || !ring->sqes || ring->wake_fd < 0) {
        int error = errno;
        cwal_ring_close(ring);
        return -error;
    }
    char *base = rings;
    ring->sq_head = (unsigned *)(base + parameters.sq_off.head);
    ring->sq_tail = (unsigned *)(base + parameters.sq_off.tail);
    ring->sq_mask = (unsigned *)(base + parameters.sq_off.ring_mask);
    ring->sq_array = (unsigned *)(base + parameters.sq_off.array);
    ring->cq_head = (unsigned *)(base + parameters.cq_off.head);
    ring->cq_tail = (unsigned *)(base + parameters.cq_off.tail);
    ring->cq_mask = (unsigned *)(base + parameters.cq_off.ring_mask);
    ring->cqes = base + parameters.cq_off.cqes;
    return 0;
}

void cwal_ring_close(struct cwal_ring *ring) {
    CWAL_SIMULATED(ring_close, ring);
    if (ring->sqes) munmap(ring->sqes, ring->sqes_length);
    if (ring->rings) munmap(ring->rings, ring->rings_length);
    if (ring->fd >= 0) close(ring->fd);
    if (ring->wake_fd >= 0) close(ring->wake_fd);
    memset(ring, 0, sizeof *ring);
    ring->fd = ring->wake_fd = -1;
}

int cwal_ring_reserve(struct cwal_ring *ring, unsigned count) {
    CWAL_SIMULATED_AS(-EINVAL);
    // The sparse form of both registrations came with Linux 5.19.
    struct io_uring_rsrc_register buffers = {.nr = count, .flags = IORING_RSRC_REGISTER_SPARSE};
    int result = registration(ring->fd, IORING_REGISTER_BUFFERS2, &buffers, sizeof buffers);
    ring->has_buffers = result == 0;
    struct io_uring_rsrc_register files = {.nr = 1, .flags = IORING_RSRC_REGISTER_SPARSE};
    int second = registration(ring->fd, IORING_REGISTER_FILES2, &files, sizeof files);
    ring->has_files = second == 0;
    return result ? result : second;
}

int cwal_ring_set_buffer(struct cwal_ring *ring, unsigned place, void *memory, size_t length) {
    CWAL_SIMULATED_AS(-EINVAL);
    if (!ring->has_buffers) return -EINVAL;
    struct iovec vector = {.iov_base = memory, .iov_len = length};
    __u64 no_tag = 0;
    struct io_uring_rsrc_update2 update = {
        .offset = place, .data = (uintptr_t)&vector, .tags = (uintptr_t)&no_tag, .nr = 1};
    // Answers with the number of places updated.
    long result = syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof update);
    return result == 1 ? 0 : result < 0 ? -errno : -EINVAL;
}

int cwal_ring_set_file(struct cwal_ring *ring, int fd) {
    CWAL_SIMULATED_AS(-EINVAL);
    if (!ring->has_files) return -EINVAL;
    __s32 descriptor = fd;
    struct io_uring_files_update update = {.offset = 0, .fds = (uintptr_t)&descriptor};
    long result = syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES_UPDATE, &update, 1);
    return result == 1 ? 0 : result < 0 ? -errno : -EINVAL;
}

static struct io_uring_sqe *next_entry(struct cwal_ring *ring) {
    // There is always room: no more is prepared than the ring was made for.
    unsigned tail = *ring->sq_tail, place = tail & *ring->sq_mask;
    struct io_uring_sqe *entry = (struct io_uring_sqe *)ring->sqes + place;
    memset(entry, 0, sizeof *entry);
    ring->sq_array[place] = place;
    return entry;
}

static void publish_entry(struct cwal_ring *ring) {
    __atomic_store_n(ring->sq_tail, *ring->sq_tail + 1, __ATOMIC_RELEASE);
    ring->unsubmitted++;
}

static void arm_wake(struct cwal_ring *ring) {
    struct io_uring_sqe *entry = next_entry(ring);
    entry->opcode = IORING_OP_READ;
    entry->fd = ring->wake_fd;
    entry->addr = (uintptr_t)&ring->wake_value;
    entry->len = sizeof ring->wake_value;
    entry->user_data = WAKE_TAG;
    publish_entry(ring);
    ring->wake_is_armed = true;
}

void cwal_ring_write(
    struct cwal_ring *ring, int fd, bool registered_file, const void *bytes, unsigned length, uint64_t offset,
    int place, bool durable, uint64_t tag) {
    CWAL_SIMULATED(ring_write, ring, fd, bytes, length, offset, durable, tag);
    struct io_uring_sqe *entry = next_entry(ring);
    entry->opcode = place >= 0 ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE;
    entry->fd = registered_file ? 0 : fd;
    entry->flags = registered_file ? IOSQE_FIXED_FILE : 0;
    entry->addr = (uintptr_t)bytes;
    entry->len = length;
    entry->off = offset;
    entry->buf_index = place >= 0 ? (__u16)place : 0;
    entry->rw_flags = durable ? RWF_DSYNC : 0;
    entry->user_data = tag;
    publish_entry(ring);
}

// Takes back what the kernel has not seen: it reads entries in io_uring_enter only.
static void take_back(struct cwal_ring *ring) {
    unsigned head = __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
    __atomic_store_n(ring->sq_tail, head, __ATOMIC_RELEASE);
    ring->unsubmitted = 0;
    ring->wake_is_armed = false;
}

int cwal_ring_submit(struct cwal_ring *ring) {
    CWAL_SIMULATED(ring_submit, ring);
    // EAGAIN: the kernel has no memory for a request at the moment. A second of patience, then it is a failure.
    for (int tries = 0; ring->unsubmitted > 0; tries++) {
        int result = enter(ring->fd, ring->unsubmitted, 0, 0);
        if (result > 0) {
            ring->unsubmitted -= (unsigned)result;
        } else if (result < 0 && errno != EINTR && (errno != EAGAIN || tries > 1000)) {
            int error = errno;
            take_back(ring);
            return -error;
        } else if (result == 0 || errno == EAGAIN) {
            usleep(1000);
        }
    }
    return 0;
}

int cwal_ring_wait(struct cwal_ring *ring) {
    CWAL_SIMULATED(ring_wait, ring);
    if (!ring->wake_is_armed) arm_wake(ring);
    int result = enter(ring->fd, ring->unsubmitted, 1, IORING_ENTER_GETEVENTS);
    if (result >= 0) {
        ring->unsubmitted -= (unsigned)result;
        return 0;
    }
    int error = errno;
    if (error == EINTR) return 0;
    // Only the read on the eventfd can be unsubmitted here.
    if (ring->unsubmitted > 0) take_back(ring);
    return -error;
}

bool cwal_ring_next(struct cwal_ring *ring, struct cwal_ring_completion *completion) {
    CWAL_SIMULATED(ring_next, ring, completion);
    while (true) {
        unsigned head = *ring->cq_head;
        if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) return false;
        const struct io_uring_cqe *entry = (const struct io_uring_cqe *)ring->cqes + (head & *ring->cq_mask);
        completion->tag = entry->user_data;
        completion->result = entry->res;
        __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
        if (completion->tag != WAKE_TAG) return true;
        ring->wake_is_armed = false;
    }
}

void cwal_ring_wake(struct cwal_ring *ring) {
    CWAL_SIMULATED(ring_wake, ring);
    uint64_t one = 1;
    // Can only fail when 2^64 - 2 wake-ups are pending, and then one is.
    ssize_t written = write(ring->wake_fd, &one, sizeof one);
    (void)written;
}
