// The parts that differ between instruction sets: the vectors of the flat scan (`Vec`) and the test
// of a cache line of signatures (`Near`). Only kernel.cpp includes this file.
#pragma once

#include <cstdint>

#if defined(NCIIHASH_USE_AVX2) || defined(NCIIHASH_USE_AVX512)
#include <immintrin.h>
#elif defined(NCIIHASH_USE_NEON)
#include <arm_neon.h>
#endif

namespace nciihash {
namespace {

#if defined(NCIIHASH_USE_AVX512)
constexpr uint32_t lanes = 512;
#else
constexpr uint32_t lanes = 256;
#endif
constexpr int lane_words = lanes / 64;

typedef uint64_t Vec __attribute__((vector_size(lanes / 8), aligned(8), may_alias));

inline bool any(const Vec& v) {
#if defined(NCIIHASH_USE_AVX2)
    __m256i x = (__m256i)v;
    return !_mm256_testz_si256(x, x);
#else
    uint64_t all = 0;
    for (int i = 0; i < lane_words; i++) all |= v[i];
    return all != 0;
#endif
}

inline Vec splat(uint32_t word) {
#if defined(NCIIHASH_USE_AVX2)
    return (Vec)_mm256_set1_epi32((int)word);
#elif defined(NCIIHASH_USE_AVX512)
    return (Vec)_mm512_set1_epi32((int)word);
#else
    uint64_t twice = (uint64_t)word << 32 | word;
    Vec v = {};
    return v + twice;
#endif
}

// Signatures are read in whole cache lines. `Near` finds which of the 32 signatures in a line
// differ from the query's in at most `limit` bits. Its result has `bits` bits for each signature,
// of which only the lowest can be set.
constexpr uint32_t line_sigs = 32;

#if defined(NCIIHASH_USE_AVX512)
struct Near {
    static constexpr int bits = 1;
    __m512i sig, limit;
    Near(uint16_t s, int l)
        : sig(_mm512_set1_epi16((short)s)), limit(_mm512_set1_epi16((short)l)) {}
    uint64_t operator()(const uint16_t* line) const {
        __m512i x = _mm512_xor_si512(_mm512_load_si512(line), sig);
        return _mm512_cmple_epu16_mask(_mm512_popcnt_epi16(x), limit);
    }
};
#elif defined(NCIIHASH_USE_AVX2)
struct Near {
    static constexpr int bits = 2;
    __m256i sig, over;
    Near(uint16_t s, int l)
        : sig(_mm256_set1_epi16((short)s)), over(_mm256_set1_epi16((short)(l + 1))) {}
    uint32_t half(const uint16_t* sigs) const {
        const __m256i nibble = _mm256_set1_epi8(15);
        const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        __m256i x = _mm256_xor_si256(_mm256_load_si256((const __m256i*)sigs), sig);
        __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(x, nibble));
        __m256i high =
            _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
        __m256i sum = _mm256_maddubs_epi16(_mm256_add_epi8(low, high), _mm256_set1_epi8(1));
        return (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi16(over, sum));
    }
    uint64_t operator()(const uint16_t* line) const {
        return ((uint64_t)half(line + 16) << 32 | half(line)) & 0x5555555555555555u;
    }
};
#elif defined(NCIIHASH_USE_NEON)
struct Near {
    static constexpr int bits = 1;
    uint16x8_t sig, limit;
    Near(uint16_t s, int l) : sig(vdupq_n_u16(s)), limit(vdupq_n_u16((uint16_t)l)) {}
    uint64_t eight(const uint16_t* sigs) const {
        const uint16x8_t weights = {1, 2, 4, 8, 16, 32, 64, 128};
        uint8x16_t x = vreinterpretq_u8_u16(veorq_u16(vld1q_u16(sigs), sig));
        return vaddvq_u16(vandq_u16(vcleq_u16(vpaddlq_u8(vcntq_u8(x)), limit), weights));
    }
    uint64_t operator()(const uint16_t* line) const {
        return eight(line) | eight(line + 8) << 8 | eight(line + 16) << 16 | eight(line + 24) << 24;
    }
};
#else
struct Near {
    static constexpr int bits = 2;
    uint64_t sig, bias;
    Near(uint16_t s, int l)
        : sig(s * 0x0001000100010001u), bias((uint64_t)(0x8000 + l) * 0x0001000100010001u) {}
    uint64_t operator()(const uint16_t* line) const {
        uint64_t all = 0;
        for (int word = 7; word >= 0; word--) {
            uint64_t x = 0;
            for (int i = 0; i < 4; i++) x |= (uint64_t)line[4 * word + i] << (16 * i);
            x ^= sig;
            x -= x >> 1 & 0x5555555555555555u;
            x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
            x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
            x = (x + (x >> 8)) & 0x001f001f001f001fu;
            x = (bias - x) >> 15 & 0x0001000100010001u;  // the top bit stays while x <= limit
            all = all << 8 | ((x | x >> 14 | x >> 28 | x >> 42) & 0x55);
        }
        return all;
    }
};
#endif

}  // namespace
}  // namespace nciihash
