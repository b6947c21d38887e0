/* The parts of a decoder layer between its matrix products, for CPUs.
 *
 * Plain C with no dependency: the Python side hands over addresses of torch's
 * memory. Compiled once for each level of instruction set (see worker/build_kernels.py); threads
 * are OpenMP's, of the same pool that torch's products run on.
 *
 * Activations and the pool of keys and values are float32 or bfloat16, sums and
 * the residual stream float32. Everything is row-major and contiguous.
 *
 * The pool. A block of one key-value head holds tiles of 16 tokens, laid out so
 * that a tile's products need no sum across a vector's lanes:
 *
 *     bfloat16:  keys (dim / 2, 16, 2)   values (8, dim, 2)
 *     float32:   keys (dim, 16)          values (16, dim)
 *
 * so 16 scores grow together, two dimensions at a time, and the output's
 * dimensions grow together, two tokens at a time. A rounded pool holds the same in bytes
 * (bytes.c), with a scale for each token's keys and one for its values.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#define TILE 16      /* tokens of a tile */
#define SPAN 128     /* tokens whose scores are held at once */
#define MAX_ROWS 32  /* queries times heads of one task */
#define MAX_DIM 256

/* The checksum of this file: a library of another version is not called. */
const char miao_source[] = MIAO_SOURCE;

typedef uint16_t bf16;
enum { FLOAT32 = 0, BFLOAT16 = 1 };
enum { SILU = 0, GELU_TANH = 1 };

typedef struct {
    int64_t dtype, heads, kv_heads, dim, rotary_dim, block_size, window; /* window 0: none */
    double scale, softcap, norm_eps;                                     /* softcap 0: none */
    const float *query_norm, *key_norm; /* (dim,) or NULL */
    const float *cos, *sin;             /* (positions, rotary_dim / 2) */
    void *keys, *values;                /* the layer's pool */
    float *key_scales, *value_scales;   /* (blocks, kv_heads, block_size), rounded; or NULL */
} Layer;

typedef struct {
    int64_t num_tokens, num_sequences, table_width, num_tasks;
    const int64_t *positions; /* (tokens,) */
    const int64_t *blocks;    /* (tokens,) the block that each is written to */
    const int64_t *starts;    /* (sequences + 1,) first token of each in the row */
    const int64_t *tables;    /* (sequences, table_width) */
    const int64_t *tasks;     /* (tasks, 3) sequence, first token, tokens */
} Step;

static inline float widen(bf16 x) {
    union { uint32_t i; float f; } u = {(uint32_t)x << 16};
    return u.f;
}

static inline bf16 narrow(float x) { /* to nearest even; keeps NaN */
    union { float f; uint32_t i; } u = {x};
    uint32_t rounded = (u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16;
    return x != x ? 0x7fc0 : (bf16)rounded;
}

static inline float load(const void *x, int64_t i, int dtype) {
    return dtype == BFLOAT16 ? widen(((const bf16 *)x)[i]) : ((const float *)x)[i];
}

static inline void store(void *x, int64_t i, float value, int dtype) {
    if (dtype == BFLOAT16) ((bf16 *)x)[i] = narrow(value);
    else ((float *)x)[i] = value;
}

#include "bytes.c"

/* exp with a relative error below 3e-7 (Cody and Waite's reduction, a polynomial of
 * degree 6); plain enough for the compiler to vectorise. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union { float f; int32_t i; } u = {p};
    u.i += (int32_t)n << 23;
    return u.f;
}

static inline float tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

/* ---- norms ------------------------------------------------------------------ */

#define DEFINE_ADD_RMS_NORM(NAME, DTYPE)                                                        \
    static void NAME(float *restrict residual, const void *restrict delta,                      \
                     const float *restrict delta_weight, const float *restrict weight,          \
                     float eps, void *restrict out, int64_t n) {                                \
        float sum = 0, factor = 1;                                                              \
        if (delta && delta_weight) {                                                            \
            _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)              \
                sum += load(delta, i, DTYPE) * load(delta, i, DTYPE);                           \
            factor = 1.0f / sqrtf(sum / n + eps);                                               \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                 \
                residual[i] += load(delta, i, DTYPE) * factor * delta_weight[i];                \
        } else if (delta) {                                                                     \
            _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                 \
                residual[i] += load(delta, i, DTYPE);                                           \
        }                                                                                       \
        sum = 0;                                                                                \
        _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++)                  \
            sum += residual[i] * residual[i];                                                   \
        factor = 1.0f / sqrtf(sum / n + eps);                                                   \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++)                                     \
            store(out, i, residual[i] * factor * weight[i], DTYPE);                             \
    }
DEFINE_ADD_RMS_NORM(add_rms_norm_f32, FLOAT32)
DEFINE_ADD_RMS_NORM(add_rms_norm_bf16, BFLOAT16)

/* residual (rows, n) += delta (rows, n), where given, itself normed first where it has a
 * weight; out (rows, n) = residual's RMS norm times weight (n,). */
void miao_add_rms_norm(float *residual, const void *delta, const float *delta_weight,
                       const float *weight, double eps, void *out, int64_t rows, int64_t n,
                       int64_t dtype) {
    int64_t size = dtype == BFLOAT16 ? 2 : 4;
#pragma omp parallel for if (rows * n > 16384)
    for (int64_t r = 0; r < rows; r++) {
        const void *d = delta ? (const char *)delta + r * n * size : 0;
        void *o = (char *)out + r * n * size;
        (dtype == BFLOAT16 ? add_rms_norm_bf16 : add_rms_norm_f32)(
            residual + r * n, d, delta_weight, weight, (float)eps, o, n);
    }
}

/* ---- the gated activation ---------------------------------------------------- */

#define DEFINE_GATE(NAME, DTYPE, ACTIVATION)                                                      \
    static void NAME(const void *restrict gate, const void *restrict up, void *restrict out,      \
                     int64_t n) {                                                                 \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                     \
            float x = load(gate, i, DTYPE);                                                       \
            store(out, i, (ACTIVATION) * load(up, i, DTYPE), DTYPE);                              \
        }                                                                                         \
    }
#define SILU_OF_X (x / (1.0f + exponential(-x)))
#define GELU_TANH_OF_X \
    (0.5f * x * (1.0f + tangent(0.79788456f * (x + 0.044715f * x * x * x))))
DEFINE_GATE(silu_f32, FLOAT32, SILU_OF_X)
DEFINE_GATE(silu_bf16, BFLOAT16, SILU_OF_X)
DEFINE_GATE(gelu_tanh_f32, FLOAT32, GELU_TANH_OF_X)
DEFINE_GATE(gelu_tanh_bf16, BFLOAT16, GELU_TANH_OF_X)

/* out (rows, n) = activation(gate) * up, of gate_up (rows, 2 n) with the gate first. */
void miao_gated_activation(const void *gate_up, void *out, int64_t rows, int64_t n,
                           int64_t activation, int64_t dtype) {
    int64_t size = dtype == BFLOAT16 ? 2 : 4;
#pragma omp parallel for if (rows * n > 8192)
    for (int64_t r = 0; r < rows; r++) {
        const char *gate = (const char *)gate_up + 2 * r * n * size;
        char *o = (char *)out + r * n * size;
        if (dtype == BFLOAT16)
            (activation == SILU ? silu_bf16 : gelu_tanh_bf16)(gate, gate + n * size, o, n);
        else
            (activation == SILU ? silu_f32 : gelu_tanh_f32)(gate, gate + n * size, o, n);
    }
}

/* ---- attention: rotary positions, the write into the pool --------------------- */

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
    float scores[MAX_ROWS * SPAN];
    bf16 weights[MAX_ROWS * SPAN];
    float out[MAX_ROWS * MAX_DIM];
    float best[MAX_ROWS], total[MAX_ROWS];
    float value_scales[SPAN];      /* of a rounded pool, and its numbers: */
    float key_tile[TILE * MAX_DIM]; /* one tile's keys, */
    float values[SPAN * MAX_DIM];   /* the span's values */
} Scratch;

/* One row's scores of the keys from `first`: scaled, masked, made weights of the
 * running softmax (Milakov and Gimelshein, "Online normalizer calculation for
 * softmax", 2018); its output so far is scaled to the new maximum. */
static void soften(const Layer *l, Scratch *s, int r, int64_t first, int count, int64_t position) {
    float *row = s->scores + r * SPAN;
    int64_t low = l->window ? position - l->window + 1 - first : 0, high = position + 1 - first;
    low = low < 0 ? 0 : low > count ? count : low;
    high = high < low ? low : high > count ? count : high;
    float scale = (float)l->scale, best = s->best[r], sum = 0;
    if (l->softcap > 0) {
        float cap = (float)l->softcap;
#pragma omp simd
        for (int j = 0; j < count; j++) row[j] = tangent(row[j] * scale / cap) * cap;
        scale = 1;
    }
#pragma omp simd reduction(max : best)
    for (int64_t j = low; j < high; j++) best = row[j] * scale > best ? row[j] * scale : best;
    bf16 *weights = s->weights + r * SPAN;
    if (low >= high) { /* nothing of this span is in sight */
        memset(row, 0, count * sizeof *row);
        memset(weights, 0, count * sizeof *weights);
        return;
    }
    for (int64_t j = 0; j < low; j++) row[j] = -INFINITY;
    for (int64_t j = high; j < count; j++) row[j] = -INFINITY;
    if (l->dtype == BFLOAT16) {
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < count; j++) {
            float x = row[j] * scale - best, w = x < -80.0f ? 0.0f : exponential(x);
            weights[j] = narrow(w);
            sum += w;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < count; j++) {
            float x = row[j] * scale - best, w = x < -80.0f ? 0.0f : exponential(x);
            row[j] = w;
            sum += w;
        }
    }
    float fade = s->best[r] == -INFINITY ? 0.0f : exponential(s->best[r] - best);
    if (fade != 1.0f) {
        float *out = s->out + r * l->dim;
#pragma omp simd
        for (int64_t i = 0; i < l->dim; i++) out[i] *= fade;
    }
    s->best[r] = best;
    s->total[r] = s->total[r] * fade + sum;
}

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

/* Bring a tile nearer. */
static inline void bring(const void *pool, int64_t tile, int64_t dim, int size) {
    const char *at = (const char *)pool + tile * size;
    for (int64_t i = 0; i < TILE * dim * size; i += 64) __builtin_prefetch(at + i);
}

/* The queries of some tokens of a sequence, of all heads that share one kv head. */
static void attend(const Layer *l, const Step *step, int64_t sequence, int64_t token,
                   int64_t num_tokens, int64_t kv_head, const void *queries, void *out,
                   Scratch *s) {
    int64_t dim = l->dim, group = l->heads / l->kv_heads;
    int64_t last = step->positions[token + num_tokens - 1], start = step->positions[token];
    int64_t reach = l->window ? start - l->window + 1 : 0;
    reach = reach < 0 ? 0 : reach / SPAN * SPAN;
    const int64_t *table = step->tables + sequence * step->table_width;
    int rows = (int)(group * num_tokens), size = l->dtype == BFLOAT16 ? 2 : 4;
    const void *row_queries[MAX_ROWS];
    for (int r = 0; r < rows; r++) {
        int64_t head = kv_head * group + r % group;
        row_queries[r] = (const char *)queries +
                         ((token + r / group) * l->heads + head) * dim * size;
        s->best[r] = -INFINITY;
        s->total[r] = 0;
    }
    memset(s->out, 0, rows * dim * sizeof(float));
    for (int64_t first = reach; first <= last; first += SPAN) {
        int64_t end = first + SPAN <= last + 1 ? first + SPAN : last + 1;
        int num_tiles = (int)((end - first + TILE - 1) / TILE), count = num_tiles * TILE;
        const void *value_tiles[SPAN / TILE];
        for (int t = 0; t < num_tiles; t++) {
            int64_t at = first + t * TILE;
            int64_t head = table[at / l->block_size] * l->kv_heads + kv_head;
            int64_t tile = (head * l->block_size + at % l->block_size) * dim;
            const char *keys = (const char *)l->keys + tile * size;
            value_tiles[t] = (const char *)l->values + tile * size;
            int stored = l->key_scales ? 1 : size; /* bytes of a number in the pool */
            /* Blocks lie anywhere: there is no stream that the CPU could follow by itself. */
            if (num_tokens == 1 && t + 1 < num_tiles) {
                int64_t next = at + TILE;
                int64_t place = table[next / l->block_size] * l->kv_heads + kv_head;
                bring(l->keys, (place * l->block_size + next % l->block_size) * dim, dim, stored);
            }
            if (num_tokens == 1) bring(l->values, tile, dim, stored);
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
        for (int r = 0; r < rows; r++) soften(l, s, r, first, count, start + r / group);
        if (l->key_scales) scale_weights(l, s, rows, count);
        if (l->dtype == BFLOAT16) {
            outputs_bf16(s->weights, rows, (const bf16 *const *)value_tiles, num_tiles, dim,
                         s->out);
        } else {
            for (int t = 0; t < num_tiles; t++)
                outputs_f32(s->scores + t * TILE, rows, value_tiles[t], dim, s->out);
        }
    }
    for (int r = 0; r < rows; r++) {
        int64_t to = ((token + r / group) * l->heads + kv_head * group + r % group) * dim;
        float factor = 1.0f / s->total[r];
        for (int64_t i = 0; i < dim; i++)
            store(out, to + i, s->out[r * dim + i] * factor, (int)l->dtype);
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
            const int64_t *task = step->tasks + w / l->kv_heads * 3;
            attend(l, step, task[0], task[1], task[2], w % l->kv_heads, queries, out, &scratch);
        }
    }
}

/* ---- matrix products ------------------------------------------------------------- */

/* y (rows, out) = x (rows, in) . w^T for few rows at the speed of the memory and for many at
 * that of the multipliers. The weight lies in panels of 32 outputs, each (in / k, 2, 16, k)
 * with k = 2 inputs of bfloat16 or 4 of int8 to a lane, so that a panel is read once from
 * front to end while up to 12 rows' sums stay in registers. int8 takes activations that are
 * rounded per row to a scale of their own and weights with a scale per output.
 */
#define PANEL 32
#define BLOCK_ROWS 12     /* rows whose sums stay in registers */
#define SWEEP_ROWS 192    /* rows that a panel meets before the next one comes */

enum { PLAIN = 0, SILU_GATE = 1, GELU_TANH_GATE = 2 };

typedef struct {
    int64_t in, out, panels, is_int8, epilogue;
    const void *packed;  /* panels * 32 * in values */
    const float *bias;   /* (panels * 32,) or NULL */
    const float *scales; /* int8: (panels * 32,) */
    const int32_t *sums; /* int8: (panels * 32,) of an output's weights */
} Product;

/* Where a row of the panels comes from: with a gate, its 16 outputs and the 16 of up. */
static int64_t source_row(int64_t place, int64_t out, int64_t is_gated) {
    if (!is_gated) return place;
    int64_t lane = place % PANEL, base = place / PANEL * 16;
    return lane < 16 ? base + lane : out / 2 + base + lane - 16;
}

static int is_padding(int64_t place, int64_t out, int64_t is_gated) {
    if (!is_gated) return place >= out;
    return place / PANEL * 16 + place % 16 >= out / 2;
}

/* The panels of a weight (out, in), missing outputs zero. */
void miao_pack(const void *weight, int64_t out, int64_t in, int64_t is_int8, int64_t is_gated,
               void *packed) {
    int64_t half = is_gated ? out / 2 : out, width = is_gated ? 16 : PANEL;
    int64_t panels = (half + width - 1) / width, k = is_int8 ? 4 : 2;
#pragma omp parallel for
    for (int64_t place = 0; place < panels * PANEL; place++) {
        int64_t row = source_row(place, out, is_gated), lane = place % PANEL;
        int empty = is_padding(place, out, is_gated);
        int64_t base = place / PANEL * PANEL * in;
        for (int64_t i = 0; i < in; i++) {
            int64_t to = base + (i / k * PANEL + lane) * k + i % k, from = row * in + i;
            if (is_int8) ((int8_t *)packed)[to] = empty ? 0 : ((const int8_t *)weight)[from];
            else ((bf16 *)packed)[to] = empty ? 0 : ((const bf16 *)weight)[from];
        }
    }
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)

/* sums (rows, 32) of one panel; meanwhile `ahead` is brought nearer, `stride` bytes a step. */
static inline __attribute__((always_inline)) void block_of(const int rows, const int is_int8,
                                                           const char *x, int64_t row_bytes,
                                                           const char *panel, int64_t steps,
                                                           const char *ahead, int64_t stride,
                                                           float *sums) {
    __m512 f[BLOCK_ROWS][2];
    __m512i n[BLOCK_ROWS][2];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < 2; c++) {
            f[r][c] = _mm512_setzero_ps();
            n[r][c] = _mm512_setzero_si512();
        }
    for (int64_t i = 0; i < steps; i++) {
        __m512i w0 = _mm512_loadu_si512(panel + i * 128);
        __m512i w1 = _mm512_loadu_si512(panel + i * 128 + 64);
        _mm_prefetch(ahead, _MM_HINT_T0);
        if (stride > 64) _mm_prefetch(ahead + 64, _MM_HINT_T0);
        ahead += stride;
        UNROLL for (int r = 0; r < rows; r++) {
            __m512i v = _mm512_set1_epi32(*(const int32_t *)(x + r * row_bytes + i * 4));
            if (is_int8) {
                n[r][0] = _mm512_dpbusd_epi32(n[r][0], v, w0);
                n[r][1] = _mm512_dpbusd_epi32(n[r][1], v, w1);
            } else {
                f[r][0] = _mm512_dpbf16_ps(f[r][0], (__m512bh)v, (__m512bh)w0);
                f[r][1] = _mm512_dpbf16_ps(f[r][1], (__m512bh)v, (__m512bh)w1);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < 2; c++)
            if (is_int8) _mm512_storeu_si512(sums + r * PANEL + c * 16, n[r][c]);
            else _mm512_storeu_ps(sums + r * PANEL + c * 16, f[r][c]);
}

#define BLOCK_CASE(ROWS) \
    case ROWS: block_of(ROWS, IS_INT8, x, row_bytes, panel, steps, ahead, stride, sums); break;
#define BLOCK_CASES                                                                           \
    switch (rows) {                                                                           \
        BLOCK_CASE(1) BLOCK_CASE(2) BLOCK_CASE(3) BLOCK_CASE(4) BLOCK_CASE(5) BLOCK_CASE(6)   \
        BLOCK_CASE(7) BLOCK_CASE(8) BLOCK_CASE(9) BLOCK_CASE(10) BLOCK_CASE(11)               \
        BLOCK_CASE(12)                                                                        \
    }
static void block_bf16(int rows, const char *x, int64_t row_bytes, const char *panel,
                       int64_t steps, const char *ahead, int64_t stride, float *sums) {
#define IS_INT8 0
    BLOCK_CASES
#undef IS_INT8
}
static void block_int8(int rows, const char *x, int64_t row_bytes, const char *panel,
                       int64_t steps, const char *ahead, int64_t stride, float *sums) {
#define IS_INT8 1
    BLOCK_CASES
#undef IS_INT8
}

#endif

/* Bias, scales and activation on a block's sums, and out with them. */
static void finish_block(const Product *p, int64_t panel, float *sums, int rows,
                         const float *row_scales, void *out, int64_t row, int64_t out_dtype) {
    int64_t first = panel * PANEL;
    for (int r = 0; r < rows; r++) {
        float *y = sums + r * PANEL;
        if (p->is_int8) {
            const float *scales = p->scales + first;
            const int32_t *weights = p->sums + first;
            int32_t whole[PANEL];
            memcpy(whole, y, sizeof whole);
#pragma omp simd
            for (int i = 0; i < PANEL; i++)
                y[i] = (float)(whole[i] - 128 * weights[i]) * (row_scales[r] * scales[i]);
        }
        if (p->bias) {
#pragma omp simd
            for (int i = 0; i < PANEL; i++) y[i] += p->bias[first + i];
        }
        int64_t width = p->out, at = first, count = PANEL;
        if (p->epilogue != PLAIN) {
            width = p->out / 2, at = panel * 16, count = 16;
            if (p->epilogue == SILU_GATE) {
#pragma omp simd
                for (int i = 0; i < 16; i++) y[i] = y[i] / (1.0f + exponential(-y[i])) * y[i + 16];
            } else {
#pragma omp simd
                for (int i = 0; i < 16; i++) {
                    float x = y[i];
                    y[i] = GELU_TANH_OF_X * y[i + 16];
                }
            }
        }
        if (count > width - at) count = width - at;
        int64_t to = (row + r) * width + at;
        if (out_dtype == BFLOAT16) {
            bf16 *o = (bf16 *)out + to;
#pragma omp simd
            for (int64_t i = 0; i < count; i++) o[i] = narrow(y[i]);
        } else {
            memcpy((float *)out + to, y, count * 4);
        }
    }
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)

/* x (n,) rounded to 8 bits: x ~ (u - 128) * scale. */
static float quantize_row(const bf16 *x, uint8_t *u, int64_t n) {
    float most = 0, poison = 0; /* not a number, if any of x is none or infinite */
#pragma omp simd reduction(max : most) reduction(+ : poison)
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(widen(x[i]));
        most = a > most ? a : most;
        poison += a * 0.0f;
    }
    float scale = most / 127.0f, inverse = most > 0 ? 127.0f / most : 0.0f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        u[i] = (uint8_t)(int32_t)(rintf(widen(x[i]) * inverse) + 128.0f);
    return scale + poison;
}

#if defined(__AMX_TILE__)
#include "amx.c"
#else

/* Bytes of working memory that a product of so many rows takes. */
int64_t miao_product_bytes(const Product *p, int64_t rows) {
    return p->is_int8 ? rows * (p->in + 4) : 0;
}

/* out = x . w^T with the epilogue; x (rows, in) bfloat16. `scratch` of
 * miao_product_bytes. */
void miao_product(const Product *p, const void *x, void *out, int64_t rows, int64_t out_dtype,
                  void *scratch) {
    int64_t value_bytes = p->is_int8 ? 1 : 2, row_bytes = p->in * value_bytes;
    int64_t steps = row_bytes / 4, panel_bytes = PANEL * row_bytes;
    float *row_scales = scratch;
    uint8_t *rounded = p->is_int8 ? (uint8_t *)scratch + rows * 4 : 0;
    const char *values = p->is_int8 ? (const char *)rounded : x, *packed = p->packed;
    /* Handed out in portions: a thread whose core does something else holds nobody up. */
    int64_t portion = p->panels / 24 > 1 ? p->panels / 24 : 1;
#pragma omp parallel if (rows * p->in * p->out > SMALL_PRODUCT)
    {
        float sums[BLOCK_ROWS * PANEL];
        if (p->is_int8) {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < rows; r++)
                row_scales[r] =
                    quantize_row((const bf16 *)x + r * p->in, rounded + r * p->in, p->in);
        }
        for (int64_t sweep = 0; sweep < rows; sweep += SWEEP_ROWS) {
            int64_t count = rows - sweep < SWEEP_ROWS ? rows - sweep : SWEEP_ROWS;
            int64_t blocks = (count + BLOCK_ROWS - 1) / BLOCK_ROWS;
#pragma omp for schedule(dynamic, portion) nowait
            for (int64_t panel = 0; panel < p->panels; panel++) {
                const char *w = packed + panel * panel_bytes;
                for (int64_t b = 0; b < blocks; b++) {
                    int64_t from = sweep + count * b / blocks, to = sweep + count * (b + 1) / blocks;
                    /* One block reads ahead in its own stream, several share the next panel. */
                    const char *ahead = w + 2048;
                    int64_t stride = 128;
                    if (blocks > 1) {
                        stride = 128 / blocks;
                        ahead = w + panel_bytes + steps * stride * b;
                    }
                    (p->is_int8 ? block_int8 : block_bf16)((int)(to - from),
                                                           values + from * row_bytes, row_bytes, w,
                                                           steps, ahead, stride, sums);
                    finish_block(p, panel, sums, (int)(to - from),
                                 p->is_int8 ? row_scales + from : 0, out, from, out_dtype);
                }
            }
        }
    }
}

#endif

/* ---- all layers in one call -------------------------------------------------------- */

typedef struct {
    const Layer *attention;
    const Product *qkv, *output, *gate_up, *down;
    const float *attention_norm, *mlp_norm;             /* (hidden,) */
    const float *after_attention_norm, *after_mlp_norm; /* (hidden,) or NULL */
} LayerWeights;

typedef struct {
    int64_t num_layers, hidden;
    double norm_eps;
    const LayerWeights *layers;
    const float *final_norm; /* (hidden,) */
} Layers;

/* The parts of the working memory, each behind the one before. */
typedef struct {
    char *x, *qkv, *queries, *attended, *delta, *gated, *scratch;
    int64_t bytes;
} Work;

static char *reserve(Work *w, char *base, int64_t bytes) {
    char *at = base + w->bytes;
    w->bytes += (bytes + 63) / 64 * 64;
    return at;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static Work divide(const Layers *m, int64_t tokens, char *base) {
    int64_t qkv = 0, heads = 0, gated = 0, scratch = 0;
    for (int64_t i = 0; i < m->num_layers; i++) {
        const LayerWeights *w = m->layers + i;
        const Product *products[4] = {w->qkv, w->output, w->gate_up, w->down};
        qkv = larger(qkv, w->qkv->out);
        heads = larger(heads, w->output->in);
        gated = larger(gated, w->down->in);
        for (int k = 0; k < 4; k++) scratch = larger(scratch, miao_product_bytes(products[k], tokens));
    }
    Work w = {0};
    w.x = reserve(&w, base, tokens * m->hidden * 2);
    w.qkv = reserve(&w, base, tokens * qkv * 2);
    w.queries = reserve(&w, base, tokens * heads * 2);
    w.attended = reserve(&w, base, tokens * heads * 2);
    w.delta = reserve(&w, base, tokens * m->hidden * 2);
    w.gated = reserve(&w, base, tokens * gated * 2);
    w.scratch = reserve(&w, base, scratch);
    return w;
}

/* Bytes of working memory that so many tokens take. */
int64_t miao_layers_bytes(const Layers *m, int64_t tokens) { return divide(m, tokens, 0).bytes; }

/* Keep the wanted rows, which ascend, of x (rows, bytes). */
static void keep_rows(void *x, const int64_t *wanted, int64_t count, int64_t bytes) {
    for (int64_t i = 0; i < count; i++)
        if (wanted[i] != i)
            memcpy((char *)x + i * bytes, (char *)x + wanted[i] * bytes, bytes);
}

/* From the embeddings, residual (tokens, hidden) float32, to out (wanted, hidden): what the
 * language-model head takes. `wanted` (num_wanted,) ascends, and is not read where all are
 * wanted. The last layer's MLP runs for the wanted tokens alone. Activations are bfloat16. */
void miao_layers(const Layers *m, const Step *step, float *residual, const int64_t *wanted,
                 int64_t num_wanted, void *memory, void *out) {
    int64_t tokens = step->num_tokens, last = m->num_layers - 1, hidden = m->hidden;
    Work w = divide(m, tokens, memory);
    miao_add_rms_norm(residual, 0, 0, m->layers[0].attention_norm, m->norm_eps, w.x, tokens,
                      hidden, BFLOAT16);
    for (int64_t i = 0; i <= last; i++) {
        const LayerWeights *l = m->layers + i;
        miao_product(l->qkv, w.x, w.qkv, tokens, BFLOAT16, w.scratch);
        miao_attention(l->attention, step, w.qkv, w.queries, w.attended);
        if (i == last && num_wanted < tokens) {
            tokens = num_wanted;
            keep_rows(residual, wanted, tokens, hidden * 4);
            keep_rows(w.attended, wanted, tokens, l->output->in * 2);
        }
        if (!tokens) return;
        miao_product(l->output, w.attended, w.delta, tokens, BFLOAT16, w.scratch);
        miao_add_rms_norm(residual, w.delta, l->after_attention_norm, l->mlp_norm, m->norm_eps,
                          w.x, tokens, hidden, BFLOAT16);
        miao_product(l->gate_up, w.x, w.gated, tokens, BFLOAT16, w.scratch);
        miao_product(l->down, w.gated, w.delta, tokens, BFLOAT16, w.scratch);
        miao_add_rms_norm(residual, w.delta, l->after_mlp_norm,
                          i == last ? m->final_norm : l[1].attention_norm, m->norm_eps,
                          i == last ? out : w.x, tokens, hidden, BFLOAT16);
    }
}

#endif

/* ---- sampling ------------------------------------------------------------------------ */

/* Each row's first largest value and its place, of x (rows, n) float32. A row with NaN gives
 * NaN. */
void miao_row_maxima(const float *x, int64_t rows, int64_t n, float *best, int64_t *places) {
#pragma omp parallel for if (rows * n > 100000)
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * n;
        float most = -INFINITY, poison = 0;
        int64_t place = 0;
        for (int64_t from = 0; from < n; from += 4096) {
            int64_t to = from + 4096 < n ? from + 4096 : n;
            float here = -INFINITY;
#pragma omp simd reduction(max : here) reduction(+ : poison)
            for (int64_t i = from; i < to; i++) {
                here = row[i] > here ? row[i] : here;
                poison += row[i] != row[i] ? 1.0f : 0.0f;
            }
            if (here > most) {
                most = here;
                place = from;
                while (row[place] != most) place++;
            }
        }
        best[r] = poison > 0 ? NAN : most;
        places[r] = place;
    }
}

#include "weights.c"
