/*
 * Attention of few queries over a cache of keys and values in 16 bits.
 *
 * llama.cpp takes a query head and a cell at a time: the key's and the value's numbers are widened again for each head
 * that shares them, sums are kept in 16 bits, and each cell costs an exponential of its own and a look at the mask.
 * Here up to four heads that share keys and values go together: what they have in common is widened once, a block of
 * visible cells is collected before anything is computed, and exponentials are taken for it at once. Sums are floats.
 *
 * The sums of a block come to those before it as in "Online normalizer calculation for softmax" (Milakov and
 * Gimelshein, 2018). It takes part as `ggml_compute_forward_flash_attn_ext`, in the way of matmul.c.
 */
#include "kernels.h"

#include <math.h>
#include <string.h>

enum {
    HEADS = 4,         /* that share keys and values and go together */
    BLOCK = 64,        /* visible cells at once, an even number: their values stay in the first cache */
    MOST_WIDTH = 256,  /* of a head */
    PART = 16,         /* of a head's width at once */
    HIDDEN = 0xFC00,   /* minus infinity in 16 bits: what the mask says of a cell that a query does not see */
    MANY_TOKENS = 128, /* from here on llama.cpp's tiles are faster, if queries see much the same cells */
    SAMPLED = 8,       /* of many tokens' masks */
};

struct heads { /* one of queries, keys or values: where the numbers of a head and a token (or cell) are */
    const char *data;
    size_t next_token, next_head; /* in bytes */
};

struct task {
    struct heads q, k, v;
    const char *mask; /* NULL: every cell is seen */
    size_t next_mask; /* in bytes, from token to token */
    char *out;
    size_t next_out; /* in bytes, from head to head; a token's heads stand together */
    int64_t tokens, cells, query_heads, shared_heads;
    int width;
    float scale;
};

static bool read_task(const struct tensor *out, struct task *task) {
    const struct tensor *q = out->src[0], *k = out->src[1], *v = out->src[2], *mask = out->src[3], *sinks = out->src[4];
    float scale, slope, softcap;
    memcpy(&scale, out->op_params, sizeof scale);
    memcpy(&slope, out->op_params + 1, sizeof slope);
    memcpy(&softcap, out->op_params + 2, sizeof softcap);
    const int64_t width = q->ne[0];
    const bool plain = slope == 0 && softcap == 0 && !sinks && q->ne[3] == 1 && k->ne[3] == 1 && v->ne[3] == 1;
    const bool shaped = k->ne[0] == width && v->ne[0] == width && width <= MOST_WIDTH && width % PART == 0 &&
                        k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0 && k->ne[1] == v->ne[1];
    const bool typed = q->type == TYPE_F32 && k->type == TYPE_F16 && v->type == TYPE_F16 && out->type == TYPE_F32;
    const bool masked = !mask || (mask->type == TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == 1);
    if (!plain || !shaped || !typed || !masked) return false;
    *task = (struct task){
        .q = {q->data, q->nb[1], q->nb[2]},
        .k = {k->data, k->nb[1], k->nb[2]},
        .v = {v->data, v->nb[1], v->nb[2]},
        .mask = mask ? mask->data : NULL,
        .next_mask = mask ? mask->nb[1] : 0,
        .out = out->data,
        .next_out = out->nb[1],
        .tokens = q->ne[1],
        .cells = k->ne[1],
        .query_heads = q->ne[2],
        .shared_heads = k->ne[2],
        .width = (int)width,
        .scale = scale,
    };
    return true;
}

/* Whether most cells are seen by most tokens, as in one long prompt and unlike in many sequences' next tokens. */
static bool is_dense(const struct task *t) {
    if (!t->mask) return true;
    int64_t seen = 0;
    for (int64_t i = 0; i < SAMPLED; i++) {
        const uint16_t *mask = (const uint16_t *)(t->mask + i * (t->tokens - 1) / (SAMPLED - 1) * t->next_mask);
        for (int64_t cell = 0; cell < t->cells; cell++) seen += mask[cell] != HIDDEN;
    }
    return seen * 2 > SAMPLED * t->cells;
}

static bool is_for_few(const struct task *t, int threads) {
    if (t->tokens * t->shared_heads < threads) return false; /* llama.cpp shares cells out among threads */
    return t->tokens < MANY_TOKENS || !is_dense(t);
}

#if defined(__x86_64__)

struct block { /* of cells that the query sees */
    int count;
    int64_t cells[BLOCK];
    float masks[BLOCK];
    float scores[BLOCK][HEADS] __attribute__((aligned(32)));
};

struct sums { /* of up to four heads: weighted values, the weights' total, and the largest score so far */
    float queries[HEADS][MOST_WIDTH] __attribute__((aligned(32)));
    float values[HEADS][MOST_WIDTH] __attribute__((aligned(32)));
    __m128 total, most;
};

/* e^x for x <= 0; the polynomial is that of the Cephes library. */
INLINE __m256 exponential(__m256 x) {
    x = _mm256_max_ps(x, _mm256_set1_ps(-87.0f));
    const __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    x = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    x = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), x);
    __m256 y = _mm256_set1_ps(1.9875691500e-4f);
    y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(1.3981999507e-3f));
    y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(8.3334519073e-3f));
    y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(4.1665795894e-2f));
    y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(1.6666665459e-1f));
    y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(5.0000001201e-1f));
    y = _mm256_fmadd_ps(y, _mm256_mul_ps(x, x), _mm256_add_ps(x, _mm256_set1_ps(1.0f)));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(y, _mm256_castsi256_ps(power));
}

INLINE __m256 widened(const char *halves) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves)); }

/* The dot products of two cells' keys with each head's query. */
INLINE void score_two(const char *first, const char *second, const struct sums *s, int width, int heads,
                      float scores[2][HEADS]) {
    __m256 a[HEADS], b[HEADS];
    EACH (h, HEADS) a[h] = b[h] = _mm256_setzero_ps();
    for (int d = 0; d < width; d += LANES) {
        const __m256 one = widened(first + 2 * d), two = widened(second + 2 * d);
        EACH (h, heads) {
            const __m256 query = _mm256_load_ps(s->queries[h] + d);
            a[h] = _mm256_fmadd_ps(one, query, a[h]);
            b[h] = _mm256_fmadd_ps(two, query, b[h]);
        }
    }
    _mm_store_ps(scores[0], four_sums(a));
    _mm_store_ps(scores[1], four_sums(b));
}

/* Scores become weights, by the largest score so far; what earlier sums are to be multiplied by comes back. */
INLINE __m128 weigh(struct block *block, struct sums *s) {
    __m128 most = s->most;
    for (int i = 0; i < block->count; i++) {
        const __m128 score = _mm_add_ps(_mm_load_ps(block->scores[i]), _mm_set1_ps(block->masks[i]));
        _mm_store_ps(block->scores[i], score);
        most = _mm_max_ps(most, score);
    }
    if (block->count % 2) _mm_store_ps(block->scores[block->count], _mm_set1_ps(-INFINITY));
    const __m256 both = _mm256_set_m128(most, most);
    const __m128 factor = _mm256_castps256_ps128(exponential(_mm256_sub_ps(_mm256_set_m128(s->most, s->most), both)));
    __m256 total = _mm256_setzero_ps();
    for (int i = 0; i < block->count; i += 2) {
        const __m256 weight = exponential(_mm256_sub_ps(_mm256_load_ps(block->scores[i]), both));
        _mm256_store_ps(block->scores[i], weight);
        total = _mm256_add_ps(total, weight);
    }
    s->most = most;
    s->total =
        _mm_fmadd_ps(s->total, factor, _mm_add_ps(_mm256_castps256_ps128(total), _mm256_extractf128_ps(total, 1)));
    return factor;
}

INLINE void add_values(const struct task *t, const char *values, const struct block *block, struct sums *s, __m128 by,
                       int heads) {
    float factor[HEADS];
    _mm_storeu_ps(factor, by);
    for (int d = 0; d < t->width; d += PART) {
        __m256 low[HEADS], high[HEADS];
        EACH (h, heads) {
            low[h] = _mm256_mul_ps(_mm256_load_ps(s->values[h] + d), _mm256_set1_ps(factor[h]));
            high[h] = _mm256_mul_ps(_mm256_load_ps(s->values[h] + d + LANES), _mm256_set1_ps(factor[h]));
        }
        for (int i = 0; i < block->count; i++) {
            const char *value = values + block->cells[i] * (int64_t)t->v.next_token + 2 * d;
            const __m256 left = widened(value), right = widened(value + 2 * LANES);
            EACH (h, heads) {
                const __m256 weight = _mm256_broadcast_ss(&block->scores[i][h]);
                low[h] = _mm256_fmadd_ps(weight, left, low[h]);
                high[h] = _mm256_fmadd_ps(weight, right, high[h]);
            }
        }
        EACH (h, heads) {
            _mm256_store_ps(s->values[h] + d, low[h]);
            _mm256_store_ps(s->values[h] + d + LANES, high[h]);
        }
    }
}

INLINE void attend_block(const struct task *t, const char *keys, const char *values, struct block *block,
                         struct sums *s, int heads) {
    if (block->count == 0) return;
    if (block->count % 2) /* beside the last one itself again; `weigh` gives it no weight */
        block->cells[block->count] = block->cells[block->count - 1];
    for (int i = 0; i < block->count; i += 2)
        score_two(keys + block->cells[i] * (int64_t)t->k.next_token,
                  keys + block->cells[i + 1] * (int64_t)t->k.next_token, s, t->width, heads, block->scores + i);
    add_values(t, values, block, s, weigh(block, s), heads);
    block->count = 0;
}

INLINE void begin(const struct task *t, int64_t token, int64_t head, struct sums *s, int heads) {
    for (int h = 0; h < heads; h++) {
        const float *query = (const float *)(t->q.data + token * t->q.next_token + (head + h) * t->q.next_head);
        for (int d = 0; d < t->width; d += LANES) {
            const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(query + d), _mm256_set1_ps(t->scale));
            _mm256_store_ps(s->queries[h] + d, scaled);
            _mm256_store_ps(s->values[h] + d, _mm256_setzero_ps());
        }
    }
    s->total = _mm_setzero_ps();
    s->most = _mm_set1_ps(-INFINITY);
}

INLINE void finish(const struct task *t, int64_t token, int64_t head, const struct sums *s, int heads) {
    float total[HEADS];
    _mm_storeu_ps(total, s->total);
    for (int h = 0; h < heads; h++) {
        float *out = (float *)(t->out + (token * t->query_heads + head + h) * t->next_out);
        const __m256 by = _mm256_set1_ps(total[h] > 0 ? 1 / total[h] : 0); /* a query that sees nothing gets nothing */
        for (int d = 0; d < t->width; d += LANES)
            _mm256_storeu_ps(out + d, _mm256_mul_ps(_mm256_load_ps(s->values[h] + d), by));
    }
}

/* One token's heads that share keys and values, up to four of them. */
INLINE void attend(const struct task *t, int64_t token, int64_t head, int64_t shared, int heads) {
    struct sums s;
    struct block block;
    const char *keys = t->k.data + shared * t->k.next_head, *values = t->v.data + shared * t->v.next_head;
    const uint16_t *mask = t->mask ? (const uint16_t *)(t->mask + token * t->next_mask) : NULL;
    const __m256i hidden = _mm256_set1_epi16((short)HIDDEN);
    begin(t, token, head, &s, heads);
    block.count = 0;
    for (int64_t cell = 0; cell < t->cells;) {
        if (mask && cell + 16 <= t->cells) {
            const __m256i sixteen = _mm256_loadu_si256((const __m256i *)(mask + cell));
            if (_mm256_movemask_epi8(_mm256_cmpeq_epi16(sixteen, hidden)) == -1) {
                cell += 16;
                continue;
            }
        }
        const int64_t end = cell + 16 < t->cells ? cell + 16 : t->cells;
        for (; cell < end; cell++) {
            if (mask && mask[cell] == HIDDEN) continue;
            block.cells[block.count] = cell;
            block.masks[block.count] = mask ? half(mask[cell]) : 0;
            if (++block.count == BLOCK) attend_block(t, keys, values, &block, &s, heads);
        }
    }
    attend_block(t, keys, values, &block, &s, heads);
    finish(t, token, head, &s, heads);
}

/* A function for each number of heads, which the compiler unrolls its loops for. */
#define ATTEND(heads)                                                                                                  \
    AVX2 static void attend_##heads(const struct task *t, int64_t token, int64_t head, int64_t shared) {               \
        attend(t, token, head, shared, heads);                                                                         \
    }
ATTEND(1)
ATTEND(2)
ATTEND(3)
ATTEND(4)

/* All query heads of one token that share one head of keys and values. */
static void attend_shared(const struct task *t, int64_t token, int64_t shared) {
    static void (*const by_count[])(const struct task *, int64_t, int64_t, int64_t) = {attend_1, attend_2, attend_3,
                                                                                       attend_4};
    const int64_t each = t->query_heads / t->shared_heads;
    for (int64_t done = 0; done < each; done += HEADS)
        by_count[(each - done < HEADS ? each - done : HEADS) - 1](t, token, shared * each + done, shared);
}

#else /* on other processors everything is llama.cpp's */

static void attend_shared(const struct task *t, int64_t token, int64_t shared) { (void)t, (void)token, (void)shared; }

#endif

/* Attention (softmax(scale q k + mask) v, of each head) by every thread of a pool. */
EXPORT void ggml_compute_forward_flash_attn_ext(const struct params *params, struct tensor *out) {
    const struct plugin *ggml = plugin_at(__builtin_return_address(0));
    struct task task;
    if (!kernels_compute(params, ggml) || !read_task(out, &task) || !is_for_few(&task, params->nth)) {
        if (ggml->attend) ggml->attend(params, out);
        return;
    }
    const int64_t pieces = task.tokens * task.shared_heads;
    begin_pieces(params, ggml);
    for (int64_t i = params->ith; i < pieces; i = ggml->next_chunk(params->threadpool, 1))
        attend_shared(&task, i / task.shared_heads, i % task.shared_heads);
}

/* ---- for Python ---- */

/* The same by this thread alone, however many tokens there are. False: not of this kind. */
EXPORT bool appliance_attention(struct tensor *out) {
    struct task task;
    if (!read_task(out, &task)) return false;
    for (int64_t i = 0; i < task.tokens * task.shared_heads; i++)
        attend_shared(&task, i / task.shared_heads, i % task.shared_heads);
    return true;
}
