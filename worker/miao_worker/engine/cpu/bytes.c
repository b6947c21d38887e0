/* Values rounded to 8 bits, as the weights and the pool of keys and values hold them; part
 * of kernels.c.
 *
 * Where bfloat16 is multiplied, 64 bytes hold 64 values in sign and magnitude, so placed that
 * two table look-ups and an unpacking give two vectors of bfloat16, in the order in which
 * the same 64 values lie where they are not rounded. Elsewhere they are int8, in that order.
 */

#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#define HAS_BYTE_TABLES 1

static uint8_t bytes[2][128]; /* 0..127 as bfloat16: the low bytes and the high ones */

static __attribute__((constructor)) void fill_bytes(void) {
    for (int i = 0; i < 128; i++) {
        bytes[0][i] = (uint8_t)narrow((float)i);
        bytes[1][i] = (uint8_t)(narrow((float)i) >> 8);
    }
}

static inline __attribute__((always_inline)) void widen_bytes(__m512i q, __m512bh *w) {
    __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(bytes[0]), q,
                                           _mm512_loadu_si512(bytes[0] + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(bytes[1]), q,
                                            _mm512_loadu_si512(bytes[1] + 64));
    high = _mm512_ternarylogic_epi32(high, q, _mm512_set1_epi8((char)0x80), 0xf8); /* a | b & c */
    w[0] = (__m512bh)_mm512_unpacklo_epi8(low, high);
    w[1] = (__m512bh)_mm512_unpackhi_epi8(low, high);
}

#else
#define HAS_BYTE_TABLES 0
#endif

/* Where the value lies that would be the i-th of a run of whole 64s. */
static int64_t byte_place(int64_t i, int dtype) {
    if (!HAS_BYTE_TABLES || dtype == FLOAT32) return i;
    return i / 64 * 64 + i % 32 / 8 * 16 + i % 8 + i / 32 % 2 * 8;
}

static uint8_t byte_of(float x, int dtype) { /* of a whole number in -127..127 */
    if (!HAS_BYTE_TABLES || dtype == FLOAT32) return (uint8_t)(int8_t)x;
    return x < 0 ? (uint8_t)(0x80 | (int)-x) : (uint8_t)x;
}

/* n rounded values, whole 64s of them, to numbers of the dtype. */
static void widen_run(const uint8_t *from, void *to, int64_t n, int dtype) {
#if HAS_BYTE_TABLES
    if (dtype == BFLOAT16) {
        for (int64_t i = 0; i < n; i += 64) {
            __m512bh w[2];
            widen_bytes(_mm512_loadu_si512(from + i), w);
            _mm512_storeu_si512((bf16 *)to + i, (__m512i)w[0]);
            _mm512_storeu_si512((bf16 *)to + i + 32, (__m512i)w[1]);
        }
        return;
    }
#endif
    if (dtype == BFLOAT16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) ((bf16 *)to)[i] = narrow((float)(int8_t)from[i]);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) ((float *)to)[i] = (float)(int8_t)from[i];
    }
}

/* x (n,) becomes whole numbers in -127..127, x ~ number * the scale that is returned: that
 * is not a number where x has one that is none or infinite. */
static float round_values(float *x, int64_t n) {
    float most = 0, poison = 0;
#pragma omp simd reduction(max : most) reduction(+ : poison)
    for (int64_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        most = a > most ? a : most;
        poison += a * 0.0f;
    }
    if (poison != 0) { /* also where it is not a number */
        memset(x, 0, n * sizeof *x);
        return NAN;
    }
    float inverse = most > 0 ? 127.0f / most : 0.0f;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = rintf(x[i] * inverse);
    return most / 127.0f;
}
