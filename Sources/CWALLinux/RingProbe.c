#define _GNU_SOURCE
#include "CWALRingProbe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// Headers older than Linux 6.1 lack these; the numbers are the kernel's ABI (include/uapi/linux/io_uring.h).
#define CWAL_SETUP_SINGLE_ISSUER (1U << 12)
#define CWAL_SETUP_DEFER_TASKRUN (1U << 13)

enum { RING_ENTRIES = 8, PAGE = 4096, PROBED_OPERATIONS = 64 };

static int set_up_ring(unsigned flags) {
    struct io_uring_params parameters;
    memset(&parameters, 0, sizeof parameters);
    parameters.flags = flags;
    return (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &parameters);
}

static int register_with_ring(int ring, unsigned operation, void *argument, unsigned count) {
    return syscall(SYS_io_uring_register, ring, operation, argument, count) < 0 ? errno : 0;
}

static int try_buffer(int ring) {
    void *page = NULL;
    if (posix_memalign(&page, PAGE, PAGE) != 0) return ENOMEM;
    struct iovec vector = {.iov_base = page, .iov_len = PAGE};
    int result = register_with_ring(ring, IORING_REGISTER_BUFFERS, &vector, 1);
    if (result == 0) register_with_ring(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
    free(page);
    return result;
}

static int try_file(int ring) {
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (file < 0) return errno;
    int32_t descriptor = file;
    int result = register_with_ring(ring, IORING_REGISTER_FILES, &descriptor, 1);
    close(file);
    return result;
}

static bool has_operation(const struct io_uring_probe *operations, unsigned operation) {
    return operation < operations->ops_len && (operations->ops[operation].flags & IO_URING_OP_SUPPORTED);
}

static bool try_operations(int ring) {
    size_t size = sizeof(struct io_uring_probe) + PROBED_OPERATIONS * sizeof(struct io_uring_probe_op);
    struct io_uring_probe *operations = calloc(1, size);
    if (!operations) return false;
    bool supported = register_with_ring(ring, IORING_REGISTER_PROBE, operations, PROBED_OPERATIONS) == 0
        && has_operation(operations, IORING_OP_WRITE) && has_operation(operations, IORING_OP_WRITE_FIXED)
        && has_operation(operations, IORING_OP_FSYNC);
    free(operations);
    return supported;
}

void cwal_probe_ring(struct cwal_ring_probe *probe) {
    memset(probe, 0, sizeof *probe);
    int ring = set_up_ring(0);
    if (ring < 0) {
        probe->setup_error = errno;
        return;
    }
    probe->buffers_error = try_buffer(ring);
    probe->files_error = try_file(ring);
    probe->writes_supported = try_operations(ring);
    close(ring);
    int deferring = set_up_ring(CWAL_SETUP_SINGLE_ISSUER | CWAL_SETUP_DEFER_TASKRUN);
    probe->deferred_task_running = deferring >= 0;
    if (deferring >= 0) close(deferring);
}
