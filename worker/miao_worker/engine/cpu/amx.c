/* Products on the matrix unit (AMX), for kernels.c: sixteen rows times sixteen outputs at once.
 *
 * Eight registers hold a tile each, 16 rows of 64 bytes. A block of up to 32 rows and 32
 * outputs keeps its sums in four of them:
 *
 *                 B0 (6)  B1 (7)    a panel's (32 bytes of inputs, 2, 16 outputs), rows 128 bytes apart
 *     A0 (4)        0       1
 *     A1 (5)        2       3
 *
 * A tile adds up pairs of bfloat16 in an order of its own, the same for every row whatever its
 * neighbours; so all products of this level go through tiles, and a row's result does not
 * depend on how many there are.
 *
 * Few rows are read where they lie. Of many, a sweep is first brought into tiles that lie one
 * behind the other, (groups of 16 rows, tiles of 64 bytes, 16, 64 bytes), so that what meets
 * each panel streams from the second-level cache; the inputs are cut into parts where the
 * sweep would not fit there, and sums wait in memory between two parts.
 */

#include <sys/syscall.h>
#include <unistd.h>

#define TILE_BYTES 64                      /* of a tile's row */
#define TILE_SIZE (16 * TILE_BYTES)
#define BLOCK 32                           /* rows whose sums stay in tiles */
#define PART_TILES 64                      /* tiles of a row that a sweep takes at once */
#define CACHE_BYTES (1 << 20)              /* of the second-level cache, for a sweep's rows */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileShapes;

/* GCC's tile functions do not say which memory they read and write. */
#define FENCE __asm__ volatile("" ::: "memory")

/* Ask the system for the tiles' registers; whether this process may use them. */
int64_t miao_has_tiles(void) {
    const long request = 0x1023 /* ARCH_REQ_XCOMP_PERM */, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

/* Shape the tiles for blocks of so many rows. */
static void shape_tiles(int rows) {
    TileShapes shapes = {.palette = 1};
    int first = rows < 16 ? rows : 16, second = rows - first;
    const int counts[8] = {first, first, second, second, first, second, 16, 16};
    for (int i = 0; i < 8; i++) {
        shapes.rows[i] = (uint8_t)counts[i];
        shapes.row_bytes[i] = counts[i] ? TILE_BYTES : 0;
    }
    FENCE;
    _tile_loadconfig(&shapes);
}

/* What a block's sums come from: A0's and A1's tiles, each `step` bytes behind the last, of rows
 * `line` bytes apart. */
typedef struct {
    const char *first, *second; /* second is NULL where there are 16 rows at most */
    int64_t step, line;
} BlockRows;

/* sums (32, 32) of one panel: of its first part, or added to those there are. */
static inline __attribute__((always_inline)) void add_up(const int is_int8, const int is_tall,
                                                         BlockRows x, const char *panel,
                                                         int64_t tiles, int is_first,
                                                         int64_t ahead, float *sums) {
#define ADD(SUM, A, B)                          \
    do {                                        \
        if (is_int8) {                          \
            _tile_dpbusd(SUM, A, B);            \
        } else {                                \
            _tile_dpbf16ps(SUM, A, B);          \
        }                                       \
    } while (0)
    const int64_t line = PANEL * sizeof(float);
    FENCE;
    if (is_first) {
        _tile_zero(0);
        _tile_zero(1);
        if (is_tall) {
            _tile_zero(2);
            _tile_zero(3);
        }
    } else {
        _tile_loadd(0, sums, line);
        _tile_loadd(1, sums + 16, line);
        if (is_tall) {
            _tile_loadd(2, sums + 16 * PANEL, line);
            _tile_loadd(3, sums + 16 * PANEL + 16, line);
        }
    }
    for (int64_t i = 0; i < tiles; i++) {
        if (ahead)
            for (int64_t p = 0; p < 2 * TILE_SIZE; p += 64) _mm_prefetch(panel + ahead + p, _MM_HINT_T0);
        _tile_loadd(6, panel, 128);
        _tile_loadd(4, x.first, x.line);
        ADD(0, 4, 6);
        _tile_loadd(7, panel + 64, 128);
        ADD(1, 4, 7);
        if (is_tall) {
            _tile_loadd(5, x.second, x.line);
            ADD(2, 5, 6);
            ADD(3, 5, 7);
            x.second += x.step;
        }
        x.first += x.step;
        panel += 2 * TILE_SIZE;
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + 16, line);
    if (is_tall) {
        _tile_stored(2, sums + 16 * PANEL, line);
        _tile_stored(3, sums + 16 * PANEL + 16, line);
    }
    FENCE;
#undef ADD
}

static void add_up_block(const Product *p, BlockRows x, const char *panel, int64_t tiles,
                         int is_first, int64_t ahead, float *sums) {
    if (p->is_int8) {
        if (x.second) add_up(1, 1, x, panel, tiles, is_first, ahead, sums);
        else add_up(1, 0, x, panel, tiles, is_first, ahead, sums);
    } else {
        if (x.second) add_up(0, 1, x, panel, tiles, is_first, ahead, sums);
        else add_up(0, 0, x, panel, tiles, is_first, ahead, sums);
    }
}

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
    if (plan.sweep > 512) plan.sweep = 512;
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

static float quantize_row(const bf16 *x, uint8_t *u, int64_t n);

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

/* out = x . w^T with the epilogue; x (rows, in) bfloat16, `memory` of miao_product_bytes. */
void miao_product(const Product *p, const void *x, void *out, int64_t rows, int64_t out_dtype,
                  void *memory) {
    const Plan plan = plan_of(p, rows);
    float *scales = memory;
    char *tiles = (char *)memory + plan.rows;
    float *kept = (float *)((char *)memory + plan.sums);
    int64_t group_bytes = plan.tiles * TILE_SIZE, panel_bytes = PANEL * plan.row_bytes;
    /* Handed out in portions: a thread whose core does something else holds nobody up. */
    int64_t portion = p->panels / 24 > 1 ? p->panels / 24 : 1;
#pragma omp parallel if (rows * p->in * p->out > SMALL_PRODUCT)
    {
        float local[BLOCK * PANEL] __attribute__((aligned(64)));
        int shaped = rows > BLOCK ? BLOCK : (int)rows;
        shape_tiles(shaped);
        for (int64_t sweep = 0; sweep < rows; sweep += plan.sweep) {
            int64_t count = rows - sweep < plan.sweep ? rows - sweep : plan.sweep;
            int64_t blocks = (count + BLOCK - 1) / BLOCK;
            const char *from = (const char *)x + sweep * p->in * 2;
            if (!plan.is_in_place) {
                int64_t laid = rows > BLOCK ? blocks * BLOCK : count;
#pragma omp for schedule(static)
                for (int64_t r = 0; r < laid; r++)
                    lay_row(p, &plan, from + r * p->in * 2, r, count, tiles, scales + r);
            }
            for (int64_t part = 0; part < plan.parts; part++) {
                int64_t first = plan.tiles * part / plan.parts;
                int64_t length = plan.tiles * (part + 1) / plan.parts - first;
#pragma omp for schedule(dynamic, portion)
                for (int64_t panel = 0; panel < p->panels; panel++) {
                    const char *w = (const char *)p->packed + panel * panel_bytes + first * 2 * TILE_SIZE;
                    for (int64_t b = 0; b < blocks; b++) {
                        int64_t group = 2 * b, block_rows = count - b * BLOCK;
                        if (block_rows > BLOCK) block_rows = BLOCK;
                        const char *laid = tiles + group * group_bytes + first * TILE_SIZE;
                        BlockRows block = {laid, laid + group_bytes, TILE_SIZE, TILE_BYTES};
                        if (plan.is_in_place)
                            block = (BlockRows){from, from + 16 * plan.row_bytes, TILE_BYTES,
                                                plan.row_bytes};
                        if (shaped <= 16) block.second = 0;
                        float *sums = plan.parts == 1 ? local : kept + (panel * blocks + b) * BLOCK * PANEL;
                        add_up_block(p, block, w, length, !part, blocks == 1 ? 4096 : 0, sums);
                        if (part == plan.parts - 1)
                            finish_block(p, panel, sums, (int)block_rows, scales + b * BLOCK, out,
                                         sweep + b * BLOCK, out_dtype);
                    }
                }
            }
        }
        _tile_release();
    }
}
