/* Per-thread bodies of what connections make of tokens; contract: `token_rows.py`. */
#ifndef TAILWIRE_TOKEN_ROWS_H
#define TAILWIRE_TOKEN_ROWS_H

#include "device.h"

typedef struct {
    int32_t rows, width;      /* of the result, and of a token */
    int32_t columns, product; /* of the result, and whether weights make them */
} TokenRows;

#define TW_NO_TOKEN 0
#define TW_TOKEN 1
#define TW_BROKEN_TOKEN 2

/* Whether token `i` is one, a row of zeros, or holds a number that is not finite. */
TW_BODY int32_t tw_token_state(const TokenRows *p, const float *tokens, int64_t i) {
    const float *token = tokens + i * p->width;
    int32_t state = TW_NO_TOKEN, at;
    for (at = 0; at < p->width; at++) {
        if (!tw_finite(token[at])) return TW_BROKEN_TOKEN;
        if (token[at] != 0.0f) state = TW_TOKEN;
    }
    return state;
}

/* `i` counts [rows][columns]; weights are [width][columns]. */
TW_BODY float tw_token_row(const TokenRows *p, const float *tokens, const float *offsets,
                           const int64_t *chosen, const float *weights, const float *bias,
                           int64_t i) {
    int64_t column = i % p->columns, from = chosen[i / p->columns] * p->width, at;
    float sum = 0.0f;
    if (!p->product) return tokens[from + column] + offsets[from + column];
    for (at = 0; at < p->width; at++)
        sum += (tokens[from + at] + offsets[from + at]) * weights[at * p->columns + column];
    return sum + bias[column];
}

#endif
