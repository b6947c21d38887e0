/* The matrix unit (AMX): sixteen rows times sixteen columns at once; part of kernels.c.
 *
 * Eight registers hold a tile each, 16 rows of 64 bytes. A block of up to 32 rows and 32
 * columns keeps its sums in four of them:
 *
 *                 B0 (6)  B1 (7)     a row of B: 16 columns, of each 2 bfloat16 or 4 bytes
 *     A0 (4)        0       1
 *     A1 (5)        2       3
 *
 * A tile adds up pairs of bfloat16 in an order of its own, the same for every row whatever its
 * neighbours; so a level that has tiles sums by nothing else, and a row's result does not
 * depend on how many there are.
 */

#include <sys/syscall.h>
#include <unistd.h>

#define TILE_BYTES 64 /* of a tile's row */
#define TILE_SIZE (16 * TILE_BYTES)

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

/* Shape this thread's tiles for blocks of so many rows, at most 32. */
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

/* Two tiles side by side and those that follow each, `step` bytes behind the one before; a
 * tile's rows lie `line` bytes apart. */
typedef struct {
    const char *first, *second;
    int64_t step, line;
} TileRun;

enum { START = 0, GO_ON = 1 };

/* What is brought nearer during a product: at each tile so many lines of 64 bytes, into the
 * first-level cache, and as many into the second that lie `ahead` bytes behind them. A line on
 * its way from memory to the first level holds one of a core's few buffers all the while. */
typedef struct {
    const char *from;
    int64_t lines, ahead;
} Prefetch;

static const Prefetch NOTHING = {0, 0, 0};

/* sums (rows, 32), lines of `sums_line` bytes, = or += x (rows, 64 bytes times `count`) . w.
 * Where is_tall is 0 there are 16 rows at most. */
static inline __attribute__((always_inline)) void multiply_tiles(
    const int is_int8, const int is_tall, TileRun x, TileRun w, int64_t count, int going_on,
    Prefetch next, float *sums, int64_t sums_line) {
#define ADD(SUM, A, B)                   \
    do {                                 \
        if (is_int8) {                   \
            _tile_dpbusd(SUM, A, B);     \
        } else {                         \
            _tile_dpbf16ps(SUM, A, B);   \
        }                                \
    } while (0)
    char *at = (char *)sums;
    FENCE;
    if (going_on) {
        _tile_loadd(0, at, sums_line);
        _tile_loadd(1, at + TILE_BYTES, sums_line);
        if (is_tall) {
            _tile_loadd(2, at + 16 * sums_line, sums_line);
            _tile_loadd(3, at + 16 * sums_line + TILE_BYTES, sums_line);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (is_tall) {
            _tile_zero(2);
            _tile_zero(3);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        for (int64_t p = 0; p < next.lines; p++) {
            _mm_prefetch(next.from + p * 64, _MM_HINT_T0);
            if (next.ahead) _mm_prefetch(next.from + next.ahead + p * 64, _MM_HINT_T1);
        }
        next.from += next.lines * 64;
        _tile_loadd(6, w.first, w.line);
        _tile_loadd(4, x.first, x.line);
        ADD(0, 4, 6);
        _tile_loadd(7, w.second, w.line);
        ADD(1, 4, 7);
        if (is_tall) {
            _tile_loadd(5, x.second, x.line);
            ADD(2, 5, 6);
            ADD(3, 5, 7);
        }
        x.first += x.step;
        x.second += x.step;
        w.first += w.step;
        w.second += w.step;
    }
    _tile_stored(0, at, sums_line);
    _tile_stored(1, at + TILE_BYTES, sums_line);
    if (is_tall) {
        _tile_stored(2, at + 16 * sums_line, sums_line);
        _tile_stored(3, at + 16 * sums_line + TILE_BYTES, sums_line);
    }
    FENCE;
#undef ADD
}
