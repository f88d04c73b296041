/* A Llama-like model as Python hands it over; decode_step.c says how matrices lie. */
#ifndef BLOCK_WEIGHTS_H
#define BLOCK_WEIGHTS_H
#include <stdint.h>

typedef struct {
    int32_t blocks, hidden, heads, kv_heads, head_dim, ffn, bits, threads;
    float norm_epsilon;
} Shape;

/* Weights of a block; a bias may be NULL. */
typedef struct {
    const uint8_t *qkv, *output, *ffn_in, *ffn_out;
    const float *qkv_bias, *output_bias, *ffn_in_bias, *ffn_out_bias;
    const float *attention_norm, *ffn_norm;
    float qkv_factor, output_factor, ffn_in_factor, ffn_out_factor;
} Block;

#endif
