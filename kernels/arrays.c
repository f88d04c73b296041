/* The array kernels on the CPU: loops over the bodies that the GPU's threads run, in the same
 * arithmetic. Where a body cannot be vectorised, a loop of its own does the same operations in the
 * same order (and a test compares both). Compiled without contraction and reordering, see
 * `native.EXACT`. Contracts are in the Python files of the kernels' names.
 */
#include <string.h>

#include "bev_grid.h"
#include "image_input.h"
#include "prefix_pack.h"
#include "range_image.h"
#include "token_rows.h"
#include "top_rows.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Returns how many points fell into a pixel. `pixels` has room for one number per point,
 * `winners` for one per pixel. */
int64_t array_range_image(const RangeImage *p, const float *points, int64_t count, int32_t *pixels,
                          int32_t *winners, float *image) {
    const RangeImage parameters = *p; /* Of which the compiler sees that nobody changes it. */
    int64_t size = (int64_t)p->height * p->width, stride = p->stride, used = 0, i;
    for (i = 0; i < count; i++) {
        const float *point = points + i * stride;
        pixels[i] = tw_range_pixel(&parameters, point[0], point[1], point[2], point[3]);
    }
    for (i = 0; i < size; i++) winners[i] = -1;
    for (i = 0; i < count; i++) {
        int32_t held;
        if (pixels[i] < 0) continue;
        used++;
        held = winners[pixels[i]];
        if (held < 0 || tw_range_beats(points + i * p->stride, points + held * p->stride))
            winners[pixels[i]] = (int32_t)i;
    }
    /* Most pixels may be empty, and clearing is faster in one go. */
    memset(image, 0, (size_t)size * 5 * sizeof(float));
    for (i = 0; i < size; i++)
        if (winners[i] >= 0) tw_range_fill(p, points, winners[i], i, image);
    return used;
}

/* Returns how many points are finite. The arrays have a number per cell (`counts`: per level and
 * cell) and are cleared here. */
int64_t array_bev_grid_add(const BevGrid *p, const float *points, int64_t count, uint32_t *counts,
                           float *highest, float *lowest, float *brightest, uint64_t *steps) {
    int64_t cells = (int64_t)p->cells * p->cells, finite = 0, i;
    memset(counts, 0, (size_t)(cells * p->levels) * sizeof(uint32_t));
    memset(highest, 0, (size_t)cells * sizeof(float));
    memset(brightest, 0, (size_t)cells * sizeof(float));
    memset(steps, 0, (size_t)cells * sizeof(uint64_t));
    for (i = 0; i < cells; i++) lowest[i] = tw_float(0x7f800000u);
    for (i = 0; i < count; i++) {
        const float *point = points + i * p->stride;
        BevPoint to = tw_bev_point(p, point);
        finite += tw_finite(point[0]) && tw_finite(point[1]) && tw_finite(point[2]) &&
                  tw_finite(point[3]);
        if (to.cell < 0) continue;
        counts[to.level * cells + to.cell]++;
        if (to.height > highest[to.cell]) highest[to.cell] = to.height;
        if (to.height < lowest[to.cell]) lowest[to.cell] = to.height;
        if (to.intensity > brightest[to.cell]) brightest[to.cell] = to.intensity;
        steps[to.cell] += tw_bev_steps(to.intensity);
    }
    return finite;
}

/* The channels of one sweep; of an `earlier` one only counts, highest and the seconds. */
void array_bev_grid_fill(const BevGrid *p, int32_t earlier, float seconds, const float *logarithms,
                         const uint32_t *counts, const float *highest, const float *lowest,
                         const float *brightest, const uint64_t *steps, float *grid) {
    int64_t cells = (int64_t)p->cells * p->cells, i;
    int32_t level;
    for (i = 0; i < cells * p->levels; i++) grid[i] = logarithms[counts[i]];
    grid += p->levels * cells;
    memcpy(grid, highest, (size_t)cells * sizeof(float));
    if (earlier) {
        for (i = 0; i < cells; i++) grid[cells + i] = seconds;
        return;
    }
    memcpy(grid + 3 * cells, brightest, (size_t)cells * sizeof(float));
    for (i = 0; i < cells; i++) {
        uint32_t number = 0;
        for (level = 0; level < p->levels; level++) number += counts[level * cells + i];
        grid[cells + i] = number ? lowest[i] : 0.0f;
        grid[2 * cells + i] = tw_bev_mean(steps[i], number);
    }
}

/* One row of `middle` where the bytes of a pixel are its channels: sums over whole rows. */
static void rows_of_bytes(const ImageInput *p, const uint8_t *image, int32_t start,
                          const float *weights, float *sums, float *middle) {
    int32_t bytes = p->encoding == TW_MONO8 ? 1 : 3, tap, x;
    int64_t length = (int64_t)bytes * p->all_columns, i;
    memset(sums, 0, (size_t)length * sizeof(float));
    for (tap = 0; tap < p->row_taps; tap++) {
        const uint8_t *row = image + (start + tap) * p->pitch + bytes * p->first_column;
        float weight = weights[tap];
        if (weight == 0.0f) continue;
        for (i = 0; i < length; i++) sums[i] += weight * (float)row[i];
    }
    if (p->encoding == TW_RGB8) return;
    for (x = 0; x < p->all_columns; x++)
        for (i = 0; i < 3; i++)
            middle[3 * x + i] = sums[p->encoding == TW_MONO8 ? x : 3 * x + 2 - i];
}

/* `middle` has room for [out_height + 1][all_columns][3]. With `by_body` nothing but the bodies
 * runs. */
void array_image_input(const ImageInput *p, const uint8_t *image, const int32_t *row_starts,
                       const float *row_weights, const int32_t *column_starts,
                       const float *column_weights, float *middle, void *result,
                       int32_t by_body) {
    int64_t length = (int64_t)p->all_columns, i;
    int32_t y;
    int bytes = p->encoding == TW_RGB8 || p->encoding == TW_BGR8 || p->encoding == TW_MONO8;
    if (!bytes || by_body) {
        for (i = 0; i < p->out_height * length; i++)
            tw_image_rows(p, image, row_starts, row_weights, i, middle);
    } else {
        float *spare = middle + 3 * length * p->out_height;
        for (y = 0; y < p->out_height; y++) {
            float *row = middle + 3 * length * y;
            rows_of_bytes(p, image, row_starts[y], row_weights + (int64_t)y * p->row_taps,
                          p->encoding == TW_RGB8 ? row : spare, row);
        }
    }
    for (i = 0; i < (int64_t)p->out_height * p->out_width; i++)
        tw_image_columns(p, middle, column_starts, column_weights, i, result);
}

void array_prefix_pack(const PrefixPack *p, const float *source, const float *gates, void *target,
                       int32_t by_body) {
    int64_t count = (int64_t)p->blocks * p->heads * p->questions * p->rows, i, at;
    if (p->half || by_body) {
        for (i = 0; i < count * p->head_dim; i++) tw_prefix_pack(p, source, gates, i, target);
        return;
    }
    for (i = 0; i < count; i++) {
        int64_t row = i % p->rows, rest = i / p->rows;
        int64_t question = rest % p->questions, head = (rest /= p->questions) % p->heads;
        int64_t block = rest / p->heads;
        const float *from = source + block * p->block_stride + head * p->head_stride +
                            question * p->question_stride + row * p->row_stride;
        float gate = gates[block * p->rows + row];
        float *to = (float *)target +
                    ((block * p->heads + head) * p->capacity + p->first + question * p->rows + row) *
                        p->head_dim;
        for (at = 0; at < p->head_dim; at++) to[at] = from[at] * gate;
    }
}

void array_token_states(const TokenRows *p, const float *tokens, int32_t *states) {
    int64_t i;
    for (i = 0; i < p->rows; i++) states[i] = tw_token_state(p, tokens, i);
}

void array_token_rows(const TokenRows *p, const float *tokens, const float *offsets,
                      const int64_t *chosen, const float *weights, const float *bias,
                      float *result) {
    int64_t count = (int64_t)p->rows * p->columns, i;
    for (i = 0; i < count; i++)
        result[i] = tw_token_row(p, tokens, offsets, chosen, weights, bias, i);
}

void array_top_rows(const TopRows *p, const float *states, const void *table, const float *scales,
                    const int64_t *rows, float *scores, float *best_scores, int64_t *best) {
    int64_t count = (int64_t)p->states * p->allowed, i;
    for (i = 0; i < count; i++) scores[i] = tw_top_score(p, states, table, scales, rows, i);
    for (i = 0; i < count; i++) {
        int32_t place = tw_top_place(p, scores, i);
        if (place < 0) continue;
        best_scores[(i / p->allowed) * p->best + place] = scores[i];
        best[(i / p->allowed) * p->best + place] = i % p->allowed;
    }
}

/* For tests: the float16 of many numbers. */
void array_half(const float *values, int64_t count, uint16_t *halves) {
    int64_t i;
    for (i = 0; i < count; i++) halves[i] = tw_half(values[i]);
}

#ifdef __cplusplus
}
#endif
