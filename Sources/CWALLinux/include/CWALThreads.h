// Locks, threads and clocks as the log uses them: pthreads, or a simulation's.
#ifndef CWAL_THREADS_H
#define CWAL_THREADS_H

#include <pthread.h>
#include <stdint.h>

void cwal_mutex_lock(pthread_mutex_t *mutex);
void cwal_mutex_unlock(pthread_mutex_t *mutex);
void cwal_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);

/// Waits until a moment of the monotonic clock, nanoseconds, at the latest.
void cwal_condition_wait_until(
    pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline);
void cwal_condition_signal(pthread_cond_t *condition);
void cwal_condition_broadcast(pthread_cond_t *condition);

/// Starts a thread; `thread` is then what `cwal_thread_join` or `cwal_thread_detach` takes. 0 or an errno. Linux keeps
/// the first 15 bytes of the name.
int cwal_thread_start(uint64_t *thread, const char *name, void *(*body)(void *), void *argument);
void cwal_thread_join(uint64_t thread);
void cwal_thread_detach(uint64_t thread);

/// Nanoseconds of the monotonic clock, and since 1970 (UTC).
uint64_t cwal_monotonic_time(void);

uint64_t cwal_wall_time(void);

void cwal_sleep(uint64_t nanoseconds);
/// 64 bits from the kernel's random generator.
uint64_t cwal_random(void);

/// Sleeps while the word has the expected value, until it is woken; may end without.
void cwal_futex_wait(const void *word, uint32_t expected);
/// Wakes all who sleep on the word, in one call.
void cwal_futex_wake(const void *word);

/// Lets the calling thread's timed waits end on time, not up to 50 µs later.
void cwal_sharpen_timers(void);
/// Has the calling thread step back behind others: processor time at nice 10, I/O at the lowest priority of the
/// best-effort class. What the system refuses is left as it was.
void cwal_lower_priority(void);

#endif
