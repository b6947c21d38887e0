/* Matrix products on weights of 8 or 4 bits, activations as they are; part of kernels.c.
 *
 * At few rows a product takes the time in which its weight is read, so fewer bits are that
 * much faster; the rounded values become numbers in registers, where each is used for up to
 * BLOCK_ROWS rows. A row's sums are formed in the same order in any batch.
 *
 * 8 bits: one scale for each output, w = q * scale.
 * 4 bits: `group` inputs of an output share a scale and a middle, w = q * scale + middle,
 *         q in -8..7, kept as q + 8. The sum over a group is
 *         scale * (q . x) + middle * (sum of x).
 *
 * The weight lies in panels of 32 outputs, one group after another (8 bits: one group):
 *
 *     [ 4 bits: 32 scales, 32 middles, bfloat16 ] [ values ]
 *
 * bfloat16 activations, on AVX-512: 64 bytes of values are two inputs (8 bits) or four
 * (4 bits) of all outputs, in the order in which tables make bfloat16 pairs of them.
 * float32 activations: 32 bytes are one input, or two, the first in the low halves.
 */

typedef struct {
    Product plain; /* in, out, panels, bias and epilogue of what follows the sums */
    int64_t bits, group, dtype; /* the activations' */
    const float *scales;        /* 8 bits: (panels * 32,) */
    const uint8_t *packed;
} WeightProduct;

#define HEADER (2 * PANEL * 2) /* bytes of a group's scales and middles */

static int64_t group_bytes(const WeightProduct *p) {
    return p->bits == 8 ? p->group * PANEL : HEADER + p->group * PANEL / 2;
}

/* Where the value of an input within its group and of an output's lane lies: its byte, and
 * whether in the high half. */
static int64_t value_place(int64_t bits, int64_t dtype, int64_t i, int64_t lane, int *high) {
    *high = 0;
    if (dtype == FLOAT32) {
        *high = bits == 4 && i % 2;
        return (bits == 8 ? i : i / 2) * PANEL + lane;
    }
    if (bits == 8) return byte_place(i / 2 * 2 * PANEL + lane * 2 + i % 2, (int)dtype);
    int64_t quarter = i / 2 % 2 * 2 + lane / 16; /* of the word: its four values */
    *high = quarter % 2;
    return i / 4 * 64 + (lane % 16 * 2 + i % 2) * 2 + quarter / 2;
}

/* The panels of values (out, in): int8, or uint8 below 16 with scales and middles
 * (out, in / group) bfloat16. Outputs that are missing are zero. */
void miao_weight_pack(const uint8_t *values, const bf16 *scales, const bf16 *middles, int64_t out,
                      int64_t in, int64_t bits, int64_t group, int64_t dtype, int64_t is_gated,
                      uint8_t *packed) {
    WeightProduct p = {.bits = bits, .group = group};
    int64_t half = is_gated ? out / 2 : out, width = is_gated ? 16 : PANEL;
    int64_t panels = (half + width - 1) / width, groups = in / group, size = group_bytes(&p);
#pragma omp parallel for
    for (int64_t panel = 0; panel < panels; panel++) {
        memset(packed + panel * groups * size, 0, groups * size);
        for (int64_t lane = 0; lane < PANEL; lane++) {
            int64_t place = panel * PANEL + lane, row = source_row(place, out, is_gated);
            if (is_padding(place, out, is_gated)) continue;
            for (int64_t g = 0; g < groups; g++) {
                uint8_t *at = packed + (panel * groups + g) * size;
                if (bits == 4) {
                    ((bf16 *)at)[lane] = scales[row * groups + g];
                    ((bf16 *)at)[PANEL + lane] = middles[row * groups + g];
                    at += HEADER;
                }
                for (int64_t i = 0; i < group; i++) {
                    int high;
                    int64_t to = value_place(bits, dtype, i, lane, &high);
                    at[to] |= values[row * in + g * group + i] << (high ? 4 : 0);
                }
            }
        }
    }
}

/* One group of n inputs to codes q + 8, its range shrunk to where the squared error is least;
 * the same as `_round_groups` of weights.py. */
static void round_group(const float *w, int64_t n, uint8_t *codes, bf16 *scale, bf16 *middle) {
    float low = w[0], high = w[0], least = INFINITY;
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = 0; i < n; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    for (int shrunk = 0; shrunk < 5; shrunk++) {
        float share = 1.0f - 0.05f * shrunk, error = 0;
        float s = widen(narrow((high - low) * (share / 15.0f)));
        float m = widen(narrow(share * low + 8.0f * s)), step = s > 1e-30f ? s : 1e-30f;
        float q[64];
#pragma omp simd reduction(+ : error)
        for (int64_t i = 0; i < n; i++) {
            float x = rintf((w[i] - m) / step);
            x = x < -8.0f ? -8.0f : x > 7.0f ? 7.0f : x;
            float off = x * s + m - w[i];
            q[i] = x + 8.0f;
            error += off * off;
        }
        if (shrunk && !(error < least)) continue;
        least = error, *scale = narrow(s), *middle = narrow(m);
        for (int64_t i = 0; i < n; i++) codes[i] = (uint8_t)q[i];
    }
}

/* weight (out, in) to codes (out, in), scales and middles (out, in / group); group <= 64. */
void miao_round_groups(const void *weight, int64_t out, int64_t in, int64_t group, int64_t dtype,
                       uint8_t *codes, bf16 *scales, bf16 *middles) {
    int64_t groups = in / group;
#pragma omp parallel for
    for (int64_t row = 0; row < out; row++)
        for (int64_t g = 0; g < groups; g++) {
            float w[64];
            int64_t at = row * in + g * group, to = row * groups + g;
            for (int64_t i = 0; i < group; i++) w[i] = load(weight, at + i, (int)dtype);
            round_group(w, group, codes + at, scales + to, middles + to);
        }
}

/* ---- float32 activations, at any level ------------------------------------------ */

#define WIDE_ROWS 3
typedef float f32x8 __attribute__((vector_size(32)));
typedef int8_t i8x8 __attribute__((vector_size(8)));
typedef uint8_t u8x8 __attribute__((vector_size(8)));
#define EIGHT _Pragma("GCC unroll 4")

static inline f32x8 eight_floats(const float *x) {
    f32x8 v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline f32x8 eight_bf16(const bf16 *x) {
    f32x8 v;
    for (int i = 0; i < 8; i++) v[i] = widen(x[i]);
    return v;
}

/* sums (rows, 32) of one panel; group_sums (rows, in / group) of x. */
static inline __attribute__((always_inline)) void wide_block_of(
    const int rows, const WeightProduct *p, const float *x, const float *group_sums,
    const uint8_t *panel, float *sums) {
    int64_t in = p->plain.in, group = p->group, groups = in / group;
    memset(sums, 0, rows * PANEL * sizeof *sums);
    for (int64_t g = 0; g < groups; g++, panel += group_bytes(p)) {
        const uint8_t *values = panel + (p->bits == 4 ? HEADER : 0);
        const float *from = x + g * group;
        f32x8 sum[WIDE_ROWS][4];
        EIGHT for (int r = 0; r < rows; r++) EIGHT for (int c = 0; c < 4; c++) sum[r][c] = (f32x8){0};
        if (p->bits == 8) {
            for (int64_t i = 0; i < group; i++) {
                EIGHT for (int c = 0; c < 4; c++) {
                    i8x8 q;
                    memcpy(&q, values + i * PANEL + c * 8, sizeof q);
                    f32x8 w = __builtin_convertvector(q, f32x8);
                    EIGHT for (int r = 0; r < rows; r++) sum[r][c] += w * from[r * in + i];
                }
            }
        } else {
            for (int64_t i = 0; i < group; i += 2) {
                EIGHT for (int c = 0; c < 4; c++) {
                    u8x8 q;
                    memcpy(&q, values + i / 2 * PANEL + c * 8, sizeof q);
                    f32x8 even = __builtin_convertvector((i8x8)(q & 15), f32x8) - 8.0f;
                    f32x8 odd = __builtin_convertvector((i8x8)(q >> 4), f32x8) - 8.0f;
                    EIGHT for (int r = 0; r < rows; r++)
                        sum[r][c] += even * from[r * in + i] + odd * from[r * in + i + 1];
                }
            }
        }
        EIGHT for (int r = 0; r < rows; r++) EIGHT for (int c = 0; c < 4; c++) {
            f32x8 y = sum[r][c];
            float *to = sums + r * PANEL + c * 8;
            if (p->bits == 4)
                y = y * eight_bf16((const bf16 *)panel + c * 8) +
                    eight_bf16((const bf16 *)panel + PANEL + c * 8) * group_sums[r * groups + g] +
                    eight_floats(to);
            memcpy(to, &y, sizeof y);
        }
    }
}

static void wide_block(int rows, const WeightProduct *p, const float *x, const float *group_sums,
                       const uint8_t *panel, float *sums) {
    switch (rows) {
    case 1: wide_block_of(1, p, x, group_sums, panel, sums); break;
    case 2: wide_block_of(2, p, x, group_sums, panel, sums); break;
    case 3: wide_block_of(3, p, x, group_sums, panel, sums); break;
    }
}

/* ---- bfloat16 activations, on AVX-512 --------------------------------------------- */

#if HAS_BYTE_TABLES

static bf16 digits[32];      /* -8..7 as bfloat16, twice: an index's fifth bit is a neighbour's */
static __attribute__((constructor)) void fill_digits(void) {
    for (int i = 0; i < 32; i++) digits[i] = narrow((float)(i % 16 - 8));
}

#define PAIR(r, i) ((__m512bh)_mm512_set1_epi32(*(const int32_t *)(x + (r) * in + (i))))

static inline __attribute__((always_inline)) void narrow_block_of(
    const int rows, const int bits, const WeightProduct *p, const bf16 *x, const float *group_sums,
    const uint8_t *panel, const uint8_t *ahead, int64_t stride, float *sums) {
    int64_t in = p->plain.in, group = p->group, groups = in / group;
    __m512 sum[BLOCK_ROWS][2];
    const __m512i table = _mm512_loadu_si512(digits);
    for (int64_t g = 0; g < groups; g++) {
        const uint8_t *header = panel;
        if (bits == 4) {
            panel += HEADER;
            _mm_prefetch(ahead, _MM_HINT_T0);
            _mm_prefetch(ahead + 64, _MM_HINT_T0);
            ahead += 2 * stride;
        }
        UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
        for (int64_t i = 0; i < group; i += bits == 4 ? 4 : 2, panel += 64, ahead += stride) {
            __m512i q = _mm512_loadu_si512(panel);
            __m512bh w[2];
            _mm_prefetch(ahead, _MM_HINT_T0);
            if (bits == 8) {
                widen_bytes(q, w);
            } else {
                w[0] = (__m512bh)_mm512_permutexvar_epi16(q, table);
                w[1] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(q, 4), table);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], w[0], PAIR(r, g * group + i));
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], w[1], PAIR(r, g * group + i));
            }
            if (bits == 8) continue;
            w[0] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(q, 8), table);
            w[1] = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(q, 12), table);
            UNROLL for (int r = 0; r < rows; r++) {
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], w[0], PAIR(r, g * group + i + 2));
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], w[1], PAIR(r, g * group + i + 2));
            }
        }
        UNROLL for (int c = 0; c < 2; c++) {
            if (bits == 8) {
                UNROLL for (int r = 0; r < rows; r++)
                    _mm512_storeu_ps(sums + r * PANEL + c * 16, sum[r][c]);
                continue;
            }
            const __m256i *at = (const __m256i *)header + c;
            __m512 scale = _mm512_castsi512_ps(
                _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at)), 16));
            __m512 middle = _mm512_castsi512_ps(
                _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at + 2)), 16));
            UNROLL for (int r = 0; r < rows; r++) {
                float *to = sums + r * PANEL + c * 16;
                __m512 y = g ? _mm512_loadu_ps(to) : _mm512_setzero_ps();
                y = _mm512_fmadd_ps(middle, _mm512_set1_ps(group_sums[r * groups + g]), y);
                _mm512_storeu_ps(to, _mm512_fmadd_ps(scale, sum[r][c], y));
            }
        }
    }
}

#define NARROW_CASE(ROWS)                                                                    \
    case ROWS: narrow_block_of(ROWS, BITS, p, x, group_sums, panel, ahead, stride, sums); break;
#define NARROW_CASES                                                                         \
    switch (rows) {                                                                          \
        NARROW_CASE(1) NARROW_CASE(2) NARROW_CASE(3) NARROW_CASE(4) NARROW_CASE(5)           \
        NARROW_CASE(6) NARROW_CASE(7) NARROW_CASE(8) NARROW_CASE(9) NARROW_CASE(10)          \
        NARROW_CASE(11) NARROW_CASE(12)                                                      \
    }
static void block_8_bits(int rows, const WeightProduct *p, const bf16 *x, const float *group_sums,
                         const uint8_t *panel, const uint8_t *ahead, int64_t stride, float *sums) {
#define BITS 8
    NARROW_CASES
#undef BITS
}
static void block_4_bits(int rows, const WeightProduct *p, const bf16 *x, const float *group_sums,
                         const uint8_t *panel, const uint8_t *ahead, int64_t stride, float *sums) {
#define BITS 4
    NARROW_CASES
#undef BITS
}

static void weight_block(int rows, const WeightProduct *p, const void *x, const float *group_sums,
                         const uint8_t *panel, const uint8_t *ahead, int64_t stride, float *sums) {
    if (p->dtype == FLOAT32) wide_block(rows, p, x, group_sums, panel, sums);
    else (p->bits == 8 ? block_8_bits : block_4_bits)(rows, p, x, group_sums, panel, ahead, stride,
                                                      sums);
}

/* Multiplies bfloat16 activations: the presence of this name says so. */
const char miao_has_narrow_weights = 1;

#else

static void weight_block(int rows, const WeightProduct *p, const void *x, const float *group_sums,
                         const uint8_t *panel, const uint8_t *ahead, int64_t stride, float *sums) {
    wide_block(rows, p, x, group_sums, panel, sums);
}

#endif

/* group_sums (rows, in / group) of x (rows, in), for one row. */
static void sum_groups(const WeightProduct *p, const void *x, int64_t row, float *group_sums) {
    int64_t in = p->plain.in, group = p->group, groups = in / group;
    for (int64_t g = 0; g < groups; g++) {
        float sum = 0;
        int64_t from = row * in + g * group;
        if (p->dtype == BFLOAT16) {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < group; i++) sum += widen(((const bf16 *)x)[from + i]);
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < group; i++) sum += ((const float *)x)[from + i];
        }
        group_sums[row * groups + g] = sum;
    }
}

/* out = x . w^T with the epilogue; x (rows, in) of the activations' dtype. With 4 bits,
 * `group_sums` is working memory, (rows, in / group). */
void miao_weight_product(const WeightProduct *p, const void *x, void *out, int64_t rows,
                         int64_t out_dtype, float *group_sums) {
    int64_t in = p->plain.in, panels = p->plain.panels, groups = in / p->group;
    int64_t row_bytes = in * (p->dtype == BFLOAT16 ? 2 : 4);
    int64_t panel_bytes = groups * group_bytes(p);
    int64_t most = p->dtype == BFLOAT16 ? BLOCK_ROWS : WIDE_ROWS;
    int64_t portion = panels / 24 > 1 ? panels / 24 : 1;
#pragma omp parallel
    {
        float sums[BLOCK_ROWS * PANEL];
        if (p->bits == 4) {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < rows; r++) sum_groups(p, x, r, group_sums);
        }
        for (int64_t sweep = 0; sweep < rows; sweep += SWEEP_ROWS) {
            int64_t count = rows - sweep < SWEEP_ROWS ? rows - sweep : SWEEP_ROWS;
            int64_t blocks = (count + most - 1) / most;
#pragma omp for schedule(dynamic, portion) nowait
            for (int64_t panel = 0; panel < panels; panel++) {
                const uint8_t *w = p->packed + panel * panel_bytes;
                for (int64_t b = 0; b < blocks; b++) {
                    int64_t from = sweep + count * b / blocks, to = sweep + count * (b + 1) / blocks;
                    /* One block reads ahead in its own stream, several share the next panel. */
                    int64_t stride = blocks > 1 ? 64 / blocks : 64;
                    const uint8_t *ahead = blocks > 1 ? w + panel_bytes + panel_bytes * b / blocks
                                                      : w + 2048;
                    weight_block((int)(to - from), p, (const char *)x + from * row_bytes,
                                 group_sums + from * groups, w, ahead, stride, sums);
                    if (p->bits == 8)
                        for (int64_t i = 0; i < (to - from) * PANEL; i++)
                            sums[i] *= p->scales[panel * PANEL + i % PANEL];
                    finish_block(&p->plain, panel, sums, (int)(to - from), 0, out, from, out_dtype);
                }
            }
        }
    }
}
