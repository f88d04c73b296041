/* The range image on the GPU: `range_image_clear`, `range_image_claim`, `range_image_fill`, in this
 * order on one stream. Contract: `range_image.py`. */
#include "range_image.h"

/* One thread per pixel. */
extern "C" __global__ void range_image_clear(int32_t *winners, int64_t pixels) {
    if (TW_THREAD < pixels) winners[TW_THREAD] = -1;
}

/* One thread per point: puts itself in the place of whoever it beats. Which thread is first does not
 * matter, as `tw_range_beats` orders the points. `used` counts the points that fell into a pixel. */
extern "C" __global__ void range_image_claim(RangeImage p, const float *points, int64_t count,
                                             int32_t *winners, int32_t *used) {
    int64_t i = TW_THREAD;
    if (i >= count) return;
    const float *point = points + i * p.stride;
    int32_t pixel = tw_range_pixel(&p, point[0], point[1], point[2], point[3]);
    if (pixel < 0) return;
    atomicAdd(used, 1);
    int32_t held = winners[pixel];
    while (held < 0 || tw_range_beats(point, points + held * p.stride)) {
        int32_t found = atomicCAS(winners + pixel, held, (int32_t)i);
        if (found == held) return;
        held = found;
    }
}

/* One thread per pixel. */
extern "C" __global__ void range_image_fill(RangeImage p, const float *points,
                                            const int32_t *winners, float *image) {
    if (TW_THREAD < (int64_t)p.height * p.width)
        tw_range_fill(&p, points, winners[TW_THREAD], TW_THREAD, image);
}
