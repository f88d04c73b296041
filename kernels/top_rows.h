/* Per-thread bodies of the best of the allowed rows; contract: `top_rows.py`. */
#ifndef TAILWIRE_TOP_ROWS_H
#define TAILWIRE_TOP_ROWS_H

#include "device.h"

#define TW_TOP_BLOCK 32

typedef struct {
    int32_t states, size; /* rows and columns of the states */
    int32_t allowed, best;
    int32_t coded; /* whether the table holds 8-bit codes with a scale per 32 columns */
    int32_t unused;
} TopRows;

/* Score of one state and one allowed row; `i` counts [states][allowed]. */
TW_BODY float tw_top_score(const TopRows *p, const float *states, const void *table,
                           const float *scales, const int64_t *rows, int64_t i) {
    const float *state = states + (i / p->allowed) * p->size;
    int64_t row = rows[i % p->allowed];
    float sum = 0.0f;
    int32_t block, at;
    if (p->coded) {
        const int8_t *codes = (const int8_t *)table + row * p->size;
        scales += row * (p->size / TW_TOP_BLOCK);
        for (block = 0; block < p->size / TW_TOP_BLOCK; block++) {
            float part = 0.0f;
            for (at = TW_TOP_BLOCK * block; at < TW_TOP_BLOCK * (block + 1); at++)
                part += state[at] * (float)codes[at];
            sum += part * scales[block];
        }
    } else {
        const float *values = (const float *)table + row * p->size;
        for (at = 0; at < p->size; at++) sum += state[at] * values[at];
    }
    return sum;
}

/* Whether a candidate is among the best of its state, and the place it then takes; -1 if not.
 * Equal scores keep the order in which the rows are allowed. Stops at the first `best` that are
 * better, so that all candidates together take about best * n * log(n) steps. */
TW_BODY int32_t tw_top_place(const TopRows *p, const float *scores, int64_t i) {
    const float *of = scores + (i / p->allowed) * p->allowed;
    int32_t own = (int32_t)(i % p->allowed), other, place = 0;
    for (other = 0; other < p->allowed; other++) {
        place += of[other] > of[own] || (of[other] == of[own] && other < own);
        if (place >= p->best) return -1;
    }
    return place;
}

#endif
