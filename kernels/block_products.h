/* Many tokens times packed weights (layout: decode_step.c), for processors with VNNI.
 *
 * Activations are rounded as for decoding, to 16 bits per block of 32, and lie in tiles of tokens, so
 * that one pointer leads to all of a tile: [tile][block][8][TILE tokens][4 columns], the four in the
 * order 0 2 1 3, since the even and the odd bytes of a vector of codes become 16 bits apart. Each sum
 * is taken in the order of decoding, so a product has the same bits there. */
#ifndef BLOCK_PRODUCTS_H
#define BLOCK_PRODUCTS_H
#include "decode_products.h"

/* Tokens that share a pass over a group's weights: sums and totals of them fill the registers. */
enum { TILE = 12 };

typedef struct {
    int16_t *whole;
    float *scale, *sum; /* [tile][block][TILE] */
    int32_t *shift;     /* likewise */
} Tiles;

static inline size_t tiles_of(size_t tokens) { return (tokens + TILE - 1) / TILE; }

#if defined(USE_VNNI)
#define UNROLL _Pragma("GCC unroll 12")

/* exp, as `exponential` computes it. */
static inline __m512 exponential16(__m512 x) {
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(87.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* Round the activations of one token into its place, as `round_activations` does. */
static void round_into(const float *x, int columns, const Tiles *a, size_t token) {
    const __m512 half = _mm512_set1_ps(0.5f), sign = _mm512_set1_ps(-0.0f);
    /* Both middle ones of four 16-bit values change places. */
    const __m512i swap = _mm512_set_epi16(31, 29, 30, 28, 27, 25, 26, 24, 23, 21, 22, 20, 19, 17, 18,
                                          16, 15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 3, 1, 2, 0);
    int blocks = columns / COLUMNS;
    size_t tile = token / TILE, at = token % TILE;
    for (int block = 0; block < blocks; block++) {
        __m512 first = _mm512_loadu_ps(x + block * COLUMNS);
        __m512 second = _mm512_loadu_ps(x + block * COLUMNS + 16);
        float largest =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(first), _mm512_abs_ps(second)));
        __m512 factor = _mm512_set1_ps(largest > 0 ? LARGEST / largest : 0);
        first = _mm512_mul_ps(first, factor), second = _mm512_mul_ps(second, factor);
        first = _mm512_add_ps(first, _mm512_or_ps(half, _mm512_and_ps(first, sign)));
        second = _mm512_add_ps(second, _mm512_or_ps(half, _mm512_and_ps(second, sign)));
        __m512i low = _mm512_cvttps_epi32(first), high = _mm512_cvttps_epi32(second);
        int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
        __m512i whole = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)),
                                           _mm512_cvtepi32_epi16(high), 1);
        uint64_t fours[8];
        _mm512_storeu_si512(fours, _mm512_permutexvar_epi16(swap, whole));
        size_t place = (tile * (size_t)blocks + (size_t)block) * TILE;
        uint64_t *to = (uint64_t *)a->whole + 8 * place + at;
        for (int i = 0; i < 8; i++) to[i * TILE] = fours[i];
        a->scale[place + at] = largest / LARGEST;
        a->sum[place + at] = (float)sum * a->scale[place + at];
        a->shift[place + at] = -128 * sum;
    }
}

static inline __m512i pair(const int16_t *x) {
    int32_t value;
    memcpy(&value, x, 4);
    return _mm512_set1_epi32(value);
}

/* Sixteen rows for `n` tokens of a tile; inlined with `n` known. */
static inline __attribute__((always_inline)) void tile_8(const uint8_t *group, int blocks,
                                                         const Tiles *a, size_t tile, const int n,
                                                         __m512 *total) {
    const uint8_t *scales = group, *codes = group + padded((size_t)blocks * ROWS * 2);
    const __m512i even = _mm512_set1_epi16(255);
    __m512i sums[TILE];
    __m512 totals[TILE];
    UNROLL for (int t = 0; t < n; t++) totals[t] = _mm512_setzero_ps();
    for (int block = 0; block < blocks; block++, codes += 512) {
        size_t place = (tile * (size_t)blocks + (size_t)block) * TILE;
        const int16_t *x = a->whole + 32 * place;
        UNROLL for (int t = 0; t < n; t++) sums[t] = _mm512_set1_epi32(a->shift[place + t]);
        for (int i = 0; i < 8; i++, x += 4 * TILE) {
            expect(codes + 64 * i);
            __m512i w = _mm512_loadu_si512(codes + 64 * i);
            __m512i w0 = _mm512_and_si512(w, even), w1 = _mm512_srli_epi16(w, 8);
            UNROLL for (int t = 0; t < n; t++) {
                sums[t] = _mm512_dpwssd_epi32(sums[t], w0, pair(x + 4 * t));
                sums[t] = _mm512_dpwssd_epi32(sums[t], w1, pair(x + 4 * t + 2));
            }
        }
        __m512 scale = sixteen_halves(scales + 32 * block);
        UNROLL for (int t = 0; t < n; t++) {
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a->scale[place + t]));
            totals[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), both, totals[t]);
        }
    }
    UNROLL for (int t = 0; t < n; t++) total[t] = totals[t];
}

static inline __attribute__((always_inline)) void tile_4(const uint8_t *group, int blocks,
                                                         const Tiles *a, size_t tile, int first,
                                                         const int n, __m512 *total) {
    size_t size = padded((size_t)blocks * ROWS * 2);
    const uint8_t *scales = group, *minima = group + size, *codes = group + 2 * size;
    const __m512i low = _mm512_set1_epi16(15);
    __m512i sums[TILE];
    __m512 totals[TILE], offsets[TILE];
    UNROLL for (int t = 0; t < n; t++) totals[t] = offsets[t] = _mm512_setzero_ps();
    for (int block = 0; block < blocks; block++, codes += 256) {
        size_t place = (tile * (size_t)blocks + (size_t)block) * TILE + (size_t)first;
        const int16_t *x =
            a->whole + 32 * (tile * (size_t)blocks + (size_t)block) * TILE + 4 * first;
        UNROLL for (int t = 0; t < n; t++) sums[t] = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++, x += 4 * TILE) {
            /* Columns 0-15 lie in the low halves of bytes, 16-31 in the high ones. */
            const int16_t *y = x + 16 * TILE;
            expect(codes + 64 * i);
            __m512i w = _mm512_loadu_si512(codes + 64 * i);
            __m512i w0 = _mm512_and_si512(w, low);
            __m512i w1 = _mm512_and_si512(_mm512_srli_epi16(w, 8), low);
            __m512i w2 = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
            __m512i w3 = _mm512_srli_epi16(w, 12);
            UNROLL for (int t = 0; t < n; t++) {
                sums[t] = _mm512_dpwssd_epi32(sums[t], w0, pair(x + 4 * t));
                sums[t] = _mm512_dpwssd_epi32(sums[t], w1, pair(x + 4 * t + 2));
                sums[t] = _mm512_dpwssd_epi32(sums[t], w2, pair(y + 4 * t));
                sums[t] = _mm512_dpwssd_epi32(sums[t], w3, pair(y + 4 * t + 2));
            }
        }
        __m512 scale = sixteen_halves(scales + 32 * block);
        __m512 minimum = sixteen_halves(minima + 32 * block);
        UNROLL for (int t = 0; t < n; t++) {
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(a->scale[place + t]));
            totals[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), both, totals[t]);
            offsets[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(a->sum[place + t]), offsets[t]);
        }
    }
    UNROLL for (int t = 0; t < n; t++) total[t] = _mm512_add_ps(totals[t], offsets[t]);
}

/* Sixteen rows for the first `n` tokens of a tile; what is behind them in `total` is anything. */
static __attribute__((noinline)) void sixteen_rows(int bits, const uint8_t *group, int blocks,
                                                   const Tiles *a, size_t tile, int n,
                                                   __m512 *total) {
    if (bits == 8) {
        if (n > 8)
            tile_8(group, blocks, a, tile, 12, total);
        else if (n > 6)
            tile_8(group, blocks, a, tile, 8, total);
        else if (n > 4)
            tile_8(group, blocks, a, tile, 6, total);
        else if (n > 2)
            tile_8(group, blocks, a, tile, 4, total);
        else
            tile_8(group, blocks, a, tile, 2, total);
        return;
    }
    /* Three registers a token here, so a tile takes two passes. */
    if (n > 6) {
        tile_4(group, blocks, a, tile, 0, 6, total);
        tile_4(group, blocks, a, tile, 6, 6, total + 6);
    } else if (n > 4) {
        tile_4(group, blocks, a, tile, 0, 6, total);
    } else if (n > 2) {
        tile_4(group, blocks, a, tile, 0, 4, total);
    } else {
        tile_4(group, blocks, a, tile, 0, 2, total);
    }
}
#endif
#endif
