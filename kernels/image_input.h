/* Per-thread bodies of camera pictures to network inputs; the contract is that of `image_input.py`.
 *
 * Two passes of a separable filter: rows first, so that neighbouring threads read neighbouring
 * pixels, then columns with normalisation. Sums run from the first tap to the last.
 */
#ifndef TAILWIRE_IMAGE_INPUT_H
#define TAILWIRE_IMAGE_INPUT_H

#include "device.h"

/* Pixel formats, in the order of `image_input.ENCODINGS`. */
enum {
    TW_RGB8,
    TW_BGR8,
    TW_MONO8,
    TW_NV12,
    TW_YUYV,
    TW_UYVY,
    TW_BAYER_RGGB,
    TW_BAYER_BGGR,
    TW_BAYER_GRBG,
    TW_BAYER_GBRG
};

typedef struct {
    int32_t encoding, height, width; /* of the picture */
    int64_t pitch;                   /* bytes from one row to the next */
    int32_t out_height, out_width;
    int32_t row_taps, column_taps;     /* of the two tables of weights */
    int32_t first_column, all_columns; /* columns of the picture that the second pass reads */
    int32_t half;                      /* whether the result is float16 */
    float mean[3], std[3];
} ImageInput;

TW_BODY float tw_limit(float value) {
    value = value < 0.0f ? 0.0f : value;
    return value > 255.0f ? 255.0f : value;
}

/* ITU-R BT.601, limited range, as cameras and OpenCV have it. */
TW_BODY float tw_yuv(float y, float u, float v, int channel) {
    float light = 1.164383562f * (y - 16.0f);
    u = u - 128.0f, v = v - 128.0f;
    if (channel == 0) return tw_limit(light + 1.596026786f * v);
    if (channel == 1) return tw_limit(light - 0.391762290f * u - 0.812967647f * v);
    return tw_limit(light + 2.017232143f * u);
}

/* A pixel of a Bayer pattern; beyond an edge the pattern is mirrored, which keeps its colours. */
TW_BODY float tw_bayer_at(const ImageInput *p, const uint8_t *image, int32_t y, int32_t x) {
    y = y < 0 ? -y : y;
    x = x < 0 ? -x : x;
    y = y >= p->height ? 2 * p->height - 2 - y : y;
    x = x >= p->width ? 2 * p->width - 2 - x : x;
    return (float)image[y * p->pitch + x];
}

/* Bilinear interpolation: the pixel itself, or the mean of the nearest pixels of the colour. */
TW_BODY float tw_bayer(const ImageInput *p, const uint8_t *image, int32_t y, int32_t x,
                       int channel) {
    /* Where red lies in a square of four pixels; blue lies across from it. */
    int red_y = p->encoding == TW_BAYER_BGGR || p->encoding == TW_BAYER_GBRG;
    int red_x = p->encoding == TW_BAYER_BGGR || p->encoding == TW_BAYER_GRBG;
    int on_red_row = (y & 1) == red_y, on_red_column = (x & 1) == red_x;
    int own_row = channel == 2 ? !on_red_row : on_red_row;
    int own_column = channel == 2 ? !on_red_column : on_red_column;
    if (channel == 1) {
        if (on_red_row != on_red_column) return tw_bayer_at(p, image, y, x);
        return 0.25f * (tw_bayer_at(p, image, y - 1, x) + tw_bayer_at(p, image, y + 1, x) +
                        tw_bayer_at(p, image, y, x - 1) + tw_bayer_at(p, image, y, x + 1));
    }
    if (own_row && own_column) return tw_bayer_at(p, image, y, x);
    if (own_row)
        return 0.5f * (tw_bayer_at(p, image, y, x - 1) + tw_bayer_at(p, image, y, x + 1));
    if (own_column)
        return 0.5f * (tw_bayer_at(p, image, y - 1, x) + tw_bayer_at(p, image, y + 1, x));
    return 0.25f * (tw_bayer_at(p, image, y - 1, x - 1) + tw_bayer_at(p, image, y - 1, x + 1) +
                    tw_bayer_at(p, image, y + 1, x - 1) + tw_bayer_at(p, image, y + 1, x + 1));
}

/* Red, green or blue of one pixel, 0 to 255. */
TW_BODY float tw_pixel(const ImageInput *p, const uint8_t *image, int32_t y, int32_t x,
                       int channel) {
    const uint8_t *row = image + y * p->pitch, *pair;
    switch (p->encoding) {
        case TW_RGB8: return (float)row[3 * x + channel];
        case TW_BGR8: return (float)row[3 * x + 2 - channel];
        case TW_MONO8: return (float)row[x];
        case TW_NV12:
            pair = image + (p->height + y / 2) * p->pitch + (x & ~1);
            return tw_yuv((float)row[x], (float)pair[0], (float)pair[1], channel);
        case TW_YUYV:
            pair = row + 2 * (x & ~1);
            return tw_yuv((float)row[2 * x], (float)pair[1], (float)pair[3], channel);
        case TW_UYVY:
            pair = row + 2 * (x & ~1);
            return tw_yuv((float)row[2 * x + 1], (float)pair[0], (float)pair[2], channel);
        default: return tw_bayer(p, image, y, x, channel);
    }
}

/* First pass: rows of the result, columns of the picture. `middle` is
 * [out_height][all_columns][3]; `i` counts its pixels. */
TW_BODY void tw_image_rows(const ImageInput *p, const uint8_t *image, const int32_t *starts,
                           const float *weights, int64_t i, float *middle) {
    int32_t y = (int32_t)(i / p->all_columns);
    int32_t x = p->first_column + (int32_t)(i % p->all_columns), tap, channel;
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (tap = 0; tap < p->row_taps; tap++) {
        float weight = weights[(int64_t)y * p->row_taps + tap];
        for (channel = 0; channel < 3 && weight != 0.0f; channel++)
            sums[channel] += weight * tw_pixel(p, image, starts[y] + tap, x, channel);
    }
    for (channel = 0; channel < 3; channel++) middle[3 * i + channel] = sums[channel];
}

/* Second pass: `i` counts the pixels of the result [3][out_height][out_width]. */
TW_BODY void tw_image_columns(const ImageInput *p, const float *middle, const int32_t *starts,
                              const float *weights, int64_t i, void *result) {
    int64_t pixels = (int64_t)p->out_height * p->out_width;
    int32_t x = (int32_t)(i % p->out_width), tap, channel;
    const float *from = middle + 3 * ((i / p->out_width) * p->all_columns +
                                      (starts[x] - p->first_column));
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (tap = 0; tap < p->column_taps; tap++) {
        float weight = weights[(int64_t)x * p->column_taps + tap];
        for (channel = 0; channel < 3 && weight != 0.0f; channel++)
            sums[channel] += weight * from[3 * tap + channel];
    }
    for (channel = 0; channel < 3; channel++) {
        float value = (sums[channel] - p->mean[channel]) / p->std[channel];
        if (p->half)
            ((uint16_t *)result)[channel * pixels + i] = tw_half(value);
        else
            ((float *)result)[channel * pixels + i] = value;
    }
}

#endif
