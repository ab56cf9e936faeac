// Stacks of their own that one thread runs in turns: what a simulated thread is made of. A process that has them runs
// without Swift's exclusivity checks.
#ifndef CWAL_FIBERS_H
#define CWAL_FIBERS_H

#include <stddef.h>

struct cwal_fiber;

/// The calling thread itself as a fiber: what it was before it switched to another.
struct cwal_fiber *cwal_fiber_of_thread(void);
/// A fiber that runs `body` when it is first switched to. `body` must not return. NULL: no memory for the stack.
struct cwal_fiber *cwal_fiber_make(size_t stack_length, void (*body)(void *), void *argument);
/// Gives the stack back. Not of the fiber that runs. Nothing on the stack is unwound.
void cwal_fiber_free(struct cwal_fiber *fiber);
/// Goes on where `to` left off; returns when somebody switches back to `from`, which must be the one that runs.
void cwal_fiber_switch(struct cwal_fiber *from, struct cwal_fiber *to);

#endif
