/* From the sums of a product to its results; part of products.c. */

#if defined(__AVX512BF16__)

/* 1 / x for x from 1 on: a division takes as long as sixteen products. */
static inline __m512 reciprocals(__m512 x) {
    __m512 r = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(2.0f)));
}

static inline __m512 activated(__m512 x, int64_t epilogue) {
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 inner = x; /* both are x times the logistic function of something */
    if (epilogue == GELU_TANH_GATE) {
        __m512 square = _mm512_mul_ps(x, x);
        inner = _mm512_fmadd_ps(square, _mm512_set1_ps(2 * 0.7978845608f * 0.044715f),
                                _mm512_set1_ps(2 * 0.7978845608f));
        inner = _mm512_mul_ps(inner, x);
    }
    __m512 below = _mm512_add_ps(one, exponentials(_mm512_sub_ps(_mm512_setzero_ps(), inner)));
    return _mm512_mul_ps(x, reciprocals(below));
}

/* Where a panel's results go. */
typedef struct {
    int64_t width, at, count; /* outputs of a row; the panel's first, and how many it has */
} Place;

static Place place_of(const Product *p, int64_t panel) {
    int64_t is_gated = p->epilogue != PLAIN, count = is_gated ? 16 : PANEL;
    Place place = {.width = is_gated ? p->out / 2 : p->out, .at = panel * count};
    place.count = place.width - place.at < count ? place.width - place.at : count;
    return place;
}

/* Ask for the lines that finish_block() will write. */
static void fetch_block(const Product *p, int64_t panel, int rows, const void *out, int64_t row,
                        int64_t out_dtype) {
    const Place place = place_of(p, panel);
    int64_t size = out_dtype == BFLOAT16 ? 2 : 4;
    const char *to = (const char *)out + (row * place.width + place.at) * size;
    for (int r = 0; r < rows; r++, to += place.width * size) {
        __builtin_prefetch(to, 1);
        if (place.count * size > 64) __builtin_prefetch(to + 64, 1);
    }
}

/* Bias, scales, adapters and activation on a block's sums (rows, 32), and out with them. */
static void finish_block(const Product *p, int64_t panel, const float *sums, int rows,
                         const float *row_scales, void *out, int64_t row, int64_t out_dtype) {
    const Place place = place_of(p, panel);
    int64_t is_gated = p->epilogue != PLAIN, left = place.count;
    const __mmask16 masks[2] = {(__mmask16)(left < 16 ? (1 << left) - 1 : -1),
                                (__mmask16)(left < 16 ? 0 : (1 << (left - 16)) - 1)};
    __m512 bias[2], scales[2];
    __m512i offsets[2]; /* of the activations' 128 */
    for (int c = 0; c < 2; c++) {
        int64_t first = panel * PANEL + c * 16;
        bias[c] = p->bias ? _mm512_loadu_ps(p->bias + first) : _mm512_setzero_ps();
        if (!p->is_int8) continue;
        scales[c] = _mm512_loadu_ps(p->scales + first);
        offsets[c] = _mm512_slli_epi32(_mm512_loadu_si512(p->sums + first), 7);
    }
    for (int r = 0; r < rows; r++) {
        __m512 y[2];
        for (int c = 0; c < 2; c++) {
            const float *sum = sums + r * PANEL + c * 16;
            y[c] = _mm512_loadu_ps(sum);
            if (p->is_int8) {
                __m512i whole = _mm512_sub_epi32(_mm512_loadu_si512(sum), offsets[c]);
                __m512 scale = _mm512_mul_ps(_mm512_set1_ps(row_scales[r]), scales[c]);
                y[c] = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
            }
            y[c] = _mm512_add_ps(y[c], bias[c]);
        }
        if (p->share) add_share(p->share, panel, y, row + r);
        if (is_gated) y[0] = _mm512_mul_ps(activated(y[0], p->epilogue), y[1]);
        for (int c = 0; c < (is_gated ? 1 : 2); c++) {
            int64_t to = (row + r) * place.width + place.at + c * 16;
            if (out_dtype == BFLOAT16)
                _mm256_mask_storeu_epi16((bf16 *)out + to, masks[c],
                                         (__m256i)_mm512_cvtneps_pbh(y[c]));
            else _mm512_mask_storeu_ps((float *)out + to, masks[c], y[c]);
        }
    }
}

#else

/* Bias, scales and activation on a block's sums (rows, 32), and out with them. */
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

#endif
