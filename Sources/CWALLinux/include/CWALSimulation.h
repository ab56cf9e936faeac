// Where a simulation takes the place of the kernel. Only in builds with the package trait `Simulation`, which defines
// CWAL_SIMULATION; in all others the macros are empty, and no call costs anything.
//
// A thread that belongs to a simulation has a table of functions in `cwal_simulation`. Everything that the log asks of
// the system (files, io_uring, locks, threads, clocks, randomness) then goes there: what stands above is the code that
// runs in production, down to the order of its system calls.
#ifndef CWAL_SIMULATION_H
#define CWAL_SIMULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cwal_file_status;
struct cwal_ring;
struct cwal_ring_completion;

/// Each function does what the one named after it does, with `context` in front.
struct cwal_simulation {
    void *context;

    int (*open)(void *context, const char *path, int cwal_flags);
    int (*close)(void *context, int fd);
    int (*exists)(void *context, const char *path);
    int64_t (*free_space)(void *context, const char *path);
    int (*make_directory)(void *context, const char *path);
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path);
    char *(*list)(void *context, const char *path, size_t *length, int *error);
    ssize_t (*read)(void *context, int fd, void *buffer, size_t length, uint64_t offset);
    ssize_t (*write)(void *context, int fd, const void *buffer, size_t length, uint64_t offset, bool durable);
    int (*synchronize)(void *context, int fd);
    int (*allocate)(void *context, int fd, uint64_t length);
    int (*truncate)(void *context, int fd, uint64_t length);
    int (*status)(void *context, int fd, struct cwal_file_status *status);
    int (*lock_exclusive)(void *context, int fd);
    int (*unlock)(void *context, int fd);
    int (*lock_is_held)(void *context, int fd);

    int (*ring_open)(void *context, struct cwal_ring *ring, unsigned depth);
    void (*ring_close)(void *context, struct cwal_ring *ring);
    void (*ring_write)(
        void *context, struct cwal_ring *ring, int fd, const void *bytes, unsigned length, uint64_t offset,
        bool durable, uint64_t tag);
    int (*ring_submit)(void *context, struct cwal_ring *ring);
    int (*ring_wait)(void *context, struct cwal_ring *ring);
    bool (*ring_next)(void *context, struct cwal_ring *ring, struct cwal_ring_completion *completion);
    void (*ring_wake)(void *context, struct cwal_ring *ring);

    void (*mutex_lock)(void *context, void *mutex);
    void (*mutex_unlock)(void *context, void *mutex);
    /// `deadline`: nanoseconds of the monotonic clock, UINT64_MAX for none.
    void (*condition_wait)(void *context, void *condition, void *mutex, uint64_t deadline);
    void (*condition_signal)(void *context, void *condition, bool all);
    void (*futex_wait)(void *context, const void *word, uint32_t expected);
    void (*futex_wake)(void *context, const void *word);
    uint64_t (*thread_start)(void *context, const char *name, void *(*body)(void *), void *argument);
    void (*thread_join)(void *context, uint64_t thread);

    uint64_t (*monotonic_time)(void *context);
    uint64_t (*wall_time)(void *context);
    void (*sleep)(void *context, uint64_t nanoseconds);
    uint64_t (*random)(void *context);
};

#ifdef CWAL_SIMULATION
/// The simulation that the calling thread belongs to, or NULL.
const struct cwal_simulation *cwal_simulation_current(void);
#endif
/// Makes the calling thread part of a simulation, whose table must outlive that; NULL ends it.
/// Returns whether this build can be simulated.
bool cwal_simulation_enter(const struct cwal_simulation *simulation);

#ifdef CWAL_SIMULATION
/// In a function: returns what the simulation says, if there is one.
#define CWAL_SIMULATED(name, ...)                                                         \
    do {                                                                                  \
        const struct cwal_simulation *simulation_ = cwal_simulation_current();            \
        if (simulation_) return simulation_->name(simulation_->context, ##__VA_ARGS__);   \
    } while (0)
/// The same with an answer of its own.
#define CWAL_SIMULATED_AS(value)                       \
    do {                                               \
        if (cwal_simulation_current()) return (value); \
    } while (0)
#else
#define CWAL_SIMULATED(name, ...)
#define CWAL_SIMULATED_AS(value)
#endif

#endif
