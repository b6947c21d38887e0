/* Matrix products on tiles (tiles.c); part of products.c.
 *
 * A panel's order (in / k, 2, 16, k) is that of two tiles whose rows lie 128 bytes apart. Few
 * rows of x are read where they lie. Of many, a sweep is first laid out in tiles one behind
 * the other, (groups of 16 rows, tiles, 16, 64 bytes), so that what meets each panel streams
 * from the second-level cache; the inputs are cut into parts where the sweep would not fit
 * there, and sums wait in memory between two parts.
 */

#define BLOCK 32              /* rows whose sums stay in tiles */
#define PART_TILES 64         /* tiles of a row that a sweep takes at once */
#define CACHE_BYTES (1 << 20) /* of the second-level cache, for a sweep's rows */
#define MOST_ROWS 512         /* of a sweep */
#define PIECE_TILES 8         /* of a panel, that all blocks meet before the next piece comes */
#define SOON 2048             /* bytes on, where a panel meets one block only: first level, */
#define LATER 8192            /* and second */

/* How a product of so many rows goes about it. */
typedef struct {
    int64_t row_bytes, tiles;   /* of a row */
    int64_t sweep;              /* rows that meet a panel before the next one comes */
    int64_t parts;              /* of the inputs */
    int64_t is_in_place;        /* the rows are read where they lie */
    int64_t scales, rows, sums; /* where they begin in the working memory */
    int64_t bytes;              /* of the working memory */
} Plan;

static Plan plan_of(const Product *p, int64_t rows) {
    Plan plan = {.row_bytes = p->in * (p->is_int8 ? 1 : 2), .parts = 1};
    plan.tiles = (plan.row_bytes + TILE_BYTES - 1) / TILE_BYTES;
    plan.is_in_place = rows <= BLOCK && !p->is_int8 && plan.row_bytes % TILE_BYTES == 0;
    plan.sweep = 2 * BLOCK * (CACHE_BYTES / (plan.tiles * TILE_BYTES) / (2 * BLOCK));
    if (plan.sweep < 256) {
        plan.sweep = 256;
        plan.parts = (plan.tiles + PART_TILES - 1) / PART_TILES;
    }
    if (plan.sweep > MOST_ROWS) plan.sweep = MOST_ROWS;
    if (rows <= BLOCK) plan.parts = 1;
    int64_t padded = (rows + BLOCK - 1) / BLOCK * BLOCK;
    if (plan.sweep > padded) plan.sweep = padded;
    int64_t groups = rows <= 16 ? 1 : plan.sweep / 16;
    plan.rows = (plan.sweep * 4 + 63) / 64 * 64; /* behind the rows' scales */
    plan.sums = plan.rows + (plan.is_in_place ? 0 : groups * plan.tiles * TILE_SIZE);
    plan.bytes = plan.sums;
    if (plan.parts > 1) plan.bytes += p->panels * plan.sweep * PANEL * sizeof(float);
    return plan;
}

/* sums (rows, 32) of a part of one panel. */
static void add_up(int64_t is_int8, int is_tall, TileRun x, const char *panel, int64_t count,
                   int going_on, Prefetch next, float *sums) {
    const int64_t line = PANEL * sizeof(float);
    const TileRun w = {panel, panel + TILE_BYTES, 2 * TILE_SIZE, 2 * TILE_BYTES};
    if (is_int8 && is_tall) multiply_tiles(1, 1, x, w, count, going_on, next, sums, line);
    else if (is_int8) multiply_tiles(1, 0, x, w, count, going_on, next, sums, line);
    else if (is_tall) multiply_tiles(0, 1, x, w, count, going_on, next, sums, line);
    else multiply_tiles(0, 0, x, w, count, going_on, next, sums, line);
}

/* Bring a row into its place among the tiles, rounded where the product is in 8 bits; rows and
 * inputs that only fill a tile up are zero. */
static void lay_row(const Product *p, const Plan *plan, const char *x, int64_t row, int64_t count,
                    char *tiles, float *scale) {
    int64_t width = plan->tiles * TILE_BYTES;
    uint8_t rounded[width] __attribute__((aligned(64)));
    const char *from = x;
    if (p->is_int8 && row < count) {
        *scale = quantize_row((const bf16 *)x, rounded, p->in);
        from = (const char *)rounded;
    }
    char *to = tiles + row / 16 * plan->tiles * TILE_SIZE + row % 16 * TILE_BYTES;
    for (int64_t i = 0; i < plan->tiles; i++, to += TILE_SIZE) {
        int64_t left = row < count ? plan->row_bytes - i * TILE_BYTES : 0;
        if (left >= TILE_BYTES) {
            memcpy(to, from + i * TILE_BYTES, TILE_BYTES);
        } else {
            memset(to, 0, TILE_BYTES);
            if (left > 0) memcpy(to, from + i * TILE_BYTES, left);
        }
    }
}

/* Bytes of working memory that a product of so many rows takes. */
int64_t miao_product_bytes(const Product *p, int64_t rows) { return plan_of(p, rows).bytes; }

/* The rows that meet each panel before the next one comes, and the part of their inputs. */
typedef struct {
    const char *rows, *tiles; /* where they lie as given, and laid out */
    const float *scales;
    int64_t first, count, blocks, is_tall;
    int64_t part_first, part_tiles, is_begun, is_last; /* of the inputs */
} Sweep;

static TileRun block_of(const Plan *plan, const Sweep *s, int64_t block, int64_t tile) {
    if (plan->is_in_place)
        return (TileRun){s->rows, s->rows + 16 * plan->row_bytes, TILE_BYTES, plan->row_bytes};
    int64_t group_bytes = plan->tiles * TILE_SIZE;
    const char *at = s->tiles + 2 * block * group_bytes + tile * TILE_SIZE;
    return (TileRun){at, at + group_bytes, TILE_SIZE, TILE_BYTES};
}

/* One panel, piece by piece so that a piece stays in the first-level cache while the rows pass
 * by, and the next one is on its way from memory; so are the lines that the results go to.
 * `sums` (blocks, 32, 32). */
static void multiply_panel(const Product *p, const Plan *plan, const Sweep *s, int64_t panel,
                           float *sums, void *out, int64_t out_dtype) {
    int64_t size = 2 * TILE_SIZE, tiles = s->part_tiles, pieces = 1;
    const char *w = (const char *)p->packed + panel * PANEL * plan->row_bytes + s->part_first * size;
    if (s->blocks > 1) pieces = (tiles + PIECE_TILES - 1) / PIECE_TILES;
    Prefetch next = {.lines = (size / 64 + s->blocks - 1) / s->blocks};
    if (s->blocks == 1) next.ahead = LATER - SOON;
    for (int64_t piece = 0; piece < pieces; piece++) {
        int64_t first = tiles * piece / pieces, count = tiles * (piece + 1) / pieces - first;
        int going_on = piece || s->is_begun ? GO_ON : START;
        int is_last = piece == pieces - 1 && s->is_last;
        next.from = w + (s->blocks > 1 ? (first + count) * size : SOON);
        for (int64_t b = 0; b < s->blocks; b++, next.from += count * next.lines * 64) {
            int64_t row = b * BLOCK, rows = s->count - row < BLOCK ? s->count - row : BLOCK;
            float *block_sums = sums + row * PANEL;
            if (is_last) fetch_block(p, panel, (int)rows, out, s->first + row, out_dtype);
            add_up(p->is_int8, s->is_tall, block_of(plan, s, b, s->part_first + first),
                   w + first * size, count, going_on, next, block_sums);
            if (is_last)
                finish_block(p, panel, block_sums, (int)rows, s->scales + row, out, s->first + row,
                             out_dtype);
        }
    }
}

/* out = x . w^T with the epilogue; x (rows, in) bfloat16, `memory` of miao_product_bytes. */
void miao_product(const Product *p, const void *x, void *out, int64_t rows, int64_t out_dtype,
                  void *memory) {
    const Plan plan = plan_of(p, rows);
    float *scales = memory;
    char *tiles = (char *)memory + plan.rows;
    float *kept = (float *)((char *)memory + plan.sums);
    /* Handed out in portions: a thread whose core does something else holds nobody up. */
    int64_t portion = p->panels / 24 > 1 ? p->panels / 24 : 1;
#pragma omp parallel if (rows * p->in * p->out > SMALL_PRODUCT)
    {
        float local[MOST_ROWS * PANEL] __attribute__((aligned(64)));
        shape_tiles(rows > BLOCK ? BLOCK : (int)rows);
        Sweep s = {.tiles = tiles, .scales = scales, .is_tall = rows > 16};
        for (; s.first < rows; s.first += plan.sweep) {
            s.count = rows - s.first < plan.sweep ? rows - s.first : plan.sweep;
            s.blocks = (s.count + BLOCK - 1) / BLOCK;
            s.rows = (const char *)x + s.first * p->in * 2;
            if (!plan.is_in_place) {
                int64_t laid = rows > BLOCK ? s.blocks * BLOCK : s.count;
#pragma omp for schedule(static)
                for (int64_t r = 0; r < laid; r++)
                    lay_row(p, &plan, s.rows + r * p->in * 2, r, s.count, tiles, scales + r);
            }
            for (int64_t part = 0; part < plan.parts; part++) {
                s.part_first = plan.tiles * part / plan.parts;
                s.part_tiles = plan.tiles * (part + 1) / plan.parts - s.part_first;
                s.is_begun = part > 0;
                s.is_last = part == plan.parts - 1;
#pragma omp for schedule(dynamic, portion)
                for (int64_t panel = 0; panel < p->panels; panel++) {
                    float *sums = plan.parts > 1 ? kept + panel * s.blocks * BLOCK * PANEL : local;
                    multiply_panel(p, &plan, &s, panel, sums, out, out_dtype);
                }
            }
        }
        _tile_release();
    }
}
