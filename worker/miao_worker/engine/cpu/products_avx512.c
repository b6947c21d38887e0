/* Matrix products in vector registers; part of products.c.
 *
 * A panel is read once from front to end while the sums of up to 12 rows stay in registers.
 */

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
