/* Per-thread body of gating and packing of keys or values; contract: `prefix_pack.py`. */
#ifndef TAILWIRE_PREFIX_PACK_H
#define TAILWIRE_PREFIX_PACK_H

#include "device.h"

typedef struct {
    int32_t blocks, heads, questions, rows, head_dim;
    /* Floats from one block, head, question, row of the source to the next. */
    int64_t block_stride, head_stride, question_stride, row_stride;
    int64_t capacity, first; /* rows of the target, and where these begin */
    int32_t half;            /* whether the target is float16 */
} PrefixPack;

/* `i` counts [blocks][heads][questions][rows][head_dim]; gates are [blocks][rows]. */
TW_BODY void tw_prefix_pack(const PrefixPack *p, const float *source, const float *gates, int64_t i,
                            void *target) {
    int64_t at = i % p->head_dim, rest = i / p->head_dim;
    int64_t row = rest % p->rows, question = (rest /= p->rows) % p->questions;
    int64_t head = (rest /= p->questions) % p->heads, block = rest / p->heads;
    float value = source[block * p->block_stride + head * p->head_stride +
                         question * p->question_stride + row * p->row_stride + at] *
                  gates[block * p->rows + row];
    int64_t to = ((block * p->heads + head) * p->capacity + p->first + question * p->rows + row) *
                     p->head_dim + at;
    if (p->half)
        ((uint16_t *)target)[to] = tw_half(value);
    else
        ((float *)target)[to] = value;
}

#endif
