/* How many dot products of 16-bit integers a thread can make, from registers alone: no product of
 * matrices that is made of them (block_products.h) can be faster. */
#include <stdint.h>

#define MAKE(sum) "vpdpwssd %%zmm0, %%zmm1, %%zmm" #sum "\n\t"
/* Independent sums, more than the cycles that one takes times those that begin in a cycle. */
#define ALL                                                                               \
    MAKE(8) MAKE(9) MAKE(10) MAKE(11) MAKE(12) MAKE(13) MAKE(14) MAKE(15) MAKE(16) MAKE(17) \
    MAKE(18) MAKE(19) MAKE(20) MAKE(21) MAKE(22) MAKE(23)

/* Multiply-adds of `loops` rounds (1 or more), which were made; 0 where there is no VNNI. */
int64_t peak_products(int64_t loops) {
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
    int64_t left = loops;
    /* Compilers would move sums to and from memory. */
    __asm__ volatile("1:\n\t" ALL "decq %0\n\t"
                     "jnz 1b"
                     : "+r"(left)
                     :
                     : "cc", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15",
                       "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23");
    return loops * 16 * 32;
#else
    (void)loops;
    return 0;
#endif
}
