#include "CWALLinux.h"

#include <pthread.h>
#include <string.h>

// The crc32 instruction takes three cycles and a new one can start in each: one stream leaves two thirds of the unit
// idle. Long inputs are therefore cut into three stretches of equal length whose registers are computed side by side
// and then put together. A register is moved over n zero bytes by a linear map, here four tables of 256 entries; the
// register of a concatenation is the first part's, moved over the second part's length, exclusive-or the second's.

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC_8(state, word) ((uint32_t)_mm_crc32_u64((state), (word)))
#define CRC_1(state, byte) _mm_crc32_u8((state), (byte))
bool cwal_crc32c_instruction_available(void) { return __builtin_cpu_supports("sse4.2"); }

#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define CRC_TARGET __attribute__((target("+crc")))
#define CRC_8(state, word) __crc32cd((state), (word))
#define CRC_1(state, byte) __crc32cb((state), (byte))
bool cwal_crc32c_instruction_available(void) { return getauxval(AT_HWCAP) & HWCAP_CRC32; }
#endif

#ifdef CRC_TARGET

static uint64_t load_word(const unsigned char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

CRC_TARGET static uint32_t one_stream(uint32_t state, const unsigned char *next, size_t length) {
    for (; length >= 8; length -= 8, next += 8) state = CRC_8(state, load_word(next));
    for (; length; length--) state = CRC_1(state, *next++);
    return state;
}

// Lengths of a stretch, bytes: long ones spread the cost of putting together, short ones serve a record of 512 bytes
// with its header.
enum { LONG_STRETCH = 4096, SHORT_STRETCH = 168 };

struct zero_map {
    uint32_t byte[4][256];
};
static struct zero_map over_long, over_short;
static pthread_once_t maps_are_made = PTHREAD_ONCE_INIT;

CRC_TARGET static void make_map(struct zero_map *map, size_t length) {
    static const unsigned char zeros[LONG_STRETCH];
    uint32_t basis[32];
    for (int bit = 0; bit < 32; bit++) basis[bit] = one_stream((uint32_t)1 << bit, zeros, length);
    for (int place = 0; place < 4; place++)
        for (int value = 0; value < 256; value++) {
            uint32_t image = 0;
            for (int bit = 0; bit < 8; bit++)
                if (value >> bit & 1) image ^= basis[8 * place + bit];
            map->byte[place][value] = image;
        }
}

static void make_maps(void) {
    make_map(&over_long, LONG_STRETCH);
    make_map(&over_short, SHORT_STRETCH);
}

static uint32_t move(const struct zero_map *map, uint32_t state) {
    return map->byte[0][state & 255] ^ map->byte[1][state >> 8 & 255] ^ map->byte[2][state >> 16 & 255] ^
           map->byte[3][state >> 24];
}

#define THREE_STREAMS(stretch, map)                                   \
    while (length >= 3 * (stretch)) {                                 \
        uint32_t second = 0, third = 0;                               \
        for (size_t at = 0; at < (stretch); at += 8) {                \
            state = CRC_8(state, load_word(next + at));               \
            second = CRC_8(second, load_word(next + (stretch) + at)); \
            third = CRC_8(third, load_word(next + 2 * (stretch) + at)); \
        }                                                             \
        state = move(map, move(map, state) ^ second) ^ third;         \
        next += 3 * (stretch);                                        \
        length -= 3 * (stretch);                                      \
    }

CRC_TARGET uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length) {
    const unsigned char *next = bytes;
    if (length >= 3 * SHORT_STRETCH) {
        pthread_once(&maps_are_made, make_maps);
        THREE_STREAMS(LONG_STRETCH, &over_long)
        THREE_STREAMS(SHORT_STRETCH, &over_short)
    }
    return one_stream(state, next, length);
}

#else

bool cwal_crc32c_instruction_available(void) { return false; }
uint32_t cwal_crc32c_instruction(uint32_t state, const void *bytes, size_t length) {
    (void)bytes;
    (void)length;
    return state;
}

#endif
