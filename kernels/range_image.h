/* Per-thread bodies of the range image; the contract is that of `range_image.py`. */
#ifndef TAILWIRE_RANGE_IMAGE_H
#define TAILWIRE_RANGE_IMAGE_H

#include "device.h"

#ifndef __CUDACC__
#include <math.h>
#endif

typedef struct {
    int64_t stride; /* floats from one point to the next */
    int32_t height, width;
    float fov_up, rows_per_radian, half_width, columns_per_radian;
    float intensity_max;
    int32_t normalised;
    float mean[5], std[5];
} RangeImage;

/* Arc tangent of y / x in the right quadrant, within 3e-7. Cephes, atanf: below tan(pi/8) a
 * polynomial, above it through pi/4. All of its operations are rounded alike everywhere, which no
 * library's atan2f promises. */
TW_BODY float tw_atan2(float y, float x) {
    float ax = fabsf(x), ay = fabsf(y);
    float small = ax < ay ? ax : ay, large = ax < ay ? ay : ax;
    float ratio = large > 0.0f ? small / large : 0.0f;
    int beyond = ratio > 0.41421356f;
    float t = beyond ? (ratio - 1.0f) / (ratio + 1.0f) : ratio;
    float z = t * t;
    float r = 8.05374449538e-2f * z - 1.38776856032e-1f;
    r = r * z + 1.99777106478e-1f;
    r = r * z - 3.33329491539e-1f;
    r = r * z * t + t;
    r = beyond ? r + 0.78539816f : r;
    r = ay > ax ? 1.57079633f - r : r;
    r = x < 0.0f ? 3.14159265f - r : r;
    return y < 0.0f ? -r : r;
}

TW_BODY float tw_length(float x, float y, float z) { return sqrtf(x * x + y * y + z * z); }

TW_BODY float tw_range(const float *point) { return tw_length(point[0], point[1], point[2]); }

/* The pixel that a point falls into, -1 for one that is left out. Without branches, so that loops
 * vectorise. */
TW_BODY int32_t tw_range_pixel(const RangeImage *p, float x, float y, float z, float intensity) {
    float range = tw_length(x, y, z);
    float azimuth = tw_atan2(y, x), elevation = tw_atan2(z, sqrtf(x * x + y * y));
    float column = floorf(p->half_width - azimuth * p->columns_per_radian);
    float row = floorf((p->fov_up - elevation) * p->rows_per_radian);
    float last = (float)(p->height - 1);
    int usable = (range > 0.0f) & tw_finite(range) & tw_finite(intensity);
    int32_t c, r;
    row = row < 0.0f ? 0.0f : row;
    row = row > last ? last : row;
    /* Numbers that are not finite have no integer. */
    c = usable ? (int32_t)column : 0;
    r = usable ? (int32_t)row : 0;
    c = c < 0 ? c + p->width : c;
    c = c >= p->width ? c - p->width : c;
    return usable ? r * p->width + c : -1;
}

/* Whether one point takes a pixel from another: the nearer, then the smaller in x y z intensity.
 * A total order up to equal points, so whoever comes last, the same point wins. */
TW_BODY int tw_range_beats(const float *one, const float *other) {
    float a = tw_range(one), b = tw_range(other);
    int i;
    if (a != b) return a < b;
    for (i = 0; i < 4; i++)
        if (one[i] != other[i]) return one[i] < other[i];
    return 0;
}

/* Fill one pixel from the index of its winner, -1 for none. */
TW_BODY void tw_range_fill(const RangeImage *p, const float *points, int32_t winner, int64_t pixel,
                           float *image) {
    int64_t size = (int64_t)p->height * p->width;
    float values[5];
    int i;
    if (winner < 0) {
        for (i = 0; i < 5; i++) image[i * size + pixel] = 0.0f;
        return;
    }
    points += winner * p->stride;
    values[0] = tw_range(points);
    values[1] = points[0], values[2] = points[1], values[3] = points[2];
    values[4] = points[3] / p->intensity_max;
    for (i = 0; i < 5; i++)
        image[i * size + pixel] = p->normalised ? (values[i] - p->mean[i]) / p->std[i] : values[i];
}

#endif
