#define _GNU_SOURCE
#include "CWALThreads.h"

#include "CWALSimulation.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef CWAL_SIMULATION
static __thread const struct cwal_simulation *current;
// Functions, not a variable: code that runs on a fiber must not keep the address of a thread's variable.
const struct cwal_simulation *cwal_simulation_current(void) { return current; }
bool cwal_simulation_enter(const struct cwal_simulation *simulation) {
    current = simulation;
    return true;
}
#else
bool cwal_simulation_enter(const struct cwal_simulation *simulation) {
    (void)simulation;
    return false;
}
#endif

void cwal_mutex_lock(pthread_mutex_t *mutex) {
    CWAL_SIMULATED(mutex_lock, mutex);
    pthread_mutex_lock(mutex);
}

void cwal_mutex_unlock(pthread_mutex_t *mutex) {
    CWAL_SIMULATED(mutex_unlock, mutex);
    pthread_mutex_unlock(mutex);
}

void cwal_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    CWAL_SIMULATED(condition_wait, condition, mutex, UINT64_MAX);
    pthread_cond_wait(condition, mutex);
}

void cwal_condition_wait_until(
    pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline) {
    CWAL_SIMULATED(condition_wait, condition, mutex, deadline);
    struct timespec time = {
        .tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
    pthread_cond_timedwait(condition, mutex, &time);
}

void cwal_condition_signal(pthread_cond_t *condition) {
    CWAL_SIMULATED(condition_signal, condition, false);
    pthread_cond_signal(condition);
}

void cwal_condition_broadcast(pthread_cond_t *condition) {
    CWAL_SIMULATED(condition_signal, condition, true);
    pthread_cond_broadcast(condition);
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

uint64_t cwal_monotonic_time(void) {
    CWAL_SIMULATED(monotonic_time);
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t cwal_wall_time(void) {
    CWAL_SIMULATED(wall_time);
    return read_clock(CLOCK_REALTIME);
}

struct start {
    void *(*body)(void *);
    void *argument;
    char name[16];
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    prctl(PR_SET_NAME, start.name);
    return start.body(start.argument);
}

int cwal_thread_start(uint64_t *thread, const char *name, void *(*body)(void *), void *argument) {
#ifdef CWAL_SIMULATION
    if (current) {
        *thread = current->thread_start(current->context, name, body, argument);
        return 0;
    }
#endif
    struct start *start = malloc(sizeof *start);
    if (!start) return ENOMEM;
    *start = (struct start){.body = body, .argument = argument};
    strncpy(start->name, name, sizeof start->name - 1);
    pthread_t started;
    int result = pthread_create(&started, NULL, run, start);
    if (result != 0) free(start);
    *thread = (uint64_t)started;
    return result;
}

void cwal_thread_join(uint64_t thread) {
    CWAL_SIMULATED(thread_join, thread);
    pthread_join((pthread_t)thread, NULL);
}

void cwal_thread_detach(uint64_t thread) {
#ifdef CWAL_SIMULATION
    if (current) return;
#endif
    pthread_detach((pthread_t)thread);
}

void cwal_sleep(uint64_t nanoseconds) {
    CWAL_SIMULATED(sleep, nanoseconds);
    struct timespec left = {
        .tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    while (nanosleep(&left, &left) < 0 && errno == EINTR) continue;
}

uint64_t cwal_random(void) {
    CWAL_SIMULATED(random);
    uint64_t value = 0;
    size_t done = 0;
    while (done < sizeof value) {
        ssize_t result = getrandom((char *)&value + done, sizeof value - done, 0);
        if (result > 0) done += (size_t)result;
    }
    return value;
}

void cwal_futex_wait(const void *word, uint32_t expected) {
    CWAL_SIMULATED(futex_wait, word, expected);
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void cwal_futex_wake(const void *word) {
    CWAL_SIMULATED(futex_wake, word);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void cwal_sharpen_timers(void) {
#ifdef CWAL_SIMULATION
    if (current) return;
#endif
    prctl(PR_SET_TIMERSLACK, 1UL);
}

void cwal_lower_priority(void) {
#ifdef CWAL_SIMULATION
    if (current) return;
#endif
    // linux/ioprio.h is not everywhere: who 1 is a process, class 2 best effort, in bits 13 and up; 0 the caller.
    syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 7);
    setpriority(PRIO_PROCESS, 0, 10);
}
