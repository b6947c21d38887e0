/* All layers of a decoder in one call, on bfloat16 activations; part of products.c. */

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
    char *x, *qkv, *queries, *attended, *delta, *gated, *scratch, *hidden;
    int64_t bytes;
} Work;

static char *reserve(Work *w, char *base, int64_t bytes) {
    char *at = base + w->bytes;
    w->bytes += (bytes + 63) / 64 * 64;
    return at;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static Work divide(const Layers *m, int64_t tokens, int64_t columns, char *base) {
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
    w.hidden = reserve(&w, base, tokens * columns * 2);
    return w;
}

/* Bytes of working memory that so many tokens take, with adapters of so many columns. */
int64_t miao_layers_bytes(const Layers *m, int64_t tokens, int64_t columns) {
    return divide(m, tokens, columns, 0).bytes;
}

/* A product, and what adapters add to it; its place among the layers' products. */
static void adapted_product(const Product *p, const Adapters *adapters, const Owners *owners,
                            int64_t place, const void *x, void *out, int64_t rows, const Work *w) {
    Product with = *p;
    Share share = {adapters, owners, place, (bf16 *)w->hidden};
    if (adapters) {
        prepare_share(&share, x, p->in);
        with.share = &share;
    }
    miao_product(&with, x, out, rows, BFLOAT16, w->scratch);
}

/* Keep the wanted rows, which ascend, of x (rows, bytes). */
static void keep_rows(void *x, const int64_t *wanted, int64_t count, int64_t bytes) {
    for (int64_t i = 0; i < count; i++)
        if (wanted[i] != i)
            memcpy((char *)x + i * bytes, (char *)x + wanted[i] * bytes, bytes);
}

/* From the embeddings, residual (tokens, hidden) float32, to out (wanted, hidden): what the
 * language-model head takes. `wanted` (num_wanted,) ascends, and is not read where all are
 * wanted. The last layer's MLP runs for the wanted tokens alone. Activations are bfloat16.
 * `adapters` may be NULL. */
void miao_layers(const Layers *m, const Step *step, float *residual, const int64_t *wanted,
                 int64_t num_wanted, const Adapters *adapters, void *memory, void *out) {
    int64_t tokens = step->num_tokens, last = m->num_layers - 1, hidden = m->hidden;
    Work w = divide(m, tokens, adapters ? adapters->columns : 0, memory);
    const Owners *owners = adapters ? &adapters->all : 0;
    miao_add_rms_norm(residual, 0, 0, m->layers[0].attention_norm, m->norm_eps, w.x, tokens,
                      hidden, BFLOAT16);
    for (int64_t i = 0; i <= last; i++) {
        const LayerWeights *l = m->layers + i;
        adapted_product(l->qkv, adapters, owners, 4 * i, w.x, w.qkv, tokens, &w);
        miao_attention(l->attention, step, w.qkv, w.queries, w.attended);
        if (i == last && num_wanted < tokens) {
            tokens = num_wanted;
            if (adapters) owners = &adapters->chosen;
            keep_rows(residual, wanted, tokens, hidden * 4);
            keep_rows(w.attended, wanted, tokens, l->output->in * 2);
        }
        if (!tokens) return;
        adapted_product(l->output, adapters, owners, 4 * i + 1, w.attended, w.delta, tokens, &w);
        miao_add_rms_norm(residual, w.delta, l->after_attention_norm, l->mlp_norm, m->norm_eps,
                          w.x, tokens, hidden, BFLOAT16);
        adapted_product(l->gate_up, adapters, owners, 4 * i + 2, w.x, w.gated, tokens, &w);
        adapted_product(l->down, adapters, owners, 4 * i + 3, w.gated, w.delta, tokens, &w);
        miao_add_rms_norm(residual, w.delta, l->after_mlp_norm,
                          i == last ? m->final_norm : l[1].attention_norm, m->norm_eps,
                          i == last ? out : w.x, tokens, hidden, BFLOAT16);
    }
}
