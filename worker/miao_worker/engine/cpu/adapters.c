/* What adapters add to the products of a step, up(down(x)), to each row that of its own; part of
 * products.c.
 *
 * A product may be of several joined layers, each of which an adapter has low ranks for. Their
 * ranks side by side are the adapter's columns there. `down` is shared by all outputs; of `up`
 * each half of a panel, 16 outputs, reads the pairs of columns that have a part in it:
 *
 *     hidden (rows, columns) = x . down^T       once for each product, in bfloat16
 *     sums   (rows, 16)     += hidden . up      when a panel's sums are there, before its gate
 *
 * A row without an adapter costs a look at its owner.
 */

#define SPAN_ROWS 4    /* rows and columns whose products grow at once */
#define SPAN_COLUMNS 4

/* One adapter's share of one product. */
typedef struct {
    int64_t columns;       /* a multiple of SPAN_COLUMNS; 0: it adds nothing here */
    const bf16 *down;      /* (columns, in) */
    const bf16 *up;        /* (pairs of all halves one after the other, 16, 2) */
    const int64_t *halves; /* (panels * 2, 3): the first pair of columns, how many, where in `up` */
} LowRank;

/* Whose the rows of a product are. */
typedef struct {
    const int64_t *owners; /* (rows,) an adapter's number, or -1 */
    const int64_t *starts; /* (adapters + 1,) where its rows begin in `rows` */
    const int64_t *rows;
} Owners;

typedef struct {
    int64_t num_adapters, columns;       /* the most of any product */
    const LowRank *const *weights;       /* by adapter, (layers * 4) each */
    Owners all, chosen;                  /* of all tokens, and of those that are wanted */
} Adapters;

/* What a product is to add, once `hidden` is there. */
typedef struct {
    const Adapters *adapters;
    const Owners *owners;
    int64_t place; /* of the product among the layers' */
    bf16 *hidden;  /* (rows, adapters->columns) */
} Share;

/* out[r] (columns,) of some rows and SPAN_COLUMNS columns. */
static inline __attribute__((always_inline)) void dots(const int rows, const bf16 *const *x,
                                                       const bf16 *down, int64_t in,
                                                       bf16 *const *out) {
    __m512 sums[SPAN_ROWS][SPAN_COLUMNS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < SPAN_COLUMNS; c++) sums[r][c] = _mm512_setzero_ps();
    for (int64_t i = 0; i < in; i += 32) {
        __mmask32 lanes = in - i < 32 ? (1u << (in - i)) - 1 : 0xffffffffu;
        __m512i w[SPAN_COLUMNS];
        UNROLL for (int c = 0; c < SPAN_COLUMNS; c++)
            w[c] = _mm512_maskz_loadu_epi16(lanes, down + c * in + i);
        UNROLL for (int c = 0; c < SPAN_COLUMNS; c++) /* the columns that come next */
            _mm_prefetch((const char *)(down + (SPAN_COLUMNS + c) * in + i), _MM_HINT_T0);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512i v = _mm512_maskz_loadu_epi16(lanes, x[r] + i);
            UNROLL for (int c = 0; c < SPAN_COLUMNS; c++)
                sums[r][c] = _mm512_dpbf16_ps(sums[r][c], (__m512bh)v, (__m512bh)w[c]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int c = 0; c < SPAN_COLUMNS; c++)
            out[r][c] = narrow(_mm512_reduce_add_ps(sums[r][c]));
}

#define DOTS_CASE(ROWS) case ROWS: dots(ROWS, from, down, in, to); break;

/* The hidden values of SPAN_COLUMNS columns, of SPAN_ROWS of an adapter's rows or fewer. */
static void dots_of(const int64_t *rows, int64_t count, const bf16 *x, const bf16 *down,
                    int64_t in, bf16 *hidden, int64_t columns) {
    const bf16 *from[SPAN_ROWS];
    bf16 *to[SPAN_ROWS];
    for (int64_t r = 0; r < count; r++) from[r] = x + rows[r] * in, to[r] = hidden + rows[r] * columns;
    switch (count) { DOTS_CASE(1) DOTS_CASE(2) DOTS_CASE(3) DOTS_CASE(4) }
}

/* Compute `hidden` of a product on x (rows, in). */
static void prepare_share(const Share *s, const bf16 *x, int64_t in) {
    const Adapters *a = s->adapters;
    const Owners *o = s->owners;
    int64_t num_rows = o->starts[a->num_adapters];
#pragma omp parallel if (num_rows * in * a->columns > SMALL_PRODUCT / 4)
    for (int64_t k = 0; k < a->num_adapters; k++) {
        const LowRank *w = a->weights[k] + s->place;
        int64_t first = o->starts[k], count = o->starts[k + 1] - first;
        int64_t spans = (count + SPAN_ROWS - 1) / SPAN_ROWS, blocks = w->columns / SPAN_COLUMNS;
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < spans * blocks; i++) {
            int64_t at = i % spans * SPAN_ROWS, column = i / spans * SPAN_COLUMNS;
            int64_t n = count - at < SPAN_ROWS ? count - at : SPAN_ROWS;
            dots_of(o->rows + first + at, n, x, w->down + column * in, in, s->hidden + column,
                    a->columns);
        }
    }
}

/* Add to the sums (2, 16) of one row of the product at one panel. */
static void add_share(const Share *s, int64_t panel, __m512 *sums, int64_t row) {
    const Adapters *a = s->adapters;
    int64_t owner = s->owners->owners[row];
    if (owner < 0) return;
    const LowRank *w = a->weights[owner] + s->place;
    if (!w->columns) return;
    const int32_t *hidden = (const int32_t *)(s->hidden + row * a->columns);
    const int64_t *places = w->halves + panel * 6;
    const bf16 *up = w->up + places[2] * 32, *ahead = up + (places[1] + places[4]) * 32;
    for (int half = 0; half < 2; half++, places += 3) {
        __m512 even = sums[half], odd = _mm512_setzero_ps();
        const int32_t *pair = hidden + places[0];
        int64_t i = 0;
        for (; i + 1 < places[1]; i += 2, up += 64, ahead += 64) {
            even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_set1_epi32(pair[i]),
                                    (__m512bh)_mm512_loadu_si512(up));
            odd = _mm512_dpbf16_ps(odd, (__m512bh)_mm512_set1_epi32(pair[i + 1]),
                                   (__m512bh)_mm512_loadu_si512(up + 32));
            _mm_prefetch((const char *)ahead, _MM_HINT_T1); /* of the next panel */
            _mm_prefetch((const char *)(ahead + 32), _MM_HINT_T1);
        }
        if (i < places[1]) {
            even = _mm512_dpbf16_ps(even, (__m512bh)_mm512_set1_epi32(pair[i]),
                                    (__m512bh)_mm512_loadu_si512(up));
            up += 32, ahead += 32;
        }
        sums[half] = _mm512_add_ps(even, odd);
    }
}
