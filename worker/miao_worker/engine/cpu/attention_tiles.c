/* A task of attention on the matrix unit (tiles.c); part of attention.c. */

static int fits_tiles(const Layer *l) {
    return l->dtype == BFLOAT16 && !l->key_scales && l->dim % 32 == 0;
}

/* Bring a span's values together, since those of a product have to lie in one run. An odd last
 * tile is taken twice, here and in the scores: the mask covers the second. Blocks lie anywhere:
 * there is no stream that the CPU could follow by itself. */
static void gather_values(const Layer *l, Scratch *s, const Task *task, int64_t first,
                          int num_tiles) {
    int64_t bytes = TILE * l->dim * 2;
    for (int t = 0; t < num_tiles + num_tiles % 2; t++) {
        int tile = t < num_tiles ? t : t - 1, ahead = t + 2;
        int64_t at = tile_place(l, task->table, task->kv_head, first + tile * TILE);
        if (task->num_tokens == 1 && ahead < num_tiles) {
            int64_t place = tile_place(l, task->table, task->kv_head, first + ahead * TILE);
            bring(l->keys, place, l->dim, 2);
            bring(l->values, place, l->dim, 2);
        }
        memcpy((char *)s->values + t * bytes, (char *)l->values + at * 2, bytes);
    }
}

/* Scores (rows, SPAN) of a span's keys, two tiles of the pool at once; tiles are shaped for the
 * rows. */
static void score_span(const Layer *l, Scratch *s, const Task *task, int64_t first,
                       int num_tiles, Rows rows) {
    const char *queries = (const char *)(s->queries + rows.first * l->dim);
    TileRun x = {queries, queries + 16 * l->dim * 2, TILE_BYTES, l->dim * 2};
    for (int t = 0; t < num_tiles; t += 2) {
        int64_t at = tile_place(l, task->table, task->kv_head, first + t * TILE), next = at;
        if (t + 1 < num_tiles)
            next = tile_place(l, task->table, task->kv_head, first + (t + 1) * TILE);
        TileRun keys = {(char *)l->keys + at * 2, (char *)l->keys + next * 2, TILE_SIZE,
                        TILE_BYTES};
        float *scores = s->scores + t * TILE;
        if (rows.count > 16)
            multiply_tiles(0, 1, x, keys, l->dim / 32, START, NOTHING, scores, SPAN * 4);
        else multiply_tiles(0, 0, x, keys, l->dim / 32, START, NOTHING, scores, SPAN * 4);
    }
}

/* out (rows, dim) += weights (rows, count) . the span's values */
static void output_span(const Layer *l, Scratch *s, int count, Rows rows) {
    int64_t dim = l->dim;
    TileRun x = {(char *)s->weights, (char *)(s->weights + 16 * SPAN), TILE_BYTES, SPAN * 2};
    for (int64_t i = 0; i < dim; i += 32) {
        const char *values = (char *)s->values + i * 4;
        float *out = s->out + rows.first * dim + i;
        TileRun w = {values, values + TILE_BYTES, 16 * dim * 4, dim * 4};
        if (rows.count > 16) multiply_tiles(0, 1, x, w, count / 32, GO_ON, NOTHING, out, dim * 4);
        else multiply_tiles(0, 0, x, w, count / 32, GO_ON, NOTHING, out, dim * 4);
    }
}

/* All rows of a task, span by span: so keys and values are brought near once for all. */
static void attend_on_tiles(const Layer *l, const Task *task, int rows, int64_t from,
                            const bf16 *queries, Scratch *s) {
    int64_t run = task->group * l->dim, last = task->start + task->num_tokens - 1;
    for (int64_t t = 0; t < task->num_tokens; t++)
        memcpy(s->queries + t * run, queries + row_place(l, task, (int)(t * task->group)), run * 2);
    for (int64_t first = from, shaped = 0; first <= last; first += SPAN) {
        int64_t end = first + SPAN <= last + 1 ? first + SPAN : last + 1;
        int num_tiles = (int)((end - first + TILE - 1) / TILE);
        int count = (num_tiles + 1) / 2 * 2 * TILE;
        gather_values(l, s, task, first, num_tiles);
        for (int row = 0; row < rows; row += AT_ONCE) {
            Rows some = {row, rows - row < AT_ONCE ? rows - row : AT_ONCE};
            if (some.count != shaped) shape_tiles((int)(shaped = some.count));
            score_span(l, s, task, first, num_tiles, some);
            soften(l, s, task, some, first, count);
            output_span(l, s, count, some);
        }
    }
}
