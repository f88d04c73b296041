/* Per-thread bodies of the sweep from above; the contract is that of `bev_grid.py`.
 *
 * All accumulations are of integers, or minima and maxima: their order does not matter.
 */
#ifndef TAILWIRE_BEV_GRID_H
#define TAILWIRE_BEV_GRID_H

#include "device.h"

#ifndef __CUDACC__
#include <math.h>
#endif

#define TW_BEV_LEVELS 8
/* Intensities of 0 to 1 are summed in steps of 2^-30. */
#define TW_BEV_ONE 1073741824.0f

typedef struct {
    int64_t stride; /* floats from one point to the next */
    int32_t cells, levels;
    float range, cell;
    float edges[TW_BEV_LEVELS + 1]; /* heights, `levels` + 1 of them */
    float intensity_max, height_scale;
} BevGrid;

/* What a point adds to: its cell and level, or cell -1 for one that is left out. */
typedef struct {
    int32_t cell, level;
    float height, intensity;
} BevPoint;

TW_BODY BevPoint tw_bev_point(const BevGrid *p, const float *point) {
    BevPoint to;
    float x = point[0], y = point[1], z = point[2], light = point[3];
    int32_t row, column, i;
    int inside = tw_finite(x) && tw_finite(y) && tw_finite(z) && tw_finite(light);
    inside = inside && z >= p->edges[0] && z < p->edges[p->levels];
    inside = inside && fabsf(x) < p->range && fabsf(y) < p->range;
    to.cell = -1, to.level = 0, to.height = 0.0f, to.intensity = 0.0f;
    if (!inside) return to;
    row = (int32_t)((x + p->range) / p->cell);
    column = (int32_t)((y + p->range) / p->cell);
    row = row >= p->cells ? p->cells - 1 : row;
    column = column >= p->cells ? p->cells - 1 : column;
    to.cell = row * p->cells + column;
    for (i = 1; i < p->levels; i++) to.level += z >= p->edges[i];
    to.height = z / p->height_scale;
    /* Not below, but -0 neither: its bits are those of a large integer. */
    light = light > 0.0f ? light : 0.0f;
    light = light > p->intensity_max ? p->intensity_max : light;
    to.intensity = light / p->intensity_max;
    return to;
}

/* Intensity as an integer; exact sums of up to 2^33 points. */
TW_BODY uint64_t tw_bev_steps(float intensity) { return (uint64_t)(intensity * TW_BEV_ONE); }

/* Mean of summed steps; double, as float32 has no room for them. */
TW_BODY float tw_bev_mean(uint64_t steps, uint32_t count) {
    return count ? (float)((double)steps / ((double)count * (double)TW_BEV_ONE)) : 0.0f;
}

#endif
