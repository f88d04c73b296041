/* Gates and packs keys or values of a prefix on the GPU; contract: `prefix_pack.py`. */
#include "prefix_pack.h"

/* One thread per number. */
extern "C" __global__ void prefix_pack(PrefixPack p, const float *source, const float *gates,
                                       void *target) {
    int64_t count = (int64_t)p.blocks * p.heads * p.questions * p.rows * p.head_dim;
    if (TW_THREAD < count) tw_prefix_pack(&p, source, gates, TW_THREAD, target);
}
