/* draw.h: how far it is to the next sample: a whole number from an exponential distribution, by
 * integers alone, so that both planes draw the same.
 *
 * -log(u) of a uniform u, times the mean. The logarithm comes bit by bit: the mantissa is squared,
 * and each time it passes 2 there is a bit. Its error is below 2^-27. The generator is splitmix64
 * (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
 */
#ifndef HAK_DRAW_H
#define HAK_DRAW_H
#include <stdint.h>

#define HAK_DRAW_STEP UINT64_C(0x9E3779B97F4A7C15)
#define HAK_DRAW_LN2 UINT64_C(0xB17217F7) /* in 2^-32 */

static inline uint64_t hak_draw_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* log2 of a number from 1 on, in 2^-32. */
static inline uint64_t hak_draw_log2(uint64_t x) {
    uint32_t whole = 63 - (uint32_t)__builtin_clzll(x);
    uint64_t m = whole >= 31 ? x >> (whole - 31) : x << (31 - whole), made = whole;
    for (int bit = 0; bit < 32; bit++) { /* 2^31 <= m < 2^32 stands for 1 <= m < 2 */
        m = m * m >> 31;
        made = made << 1 | m >> 32;
        m >>= m >> 32;
    }
    return made;
}

/* The next distance, in whole bytes from 0 on: a block of s bytes has the sample with a chance of
 * 1 - exp(-s / mean). */
static inline int64_t hak_draw_distance(uint64_t *seed, uint64_t mean) {
    *seed += HAK_DRAW_STEP;
    uint64_t u = hak_draw_mix(*seed) | 1;
    uint64_t e =
        (uint64_t)(((unsigned __int128)((UINT64_C(64) << 32) - hak_draw_log2(u)) * HAK_DRAW_LN2) >>
                   32);
    return (int64_t)(((unsigned __int128)mean * e) >> 32);
}

#endif
