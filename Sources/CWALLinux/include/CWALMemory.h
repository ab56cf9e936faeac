#ifndef CWAL_MEMORY_H
#define CWAL_MEMORY_H

/// Has all threads of the process share two arenas of memory, which give back what they do not use: for a process whose
/// threads read what others let go of, where an arena for each would keep much that nobody uses. Before there are
/// threads.
void cwal_share_memory_arenas(void);

#endif
