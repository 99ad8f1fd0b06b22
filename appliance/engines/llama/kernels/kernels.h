/* What the kernels share: ggml's structures, the plug-in whose place they take, and words for AVX2. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

/* ggml.h: enum ggml_type */
enum {
    TYPE_F32 = 0,
    TYPE_F16 = 1,
    TYPE_Q4_0 = 2,
    TYPE_Q4_1 = 3,
    TYPE_Q5_0 = 6,
    TYPE_Q5_1 = 7,
    TYPE_Q8_0 = 8,
    TYPE_Q2_K = 10,
    TYPE_Q3_K = 11,
    TYPE_Q4_K = 12,
    TYPE_Q5_K = 13,
    TYPE_Q6_K = 14,
    TYPE_IQ4_NL = 20,
    TYPE_IQ4_XS = 23,
    TYPE_BF16 = 30,
};

/* ggml-cpu-impl.h: struct ggml_compute_params, of llama.cpp in llama-cpp-python 0.3.36; so are those below */
struct params {
    int ith, nth;
    size_t work_size;
    void *work;
    void *threadpool;
    bool use_reference;
};

/* ggml.h: struct ggml_tensor. ne: sizes, nb: strides in bytes */
struct tensor {
    int type;
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int op;
    int32_t op_params[16];
    int32_t flags;
    struct tensor *src[10];
    struct tensor *view_src;
    size_t view_offs;
    char *data;
    char name[64];
    void *extra;
    char padding[8];
};

typedef bool sgemm(const struct params *, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                   int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);
typedef bool tiles(const struct params *, struct tensor *);
typedef void attention(const struct params *, struct tensor *);

struct plugin { /* ggml's processor backend: what is called instead of these, or with them */
    sgemm *multiply;
    tiles *multiply_in_tiles;
    attention *attend;
    void (*barrier)(void *threadpool);
    void (*set_chunk)(void *threadpool, int chunk);
    int (*next_chunk)(void *threadpool, int chunks);
};

/* The plug-in that calls from there; all of it is NULL where it was not found. Any thread may ask. */
const struct plugin *plugin_at(const void *caller);

/* Whether kernels are to compute, and `plugin` has what threads need to share work. */
bool kernels_compute(const struct params *, const struct plugin *plugin);

/* Every thread of the pool calls it: the pieces of work begin. */
void begin_pieces(const struct params *, const struct plugin *plugin);

/* ---- weights ---- */

enum {
    ROWS = 4,         /* of weights at once */
    DEPTH = 1024,     /* of k at once: 16 KiB of weights as floats stay in the first cache */
    MANY_COLUMNS = 8, /* from here on floats are faster than bytes, for most types */
    AHEAD = 2048,     /* bytes to fetch early: left to itself the processor stops at the page's end */
};

enum { Q8_BLOCK = 32 };
struct q8_0 {
    uint16_t scale;
    int8_t weights[Q8_BLOCK];
};

/* Weights as floats: for each 8 of k, 8 of each of the four rows. */
typedef float Panel[DEPTH / 8][ROWS][8] __attribute__((aligned(64)));

struct layout { /* of weights of one type */
    int type;
    /* a row's weights, from k0 on, into their place in the panel; k0 and depth are multiples of a block */
    void (*unpack)(const void *row, int64_t k0, int depth, Panel panel, int place);
    int block;         /* weights */
    int bytes;         /* of a block */
    int least_columns; /* that are multiplied as floats */
};

/* NULL: weights of this type are llama.cpp's. */
const struct layout *layout_of(int type);

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) AVX2
#define EACH(i, count) _Pragma("GCC unroll 16") for (int i = 0; i < (count); i++)

enum { LANES = 8 }; /* floats in a register */

/* The sums of four registers' lanes. */
INLINE __m128 four_sums(const __m256 lanes[4]) {
    __m128 s[4];
    EACH (r, 4) s[r] = _mm_add_ps(_mm256_castps256_ps128(lanes[r]), _mm256_extractf128_ps(lanes[r], 1));
    const __m128 low = _mm_add_ps(_mm_unpacklo_ps(s[0], s[1]), _mm_unpackhi_ps(s[0], s[1]));
    const __m128 high = _mm_add_ps(_mm_unpacklo_ps(s[2], s[3]), _mm_unpackhi_ps(s[2], s[3]));
    return _mm_add_ps(_mm_movelh_ps(low, high), _mm_movehl_ps(high, low));
}

INLINE float half(uint16_t bits) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits))); }
#endif
