// DOT: one contraction, sums[m][n] = sum over k of left[m][k] right[k][n], for every combination of the batch
// axes. Input: a kernel whose stores all run over rows, columns and batch; output: the body. m, n and k count
// through all row, column and contracted axes.
//
// A block computes a tile of sums, each thread 8x8 of it in registers. Slices of 8 steps of k go through
// shared memory, in two buffers: while one is used, the next slice is on its way in registers, where the
// expressions before the contraction are evaluated. At the end the tile goes through shared memory once more,
// a part at a time, so that neighbouring threads evaluate what comes after the contraction for neighbouring
// columns.
#include "compiler/emit/cuda_emit.h"

#include <string.h>

enum {
  DEPTH = 8,   // k steps of a slice
  EACH = 8,    // results of a thread, squared
  PAD = 4,     // floats between the rows of a tile
  FEW_ROWS = 8 // fewer are no work for tiles
};             // k steps of a slice; results of a thread, squared; floats between rows

// One operand and how it comes in: `outer` are its row (or column) axes.
typedef struct Side {
  const char *name, *count, *first; // "left"; C text of the number of rows; of the tile's first row
  ExprId value;
  uint32_t outer;
  int tile, slots; // rows of a tile; elements that a thread loads of each slice
  bool along;      // neighbouring threads take neighbouring k, else neighbouring rows
  ExprId kept[32]; // parts that do not depend on k, computed once per tile
  int kept_count;
} Side;

typedef struct Dot {
  CudaKernel *k;
  DotAxes axes;
  uint32_t contract;
  int threads;
  Side sides[2];
} Dot;

// ---- shape --------------------------------------------------------------------------------------

static bool fits(const Kernel *kernel, const DotAxes *axes) {
  uint32_t covered = axes->batch | axes->rows | axes->columns;
  for (int i = 0; i < kernel->axis_count; i++) {
    if (!extent_is_constant(kernel->axes[i].extent)) continue;
    if (kernel->axes[i].extent.offset == 1) covered |= 1u << i;
    if (kernel->axes[i].extent.offset > INT32_MAX) return false;
  }
  for (int i = 0; i < kernel->store_count; i++) {
    if (kernel->stores[i].axes != kernel->stores[0].axes || kernel->stores[i].axes & ~covered) return false;
    if ((axes->batch | axes->rows | axes->columns) & ~kernel->stores[i].axes) return false;
  }
  return true;
}

// 128 where there is that much to do and little of the last tile is wasted, as far as one knows; the matrices
// of a batch are taken to be small.
static int tile_size(const CudaKernel *k, uint32_t axes, bool batched) {
  int64_t steps = cuda_steps(k, axes);
  if (steps < 0) return batched ? 64 : 128;
  if (steps > 512) return 128;
  return (steps + 127) / 128 * 128 > (steps + 63) / 64 * 64 ? 64 : 128;
}

// Do neighbouring k lie side by side in memory for most loads of the operand?
static bool contiguous_along_k(Kernel *kernel, ExprId value, uint32_t contract, uint32_t outer) {
  int along = 0, across = 0;
  bool *needed = arena_alloc(kernel->arena, kernel->expr_count);
  needed[value] = true;
  for (ExprId id = value; id; id--) {
    const Expr *expr = &kernel->exprs[id];
    if (!needed[id]) continue;
    for (int i = 0; i < 3; i++) needed[expr->in[i]] = true;
    if (expr->op != SCALAR_LOAD) continue;
    int k = 31 - __builtin_clz(contract), row = outer ? 31 - __builtin_clz(outer) : -1;
    along += kernel_stride(kernel, expr->buffer, expr->index, k) == 1;
    across += row >= 0 && kernel_stride(kernel, expr->buffer, expr->index, row) == 1;
  }
  return along >= across;
}

static void set_side(Dot *dot, Side *side, const char *name, ExprId value, uint32_t outer, int tile) {
  CSource *c = &dot->k->c;
  *side = (Side){
      .name = name, .value = value, .outer = outer, .tile = tile, .slots = tile * DEPTH / dot->threads};
  side->count = csource_product(c, outer);
  side->along = contiguous_along_k(c->kernel, value, dot->contract, outer);
}

// ---- loading ------------------------------------------------------------------------------------

// Which row and which step of a slice a slot is: C text.
static const char *local_row(const Dot *dot, const Side *side) {
  Arena *arena = dot->k->c.arena;
  if (!side->along) return arena_print(arena, "threadIdx.x %% %d", side->tile);
  return arena_print(arena, "threadIdx.x / %d + slot * %d", DEPTH, dot->threads / DEPTH);
}

static const char *local_step(const Dot *dot, const Side *side) {
  Arena *arena = dot->k->c.arena;
  if (side->along) return arena_print(arena, "threadIdx.x %% %d", DEPTH);
  return arena_print(arena, "threadIdx.x / %d + slot * %d", side->tile, dot->threads / side->tile);
}

static const char *array_of(CSource *c, const Side *side, const char *what) {
  return arena_print(c->arena, "%s_%s", side->name, what);
}

// An axis of a side is kept per slot, in half a 64-bit register: left_b[slot]. Axes are shorter than 2^31
// (`fits`; the device refuses longer run-time sizes); products of them need not be.
static void bind_slots(CSource *c, const Side *side, uint32_t axes) {
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (axes >> axis & 1)
      c->axis_value[axis] =
          arena_print(c->arena, "(long long)%s_%s[slot]", side->name, csource_axis(c, axis));
}

static void unbind(CSource *c, uint32_t axes) {
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (axes >> axis & 1) c->axis_value[axis] = NULL;
}

static void declare_slots(CSource *c, const Side *side, uint32_t axes) {
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (axes >> axis & 1) csource_line(c, "int %s_%s[%d];", side->name, csource_axis(c, axis), side->slots);
}

// The largest parts of the operand that hold a load and do not depend on k.
static void find_kept(Dot *dot, Side *side, ExprId id) {
  CSource *c = &dot->k->c;
  const Expr *expr = &c->kernel->exprs[id];
  if (!id || c->value[id] || c->visited[id] == c->visit) return;
  c->visited[id] = c->visit;
  bool constant = !(kernel_free_axes(c->kernel, id) & dot->contract);
  if (constant && expr->dtype != DTYPE_I64 && expr->op != SCALAR_CONST && side->kept_count < 32) {
    side->kept[side->kept_count++] = id;
    return;
  }
  for (int i = 0; i < 3; i++) find_kept(dot, side, expr->in[i]);
  for (int i = 0; i < KERNEL_MAX_RANK; i++) find_kept(dot, side, expr->index[i]);
}

// Before the slices: the axes' values of each slot, whether its row exists, and what does not depend on k.
static void prepare_side(Dot *dot, Side *side) {
  CSource *c = &dot->k->c;
  c->visit = ++c->last_visit;
  find_kept(dot, side, side->value);
  declare_slots(c, side, side->outer);
  csource_line(c, "bool %s[%d];", array_of(c, side, "inside"), side->slots);
  for (int i = 0; i < side->kept_count; i++)
    csource_line(c, "%s %s_kept%d[%d];", csource_type(c, c->kernel->exprs[side->kept[i]].dtype), side->name,
                 i, side->slots);
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int slot = 0; slot < %d; slot++)", side->slots);
  csource_line(c, "const long long row = %s + %s;", side->first, local_row(dot, side));
  csource_line(c, "%s[slot] = row < %s;", array_of(c, side, "inside"), side->count);
  csource_line(c, "const long long safe_row = %s[slot] ? row : 0;", array_of(c, side, "inside"));
  if (side->outer) csource_split(c, side->outer, "safe_row");
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (side->outer >> axis & 1)
      csource_line(c, "%s_%s[slot] = (int)%s;", side->name, csource_axis(c, axis), c->axis_value[axis]);
  for (int i = 0; i < side->kept_count; i++)
    csource_line(c, "%s_kept%d[slot] = %s;", side->name, i, csource_value(c, side->kept[i]));
  csource_close(c);
  unbind(c, side->outer);
}

// Where k counts through more than one axis, each slot keeps their values and counts on; the first values
// need a division, once per tile.
static void prepare_steps(Dot *dot, Side *side) {
  CSource *c = &dot->k->c;
  if (!(dot->contract & (dot->contract - 1))) return;
  declare_slots(c, side, dot->contract);
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int slot = 0; slot < %d && %s > 0; slot++)", side->slots,
               csource_product(c, dot->contract));
  csource_line(c, "const long long step = %s;", local_step(dot, side));
  csource_split(c, dot->contract, "step");
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (dot->contract >> axis & 1)
      csource_line(c, "%s_%s[slot] = (int)%s;", side->name, csource_axis(c, axis), c->axis_value[axis]);
  csource_close(c);
  unbind(c, dot->contract);
}

static void count_on(Dot *dot, const Side *side) {
  CSource *c = &dot->k->c;
  uint32_t left = dot->contract;
  const char *add = arena_print(c->arena, "%d", DEPTH);
  int axis = 31 - __builtin_clz(left);
  csource_line(c, "%s_%s[slot] += %s;", side->name, csource_axis(c, axis), add);
  for (left &= ~(1u << axis); left; left &= ~(1u << axis)) {
    int faster = axis;
    axis = 31 - __builtin_clz(left);
    const char *extent = csource_extent(c, c->kernel->axes[faster].extent);
    csource_line(c, "while (%s_%s[slot] >= %s) %s_%s[slot] -= %s, %s_%s[slot]++;", side->name,
                 csource_axis(c, faster), extent, side->name, csource_axis(c, faster), extent, side->name,
                 csource_axis(c, axis));
  }
}

// One slice of an operand into registers.
static void load_side(Dot *dot, Side *side) {
  CSource *c = &dot->k->c;
  bool one = !(dot->contract & (dot->contract - 1));
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int slot = 0; slot < %d; slot++)", side->slots);
  csource_line(c, "const long long at = slice * %d + %s;", DEPTH, local_step(dot, side));
  csource_line(c, "%s[slot] = 0.0f;", array_of(c, side, "next"));
  csource_open(c, "if (%s[slot] && at < %s)", array_of(c, side, "inside"), csource_product(c, dot->contract));
  bind_slots(c, side, side->outer);
  if (one)
    c->axis_value[31 - __builtin_clz(dot->contract)] = "at";
  else
    bind_slots(c, side, dot->contract);
  for (int i = 0; i < side->kept_count; i++)
    csource_set(c, side->kept[i], arena_print(c->arena, "%s_kept%d[slot]", side->name, i));
  csource_line(c, "%s[slot] = %s;", array_of(c, side, "next"), csource_value(c, side->value));
  csource_close(c);
  if (!one) count_on(dot, side);
  csource_close(c);
  unbind(c, side->outer | dot->contract);
}

static void write_side(const Dot *dot, const Side *side) {
  CSource *c = &dot->k->c;
  csource_line(c, "#pragma unroll");
  csource_line(c, "for (int slot = 0; slot < %d; slot++)", side->slots);
  csource_line(c, "  %s_tile[slice %% 2][%s][%s] = %s[slot];", side->name, local_step(dot, side),
               local_row(dot, side), array_of(c, side, "next"));
}

// ---- computing ----------------------------------------------------------------------------------

static void multiply(Dot *dot) {
  CSource *c = &dot->k->c;
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int step = 0; step < %d; step++)", DEPTH);
  csource_line(c, "float left_part[%d], right_part[%d];", EACH, EACH);
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int part = 0; part < %d; part += 4)", EACH);
  const char *names[] = {"left_part", "right_part"}, *places[] = {"down", "across"};
  for (int i = 0; i < 2; i++)
    csource_line(c, "load_lanes(%s + part, &%s_tile[(slice - 1) %% 2][step][part * %d + %s * 4]);", names[i],
                 dot->sides[i].name, dot->sides[i].tile / EACH, places[i]);
  csource_close(c);
  csource_line(c, "#pragma unroll");
  csource_line(c, "for (int i = 0; i < %d; i++)", EACH);
  csource_line(c, "  #pragma unroll");
  csource_line(c, "  for (int j = 0; j < %d; j++) sums[i][j] += left_part[i] * right_part[j];", EACH);
  csource_close(c);
}

static void slices(Dot *dot) {
  CSource *c = &dot->k->c;
  csource_line(c, "float sums[%d][%d] = {};", EACH, EACH);
  csource_line(c, "const long long slices = (%s + %d) / %d;", csource_product(c, dot->contract), DEPTH - 1,
               DEPTH);
  csource_open(c, "for (long long slice = 0; slice <= slices; slice++)");
  csource_line(c, "float left_next[%d], right_next[%d];", dot->sides[0].slots, dot->sides[1].slots);
  csource_open(c, "if (slice < slices)");
  for (int i = 0; i < 2; i++) load_side(dot, &dot->sides[i]);
  csource_close(c);
  csource_open(c, "if (slice > 0)");
  multiply(dot);
  csource_close(c);
  csource_open(c, "if (slice < slices)");
  for (int i = 0; i < 2; i++) write_side(dot, &dot->sides[i]);
  csource_close(c);
  csource_line(c, "__syncthreads();");
  csource_close(c);
}

// A part is one of the 8 rows of every thread.
static void write_back(Dot *dot) {
  CSource *c = &dot->k->c;
  int rows = dot->sides[0].tile, columns = dot->sides[1].tile;
  csource_line(c, "#pragma unroll 1");
  csource_open(c, "for (int part = 0; part < %d; part++)", EACH);
  csource_line(c, "#pragma unroll");
  csource_line(c, "for (int i = 0; i < %d; i++)", EACH);
  csource_line(c, "  #pragma unroll");
  csource_line(c, "  for (int j = 0; j < %d; j++)", EACH);
  csource_line(c, "    if (i == part) stage[down][j / 4 * %d + across * 4 + j %% 4] = sums[i][j];",
               columns / 2);
  csource_line(c, "__syncthreads();");
  csource_line(c, "#pragma unroll 1");
  csource_open(c, "for (int at = threadIdx.x; at < %d; at += %d)", rows / EACH * columns, dot->threads);
  csource_line(c, "const long long row = first_row + part / 4 * %d + at / %d * 4 + part %% 4;", rows / 2,
               columns);
  csource_line(c, "const long long column = first_column + at %% %d;", columns);
  csource_open(c, "if (row < %s && column < %s)", dot->sides[0].count, dot->sides[1].count);
  if (dot->axes.rows) csource_split(c, dot->axes.rows, "row");
  if (dot->axes.columns) csource_split(c, dot->axes.columns, "column");
  csource_set(c, dot->axes.dot, arena_print(c->arena, "stage[at / %d][at %% %d]", columns, columns));
  csource_stores(c, (1u << c->kernel->store_count) - 1);
  csource_close(c);
  csource_close(c);
  csource_line(c, "__syncthreads();");
  csource_close(c);
}

static void tiles(Dot *dot) {
  CSource *c = &dot->k->c;
  int rows = dot->sides[0].tile, columns = dot->sides[1].tile;
  for (int i = 0; i < 2; i++)
    csource_line(c, "__shared__ __align__(16) float %s_tile[2][%d][%d];", dot->sides[i].name, DEPTH,
                 dot->sides[i].tile + PAD);
  csource_line(c, "__shared__ float stage[%d][%d];", rows / EACH, columns);
  csource_line(c, "const int down = threadIdx.x / %d, across = threadIdx.x %% %d;", columns / EACH,
               columns / EACH);
  csource_line(c, "const long long row_tiles = (%s + %d) / %d;", dot->sides[0].count, rows - 1, rows);
  csource_line(c, "const long long column_tiles = (%s + %d) / %d;", dot->sides[1].count, columns - 1,
               columns);
  csource_open(c,
               "for (long long tile = blockIdx.x; tile < %s * row_tiles * column_tiles; tile += gridDim.x)",
               csource_product(c, dot->axes.batch));
  csource_line(c, "const long long first_column = tile %% column_tiles * %d;", columns);
  csource_line(c, "const long long first_row = tile / column_tiles %% row_tiles * %d;", rows);
  if (dot->axes.batch) csource_split(c, dot->axes.batch, "tile / (column_tiles * row_tiles)");
  for (int i = 0; i < 2; i++) {
    prepare_side(dot, &dot->sides[i]);
    prepare_steps(dot, &dot->sides[i]);
  }
  slices(dot);
  write_back(dot);
  csource_close(c);
}

// Few rows (a step of decoding): tiles would be empty, so each result is a sum by a team of threads, along
// whichever way the weights lie in memory.
static bool few_rows(CudaKernel *k, Dot *dot, const Expr *expr) {
  int64_t steps = cuda_steps(k, dot->axes.rows);
  if (steps < 0 || steps >= FEW_ROWS) return false;
  bool along = contiguous_along_k(k->c.kernel, expr->in[1], dot->contract, dot->axes.columns);
  if (along || !cuda_column(k)) cuda_row(k);
  return true;
}

bool cuda_dot(CudaKernel *k) {
  CSource *c = &k->c;
  const Kernel *kernel = c->kernel;
  Dot dot = {.k = k, .axes = kernel_dot_axes(kernel)};
  if (!fits(kernel, &dot.axes)) return false;
  const Expr *expr = &kernel->exprs[dot.axes.dot];
  dot.contract = dot.axes.contract;
  if (few_rows(k, &dot, expr)) return true;
  int rows = tile_size(k, dot.axes.rows, dot.axes.batch);
  int columns = tile_size(k, dot.axes.columns, dot.axes.batch);
  dot.threads = k->threads = rows / EACH * (columns / EACH);
  set_side(&dot, &dot.sides[0], "left", expr->in[0], dot.axes.rows, rows);
  set_side(&dot, &dot.sides[1], "right", expr->in[1], dot.axes.columns, columns);
  dot.sides[0].first = "first_row";
  dot.sides[1].first = "first_column";
  for (int i = 0; i < kernel->axis_count; i++) // axes of one step
    if (kernel->stores[0].axes >> i & 1 && !((dot.axes.batch | dot.axes.rows | dot.axes.columns) >> i & 1))
      c->axis_value[i] = "0";
  cuda_work(&k->work, kernel, dot.axes.rows, rows);
  cuda_work(&k->work, kernel, dot.axes.columns, columns);
  cuda_work(&k->work, kernel, dot.axes.batch, 1);
  k->schedule =
      arena_print(c->arena, "tiles of %dx%d by %d threads, 8x8 results each, slices of %d in two buffers",
                  rows, columns, dot.threads, DEPTH);
  tiles(&dot);
  return true;
}
