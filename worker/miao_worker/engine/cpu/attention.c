/* Attention on the paged pool: rotary positions, the write into the pool, and the softmax over
 * what is in sight; part of kernels.c. */

static void norm_and_rotate(const Layer *l, float *x, const float *norm, int64_t position) {
    int64_t half = l->rotary_dim / 2;
    if (norm) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < l->dim; i++) sum += x[i] * x[i];
        float factor = 1.0f / sqrtf(sum / l->dim + (float)l->norm_eps);
#pragma omp simd
        for (int64_t i = 0; i < l->dim; i++) x[i] *= factor * norm[i];
    }
    const float *c = l->cos + position * half, *s = l->sin + position * half;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * c[i] - b * s[i];
        x[i + half] = b * c[i] + a * s[i];
    }
}

/* Round a token's keys (dim,), which are used up, and its values into the pool. */
static void store_rounded(const Layer *l, int64_t head, int64_t offset, float *keys,
                          const void *values, int64_t from) {
    int dtype = (int)l->dtype;
    int64_t dim = l->dim, j = offset % TILE;
    uint8_t *key_tile = (uint8_t *)l->keys + (head * l->block_size + offset - j) * dim;
    uint8_t *value_tile = (uint8_t *)l->values + (head * l->block_size + offset - j) * dim;
    float v[MAX_DIM];
    for (int64_t i = 0; i < dim; i++) v[i] = load(values, from + i, dtype);
    l->key_scales[head * l->block_size + offset] = round_values(keys, dim);
    l->value_scales[head * l->block_size + offset] = round_values(v, dim);
    for (int64_t i = 0; i < dim; i++) {
        int64_t key = i * TILE + j, value = j * dim + i;
        if (dtype == BFLOAT16) {
            key = i / 2 * 2 * TILE + j * 2 + i % 2;
            value = j / 2 * 2 * dim + i * 2 + j % 2;
        }
        key_tile[byte_place(key, dtype)] = byte_of(keys[i], dtype);
        value_tile[byte_place(value, dtype)] = byte_of(v[i], dtype);
    }
}

static void prepare_token(const Layer *l, const Step *step, int64_t token, const void *qkv,
                          void *queries) {
    int dtype = (int)l->dtype;
    int64_t dim = l->dim, offset = step->positions[token] % l->block_size;
    int64_t width = (l->heads + 2 * l->kv_heads) * dim;
    float x[MAX_DIM];
    for (int64_t h = 0; h < l->heads + l->kv_heads; h++) {
        int64_t from = token * width + h * dim;
        for (int64_t i = 0; i < dim; i++) x[i] = load(qkv, from + i, dtype);
        int is_query = h < l->heads;
        norm_and_rotate(l, x, is_query ? l->query_norm : l->key_norm, step->positions[token]);
        if (is_query) {
            int64_t to = (token * l->heads + h) * dim;
            for (int64_t i = 0; i < dim; i++) store(queries, to + i, x[i], dtype);
            continue;
        }
        int64_t head = step->blocks[token] * l->kv_heads + h - l->heads;
        int64_t tile = (head * l->block_size + offset / TILE * TILE) * dim, j = offset % TILE;
        if (l->key_scales) {
            store_rounded(l, head, offset, x, qkv, from + l->kv_heads * dim);
            continue;
        }
        if (dtype == BFLOAT16) {
            bf16 *keys = (bf16 *)l->keys + tile;
            for (int64_t i = 0; i < dim; i++)
                keys[i / 2 * 2 * TILE + j * 2 + i % 2] = narrow(x[i]);
        } else {
            float *keys = (float *)l->keys + tile;
            for (int64_t i = 0; i < dim; i++) keys[i * TILE + j] = x[i];
        }
        int64_t value = from + l->kv_heads * dim;
        if (dtype == BFLOAT16) {
            bf16 *values = (bf16 *)l->values + tile + j / 2 * 2 * dim + j % 2;
            for (int64_t i = 0; i < dim; i++) values[2 * i] = ((const bf16 *)qkv)[value + i];
        } else {
            memcpy((float *)l->values + tile + j * dim, (const float *)qkv + value, dim * 4);
        }
    }
}

/* ---- attention: one tile ------------------------------------------------------- */

/* scores (rows, SPAN) at a tile's 16 columns = queries (rows, dim) . keys */
static void scores_f32(const float *const *queries, int rows, const float *keys, int64_t dim,
                       float *scores) {
    for (int r = 0; r < rows; r++) {
        float sum[TILE] = {0};
        const float *q = queries[r];
        for (int64_t i = 0; i < dim; i++) {
#pragma omp simd
            for (int j = 0; j < TILE; j++) sum[j] += q[i] * keys[i * TILE + j];
        }
        memcpy(scores + r * SPAN, sum, sizeof sum);
    }
}

/* out (rows, dim) += weights (rows, SPAN) at a tile's columns . values */
static void outputs_f32(const float *weights, int rows, const float *values, int64_t dim,
                        float *out) {
    for (int r = 0; r < rows; r++) {
        const float *w = weights + r * SPAN;
        float *o = out + r * dim;
        for (int j = 0; j < TILE; j++) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) o[i] += w[j] * values[j * dim + i];
        }
    }
}

#if defined(__AVX512BF16__)

static inline __m512bh both(const void *pair) { /* the pair in every lane */
    return (__m512bh)_mm512_set1_epi32(*(const int32_t *)pair);
}

#define UNROLL _Pragma("GCC unroll 16")

static inline __attribute__((always_inline)) void scores_of(const int rows,
                                                            const bf16 *const *queries,
                                                            const bf16 *keys, int64_t dim,
                                                            float *scores) {
    __m512 sum[8];
    UNROLL for (int r = 0; r < rows; r++) sum[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < dim; i += 2) {
        __m512bh k = (__m512bh)_mm512_loadu_si512(keys + i * TILE);
        UNROLL for (int r = 0; r < rows; r++)
            sum[r] = _mm512_dpbf16_ps(sum[r], k, both(queries[r] + i));
    }
    UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(scores + r * SPAN, sum[r]);
}

static void scores_bf16(const bf16 *const *queries, int rows, const bf16 *keys, int64_t dim,
                        float *scores) {
    for (; rows >= 8; rows -= 8, queries += 8, scores += 8 * SPAN)
        scores_of(8, queries, keys, dim, scores);
    switch (rows) {
    case 7: scores_of(7, queries, keys, dim, scores); break;
    case 6: scores_of(6, queries, keys, dim, scores); break;
    case 5: scores_of(5, queries, keys, dim, scores); break;
    case 4: scores_of(4, queries, keys, dim, scores); break;
    case 3: scores_of(3, queries, keys, dim, scores); break;
    case 2: scores_of(2, queries, keys, dim, scores); break;
    case 1: scores_of(1, queries, keys, dim, scores); break;
    }
}

static inline __attribute__((always_inline)) void outputs_of(const int rows, const int lanes,
                                                             const bf16 *weights,
                                                             const bf16 *const *tiles,
                                                             int num_tiles, int64_t dim,
                                                             float *out) {
    __m512 sum[4][4];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < lanes; c++) sum[r][c] = _mm512_loadu_ps(out + r * dim + c * 16);
    for (int t = 0; t < num_tiles; t++) {
        for (int j = 0; j < TILE; j += 2) {
            const bf16 *v = tiles[t] + j * dim;
            __m512bh values[4];
            UNROLL for (int c = 0; c < lanes; c++)
                values[c] = (__m512bh)_mm512_loadu_si512(v + c * 32);
            UNROLL for (int r = 0; r < rows; r++) {
                __m512bh w = both(weights + r * SPAN + t * TILE + j);
                UNROLL for (int c = 0; c < lanes; c++)
                    sum[r][c] = _mm512_dpbf16_ps(sum[r][c], values[c], w);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < lanes; c++) _mm512_storeu_ps(out + r * dim + c * 16, sum[r][c]);
}

/* out (rows, dim) += weights (rows, SPAN) . the values of several tiles */
static void outputs_bf16(const bf16 *weights, int rows, const bf16 *const *tiles, int num_tiles,
                         int64_t dim, float *out) {
    for (int r = 0; r < rows; r += 4) {
        int count = rows - r < 4 ? rows - r : 4;
        for (int64_t i = 0; i < dim; i += 64) {
            const bf16 *shifted[SPAN / TILE];
            for (int t = 0; t < num_tiles; t++) shifted[t] = tiles[t] + 2 * i;
            const bf16 *w = weights + r * SPAN;
            float *o = out + r * dim + i;
            int lanes = dim - i < 64 ? (int)(dim - i) / 16 : 4;
#define CASE(ROWS, LANES) \
    case ROWS * 8 + LANES: outputs_of(ROWS, LANES, w, shifted, num_tiles, dim, o); break;
            switch (count * 8 + lanes) {
                CASE(1, 1) CASE(1, 2) CASE(1, 3) CASE(1, 4)
                CASE(2, 1) CASE(2, 2) CASE(2, 3) CASE(2, 4)
                CASE(3, 1) CASE(3, 2) CASE(3, 3) CASE(3, 4)
                CASE(4, 1) CASE(4, 2) CASE(4, 3) CASE(4, 4)
            }
        }
    }
}

#else

static void scores_bf16(const bf16 *const *queries, int rows, const bf16 *keys, int64_t dim,
                        float *scores) {
    for (int r = 0; r < rows; r++) {
        float sum[TILE] = {0};
        for (int64_t i = 0; i < dim; i += 2) {
            float even = widen(queries[r][i]), odd = widen(queries[r][i + 1]);
            const bf16 *k = keys + i * TILE;
#pragma omp simd
            for (int j = 0; j < TILE; j++)
                sum[j] += even * widen(k[2 * j]) + odd * widen(k[2 * j + 1]);
        }
        memcpy(scores + r * SPAN, sum, sizeof sum);
    }
}

static void outputs_bf16(const bf16 *weights, int rows, const bf16 *const *tiles, int num_tiles,
                         int64_t dim, float *out) {
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < num_tiles; t++)
            for (int j = 0; j < TILE; j += 2) {
                const bf16 *w = weights + r * SPAN + t * TILE + j, *v = tiles[t] + j * dim;
                float even = widen(w[0]), odd = widen(w[1]), *o = out + r * dim;
#pragma omp simd
                for (int64_t i = 0; i < dim; i++)
                    o[i] += even * widen(v[2 * i]) + odd * widen(v[2 * i + 1]);
            }
}

#endif

/* ---- attention: one task --------------------------------------------------------- */

typedef struct {
    float scores[AT_ONCE * SPAN];
    bf16 weights[AT_ONCE * SPAN];
    float best[MAX_ROWS], total[MAX_ROWS]; /* of the running softmax; */
    float out[MAX_ROWS * MAX_DIM];         /* what it adds up to */
    float value_scales[SPAN];         /* of a rounded pool, and its numbers: */
    float key_tile[TILE * MAX_DIM];   /* one tile's keys, */
    float values[SPAN * MAX_DIM];     /* the span's values, of a rounded pool or for tiles */
    bf16 queries[MAX_ROWS * MAX_DIM]; /* the task's, for tiles */
} Scratch;

/* The queries of some tokens of a sequence, of all heads that share one kv head: row r is of
 * token r / group. */
typedef struct {
    int64_t token, num_tokens, kv_head, group, start; /* start: the first token's position */
    const int64_t *table;
} Task;

/* Where a row lies among the step's queries and outputs. */
static int64_t row_place(const Layer *l, const Task *task, int row) {
    int64_t head = task->kv_head * task->group + row % task->group;
    return ((task->token + row / task->group) * l->heads + head) * l->dim;
}

#include "softmax.c"

/* Weights of values that have scales. */
static void scale_weights(const Layer *l, Scratch *s, int rows, int count) {
    for (int r = 0; r < rows; r++) {
        float *row = s->scores + r * SPAN;
        bf16 *weights = s->weights + r * SPAN;
        if (l->dtype == BFLOAT16) {
#pragma omp simd
            for (int j = 0; j < count; j++)
                weights[j] = narrow(widen(weights[j]) * s->value_scales[j]);
        } else {
#pragma omp simd
            for (int j = 0; j < count; j++) row[j] *= s->value_scales[j];
        }
    }
}

/* Scores (rows, SPAN) of a tile whose keys have scales. */
static void scale_scores(float *scores, int rows, const float *scales) {
    for (int r = 0; r < rows; r++)
#pragma omp simd
        for (int j = 0; j < TILE; j++) scores[r * SPAN + j] *= scales[j];
}

/* Where a tile of 16 tokens begins in the pool, in values. */
static int64_t tile_place(const Layer *l, const int64_t *table, int64_t kv_head, int64_t token) {
    int64_t head = table[token / l->block_size] * l->kv_heads + kv_head;
    return (head * l->block_size + token % l->block_size) * l->dim;
}

/* Bring a tile nearer. */
static inline void bring(const void *pool, int64_t tile, int64_t dim, int size) {
    const char *at = (const char *)pool + tile * size;
    for (int64_t i = 0; i < TILE * dim * size; i += 64) __builtin_prefetch(at + i);
}

#if defined(__AMX_TILE__)
#include "attention_tiles.c"
#endif

/* Some rows of a task, on vectors. */
static void attend_on_vectors(const Layer *l, const Task *task, Rows some, int64_t from,
                              const void *queries, Scratch *s) {
    int64_t dim = l->dim, last = task->start + task->num_tokens - 1;
    int rows = some.count, size = l->dtype == BFLOAT16 ? 2 : 4;
    float *out = s->out + some.first * dim;
    const void *row_queries[AT_ONCE];
    for (int r = 0; r < rows; r++)
        row_queries[r] = (const char *)queries + row_place(l, task, some.first + r) * size;
    for (int64_t first = from; first <= last; first += SPAN) {
        int64_t end = first + SPAN <= last + 1 ? first + SPAN : last + 1;
        int num_tiles = (int)((end - first + TILE - 1) / TILE), count = num_tiles * TILE;
        const void *value_tiles[SPAN / TILE];
        for (int t = 0; t < num_tiles; t++) {
            int64_t tile = tile_place(l, task->table, task->kv_head, first + t * TILE);
            const char *keys = (const char *)l->keys + tile * size;
            value_tiles[t] = (const char *)l->values + tile * size;
            int stored = l->key_scales ? 1 : size; /* bytes of a number in the pool */
            /* Blocks lie anywhere: there is no stream that the CPU could follow by itself. */
            if (task->num_tokens == 1 && t + 1 < num_tiles) {
                int64_t next = tile_place(l, task->table, task->kv_head, first + (t + 1) * TILE);
                bring(l->keys, next, dim, stored);
            }
            if (task->num_tokens == 1) bring(l->values, tile, dim, stored);
            if (l->key_scales) {
                widen_run((const uint8_t *)l->keys + tile, s->key_tile, TILE * dim, (int)l->dtype);
                keys = (const char *)s->key_tile;
            }
            if (l->dtype == BFLOAT16)
                scores_bf16((const bf16 *const *)row_queries, rows, (const bf16 *)keys, dim,
                            s->scores + t * TILE);
            else
                scores_f32((const float *const *)row_queries, rows, (const float *)keys, dim,
                           s->scores + t * TILE);
            if (l->key_scales) {
                char *values = (char *)s->values + t * TILE * dim * size;
                scale_scores(s->scores + t * TILE, rows, l->key_scales + tile / dim);
                widen_run((const uint8_t *)l->values + tile, values, TILE * dim, (int)l->dtype);
                memcpy(s->value_scales + t * TILE, l->value_scales + tile / dim, TILE * 4);
                value_tiles[t] = values;
            }
        }
        soften(l, s, task, some, first, count);
        if (l->key_scales) scale_weights(l, s, rows, count);
        if (l->dtype == BFLOAT16) {
            outputs_bf16(s->weights, rows, (const bf16 *const *)value_tiles, num_tiles, dim, out);
        } else {
            for (int t = 0; t < num_tiles; t++)
                outputs_f32(s->scores + t * TILE, rows, value_tiles[t], dim, out);
        }
    }
}

static void attend(const Layer *l, const Task *task, const void *queries, void *out, Scratch *s) {
    int64_t dim = l->dim, from = l->window ? task->start - l->window + 1 : 0;
    int rows = (int)(task->group * task->num_tokens);
    from = from < 0 ? 0 : from / SPAN * SPAN;
    for (int r = 0; r < MAX_ROWS; r++) s->best[r] = -INFINITY;
    for (int r = 0; r < rows; r++) s->total[r] = 0;
    memset(s->out, 0, rows * dim * sizeof(float));
#if defined(__AMX_TILE__)
    if (fits_tiles(l)) attend_on_tiles(l, task, rows, from, queries, s);
    else
#endif
    for (int row = 0; row < rows; row += AT_ONCE) {
        Rows some = {row, rows - row < AT_ONCE ? rows - row : AT_ONCE};
        attend_on_vectors(l, task, some, from, queries, s);
    }
    for (int r = 0; r < rows; r++) {
        int64_t to = row_place(l, task, r);
        float factor = 1.0f / s->total[r];
        if (l->dtype == BFLOAT16) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++)
                ((bf16 *)out)[to + i] = narrow(s->out[r * dim + i] * factor);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) ((float *)out)[to + i] = s->out[r * dim + i] * factor;
        }
    }
}

/* Work that is done before another thread has woken stays with this one. */
#define SMALL_PRODUCT 400000 /* multiplications */
#define SMALL_ATTENTION 100000 /* the keys that all queries see, times heads times dim */

static int is_small_attention(const Layer *l, const Step *step) {
    int64_t keys = 0;
    for (int64_t t = 0; t < step->num_tasks; t++) {
        const int64_t *task = step->tasks + t * 3;
        keys += (step->positions[task[1] + task[2] - 1] + 1) * task[2];
    }
    return keys * l->heads * l->dim < SMALL_ATTENTION;
}

/* A layer's attention for one step.
 *
 * qkv (tokens, heads + 2 kv_heads, dim) as the projection gives it; queries (tokens, heads,
 * dim) is working memory; out (tokens, heads, dim). First all keys and values go into the
 * pool, for sequences may share blocks within a step.
 */
void miao_attention(const Layer *l, const Step *step, const void *qkv, void *queries, void *out) {
    int64_t work = step->num_tasks * l->kv_heads;
#pragma omp parallel if (!is_small_attention(l, step))
    {
        Scratch scratch;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < step->num_tokens; t++) prepare_token(l, step, t, qkv, queries);
#pragma omp for schedule(dynamic)
        for (int64_t w = 0; w < work; w++) {
            const int64_t *part = step->tasks + w / l->kv_heads * 3;
            const Task task = {part[1], part[2], w % l->kv_heads, l->heads / l->kv_heads,
                               step->positions[part[1]],
                               step->tables + part[0] * step->table_width};
            attend(l, &task, queries, out, &scratch);
        }
#if defined(__AMX_TILE__)
        _tile_release();
#endif
    }
}

