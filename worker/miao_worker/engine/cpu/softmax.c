/* The running softmax of attention, a span's scores at a time (Milakov and Gimelshein,
 * "Online normalizer calculation for softmax", 2018); part of attention.c.
 */

#define LEAST_EXPONENT (-80.0f) /* what weighs less weighs nothing */

/* Rows of a task whose scores are at hand. */
typedef struct {
    int first, count;
} Rows;

/* The keys of a span that a row sees: from `low` until before `high`. */
typedef struct {
    int64_t low, high;
} Sight;

static Sight sight_of(const Layer *l, const Task *task, int row, int64_t first, int count) {
    int64_t position = task->start + row / task->group;
    Sight s = {l->window ? position - l->window + 1 - first : 0, position + 1 - first};
    s.low = s.low < 0 ? 0 : s.low > count ? count : s.low;
    s.high = s.high < s.low ? s.low : s.high > count ? count : s.high;
    return s;
}

/* scores (rows, SPAN) with a cap. */
static void cap_scores(const Layer *l, float *scores, int rows, int count) {
    float scale = (float)l->scale, cap = (float)l->softcap;
    for (int r = 0; r < rows; r++) {
        float *row = scores + r * SPAN;
#pragma omp simd
        for (int j = 0; j < count; j++) row[j] = tangent(row[j] * scale / cap) * cap;
    }
}

#if defined(__AVX512BF16__)

static inline __mmask16 lanes_below(int64_t end) {
    return (__mmask16)(end <= 0 ? 0 : end >= 16 ? 0xffff : (1 << end) - 1);
}

static inline __mmask16 lanes_in(Sight s, int64_t from) {
    return (__mmask16)(lanes_below(s.high - from) & ~lanes_below(s.low - from));
}

/* 2 to the power of each, with a relative error below 3e-7; what is below the least of a float's
 * exponents is taken for that. */
static inline __m512 powers_of_two(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    __m512 n = _mm512_roundscale_ps(x, 0), r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.3276471e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6755410e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5507131e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022120e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314694e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* A row's largest score in sight. */
static inline float largest(const float *row, Sight s) {
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int64_t j = s.low & ~15; j < s.high; j += 16)
        most = _mm512_mask_max_ps(most, lanes_in(s, j), _mm512_loadu_ps(row + j), most);
    return _mm512_reduce_max_ps(most);
}

/* weights (count,) = 2 to the power of row * scale - best, nothing where out of sight; their
 * sum. They take the row's place where activations are float32. */
static inline __attribute__((always_inline)) float weigh(const int is_whole, const int dtype,
                                                         float *row, Sight s, int count,
                                                         float scale, float best, bf16 *weights) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = 0; j < count; j += 16) {
        __m512 x = _mm512_loadu_ps(row + j);
        x = _mm512_fmsub_ps(x, _mm512_set1_ps(scale), _mm512_set1_ps(best));
        __m512 w = powers_of_two(x);
        if (!is_whole) w = _mm512_maskz_mov_ps(lanes_in(s, j), w);
        sum = _mm512_add_ps(sum, w);
        if (dtype == BFLOAT16)
            _mm256_storeu_si256((void *)(weights + j), (__m256i)_mm512_cvtneps_pbh(w));
        else _mm512_storeu_ps(row + j, w);
    }
    return _mm512_reduce_add_ps(sum);
}

/* Take the new maxima in place of `best` (16,); what all before now counts. Both are exponents
 * of two. */
static __m512 fade_to(float *best, const float *highest) {
    __m512 before = _mm512_loadu_ps(best), now = _mm512_max_ps(_mm512_loadu_ps(highest), before);
    __mmask16 differ = _mm512_cmp_ps_mask(before, now, _CMP_NEQ_UQ);
    _mm512_storeu_ps(best, now);
    return _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), differ,
                              powers_of_two(_mm512_sub_ps(before, now)));
}

/* The rows' scores of the keys from `first`: scaled, masked, made weights of the running softmax;
 * the output so far is scaled to the new maximum. Nothing branches on the scores of a row. */
static void soften(const Layer *l, Scratch *s, const Task *task, Rows rows, int64_t first,
                   int count) {
    const float log2_e = 1.44269504f;
    float scale = (float)l->scale * log2_e, highest[AT_ONCE], fades[AT_ONCE], sums[AT_ONCE];
    float *best = s->best + rows.first, *total = s->total + rows.first;
    Sight sights[AT_ONCE];
    if (l->softcap > 0) {
        cap_scores(l, s->scores, rows.count, count);
        scale = log2_e;
    }
    for (int r = 0; r < rows.count; r++) {
        sights[r] = sight_of(l, task, rows.first + r, first, count);
        highest[r] = largest(s->scores + r * SPAN, sights[r]) * scale;
    }
    for (int r = rows.count; r % 16; r++) highest[r] = -INFINITY;
    __mmask16 faded = 0;
    for (int r = 0; r < rows.count; r += 16) {
        __m512 fade = fade_to(best + r, highest + r);
        faded |= _mm512_cmp_ps_mask(fade, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
        _mm512_storeu_ps(fades + r, fade);
    }
    for (int r = 0; r < rows.count; r++) {
        float *row = s->scores + r * SPAN;
        bf16 *weights = s->weights + r * SPAN;
        int is_whole = sights[r].low == 0 && sights[r].high == SPAN;
        if (l->dtype != BFLOAT16)
            sums[r] = weigh(0, FLOAT32, row, sights[r], count, scale, best[r], weights);
        else if (is_whole)
            sums[r] = weigh(1, BFLOAT16, row, sights[r], SPAN, scale, best[r], weights);
        else
            sums[r] = weigh(0, BFLOAT16, row, sights[r], count, scale, best[r], weights);
    }
    for (int r = 0; r < rows.count; r++) total[r] = total[r] * fades[r] + sums[r];
    if (!faded) return;
    for (int r = 0; r < rows.count; r++) {
        float *out = s->out + (rows.first + r) * l->dim;
#pragma omp simd
        for (int64_t i = 0; i < l->dim; i++) out[i] *= fades[r];
    }
}

#else

/* One row's scores of the keys from `first`: scaled, masked, made weights of the running softmax;
 * its output so far is scaled to the new maximum. */
static void soften_row(const Layer *l, float *row, Sight sight, int count, float scale,
                       bf16 *weights, float *best_so_far, float *total, float *out) {
    float before = *best_so_far, best = before, sum = 0;
#pragma omp simd reduction(max : best)
    for (int64_t j = sight.low; j < sight.high; j++)
        best = row[j] * scale > best ? row[j] * scale : best;
    for (int64_t j = 0; j < sight.low; j++) row[j] = -INFINITY;
    for (int64_t j = sight.high; j < count; j++) row[j] = -INFINITY;
#pragma omp simd reduction(+ : sum)
    for (int j = 0; j < count; j++) {
        float x = row[j] * scale - best, w = x < -80.0f ? 0.0f : exponential(x);
        row[j] = w;
        sum += w;
    }
    if (l->dtype == BFLOAT16) {
#pragma omp simd
        for (int j = 0; j < count; j++) weights[j] = narrow(row[j]);
    }
    float fade = before == -INFINITY ? 0.0f : exponential(before - best);
    if (fade != 1.0f) {
#pragma omp simd
        for (int64_t i = 0; i < l->dim; i++) out[i] *= fade;
    }
    *best_so_far = best;
    *total = *total * fade + sum;
}

static void soften(const Layer *l, Scratch *s, const Task *task, Rows rows, int64_t first,
                   int count) {
    float scale = l->softcap > 0 ? 1.0f : (float)l->scale;
    if (l->softcap > 0) cap_scores(l, s->scores, rows.count, count);
    for (int r = 0; r < rows.count; r++) {
        int at = rows.first + r;
        float *row = s->scores + r * SPAN;
        bf16 *weights = s->weights + r * SPAN;
        Sight sight = sight_of(l, task, at, first, count);
        if (sight.low < sight.high) {
            soften_row(l, row, sight, count, scale, weights, s->best + at, s->total + at,
                       s->out + at * l->dim);
        } else { /* nothing of this span */
            memset(row, 0, count * sizeof *row);
            memset(weights, 0, count * sizeof *weights);
        }
    }
}

#endif
