/* The best of the allowed rows on the GPU: `top_rows_score`, then `top_rows_choose` on one stream.
 * Contract: `top_rows.py`. */
#include "top_rows.h"

/* One thread per state and allowed row. */
extern "C" __global__ void top_rows_score(TopRows p, const float *states, const void *table,
                                          const float *scales, const int64_t *rows,
                                          float *scores) {
    if (TW_THREAD < (int64_t)p.states * p.allowed)
        scores[TW_THREAD] = tw_top_score(&p, states, table, scales, rows, TW_THREAD);
}

/* One thread per state and allowed row. */
extern "C" __global__ void top_rows_choose(TopRows p, const float *scores, float *best_scores,
                                           int64_t *best) {
    if (TW_THREAD >= (int64_t)p.states * p.allowed) return;
    int32_t place = tw_top_place(&p, scores, TW_THREAD);
    if (place < 0) return;
    int64_t to = (TW_THREAD / p.allowed) * p.best + place;
    best_scores[to] = scores[TW_THREAD];
    best[to] = TW_THREAD % p.allowed;
}
