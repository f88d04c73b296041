/* What the per-thread bodies of kernels are written in: the common part of CUDA C, C11 and C++11.
 *
 * A body computes what one thread of a grid computes. `*.cu` calls it from threads, `arrays.c` from
 * loops: so the CPU runs the very arithmetic of the GPU. Bodies use only operations that IEEE 754
 * rounds the same everywhere (no contraction to fused multiply-adds, no library of mathematics), so
 * that all twins agree bit for bit.
 */
#ifndef TAILWIRE_DEVICE_H
#define TAILWIRE_DEVICE_H

#ifndef __CUDACC_RTC__
#include <stdint.h>
#endif

#ifdef __CUDACC__
#define TW_BODY __host__ __device__ static inline
#else
#define TW_BODY static inline
#endif

/* The thread's place in the grid, and whether the grid reaches beyond the work. */
#define TW_THREAD ((int64_t)blockIdx.x * (int64_t)blockDim.x + (int64_t)threadIdx.x)

TW_BODY uint32_t tw_bits(float value) {
    union {
        float value;
        uint32_t bits;
    } both;
    both.value = value;
    return both.bits;
}

TW_BODY float tw_float(uint32_t bits) {
    union {
        uint32_t bits;
        float value;
    } both;
    both.bits = bits;
    return both.value;
}

/* Neither infinite nor NaN. */
TW_BODY int tw_finite(float value) { return (tw_bits(value) & 0x7f800000u) != 0x7f800000u; }

/* IEEE 754 binary16, rounded to nearest, ties to even; too large becomes infinite. */
TW_BODY uint16_t tw_half(float value) {
    uint32_t bits = tw_bits(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    uint32_t exponent, mantissa, shift, half, rest, middle;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x33000001u) return (uint16_t)sign;
    exponent = magnitude >> 23;
    mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    if (exponent >= 113u) {
        half = ((exponent - 112u) << 10) + ((mantissa & 0x7fffffu) >> 13);
        rest = mantissa & 0x1fffu, middle = 0x1000u;
    } else {
        shift = 126u - exponent;
        half = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1u), middle = 1u << (shift - 1u);
    }
    if (rest > middle || (rest == middle && (half & 1u))) half++;
    return (uint16_t)(sign | half);
}

#endif
