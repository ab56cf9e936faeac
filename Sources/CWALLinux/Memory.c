#include "CWALMemory.h"

#include <malloc.h>

void cwal_share_memory_arenas(void) {
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 2);
#endif
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
}
