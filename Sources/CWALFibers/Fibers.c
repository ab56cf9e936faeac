#define _GNU_SOURCE
#include "CWALFibers.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

struct cwal_fiber {
    ucontext_t context;
    char *memory;  // a page that may not be touched, then the stack
    size_t length;
    void (*body)(void *);
    void *argument;
};

struct cwal_fiber *cwal_fiber_of_thread(void) { return calloc(1, sizeof(struct cwal_fiber)); }

// makecontext passes ints only.
static void start(unsigned high, unsigned low) {
    struct cwal_fiber *fiber = (struct cwal_fiber *)((uintptr_t)high << 32 | low);
    fiber->body(fiber->argument);
    abort();
}

struct cwal_fiber *cwal_fiber_make(size_t stack_length, void (*body)(void *), void *argument) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t length = page + (stack_length + page - 1) / page * page;
    struct cwal_fiber *fiber = calloc(1, sizeof *fiber);
    if (!fiber) return NULL;
    char *memory = mmap(
        NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0 || getcontext(&fiber->context) != 0) {
        if (memory != MAP_FAILED) munmap(memory, length);
        free(fiber);
        return NULL;
    }
    fiber->memory = memory;
    fiber->length = length;
    fiber->body = body;
    fiber->argument = argument;
    fiber->context.uc_stack.ss_sp = memory + page;
    fiber->context.uc_stack.ss_size = length - page;
    uintptr_t self = (uintptr_t)fiber;
    makecontext(&fiber->context, (void (*)(void))start, 2, (unsigned)(self >> 32), (unsigned)self);
    return fiber;
}

void cwal_fiber_free(struct cwal_fiber *fiber) {
    if (fiber->memory) munmap(fiber->memory, fiber->length);
    free(fiber);
}

void cwal_fiber_switch(struct cwal_fiber *from, struct cwal_fiber *to) {
    swapcontext(&from->context, &to->context);
}

// Swift checks at run time that nobody changes what another reads, by lists on stacks, in the order of one thread's
// calls. Fibers do not hold to it, least of all those that run tasks, which take their lists along. So it is off from
// the beginning, before the first access could be in a list. (Exported by stdlib/public/runtime/Exclusivity.cpp.)
extern bool _swift_disableExclusivityChecking;

__attribute__((constructor)) static void stop_exclusivity_checks(void) { _swift_disableExclusivityChecking = true; }
