/* Camera pictures to network inputs on the GPU: `image_input_rows`, then `image_input_columns` on one
 * stream. Contract: `image_input.py`. */
#include "image_input.h"

/* One thread per pixel of `middle`. */
extern "C" __global__ void image_input_rows(ImageInput p, const uint8_t *image,
                                            const int32_t *starts, const float *weights,
                                            float *middle) {
    if (TW_THREAD < (int64_t)p.out_height * p.all_columns)
        tw_image_rows(&p, image, starts, weights, TW_THREAD, middle);
}

/* One thread per pixel of the result. */
extern "C" __global__ void image_input_columns(ImageInput p, const float *middle,
                                               const int32_t *starts, const float *weights,
                                               void *result) {
    if (TW_THREAD < (int64_t)p.out_height * p.out_width)
        tw_image_columns(&p, middle, starts, weights, TW_THREAD, result);
}
