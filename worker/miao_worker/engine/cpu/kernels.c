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
#define MAX_ROWS 128 /* queries times heads of one task */
#define AT_ONCE 32   /* of those whose scores are held at once */
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

#if defined(__AVX512BF16__)

/* exponential() for 16 lanes. */
static inline __m512 exponentials(__m512 x) {
    x = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-87.0f), x));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.3888889e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3333333e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1666667e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666667e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

#endif

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

#if defined(__AMX_TILE__)
#include "tiles.c"
#endif

#include "attention.c"
#include "products.c"

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
