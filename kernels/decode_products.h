/* How activations are rounded and multiplied with packed weights; see decode_step.c for the layout.
 */
#ifndef DECODE_PRODUCTS_H
#define DECODE_PRODUCTS_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define USE_VNNI 1
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#define USE_AVX2 1
#endif

enum { COLUMNS = 32, ROWS = 16, ALIGNMENT = 64 };
/* Largest value whose halves both fit 8 signed bits: 127 * 256 + 127. */
#define LARGEST 32639.0f

/* Activations, rounded per block: x = scale * (256 * high + low). */
typedef struct {
    int8_t *high, *low;
    int16_t *whole;
    float *scale, *sum;  /* sum: of the rounded activations of a block */
    int32_t *shift;      /* what the offset of 128 adds to a block's sum of products */
    float *floats;
} Activations;

static size_t padded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void *aligned(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, padded(bytes ? bytes : 1))) return NULL;
    return memset(memory, 0, padded(bytes ? bytes : 1));
}

/* ---- small mathematics, written so that compilers vectorise it ---- */

static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    float n = x * 1.44269504f;
    n = (float)(int32_t)(n + (n < 0 ? -0.5f : 0.5f));
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t i;
        float f;
    } power = {((int32_t)n + 127) << 23};
    return p * power.f;
}

#if !defined(USE_VNNI) && !defined(USE_AVX2)
static inline float half_to_float(uint16_t half) {
    /* Shifted into place, a float16 is a float32 that is too small by 2^112. */
    union {
        uint32_t i;
        float f;
    } bits = {(uint32_t)(half & 0x7fff) << 13}, sign = {(uint32_t)(half & 0x8000) << 16};
    bits.f *= 5.192296858534828e33f;
    bits.i |= sign.i;
    return bits.f;
}
#endif

static float dot(const float *a, const float *b, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void normalise(const float *x, const float *weight, int n, float epsilon, float *y) {
    float factor = 1.0f / sqrtf(dot(x, x, n) / (float)n + epsilon);
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void rotate(const float *x, const float *cosines, const float *sines, int half, float *y) {
    for (int i = 0; i < half; i++) {
        y[i] = x[i] * cosines[i] - x[half + i] * sines[i];
        y[half + i] = x[half + i] * cosines[i] + x[i] * sines[i];
    }
}

static void round_activations(const float *x, int columns, const Activations *a) {
    for (int block = 0; block < columns / COLUMNS; block++) {
        const float *values = x + block * COLUMNS;
        float largest = 0;
        for (int i = 0; i < COLUMNS; i++) {
            float size = fabsf(values[i]);
            largest = size > largest ? size : largest;
        }
        float factor = largest > 0 ? LARGEST / largest : 0;
        int32_t sum = 0;
        for (int i = 0; i < COLUMNS; i++) {
            float scaled = values[i] * factor;
            int32_t whole = (int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f));
            int32_t low = (int8_t)(whole & 255);
            a->whole[block * COLUMNS + i] = (int16_t)whole;
            a->low[block * COLUMNS + i] = (int8_t)low;
            a->high[block * COLUMNS + i] = (int8_t)((whole - low) >> 8);
            sum += whole;
        }
        a->scale[block] = largest / LARGEST;
        a->sum[block] = (float)sum * a->scale[block];
        a->shift[block] = -128 * sum;
    }
}

/* ---- products ---- */

static size_t group_bytes(int bits, int columns) {
    size_t blocks = (size_t)columns / COLUMNS, scales = padded(blocks * ROWS * 2);
    return bits == 8 ? scales + blocks * 512 : 2 * scales + blocks * 256;
}

/* Weights come from memory in order, but the processor looks too few of them ahead by itself: asking
 * for them this early, into the second cache, raised what one core reads from 10 to 17 GB/s. */
static inline void expect(const void *address) {
    __builtin_prefetch((const char *)address + 8192, 0, 2);
}

#if defined(USE_VNNI)
static inline __m512i four(const int8_t *x) {
    int32_t value;
    memcpy(&value, x, 4);
    return _mm512_set1_epi32(value);
}

static inline __m512 sixteen_halves(const uint8_t *x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

static void sixteen_rows_8(const uint8_t *group, int blocks, const Activations *a, float *y) {
    const uint8_t *scales = group, *codes = group + padded((size_t)blocks * ROWS * 2);
    __m512 total = _mm512_setzero_ps();
    for (int block = 0; block < blocks; block++, codes += 512) {
        const int8_t *high = a->high + block * COLUMNS, *low = a->low + block * COLUMNS;
        __m512i upper = _mm512_setzero_si512(), lower = _mm512_set1_epi32(a->shift[block]);
        expect(scales + 32 * block);
        for (int i = 0; i < 8; i++) {
            expect(codes + 64 * i);
            __m512i w = _mm512_loadu_si512(codes + 64 * i);
            upper = _mm512_dpbusd_epi32(upper, w, four(high + 4 * i));
            lower = _mm512_dpbusd_epi32(lower, w, four(low + 4 * i));
        }
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper, 8), lower);
        __m512 scale = _mm512_mul_ps(sixteen_halves(scales + 32 * block),
                                     _mm512_set1_ps(a->scale[block]));
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, total);
    }
    _mm512_storeu_ps(y, total);
}

static void sixteen_rows_4(const uint8_t *group, int blocks, const Activations *a, float *y) {
    size_t size = padded((size_t)blocks * ROWS * 2);
    const uint8_t *scales = group, *minima = group + size, *codes = group + 2 * size;
    const __m512i mask = _mm512_set1_epi8(15);
    __m512 total = _mm512_setzero_ps(), offset = _mm512_setzero_ps();
    for (int block = 0; block < blocks; block++, codes += 256) {
        const int8_t *high = a->high + block * COLUMNS, *low = a->low + block * COLUMNS;
        __m512i upper = _mm512_setzero_si512(), lower = upper;
        expect(scales + 32 * block);
        expect(minima + 32 * block);
        for (int i = 0; i < 4; i++) {
            expect(codes + 64 * i);
            __m512i both = _mm512_loadu_si512(codes + 64 * i);
            __m512i first = _mm512_and_si512(both, mask);
            __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
            upper = _mm512_dpbusd_epi32(upper, first, four(high + 4 * i));
            lower = _mm512_dpbusd_epi32(lower, first, four(low + 4 * i));
            upper = _mm512_dpbusd_epi32(upper, second, four(high + 16 + 4 * i));
            lower = _mm512_dpbusd_epi32(lower, second, four(low + 16 + 4 * i));
        }
        __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper, 8), lower);
        __m512 scale = _mm512_mul_ps(sixteen_halves(scales + 32 * block),
                                     _mm512_set1_ps(a->scale[block]));
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, total);
        offset = _mm512_fmadd_ps(sixteen_halves(minima + 32 * block),
                                 _mm512_set1_ps(a->sum[block]), offset);
    }
    _mm512_storeu_ps(y, _mm512_add_ps(total, offset));
}

/* A row of plain signed codes with float32 scales. */
static float one_row(const int8_t *codes, const float *scales, int blocks, const Activations *a) {
    const __m512i flip = _mm512_set1_epi8((char)0x80), zero = _mm512_setzero_si512();
    const __m512i pair = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 total = _mm512_setzero_ps();
    for (int start = 0; start < blocks; start += 16) {
        int here = blocks - start < 16 ? blocks - start : 16;
        __mmask16 mask = (__mmask16)((1u << here) - 1);
        __m512 scale = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, scales + start),
                                     _mm512_maskz_loadu_ps(mask, a->scale + start));
        __m512 shift = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, a->shift + start));
        total = _mm512_fmadd_ps(scale, shift, total);
        for (int i = 0; i < here; i += 2) {
            size_t at = (size_t)(start + i) * COLUMNS;
            expect(codes + at);
            __mmask64 bytes = i + 1 < here ? ~0ull : 0xffffffffull;
            __m512i w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(bytes, codes + at), flip);
            __m512i sum = _mm512_dpbusd_epi32(zero, w, _mm512_loadu_si512(a->high + at));
            sum = _mm512_slli_epi32(sum, 8);
            sum = _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512(a->low + at));
            __m512i which = _mm512_add_epi32(pair, _mm512_set1_epi32(i));
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_permutexvar_ps(which, scale),
                                    total);
        }
    }
    return _mm512_reduce_add_ps(total);
}
#elif defined(USE_AVX2)
static inline __m256i four(const int16_t *x) {
    int64_t value;
    memcpy(&value, x, 8);
    return _mm256_set1_epi64x(value);
}

/* Codes of four rows, four columns of each. */
static inline __m256i four_rows(const uint8_t *codes) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)codes));
}

static inline __m256i add_products(__m256i sums, __m256i codes, __m256i x) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(codes, x));
}

static inline __m256 eight_halves(const uint8_t *x) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

/* Eight rows from two sums per row. */
static inline __m256 joined(__m256i first, __m256i second, int shift) {
    __m256i sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(first, second), 0xd8);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(shift)));
}

static void sixteen_rows_8(const uint8_t *group, int blocks, const Activations *a, float *y) {
    const uint8_t *scales = group, *codes = group + padded((size_t)blocks * ROWS * 2);
    __m256 totals[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int block = 0; block < blocks; block++, codes += 512, scales += 32) {
        __m256i sums[4] = {0};
        expect(scales);
        for (int i = 0; i < 8; i++) {
            __m256i x = four(a->whole + block * COLUMNS + 4 * i);
            expect(codes + 64 * i);
            for (int j = 0; j < 4; j++)
                sums[j] = add_products(sums[j], four_rows(codes + 64 * i + 16 * j), x);
        }
        __m256 scale = _mm256_set1_ps(a->scale[block]);
        for (int j = 0; j < 2; j++)
            totals[j] = _mm256_fmadd_ps(joined(sums[2 * j], sums[2 * j + 1], a->shift[block]),
                                        _mm256_mul_ps(eight_halves(scales + 16 * j), scale),
                                        totals[j]);
    }
    for (int j = 0; j < 2; j++) _mm256_storeu_ps(y + 8 * j, totals[j]);
}

static void sixteen_rows_4(const uint8_t *group, int blocks, const Activations *a, float *y) {
    size_t size = padded((size_t)blocks * ROWS * 2);
    const uint8_t *scales = group, *minima = group + size, *codes = group + 2 * size;
    const __m256i mask = _mm256_set1_epi16(15);
    __m256 totals[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int block = 0; block < blocks; block++, codes += 256, scales += 32, minima += 32) {
        __m256i sums[4] = {0};
        expect(scales);
        expect(minima);
        for (int i = 0; i < 4; i++) {
            __m256i first = four(a->whole + block * COLUMNS + 4 * i);
            __m256i second = four(a->whole + block * COLUMNS + 16 + 4 * i);
            expect(codes + 64 * i);
            for (int j = 0; j < 4; j++) {
                __m256i both = four_rows(codes + 64 * i + 16 * j);
                sums[j] = add_products(sums[j], _mm256_and_si256(both, mask), first);
                sums[j] = add_products(sums[j], _mm256_srli_epi16(both, 4), second);
            }
        }
        __m256 scale = _mm256_set1_ps(a->scale[block]), sum = _mm256_set1_ps(a->sum[block]);
        for (int j = 0; j < 2; j++) {
            totals[j] = _mm256_fmadd_ps(joined(sums[2 * j], sums[2 * j + 1], 0),
                                        _mm256_mul_ps(eight_halves(scales + 16 * j), scale),
                                        totals[j]);
            totals[j] = _mm256_fmadd_ps(eight_halves(minima + 16 * j), sum, totals[j]);
        }
    }
    for (int j = 0; j < 2; j++) _mm256_storeu_ps(y + 8 * j, totals[j]);
}

/* A row of plain signed codes with float32 scales. */
static float one_row(const int8_t *codes, const float *scales, int blocks, const Activations *a) {
    __m256 total = _mm256_setzero_ps();
    float lanes[8], sum = 0;
    for (int block = 0; block < blocks; block++) {
        const __m128i *w = (const __m128i *)(codes + block * COLUMNS);
        const __m256i *x = (const __m256i *)(a->whole + block * COLUMNS);
        expect(w);
        __m256i sums = _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(w)), x[0]);
        sums = add_products(sums, _mm256_cvtepi8_epi16(_mm_loadu_si128(w + 1)), x[1]);
        total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums),
                                _mm256_set1_ps(a->scale[block] * scales[block]), total);
    }
    _mm256_storeu_ps(lanes, total);
    for (int i = 0; i < 8; i++) sum += lanes[i];
    return sum;
}
#else
/* Sixteen rows of one block: whole sums of products with codes [n][16 rows][4 columns]. */
static inline void add_products(const uint8_t *codes, const int16_t *x, int shift, int32_t *sums) {
    for (int row = 0; row < ROWS; row++) {
        int32_t sum = 0;
        for (int i = 0; i < 4; i++) sum += (int32_t)((codes[4 * row + i] >> shift) & 15) * x[i];
        sums[row] += sum;
    }
}

static void sixteen_rows_8(const uint8_t *group, int blocks, const Activations *a, float *y) {
    const uint16_t *scales = (const uint16_t *)group;
    const uint8_t *codes = group + padded((size_t)blocks * ROWS * 2);
    float totals[ROWS] = {0};
    for (int block = 0; block < blocks; block++, codes += 512) {
        int32_t sums[ROWS];
        for (int row = 0; row < ROWS; row++) sums[row] = a->shift[block];
        for (int i = 0; i < 8; i++) {
            const int16_t *x = a->whole + block * COLUMNS + 4 * i;
            const uint8_t *c = codes + 64 * i;
            expect(c);
            for (int row = 0; row < ROWS; row++)
                sums[row] += (int32_t)c[4 * row] * x[0] + (int32_t)c[4 * row + 1] * x[1] +
                             (int32_t)c[4 * row + 2] * x[2] + (int32_t)c[4 * row + 3] * x[3];
        }
        for (int row = 0; row < ROWS; row++)
            totals[row] += (float)sums[row] * a->scale[block] *
                           half_to_float(scales[ROWS * block + row]);
    }
    memcpy(y, totals, sizeof totals);
}

static void sixteen_rows_4(const uint8_t *group, int blocks, const Activations *a, float *y) {
    size_t size = padded((size_t)blocks * ROWS * 2);
    const uint16_t *scales = (const uint16_t *)group, *minima = (const uint16_t *)(group + size);
    const uint8_t *codes = group + 2 * size;
    float totals[ROWS] = {0};
    for (int block = 0; block < blocks; block++, codes += 256) {
        int32_t sums[ROWS] = {0};
        const int16_t *x = a->whole + block * COLUMNS;
        for (int i = 0; i < 4; i++) {
            expect(codes + 64 * i);
            add_products(codes + 64 * i, x + 4 * i, 0, sums);
            add_products(codes + 64 * i, x + 16 + 4 * i, 4, sums);
        }
        for (int row = 0; row < ROWS; row++) {
            int at = ROWS * block + row;
            totals[row] += (float)sums[row] * a->scale[block] * half_to_float(scales[at]);
            totals[row] += a->sum[block] * half_to_float(minima[at]);
        }
    }
    memcpy(y, totals, sizeof totals);
}

static float one_row(const int8_t *codes, const float *scales, int blocks, const Activations *a) {
    float total = 0;
    for (int block = 0; block < blocks; block++) {
        int32_t sum = 0;
        for (int i = 0; i < COLUMNS; i++)
            sum += (int32_t)codes[block * COLUMNS + i] * a->whole[block * COLUMNS + i];
        total += (float)sum * a->scale[block] * scales[block];
    }
    return total;
}
#endif

#endif
