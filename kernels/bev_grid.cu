/* The sweep from above on the GPU: `bev_grid_clear`, `bev_grid_add`, `bev_grid_fill` on one stream,
 * once for each sweep. Contract: `bev_grid.py`.
 *
 * Heights and intensities are 0 or above here, where floats order as their bits do.
 */
#include "bev_grid.h"

/* One thread per cell and level. */
extern "C" __global__ void bev_grid_clear(BevGrid p, uint32_t *counts, uint32_t *highest,
                                          uint32_t *lowest, uint32_t *brightest,
                                          unsigned long long *steps) {
    int64_t cells = (int64_t)p.cells * p.cells, i = TW_THREAD;
    if (i < cells * p.levels) counts[i] = 0;
    if (i >= cells) return;
    highest[i] = 0, brightest[i] = 0, steps[i] = 0;
    lowest[i] = 0x7f800000u;
}

/* One thread per point. */
extern "C" __global__ void bev_grid_add(BevGrid p, const float *points, int64_t count,
                                        uint32_t *counts, uint32_t *highest, uint32_t *lowest,
                                        uint32_t *brightest, unsigned long long *steps) {
    if (TW_THREAD >= count) return;
    BevPoint to = tw_bev_point(&p, points + TW_THREAD * p.stride);
    if (to.cell < 0) return;
    atomicAdd(counts + (int64_t)to.level * p.cells * p.cells + to.cell, 1u);
    atomicMax(highest + to.cell, tw_bits(to.height));
    atomicMin(lowest + to.cell, tw_bits(to.height));
    atomicMax(brightest + to.cell, tw_bits(to.intensity));
    atomicAdd(steps + to.cell, (unsigned long long)tw_bev_steps(to.intensity));
}

/* One thread per cell. `logarithms` holds log(1 + n) up to the number of points; `earlier` leaves
 * out what is only kept of the present sweep. */
extern "C" __global__ void bev_grid_fill(BevGrid p, int32_t earlier, float seconds,
                                         const float *logarithms, const uint32_t *counts,
                                         const uint32_t *highest, const uint32_t *lowest,
                                         const uint32_t *brightest,
                                         const unsigned long long *steps, float *grid) {
    int64_t cells = (int64_t)p.cells * p.cells, i = TW_THREAD;
    if (i >= cells) return;
    uint32_t number = 0;
    for (int level = 0; level < p.levels; level++) {
        grid[level * cells + i] = logarithms[counts[level * cells + i]];
        number += counts[level * cells + i];
    }
    grid += p.levels * cells + i;
    grid[0] = tw_float(highest[i]);
    grid[cells] = earlier ? seconds : number ? tw_float(lowest[i]) : 0.0f;
    if (earlier) return;
    grid[2 * cells] = tw_bev_mean(steps[i], number);
    grid[3 * cells] = tw_float(brightest[i]);
}
