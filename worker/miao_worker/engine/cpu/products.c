/* y (rows, out) = x (rows, in) . w^T, for few rows at the speed of the memory and for many at
 * that of the multipliers; part of kernels.c.
 *
 * The weight lies in panels of 32 outputs, each (in / k, 2, 16, k) with k = 2 inputs of
 * bfloat16 or 4 of int8 to a lane. int8 takes activations that are rounded per row to a scale
 * of their own and weights with a scale per output. How panels are multiplied is in
 * products_amx.c and products_avx512.c.
 */
#define PANEL 32
#define BLOCK_ROWS 12  /* rows whose sums stay in vector registers, */
#define SWEEP_ROWS 192 /* and that a panel meets before the next one comes */

enum { PLAIN = 0, SILU_GATE = 1, GELU_TANH_GATE = 2 };

typedef struct {
    int64_t in, out, panels, is_int8, epilogue;
    const void *packed;  /* panels * 32 * in values */
    const float *bias;   /* (panels * 32,) or NULL */
    const float *scales; /* int8: (panels * 32,) */
    const int32_t *sums; /* int8: (panels * 32,) of an output's weights */
    const void *share;   /* what adapters add in this step (adapters.c), or NULL */
} Product;

#if defined(__AVX512BF16__)
#include "adapters.c"
#endif

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

#include "results.c"

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
#include "products_amx.c"
#else
#include "products_avx512.c"
#endif

#include "layers.c"
#endif
