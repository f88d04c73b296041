/* What connections make of tokens, on the GPU; contract: `token_rows.py`. */
#include "token_rows.h"

/* One thread per token. */
extern "C" __global__ void token_states(TokenRows p, const float *tokens, int32_t *states) {
    if (TW_THREAD < p.rows) states[TW_THREAD] = tw_token_state(&p, tokens, TW_THREAD);
}

/* One thread per number of the result. */
extern "C" __global__ void token_rows(TokenRows p, const float *tokens, const float *offsets,
                                      const int64_t *chosen, const float *weights,
                                      const float *bias, float *result) {
    if (TW_THREAD < (int64_t)p.rows * p.columns)
        result[TW_THREAD] = tw_token_row(&p, tokens, offsets, chosen, weights, bias, TW_THREAD);
}
