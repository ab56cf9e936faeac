// Whether io_uring may be used here, asked of the kernel by raw system calls. For `walctl doctor`; the log's own ring
// is elsewhere.
#ifndef CWAL_RING_PROBE_H
#define CWAL_RING_PROBE_H

#include <stdbool.h>

struct cwal_ring_probe {
    int setup_error;            // errno of io_uring_setup, 0 if a ring could be made; the rest is valid only then
    int buffers_error;          // errno of registering one buffer of 4 KiB, 0 if that works
    int files_error;            // errno of registering one file, 0 if that works
    bool writes_supported;      // the operations write, write of a registered buffer, and fsync exist
    bool deferred_task_running; // completions may be left to the submitting thread (Linux 6.1)
};

/// Makes a ring of eight entries, tries what the log needs of it, and closes it again.
void cwal_probe_ring(struct cwal_ring_probe *probe);

#endif
