/*
 * Products of weights with activations, for processors with AVX2 and FMA and without VNNI.
 *
 * llama.cpp quantizes activations to 8 bits and multiplies bytes, one row and one column at a time or a few. Without an
 * instruction for dot products of bytes (VNNI) two other ways are faster:
 *
 *   - Few columns (generation for few): four rows at once by up to three columns of bytes, llama.cpp's own arithmetic.
 *     It reads weights about as fast as the memory gives them.
 *   - Many columns (prompts, generation for many): four rows of weights are turned into floats once, which is exact,
 *     and multiplied by all columns. That is four instructions for 32 products where bytes take more than six, and
 *     activations stay as they are.
 *
 * It takes part as `llamafile_sgemm`, which ggml's processor backend asks before it computes by itself. The backend is a
 * plug-in that is loaded after this library, so that the dynamic linker binds its calls to the one here (symbol
 * interposition, ld.so(8)); what is not computed here goes on to the backend's own.
 *
 * Each sum runs over k in one order, whatever the number of columns: within each of the two ways, what a sequence gets
 * does not depend on how many others are computed beside it.
 */
#include "kernels.h"

enum {
    COLUMNS = 3,         /* 4 x 3 sums: with what is multiplied they fill the 16 registers */
    WIDTH = 48,          /* columns at once: their activations stay in the second cache */
    MOST_BLOCKS = 1024,  /* of a column of bytes */
    CHUNK_BYTES = 65536, /* of weights that a thread takes at once: they stay in the second cache */
};

struct product {  /* of floats */
    int64_t n, k; /* k in weights */
    const char *a;
    int64_t row_bytes;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    const struct layout *layout;
};

struct byte_product {
    int64_t n, blocks;
    const struct q8_0 *a;
    int64_t lda; /* in blocks, like ldb */
    const struct q8_0 *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
};

#if defined(__x86_64__)

typedef __m256 Sums[WIDTH][ROWS];

/* ---- floats: four rows by up to three columns ---- */

INLINE void put(float *c, __m128 sums, int rows) {
    if (rows == ROWS) {
        _mm_storeu_ps(c, sums);
    } else {
        float all[ROWS];
        _mm_storeu_ps(all, sums);
        for (int r = 0; r < rows; r++) c[r] = all[r];
    }
}

struct tile {
    const float *b; /* of the first column, at k0 */
    int64_t ldb;
    float *c; /* of the first column, at the first row */
    int64_t ldc;
    int depth, rows;
    bool first, last; /* whether sums start here, and end here */
};

INLINE void multiply(const Panel panel, const struct tile *t, Sums sums, int columns) {
    __m256 s[COLUMNS][ROWS];
    EACH (j, columns)
        EACH (r, ROWS) s[j][r] = t->first ? _mm256_setzero_ps() : sums[j][r];
    for (int i = 0; i < t->depth / LANES; i++) {
        __m256 b[COLUMNS];
        EACH (j, columns) b[j] = _mm256_loadu_ps(t->b + j * t->ldb + i * LANES);
        EACH (r, ROWS) {
            const __m256 a = _mm256_load_ps(panel[i][r]);
            EACH (j, columns) s[j][r] = _mm256_fmadd_ps(a, b[j], s[j][r]);
        }
    }
    EACH (j, columns) {
        if (t->last)
            put(t->c + j * t->ldc, four_sums(s[j]), t->rows);
        else
            EACH (r, ROWS) sums[j][r] = s[j][r];
    }
}

/* A function for each number of columns, which the compiler unrolls its loops for. */
#define MULTIPLY_BY(columns)                                                                                           \
    AVX2 static void multiply_by_##columns(const Panel panel, const struct tile *t, Sums sums) {                       \
        multiply(panel, t, sums, columns);                                                                             \
    }
MULTIPLY_BY(3)
MULTIPLY_BY(2)
MULTIPLY_BY(1)

/* ---- floats: all columns ---- */

AVX2 static void multiply_panel(const struct product *p, const Panel panel, Sums sums, int64_t row, int rows,
                                int64_t column, int columns, int64_t k0, int depth) {
    struct tile t = {p->b + column * p->ldb + k0, p->ldb, p->c + column * p->ldc + row, p->ldc, depth, rows, k0 == 0,
                     k0 + depth == p->k};
    int done = 0;
    for (; columns - done >= COLUMNS; done += COLUMNS, t.b += COLUMNS * t.ldb, t.c += COLUMNS * t.ldc)
        multiply_by_3(panel, &t, sums + done);
    if (columns - done == 2) multiply_by_2(panel, &t, sums + done);
    if (columns - done == 1) multiply_by_1(panel, &t, sums + done);
}

AVX2 static void multiply_rows(const struct product *p, int64_t from, int64_t to) {
    Panel panel;
    Sums sums;
    for (int64_t column = 0; column < p->n; column += WIDTH) {
        const int columns = p->n - column < WIDTH ? (int)(p->n - column) : WIDTH;
        for (int64_t row = from; row < to; row += ROWS) {
            const int rows = to - row < ROWS ? (int)(to - row) : ROWS;
            for (int64_t k0 = 0; k0 < p->k; k0 += DEPTH) {
                const int depth = p->k - k0 < DEPTH ? (int)(p->k - k0) : DEPTH;
                for (int r = 0; r < ROWS; r++) /* past the last row its weights again; `put` leaves them out */
                    p->layout->unpack(p->a + (row + (r < rows ? r : 0)) * p->row_bytes, k0, depth, panel, r);
                multiply_panel(p, panel, sums, row, rows, column, columns, k0, depth);
            }
        }
    }
}

/* ---- bytes: four rows by up to three columns ---- */

/* The scales of one block of each row. */
INLINE __m128 four_scales(const struct q8_0 *const row[ROWS], int64_t block) {
    __m128i halves = _mm_cvtsi32_si128(row[0][block].scale);
    halves = _mm_insert_epi16(halves, row[1][block].scale, 1);
    halves = _mm_insert_epi16(halves, row[2][block].scale, 2);
    halves = _mm_insert_epi16(halves, row[3][block].scale, 3);
    return _mm_cvtph_ps(halves);
}

/* The dot product of 32 bytes, in eight parts; `size` is `weights` without their signs. */
INLINE __m256 dot(__m256i weights, __m256i size, const struct q8_0 *activations) {
    const __m256i signed_by = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)activations->weights), weights);
    const __m256i pairs = _mm256_maddubs_epi16(size, signed_by);
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void multiply_bytes(const struct byte_product *p, const float *scales, int64_t from, int64_t to, int64_t column,
                           int columns) {
    const int64_t blocks = p->blocks, ldb = p->ldb;
    const struct q8_0 *b = p->b + column * ldb;
    for (int64_t at = from; at < to; at += ROWS) {
        const int rows = to - at < ROWS ? (int)(to - at) : ROWS;
        const struct q8_0 *row[ROWS];
        for (int r = 0; r < ROWS; r++) row[r] = p->a + (at + (r < rows ? r : 0)) * p->lda;
        const char *next = (const char *)(row[0] + ROWS * p->lda);
        __m256 s[COLUMNS][ROWS];
        EACH (j, columns)
            EACH (r, ROWS) s[j][r] = _mm256_setzero_ps();
        for (int64_t i = 0; i < blocks; i++, next += ROWS * sizeof(struct q8_0)) {
            _mm_prefetch(next, _MM_HINT_T0); /* four rows from their beginning to their end, as the memory likes it */
            _mm_prefetch(next + 64, _MM_HINT_T0);
            const __m128 of_rows = four_scales(row, i);
            float scale[COLUMNS][ROWS] __attribute__((aligned(16)));
            EACH (j, columns) _mm_store_ps(scale[j], _mm_mul_ps(of_rows, _mm_set1_ps(scales[j * blocks + i])));
            EACH (r, ROWS) {
                const __m256i weights = _mm256_loadu_si256((const __m256i *)row[r][i].weights);
                const __m256i size = _mm256_abs_epi8(weights);
                EACH (j, columns) {
                    const __m256 parts = dot(weights, size, b + j * ldb + i);
                    s[j][r] = _mm256_fmadd_ps(parts, _mm256_broadcast_ss(&scale[j][r]), s[j][r]);
                }
            }
        }
        EACH (j, columns) put(p->c + (column + j) * p->ldc + at, four_sums(s[j]), rows);
    }
}

AVX2 static void multiply_byte_rows(const struct byte_product *p, int64_t from, int64_t to) {
    float all[(MANY_COLUMNS - 1) * MOST_BLOCKS];
    for (int64_t j = 0; j < p->n; j++)
        for (int64_t i = 0; i < p->blocks; i++) all[j * p->blocks + i] = half(p->b[j * p->ldb + i].scale);
    for (int64_t column = 0; column < p->n;) {
        const int64_t left = p->n - column;
        const float *scales = all + column * p->blocks;
        if (left == 1) { /* each width by its name, for the same reason */
            multiply_bytes(p, scales, from, to, column, 1);
            column += 1;
        } else if (left % 2 == 0) {
            multiply_bytes(p, scales, from, to, column, 2);
            column += 2;
        } else {
            multiply_bytes(p, scales, from, to, column, 3);
            column += 3;
        }
    }
}

#else /* on other processors everything is llama.cpp's */

static void multiply_rows(const struct product *p, int64_t from, int64_t to) { (void)p, (void)from, (void)to; }
static void multiply_byte_rows(const struct byte_product *p, int64_t from, int64_t to) {
    (void)p, (void)from, (void)to;
}

#endif

/* ---- in ggml's place ---- */

static bool are_floats(const struct layout *layout, int64_t n, int64_t k, int b_type) {
    return layout && b_type == TYPE_F32 && n >= layout->least_columns && k * layout->block % 8 == 0;
}

static bool are_bytes(const struct layout *layout, int64_t n, int64_t k, int a_type, int b_type) {
    return layout && a_type == TYPE_Q8_0 && b_type == TYPE_Q8_0 && n < MANY_COLUMNS && k <= MOST_BLOCKS;
}

/* Rows for a thread at a time: few enough that none waits long for another at the end. */
static int64_t chunk_of(int64_t m, int64_t row_bytes, int threads) {
    const int64_t fair = m / (threads * 4), near = CHUNK_BYTES / row_bytes, chunk = fair < near ? fair : near;
    return chunk < ROWS ? ROWS : chunk / ROWS * ROWS;
}

/*
 * C (m x n, column by column) = A (m rows of weights) x B (n columns of activations), by every thread of a pool, each
 * its chunks. k is in blocks of A's type; lda and ldb are in blocks of their types, ldc in floats. False: nothing was
 * done, and ggml goes on by itself: with activations as bytes where they were floats, or with single dot products.
 */
EXPORT bool llamafile_sgemm(const struct params *params, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                            const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type) {
    const struct plugin *ggml = plugin_at(__builtin_return_address(0));
    const struct layout *layout = kernels_compute(params, ggml) && c_type == TYPE_F32 ? layout_of(a_type) : NULL;
    const bool floats = are_floats(layout, n, k, b_type), bytes = are_bytes(layout, n, k, a_type, b_type);
    if (!floats && !bytes)
        return ggml->multiply && ggml->multiply(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
    const int64_t chunk = chunk_of(m, lda * layout->bytes, params->nth);
    begin_pieces(params, ggml);
    for (int64_t at = params->ith * chunk; at < m; at = ggml->next_chunk(params->threadpool, 1) * chunk) {
        const int64_t end = at + chunk < m ? at + chunk : m;
        if (floats)
            multiply_rows(&(struct product){n, k * layout->block, a, lda * layout->bytes, b, ldb, c, ldc, layout}, at,
                          end);
        else
            multiply_byte_rows(&(struct byte_product){n, k, a, lda, b, ldb, c, ldc}, at, end);
    }
    ggml->barrier(params->threadpool); /* before the next product sets its first chunk */
    return true;
}

/* True: the product was computed. ggml asks this before `llamafile_sgemm`; what that is to have is declined here. */
EXPORT bool ggml_compute_forward_mul_mat_tiled(const struct params *params, struct tensor *out) {
    const struct plugin *ggml = plugin_at(__builtin_return_address(0));
    const struct tensor *a = out->src[0], *b = out->src[1];
    const struct layout *layout = kernels_compute(params, ggml) ? layout_of(a->type) : NULL;
    const bool rows_follow = b->nb[1] == b->ne[0] * sizeof(float);
    if (layout && rows_follow && are_floats(layout, b->ne[1], a->ne[0] / layout->block, b->type)) return false;
    return ggml->multiply_in_tiles && ggml->multiply_in_tiles(params, out);
}

/* ---- for Python ---- */

/* One product of floats by this thread alone; k in weights, lda in bytes. False: not with weights of this type. */
EXPORT bool appliance_matmul_floats(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, int a_type,
                                    const float *b, int64_t ldb, float *c, int64_t ldc) {
    const struct layout *layout = layout_of(a_type);
    if (!layout || k % layout->block || k % 8) return false;
    multiply_rows(&(struct product){n, k, a, lda, b, ldb, c, ldc, layout}, 0, m);
    return true;
}

/* One product of bytes, Q8_0 by Q8_0, by this thread alone; k, lda and ldb in blocks. False: too many of them. */
EXPORT bool appliance_matmul_bytes(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                                   int64_t ldb, float *c, int64_t ldc) {
    if (!are_bytes(layout_of(TYPE_Q8_0), n, k, TYPE_Q8_0, TYPE_Q8_0)) return false;
    multiply_byte_rows(&(struct byte_product){n, k, a, lda, b, ldb, c, ldc}, 0, m);
    return true;
}
