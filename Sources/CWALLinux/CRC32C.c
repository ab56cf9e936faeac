#include "CWALLinux.h"

#include <string.h>

// The crc32 instructions compute one 8-byte step with a latency of three cycles; one stream is enough here,
// since a block is checked in under a microsecond.

#if defined(__x86_64__)

#include <nmmintrin.h>

bool cwal_crc32c_instruction_available(void) { return __builtin_cpu_supports("sse4.2"); }

__attribute__((target("sse4.2")))
uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length) {
    const unsigned char *next = bytes;
    uint64_t wide = state;
    for (; length >= 8; length -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    uint32_t narrow = (uint32_t)wide;
    for (; length; length--) narrow = _mm_crc32_u8(narrow, *next++);
    return narrow;
}

#elif defined(__aarch64__)

#include <arm_acle.h>
#include <sys/auxv.h>
#include <asm/hwcap.h>

bool cwal_crc32c_instruction_available(void) { return getauxval(AT_HWCAP) & HWCAP_CRC32; }

__attribute__((target("+crc")))
uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length) {
    const unsigned char *next = bytes;
    for (; length >= 8; length -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        state = __crc32cd(state, word);
    }
    for (; length; length--) state = __crc32cb(state, *next++);
    return state;
}

#else

bool cwal_crc32c_instruction_available(void) { return false; }
uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length) {
    (void)bytes;
    (void)length;
    return state;
}

#endif
