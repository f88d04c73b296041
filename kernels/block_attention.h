/* Attention of many tokens: texts behind rows of keys and values, each to itself alone.
 *
 * Lanes are queries: the tokens of one text in all heads that share a key. So keys and values are
 * read where they lie, no sum is taken across lanes, and the softmax needs none either. */
#ifndef BLOCK_ATTENTION_H
#define BLOCK_ATTENTION_H
#include "block_products.h"

/* Queries side by side: two vectors. */
enum { LANES = 32 };

/* Rows in front of the texts in one block: [kv_heads][rows][head_dim]. Without any, keys is NULL. */
typedef struct {
    const float *keys, *values;
} Front;

/* What the queries of one text attend to, by key and value head: rows in front, then tokens. */
typedef struct {
    const float *front_keys, *front_values, *keys, *values;
    int front, tokens, size;
} Seen;

/* Scratch of a thread. */
typedef struct {
    float *queries; /* [head_dim][LANES] */
    float *scores;  /* [rows][LANES] */
    int32_t positions[LANES];
} Attending;

#if defined(USE_VNNI)
/* Scores of rows `start` and on, as many as `n`; inlined with `n` known. */
static inline __attribute__((always_inline)) void score_rows(const float *keys, int size,
                                                             const float *queries, const int n,
                                                             float *scores) {
    __m512 sums[4][2];
    UNROLL for (int k = 0; k < n; k++) sums[k][0] = sums[k][1] = _mm512_setzero_ps();
    for (int i = 0; i < size; i++) {
        __m512 q0 = _mm512_loadu_ps(queries + i * LANES);
        __m512 q1 = _mm512_loadu_ps(queries + i * LANES + 16);
        UNROLL for (int k = 0; k < n; k++) {
            __m512 key = _mm512_set1_ps(keys[(int64_t)k * size + i]);
            sums[k][0] = _mm512_fmadd_ps(key, q0, sums[k][0]);
            sums[k][1] = _mm512_fmadd_ps(key, q1, sums[k][1]);
        }
    }
    UNROLL for (int k = 0; k < n; k++) {
        _mm512_storeu_ps(scores + k * LANES, sums[k][0]);
        _mm512_storeu_ps(scores + k * LANES + 16, sums[k][1]);
    }
}

static void score_all(const float *keys, int rows, int size, const float *queries, float *scores) {
    int row = 0;
    for (; row + 4 <= rows; row += 4)
        score_rows(keys + (int64_t)row * size, size, queries, 4, scores + row * LANES);
    for (; row < rows; row++)
        score_rows(keys + (int64_t)row * size, size, queries, 1, scores + row * LANES);
}

/* Scores become weights that sum to one in each lane; tokens behind a query's own count nothing. */
static void weigh(Attending *a, int front, int rows) {
    const __m512 nothing = _mm512_set1_ps(-1e30f);
    for (int part = 0; part < LANES; part += 16) {
        __m512i positions = _mm512_loadu_si512(a->positions + part);
        __m512 largest = nothing, sum = _mm512_setzero_ps();
        float *scores = a->scores + part;
        for (int row = 0; row < rows; row++) {
            __m512 one = _mm512_loadu_ps(scores + row * LANES);
            if (row >= front) {
                __mmask16 later =
                    _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(row - front), positions);
                one = _mm512_mask_mov_ps(one, later, nothing);
                _mm512_storeu_ps(scores + row * LANES, one);
            }
            largest = _mm512_max_ps(largest, one);
        }
        for (int row = 0; row < rows; row++) {
            __m512 one = _mm512_sub_ps(_mm512_loadu_ps(scores + row * LANES), largest);
            /* exp is 0 there, not its smallest value. */
            __mmask16 counts =
                _mm512_cmp_ps_mask(one, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
            one = _mm512_maskz_mov_ps(counts, exponential16(one));
            _mm512_storeu_ps(scores + row * LANES, one);
            sum = _mm512_add_ps(sum, one);
        }
        __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), sum);
        for (int row = 0; row < rows; row++) {
            float *at = scores + row * LANES;
            _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_loadu_ps(at), factor));
        }
    }
}

/* Add the weighted values of `rows` rows to four lanes, `vectors` of 16 columns; both known. */
static inline __attribute__((always_inline)) void mix(const float *values, int rows, int size,
                                                      const float *weights, const int vectors,
                                                      __m512 sums[4][4]) {
    for (int row = 0; row < rows; row++) {
        __m512 value[4];
        UNROLL for (int v = 0; v < vectors; v++)
            value[v] = _mm512_loadu_ps(values + (int64_t)row * size + 16 * v);
        UNROLL for (int k = 0; k < 4; k++) {
            __m512 weight = _mm512_set1_ps(weights[row * LANES + k]);
            UNROLL for (int v = 0; v < vectors; v++)
                sums[k][v] = _mm512_fmadd_ps(weight, value[v], sums[k][v]);
        }
    }
}

static inline __attribute__((always_inline)) void mix_four(const Seen *seen, int tokens, int column,
                                                           const float *weights, const int vectors,
                                                           float *const *to) {
    __m512 sums[4][4];
    UNROLL for (int k = 0; k < 4; k++) UNROLL for (int v = 0; v < vectors; v++)
        sums[k][v] = _mm512_setzero_ps();
    mix(seen->front_values + column, seen->front, seen->size, weights, vectors, sums);
    mix(seen->values + column, tokens, seen->size, weights + seen->front * LANES, vectors, sums);
    UNROLL for (int k = 0; k < 4; k++) {
        if (!to[k]) continue;
        UNROLL for (int v = 0; v < vectors; v++)
            _mm512_storeu_ps(to[k] + column + 16 * v, sums[k][v]);
    }
}

/* Queries that lie in the lanes; the attended values of lane i go to `to[i]`, unless it is NULL. */
static void attend_lanes(const Seen *seen, Attending *a, float *const *to) {
    int newest = 0;
    for (int i = 0; i < LANES; i++) newest = a->positions[i] > newest ? a->positions[i] : newest;
    int tokens = newest + 1;
    score_all(seen->front_keys, seen->front, seen->size, a->queries, a->scores);
    score_all(seen->keys, tokens, seen->size, a->queries, a->scores + seen->front * LANES);
    weigh(a, seen->front, seen->front + tokens);
    for (int lane = 0; lane < LANES; lane += 4) {
        if (!to[lane] && !to[lane + 1] && !to[lane + 2] && !to[lane + 3]) continue;
        int column = 0;
        for (; column + 64 <= seen->size; column += 64)
            mix_four(seen, tokens, column, a->scores + lane, 4, to + lane);
        for (; column < seen->size; column += 16)
            mix_four(seen, tokens, column, a->scores + lane, 1, to + lane);
    }
}
#endif
#endif
