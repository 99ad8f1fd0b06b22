/*
 * Weights of ggml's types as floats.
 *
 * A type is a way to pack: 32 or 256 weights make a block, which has one scale for all or some of them, in some types
 * an offset too, and a few bits for each. What a block's bytes mean is in ggml-common.h and in ggml-quants.c
 * (dequantize_row_...) of llama.cpp in llama-cpp-python 0.3.36. Here 32 weights at a time become whole numbers in a
 * register, each a byte, and those floats; but for the rounding of one multiplication and addition that is exact.
 */
#include "kernels.h"

#if defined(__x86_64__)

enum { BLOCK = 32, LARGE = 256, GROUPS = BLOCK / LANES };

/* ---- registers of 32 bytes ---- */

INLINE __m128i load_16(const uint8_t *bytes) { return _mm_loadu_si128((const __m128i *)bytes); }
INLINE __m256i load_32(const uint8_t *bytes) { return _mm256_loadu_si256((const __m256i *)bytes); }
INLINE __m256i bytes_of(int value) { return _mm256_set1_epi8((char)value); }

/* Some bits of each byte, moved to its low end. */
INLINE __m256i bits(__m256i bytes, int from, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(bytes, from), bytes_of(mask));
}

/* The low halves of 16 bytes, then the high ones. */
INLINE __m256i nibbles(const uint8_t *packed) {
    const __m128i both = load_16(packed);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), bytes_of(15));
}

/* `value` where the number's bit is set, bit by bit from the lowest on. */
INLINE __m256i where_set(const uint8_t number[4], int value) {
    int32_t all;
    __builtin_memcpy(&all, number, sizeof all);
    const __m256i places = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i one = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(all), places), one);
    return _mm256_and_si256(_mm256_cmpeq_epi8(spread, one), bytes_of(value));
}

/* The non-linear 4 bits of the IQ4 types stand for these. */
INLINE __m256i looked_up(__m256i nibbles) {
    const __m128i table = _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

/* ---- into the panel ---- */

struct affine { /* a weight is scale * whole + offset */
    float scale, offset;
};

/* 32 whole numbers, the first 16 by one scale and offset and the others by another, as the panel's groups from `at`. */
INLINE void put_halves(Panel panel, int at, int place, __m256i whole, struct affine low, struct affine high) {
    const __m128i halves[2] = {_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)};
    EACH (i, GROUPS) {
        const __m128i eight = i % 2 ? _mm_srli_si128(halves[i / 2], 8) : halves[i / 2];
        const __m256 numbers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
        const struct affine by = i < 2 ? low : high;
        _mm256_store_ps(panel[at + i][place],
                        _mm256_fmadd_ps(numbers, _mm256_set1_ps(by.scale), _mm256_set1_ps(by.offset)));
    }
}

INLINE void put(Panel panel, int at, int place, __m256i whole, float scale, float offset) {
    put_halves(panel, at, place, whole, (struct affine){scale, offset}, (struct affine){scale, offset});
}

/* One block of `weights` weights after the other, as `block` with its first group `at` in the panel. */
#define EACH_BLOCK(type, weights)                                                                                      \
    const type *block = (const type *)row + k0 / (weights);                                                            \
    for (int at = 0; at < depth / LANES; at += (weights) / LANES, block++)

#define UNPACK(name) AVX2 static void unpack_##name(const void *row, int64_t k0, int depth, Panel panel, int place)

/* ---- 32 weights with a scale ---- */

UNPACK(q8_0) {
    EACH_BLOCK (struct q8_0, BLOCK) {
        _mm_prefetch((const char *)block + AHEAD, _MM_HINT_T0);
        put(panel, at, place, load_32((const uint8_t *)block->weights), half(block->scale), 0);
    }
}

struct q4_0 { /* iq4_nl too */
    uint16_t scale;
    uint8_t low[BLOCK / 2];
};

UNPACK(q4_0) {
    EACH_BLOCK (struct q4_0, BLOCK)
        put(panel, at, place, _mm256_sub_epi8(nibbles(block->low), bytes_of(8)), half(block->scale), 0);
}

UNPACK(iq4_nl) {
    EACH_BLOCK (struct q4_0, BLOCK) put(panel, at, place, looked_up(nibbles(block->low)), half(block->scale), 0);
}

struct q4_1 {
    uint16_t scale, offset;
    uint8_t low[BLOCK / 2];
};

UNPACK(q4_1) {
    EACH_BLOCK (struct q4_1, BLOCK) put(panel, at, place, nibbles(block->low), half(block->scale), half(block->offset));
}

struct q5_0 {
    uint16_t scale;
    uint8_t high[BLOCK / 8], low[BLOCK / 2];
};

UNPACK(q5_0) {
    EACH_BLOCK (struct q5_0, BLOCK) {
        const __m256i whole = _mm256_or_si256(nibbles(block->low), where_set(block->high, 16));
        put(panel, at, place, _mm256_sub_epi8(whole, bytes_of(16)), half(block->scale), 0);
    }
}

struct q5_1 {
    uint16_t scale, offset;
    uint8_t high[BLOCK / 8], low[BLOCK / 2];
};

UNPACK(q5_1) {
    EACH_BLOCK (struct q5_1, BLOCK) {
        const __m256i whole = _mm256_or_si256(nibbles(block->low), where_set(block->high, 16));
        put(panel, at, place, whole, half(block->scale), half(block->offset));
    }
}

/* ---- 256 weights with a scale of scales ---- */

struct q4_k {
    uint16_t scale, offset;
    uint8_t scales[12], low[LARGE / 2];
};

struct q5_k {
    uint16_t scale, offset;
    uint8_t scales[12], high[LARGE / 8], low[LARGE / 2];
};

/* Scale and offset of the 32 weights with this number: 6 bits of each, packed in 12 bytes. */
INLINE struct affine affine_of(uint16_t scale, uint16_t offset, const uint8_t packed[12], int number) {
    const int low = number % 4, scales = packed[low], offsets = packed[low + 4], rest = packed[low + 8];
    const int s = number < 4 ? scales & 63 : (rest & 15) | scales >> 6 << 4;
    const int o = number < 4 ? offsets & 63 : rest >> 4 | offsets >> 6 << 4;
    return (struct affine){half(scale) * (float)s, -half(offset) * (float)o};
}

UNPACK(q4_k) {
    EACH_BLOCK (struct q4_k, LARGE) {
        EACH (i, LARGE / BLOCK) {
            const __m256i whole = bits(load_32(block->low + i / 2 * BLOCK), i % 2 * 4, 15);
            const struct affine by = affine_of(block->scale, block->offset, block->scales, i);
            put(panel, at + i * GROUPS, place, whole, by.scale, by.offset);
        }
    }
}

UNPACK(q5_k) {
    EACH_BLOCK (struct q5_k, LARGE) {
        const __m256i high = load_32(block->high);
        EACH (i, LARGE / BLOCK) {
            const __m256i low = bits(load_32(block->low + i / 2 * BLOCK), i % 2 * 4, 15);
            const __m256i whole = _mm256_or_si256(low, _mm256_slli_epi16(bits(high, i, 1), 4));
            const struct affine by = affine_of(block->scale, block->offset, block->scales, i);
            put(panel, at + i * GROUPS, place, whole, by.scale, by.offset);
        }
    }
}

struct q6_k {
    uint8_t low[LARGE / 2], high[LARGE / 4];
    int8_t scales[LARGE / 16];
    uint16_t scale;
};

UNPACK(q6_k) {
    EACH_BLOCK (struct q6_k, LARGE) {
        const float scale = half(block->scale);
        EACH (i, LARGE / BLOCK) { /* 128 weights are 64 bytes of low bits, and 32 of high ones */
            const uint8_t *packed = block->low + i / 4 * 64 + i % 2 * BLOCK;
            const __m256i low = bits(load_32(packed), i % 4 / 2 * 4, 15);
            const __m256i high = bits(load_32(block->high + i / 4 * BLOCK), i % 4 * 2, 3);
            const __m256i whole = _mm256_sub_epi8(_mm256_or_si256(low, _mm256_slli_epi16(high, 4)), bytes_of(32));
            put_halves(panel, at + i * GROUPS, place, whole, (struct affine){scale * block->scales[2 * i], 0},
                       (struct affine){scale * block->scales[2 * i + 1], 0});
        }
    }
}

struct q3_k {
    uint8_t high[LARGE / 8], low[LARGE / 4], scales[12];
    uint16_t scale;
};

/* The scale of 16 weights: 4 bits from one byte, 2 from another. */
INLINE int scale_of(const uint8_t packed[12], int number) {
    const int low = packed[number % 8] >> number / 8 * 4 & 15;
    return (low | (packed[8 + number % 4] >> number / 4 * 2 & 3) << 4) - 32;
}

UNPACK(q3_k) {
    EACH_BLOCK (struct q3_k, LARGE) {
        const float scale = half(block->scale);
        const __m256i high = load_32(block->high);
        EACH (i, LARGE / BLOCK) {
            const __m256i low = bits(load_32(block->low + i / 4 * BLOCK), i % 4 * 2, 3);
            const __m256i whole = _mm256_or_si256(low, _mm256_slli_epi16(bits(high, i, 1), 2));
            put_halves(panel, at + i * GROUPS, place, _mm256_sub_epi8(whole, bytes_of(4)),
                       (struct affine){scale * (float)scale_of(block->scales, 2 * i), 0},
                       (struct affine){scale * (float)scale_of(block->scales, 2 * i + 1), 0});
        }
    }
}

struct q2_k {
    uint8_t scales[LARGE / 16], low[LARGE / 4];
    uint16_t scale, offset;
};

UNPACK(q2_k) {
    EACH_BLOCK (struct q2_k, LARGE) {
        const float scale = half(block->scale), offset = -half(block->offset);
        EACH (i, LARGE / BLOCK) {
            const __m256i whole = bits(load_32(block->low + i / 4 * BLOCK), i % 4 * 2, 3);
            const int first = block->scales[2 * i], second = block->scales[2 * i + 1];
            put_halves(panel, at + i * GROUPS, place, whole,
                       (struct affine){scale * (float)(first & 15), offset * (float)(first >> 4)},
                       (struct affine){scale * (float)(second & 15), offset * (float)(second >> 4)});
        }
    }
}

struct iq4_xs {
    uint16_t scale, high_scales;
    uint8_t low_scales[LARGE / 64], low[LARGE / 2];
};

UNPACK(iq4_xs) {
    EACH_BLOCK (struct iq4_xs, LARGE) {
        EACH (i, LARGE / BLOCK) {
            const int low = block->low_scales[i / 2] >> i % 2 * 4 & 15, high = block->high_scales >> 2 * i & 3;
            const float scale = half(block->scale) * (float)((low | high << 4) - 32);
            put(panel, at + i * GROUPS, place, looked_up(nibbles(block->low + i * BLOCK / 2)), scale, 0);
        }
    }
}

/* ---- 16 bits ---- */

UNPACK(f16) {
    const uint16_t *weights = (const uint16_t *)row + k0;
    for (int i = 0; i < depth / LANES; i++, weights += LANES) {
        _mm_prefetch((const char *)weights + AHEAD, _MM_HINT_T0);
        _mm256_store_ps(panel[i][place], _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)weights)));
    }
}

UNPACK(bf16) {
    const uint16_t *weights = (const uint16_t *)row + k0;
    for (int i = 0; i < depth / LANES; i++, weights += LANES) {
        _mm_prefetch((const char *)weights + AHEAD, _MM_HINT_T0);
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)weights));
        _mm256_store_ps(panel[i][place], _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)));
    }
}

const struct layout *layout_of(int type) {
    static const struct layout layouts[] = {
        {TYPE_F16, unpack_f16, 1, 2, 2},
        {TYPE_BF16, unpack_bf16, 1, 2, 2},
        {TYPE_Q8_0, unpack_q8_0, BLOCK, sizeof(struct q8_0), MANY_COLUMNS},
        {TYPE_Q4_0, unpack_q4_0, BLOCK, sizeof(struct q4_0), MANY_COLUMNS},
        {TYPE_Q4_1, unpack_q4_1, BLOCK, sizeof(struct q4_1), MANY_COLUMNS},
        {TYPE_Q5_0, unpack_q5_0, BLOCK, sizeof(struct q5_0), MANY_COLUMNS},
        {TYPE_Q5_1, unpack_q5_1, BLOCK, sizeof(struct q5_1), MANY_COLUMNS},
        {TYPE_Q2_K, unpack_q2_k, LARGE, sizeof(struct q2_k), MANY_COLUMNS},
        {TYPE_Q3_K, unpack_q3_k, LARGE, sizeof(struct q3_k), MANY_COLUMNS},
        {TYPE_Q4_K, unpack_q4_k, LARGE, sizeof(struct q4_k), MANY_COLUMNS},
        {TYPE_Q5_K, unpack_q5_k, LARGE, sizeof(struct q5_k), MANY_COLUMNS},
        {TYPE_Q6_K, unpack_q6_k, LARGE, sizeof(struct q6_k), MANY_COLUMNS},
        {TYPE_IQ4_NL, unpack_iq4_nl, BLOCK, sizeof(struct q4_0), MANY_COLUMNS},
        {TYPE_IQ4_XS, unpack_iq4_xs, LARGE, sizeof(struct iq4_xs), MANY_COLUMNS},
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].type == type) return layouts + i;
    return NULL;
}

#else /* on other processors everything is llama.cpp's */

const struct layout *layout_of(int type) { return (void)type, NULL; }

#endif
