// Attention: contractions over keys of what contractions make, without their scores in memory. Input: a kernel
// of the form that kernel_attention tells; output: its function's body.
//
//   for each batch entry and block of rows (a task)
//     pack the rows' side of the scores; results, largest scores and sums start empty
//     for each block of keys that some row of the block may look at
//       pack the values
//       for each tile of rows, which are the lanes
//         scores of the tile, transposed: keys x rows, in cache                llvm_dot_tile.c
//         the expressions after them; with a softmax the largest score and the sum so far, and what was
//         summed under a smaller largest one is scaled down
//         results, transposed: columns x rows += values . weights              llvm_dot_tile.c
//     scale by the sum, transpose, the expressions after the contraction, stores
//
// Gradients have one more result, of the same weights summed over the rows. Then a task is a whole batch entry, and
// that result is added to where it is stored, tile by tile.
//
// Rows are the lanes everywhere, so that nothing is added up across lanes, and weights lie as the next product
// wants them. Blocks begin at fixed places: results do not depend on threads.
#include "compiler/emit/llvm_dot.h"

#include <math.h>

enum {
  TILES = 4,  // of rows in a task
  KEYS = 64,  // in a block
  COPIES = 4, // of a sum or maximum along the keys, so that one step need not wait for the one before
  MOST_CONDITIONS = 8
};

typedef struct Flash {
  Emit *emit;
  Attention form;
  DotIndex rows, keys, along[ATTENTION_MAX_INNER], columns[ATTENTION_MAX_OUTER];
  Dot inner[ATTENTION_MAX_INNER], outer[ATTENTION_MAX_OUTER];      // left: broadcast; right: rows, as lanes
  bool in_place[ATTENTION_MAX_INNER];                              // the keys' side is read where it lies
  int64_t depth[ATTENTION_MAX_INNER], height[ATTENTION_MAX_OUTER]; // widths, rounded up to lanes
  int lanes, width;                                                // width: rows of a tile
  ExprId conditions[MOST_CONDITIONS];                              // a weight is 0 where one does not hold
  int condition_count;
  // scratch memory
  LLVMValueRef queries[ATTENTION_MAX_INNER], lines[ATTENTION_MAX_INNER], scores[ATTENTION_MAX_INNER];
  LLVMValueRef weights[ATTENTION_MAX_OUTER], values[ATTENTION_MAX_OUTER], sums[ATTENTION_MAX_OUTER];
  LLVMValueRef largest, total, result, pointers;
  // the turned result
  DotIndex turned_rows, turned_keys, turned_columns;
  Dot turned;
  int panels, vectors;                     // of its columns, and registers in each
  LLVMValueRef turned_values, turned_sums; // values by panels, for the rows of a block; a tile's sums
  LLVMValueRef row_begin, row_end;         // of the task
} Flash;

// Rows and keys [begin, end) at hand: a tile and a block.
typedef struct Block {
  LLVMValueRef row, row_end, key, key_end;
} Block;

// ---- builders -----------------------------------------------------------------------------------

static LLVMValueRef number(Flash *flash, int64_t value) { return llvm_i64(flash->emit, value); }
static LLVMValueRef add(Flash *flash, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWAdd(flash->emit->builder, x, y, "");
}
static LLVMValueRef subtract(Flash *flash, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWSub(flash->emit->builder, x, y, "");
}
static LLVMValueRef times(Flash *flash, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(flash->emit->builder, x, number(flash, y), "");
}
static LLVMValueRef floats(Flash *flash, LLVMValueRef base, LLVMValueRef index) {
  return llvm_offset(flash->emit, base, flash->emit->f32, index);
}
static LLVMValueRef read(Flash *flash, LLVMValueRef address) { // one register
  return llvm_read(flash->emit, DTYPE_F32, address, flash->lanes, NULL);
}
static void write(Flash *flash, LLVMValueRef address, LLVMValueRef value) {
  llvm_write(flash->emit, DTYPE_F32, address, llvm_splat(flash->emit, value, flash->lanes), flash->lanes,
             NULL);
}
static LLVMValueRef constant(Flash *flash, double value) {
  return llvm_splat(flash->emit, llvm_f32(flash->emit, value), flash->lanes);
}
static LLVMValueRef is_equal(Flash *flash, LLVMValueRef x, double value) {
  return LLVMBuildFCmp(flash->emit->builder, LLVMRealOEQ, x, constant(flash, value), "");
}
static LLVMValueRef choose(Flash *flash, LLVMValueRef condition, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(flash->emit->builder, condition, x, y, "");
}
static LLVMTypeRef vector_type(Flash *flash) { return llvm_vector_of(flash->emit->f32, flash->lanes); }

static LLVMValueRef scratch(Flash *flash, int64_t count) {
  Emit *emit = flash->emit;
  return llvm_offset(emit, emit->scratch, emit->i8, llvm_i64(emit, llvm_scratch(emit, count * 4)));
}

static int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// ---- what is known before any code --------------------------------------------------------------

static DotIndex axis_index(Emit *emit, int axis) {
  DotIndex index = {.count = 1};
  index.size = llvm_extent(emit, emit->kernel->axes[axis].extent);
  index.digits[0] = (DotDigit){.axis = axis, .extent = index.size};
  return index;
}

static void plan_inner(Flash *flash, int i) {
  Emit *emit = flash->emit;
  const AttentionInner *of = &flash->form.inner[i];
  Dot *dot = &flash->inner[i];
  flash->along[i] = axis_index(emit, of->along);
  *dot = (Dot){
      .expr = of->dot, .contract = flash->along[i], .lanes = flash->lanes, .width = flash->width, .steps = 1};
  dot->tile_rows = emit->machine->registers >= 32 ? 8 : 4;
  dot->left = dot_operand(emit, of->key_side, &flash->keys, &flash->along[i]);
  dot->right = dot_operand(emit, of->row_side, &flash->rows, &flash->along[i]);
  const Expr *keys = &emit->kernel->exprs[of->key_side];
  flash->in_place[i] = dot->left.lines && emit->kernel->buffers[keys->buffer].dtype == DTYPE_F32;
  flash->depth[i] = round_up(emit->kernel->axes[of->along].extent.offset, flash->lanes);
}

static void plan_outer(Flash *flash, int n) {
  Emit *emit = flash->emit;
  const AttentionOuter *of = &flash->form.outer[n];
  Dot *dot = &flash->outer[n];
  flash->columns[n] = axis_index(emit, of->column);
  *dot = (Dot){
      .expr = of->dot, .contract = flash->keys, .lanes = flash->lanes, .width = flash->width, .steps = 1};
  dot->tile_rows = emit->machine->registers >= 32 ? 8 : 4;
  dot->left = dot_operand(emit, of->value, &flash->columns[n], &flash->keys);
  flash->height[n] = round_up(emit->kernel->axes[of->column].extent.offset, flash->lanes);
}

static void plan_turned(Flash *flash) {
  Emit *emit = flash->emit;
  const Attention *form = &flash->form;
  int64_t width = emit->kernel->axes[form->turned.column].extent.offset, rows = (int64_t)TILES * flash->width;
  flash->turned_rows = axis_index(emit, form->turned_row);
  flash->turned_keys = axis_index(emit, form->turned_key);
  flash->turned_columns = axis_index(emit, form->turned.column);
  Dot *dot = &flash->turned;
  *dot = (Dot){.expr = form->turned.dot, .contract = flash->turned_keys, .lanes = flash->lanes};
  dot->width = flash->width;
  dot->steps = 1;
  dot->tile_rows = emit->machine->registers >= 32 ? 8 : 4;
  dot->right = dot_operand(emit, form->turned.value, &flash->turned_columns, &flash->turned_keys);
  flash->panels = (int)((width + flash->width - 1) / flash->width);
  flash->vectors =
      (int)((width + (int64_t)flash->panels * flash->lanes - 1) / ((int64_t)flash->panels * flash->lanes));
  flash->turned_values = scratch(flash, rows * flash->width * flash->panels);
  flash->turned_sums = scratch(flash, (int64_t)DOT_MAX_ROWS * flash->width);
}

static void plan_scratch(Flash *flash) {
  int64_t rows = (int64_t)TILES * flash->width, most = 0;
  const Attention *form = &flash->form;
  for (int i = 0; i < form->inner_count; i++) {
    flash->queries[i] = scratch(flash, rows * flash->depth[i]);
    flash->lines[i] = flash->in_place[i] ? NULL : scratch(flash, KEYS * flash->depth[i]);
    flash->scores[i] = scratch(flash, (int64_t)KEYS * flash->width);
  }
  for (int n = 0; n < form->outer_count; n++) {
    flash->weights[n] =
        n < form->inner_count ? flash->scores[n] : scratch(flash, (int64_t)KEYS * flash->width);
    flash->values[n] = scratch(flash, KEYS * flash->height[n]);
    flash->sums[n] = scratch(flash, rows * flash->height[n]);
    if (most < flash->height[n]) most = flash->height[n];
  }
  flash->result = scratch(flash, flash->width * most);
  if (form->share) {
    flash->largest = scratch(flash, rows);
    flash->total = scratch(flash, rows);
  }
}

// ---- where weights are 0 whatever the scores are ------------------------------------------------

static void add_condition(Flash *flash, ExprId id) {
  const Expr *e = &flash->emit->kernel->exprs[id];
  if (e->op == SCALAR_AND) {
    add_condition(flash, e->in[0]);
    add_condition(flash, e->in[1]);
  } else if ((e->op == SCALAR_LESS || e->op == SCALAR_LESSEQ) && flash->condition_count < MOST_CONDITIONS) {
    flash->conditions[flash->condition_count++] = id;
  }
}

static bool is_number(const Flash *flash, ExprId id, double value) {
  const Expr *e = &flash->emit->kernel->exprs[id];
  return e->op == SCALAR_CONST && e->number == value;
}

// Conditions without which `id` is `nothing`: 0, or minus infinity.
static void find_conditions(Flash *flash, ExprId id, double nothing) {
  const Expr *e = &flash->emit->kernel->exprs[id];
  switch (e->op) {
  case SCALAR_SELECT:
    if (!is_number(flash, e->in[2], nothing)) return;
    add_condition(flash, e->in[0]);
    find_conditions(flash, e->in[1], nothing);
    return;
  case SCALAR_MUL:
    if (nothing != 0) return;
    find_conditions(flash, e->in[0], 0);
    find_conditions(flash, e->in[1], 0);
    return;
  case SCALAR_DIV:
    if (nothing == 0) find_conditions(flash, e->in[0], 0);
    return;
  case SCALAR_EXP:
    if (nothing == 0) find_conditions(flash, e->in[0], -INFINITY);
    return;
  case SCALAR_SUB:
    if (nothing != 0) find_conditions(flash, e->in[0], nothing);
    return;
  default: return;
  }
}

// Those without which all weights are 0.
static void find_all_conditions(Flash *flash) {
  find_conditions(flash, flash->form.outer[0].weight, 0);
  for (int n = 1; n < flash->form.outer_count; n++) {
    Flash other = *flash;
    int kept = 0;
    other.condition_count = 0;
    find_conditions(&other, flash->form.outer[n].weight, 0);
    for (int i = 0; i < flash->condition_count; i++) {
      bool both = false;
      for (int k = 0; k < other.condition_count; k++)
        both = both || other.conditions[k] == flash->conditions[i];
      if (both) flash->conditions[kept++] = flash->conditions[i];
    }
    flash->condition_count = kept;
  }
}

// How an index moves with an axis: its coefficient, with casts looked through. False: in no such way.
static bool slope(const Kernel *kernel, ExprId id, int axis, int64_t factor, int64_t *sum) {
  const Expr *e = &kernel->exprs[id];
  if (!(kernel_free_axes(kernel, id) >> axis & 1)) return true;
  if (e->dtype != DTYPE_I64 && e->dtype != DTYPE_I32) return false;
  switch (e->op) {
  case SCALAR_AXIS: *sum += factor; return true;
  case SCALAR_CAST: return slope(kernel, e->in[0], axis, factor, sum);
  case SCALAR_ADD:
  case SCALAR_SUB:
    return slope(kernel, e->in[0], axis, factor, sum) &&
           slope(kernel, e->in[1], axis, e->op == SCALAR_ADD ? factor : -factor, sum);
  default: return false;
  }
}

// The condition where it holds most easily: at the first or the last row and key of the block. NULL: it is not
// of that kind.
static LLVMValueRef at_best(Flash *flash, ExprId id, const Block *block) {
  Emit *emit = flash->emit;
  const Expr *e = &emit->kernel->exprs[id];
  int64_t row = 0, key = 0;
  int r = flash->form.row, k = flash->form.key;
  if (!slope(emit->kernel, e->in[1], r, 1, &row) || !slope(emit->kernel, e->in[0], r, -1, &row) ||
      !slope(emit->kernel, e->in[1], k, 1, &key) || !slope(emit->kernel, e->in[0], k, -1, &key))
    return NULL;
  LLVMValueRef one = number(flash, 1);
  Scope *scope = llvm_scope_open(emit);
  llvm_bind(scope, r, row > 0 ? subtract(flash, block->row_end, one) : block->row, 1);
  llvm_bind(scope, k, key > 0 ? subtract(flash, block->key_end, one) : block->key, 1);
  LLVMValueRef holds = llvm_value(emit, scope, id);
  llvm_scope_close(emit, scope);
  return holds;
}

static LLVMValueRef any_weight(Flash *flash, const Block *block) {
  LLVMValueRef any = LLVMConstInt(flash->emit->i1, 1, false);
  for (int i = 0; i < flash->condition_count; i++) {
    LLVMValueRef holds = at_best(flash, flash->conditions[i], block);
    if (holds) any = LLVMBuildAnd(flash->emit->builder, any, holds, "");
  }
  return any;
}

// ---- products -----------------------------------------------------------------------------------

// The function for as many registers as the tile's rows need; of those that the number of rows can lead to.
static LLVMValueRef tile_function(Flash *flash, const Dot *dot, bool lines, const Block *block) {
  Emit *emit = flash->emit;
  int64_t known, rest = 0;
  bool fixed = dot_constant(flash->rows.size, &known);
  if (fixed) rest = known % flash->width;
  if (fixed && !rest) return dot_tile_function(emit, dot, lines, DOT_VECTORS);
  int last = (int)((rest + flash->lanes - 1) / flash->lanes);
  LLVMValueRef count = subtract(flash, block->row_end, block->row), function = NULL;
  if (!fixed || known > flash->width || last == DOT_VECTORS)
    function = dot_tile_function(emit, dot, lines, DOT_VECTORS);
  for (int v = DOT_VECTORS - 1; v > 0; v--) {
    if (fixed && v != last) continue;
    LLVMValueRef narrow = dot_tile_function(emit, dot, lines, v);
    LLVMValueRef few =
        LLVMBuildICmp(emit->builder, LLVMIntSLE, count, number(flash, (int64_t)v * flash->lanes), "");
    function = function ? choose(flash, few, narrow, function) : narrow;
  }
  return function;
}

// scores[key][row] = key side . row side, for the block's keys and the tile's rows.
static void multiply_scores(Flash *flash, int i, const Block *block) {
  Emit *emit = flash->emit;
  const Dot *dot = &flash->inner[i];
  LLVMValueRef function = tile_function(flash, dot, true, block);
  LLVMValueRef panel = times(flash, subtract(flash, block->row, flash->row_begin), flash->depth[i]);
  Loop step = llvm_loop_open(emit, block->key, block->key_end, dot->tile_rows);
  LLVMValueRef from_begin = subtract(flash, step.index, block->key);
  if (flash->in_place[i]) {
    dot_lines(emit, dot, &dot->left, step.index, block->key_end, number(flash, 0), dot->tile_rows,
              flash->pointers);
  } else {
    for (int r = 0; r < dot->tile_rows; r++) {
      LLVMValueRef line = times(flash, add(flash, from_begin, number(flash, r)), flash->depth[i]);
      LLVMBuildStore(emit->builder, floats(flash, flash->lines[i], line),
                     llvm_offset(emit, flash->pointers, emit->pointer, number(flash, r)));
    }
  }
  LLVMValueRef arguments[] = {flash->pointers, floats(flash, flash->queries[i], panel),
                              floats(flash, flash->scores[i], times(flash, from_begin, flash->width)),
                              flash->along[i].size, number(flash, 0)};
  dot_call(emit, function, arguments, 5);
  llvm_loop_close(emit, &step);
}

// sums[column][row] += values . weights
static void multiply_values(Flash *flash, int n, const Block *block) {
  Emit *emit = flash->emit;
  const Dot *dot = &flash->outer[n];
  LLVMValueRef function = tile_function(flash, dot, false, block);
  LLVMValueRef tile = times(flash, subtract(flash, block->row, flash->row_begin), flash->height[n]);
  Loop step = llvm_loop_open(emit, number(flash, 0), flash->columns[n].size, dot->tile_rows);
  LLVMValueRef panel = LLVMBuildUDiv(emit->builder, step.index, number(flash, flash->lanes), "");
  LLVMValueRef within = subtract(flash, step.index, times(flash, panel, flash->lanes));
  LLVMValueRef left = add(flash, times(flash, panel, (int64_t)KEYS * flash->lanes), within);
  LLVMValueRef sums =
      floats(flash, floats(flash, flash->sums[n], tile), times(flash, step.index, flash->width));
  LLVMValueRef arguments[] = {floats(flash, flash->values[n], left), flash->weights[n], sums,
                              subtract(flash, block->key_end, block->key), number(flash, 1)};
  dot_call(emit, function, arguments, 5);
  llvm_loop_close(emit, &step);
}

// ---- the turned result ---------------------------------------------------------------------------

typedef struct Added {
  Flash *flash;
  LLVMValueRef sums; // NULL: zeros are stored
} Added;

static void add_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                      LLVMValueRef mask) {
  Added *added = context;
  Flash *flash = added->flash;
  const Store *store = &emit->kernel->stores[__builtin_ctz(flash->form.turned.stores)];
  int64_t step;
  LLVMValueRef address = llvm_address(emit, scope, store->buffer, store->index, lanes, &step), value;
  if (added->sums)
    value = llvm_fadd(emit, llvm_read(emit, DTYPE_F32, address, lanes, mask),
                      llvm_read(emit, DTYPE_F32, floats(flash, added->sums, offset), lanes, mask));
  else
    value = llvm_splat(emit, llvm_f32(emit, 0), lanes);
  llvm_write(emit, DTYPE_F32, address, value, lanes, mask);
}

// One row of the result: columns [begin, end).
static void add_turned_row(Flash *flash, LLVMValueRef row, LLVMValueRef begin, LLVMValueRef end,
                           LLVMValueRef sums) {
  Emit *emit = flash->emit;
  Scope *scope = llvm_scope_open(emit);
  llvm_bind(scope, flash->form.turned_row, row, 1);
  Added added = {flash, sums};
  DotRuns runs = dot_runs_open(emit, &flash->turned_columns, begin, end);
  dot_runs_pieces(emit, &runs, add_piece, &added);
  dot_runs_close(emit, &runs);
  llvm_scope_close(emit, scope);
}

static void start_turned(Flash *flash) {
  Loop row = llvm_loop_open(flash->emit, number(flash, 0), flash->turned_rows.size, 1);
  add_turned_row(flash, row.index, number(flash, 0), flash->turned_columns.size, NULL);
  llvm_loop_close(flash->emit, &row);
}

static LLVMValueRef panel_begin(Flash *flash, int panel) {
  return number(flash, (int64_t)panel * flash->vectors * flash->lanes);
}
static LLVMValueRef panel_end(Flash *flash, int panel) {
  return llvm_minimum(flash->emit, panel_begin(flash, panel + 1), flash->turned_columns.size);
}
static LLVMValueRef panel_values(Flash *flash, int panel, LLVMValueRef row) {
  int64_t stride = (int64_t)TILES * flash->width * flash->width;
  LLVMValueRef from_begin = times(flash, subtract(flash, row, flash->row_begin), flash->width);
  return floats(flash, flash->turned_values, add(flash, number(flash, panel * stride), from_begin));
}

static void pack_turned(Flash *flash) {
  for (int p = 0; p < flash->panels; p++) {
    DotPanels panels = {.base = panel_values(flash, p, flash->row_begin),
                        .begin = panel_begin(flash, p),
                        .end = panel_end(flash, p),
                        .k_begin = flash->row_begin,
                        .k_end = flash->row_end,
                        .width = flash->width};
    panels.panel_stride = number(flash, (int64_t)TILES * flash->width * flash->width);
    dot_pack(flash->emit, &flash->turned, &flash->turned.right, &panels);
  }
}

// result[key] += weights[key] . values, for the block's keys.
static void multiply_turned(Flash *flash, const Block *block) {
  Emit *emit = flash->emit;
  int rows = flash->turned.tile_rows;
  LLVMValueRef function = dot_tile_function(emit, &flash->turned, true, flash->vectors);
  Loop step = llvm_loop_open(emit, block->key, block->key_end, rows);
  LLVMValueRef from_begin = subtract(flash, step.index, block->key);
  for (int r = 0; r < rows; r++) {
    LLVMValueRef line = times(flash, add(flash, from_begin, number(flash, r)), flash->width);
    LLVMBuildStore(emit->builder, floats(flash, flash->weights[flash->form.turned_of], line),
                   llvm_offset(emit, flash->pointers, emit->pointer, number(flash, r)));
  }
  LLVMValueRef end = llvm_minimum(emit, add(flash, step.index, number(flash, rows)), block->key_end);
  for (int p = 0; p < flash->panels; p++) {
    LLVMValueRef arguments[] = {flash->pointers, panel_values(flash, p, block->row), flash->turned_sums,
                                subtract(flash, block->row_end, block->row), number(flash, 0)};
    dot_call(emit, function, arguments, 5);
    Loop row = llvm_loop_open(emit, step.index, end, 1);
    LLVMValueRef line = times(flash, subtract(flash, row.index, step.index), flash->width);
    add_turned_row(flash, row.index, panel_begin(flash, p), panel_end(flash, p),
                   floats(flash, flash->turned_sums, line));
    llvm_loop_close(emit, &row);
  }
  llvm_loop_close(emit, &step);
}

// ---- the expressions between the products -------------------------------------------------------

// One register of rows against the block's keys.
typedef struct Strip {
  Flash *flash;
  const Block *block;
  LLVMValueRef offset;         // of the rows in a line of scores
  LLVMValueRef totals[COPIES]; // variables
  LLVMValueRef shift;          // what the scores are lowered by
} Strip;

typedef void StripStep(Strip *strip, Scope *scope, LLVMValueRef place, int copy);

static void strip_step(Strip *strip, LLVMValueRef key, StripStep *body, int copy) {
  Flash *flash = strip->flash;
  Scope *scope = llvm_scope_open(flash->emit);
  llvm_bind(scope, flash->form.key, key, 1);
  LLVMValueRef line = times(flash, subtract(flash, key, strip->block->key), flash->width);
  body(strip, scope, add(flash, line, strip->offset), copy);
  llvm_scope_close(flash->emit, scope);
}

static void for_keys(Strip *strip, StripStep *body) {
  Flash *flash = strip->flash;
  LLVMValueRef count = subtract(flash, strip->block->key_end, strip->block->key);
  LLVMValueRef whole = LLVMBuildAnd(flash->emit->builder, count, number(flash, -COPIES), "");
  LLVMValueRef middle = add(flash, strip->block->key, whole);
  Loop loop = llvm_loop_open(flash->emit, strip->block->key, middle, COPIES);
  for (int copy = 0; copy < COPIES; copy++)
    strip_step(strip, add(flash, loop.index, number(flash, copy)), body, copy);
  llvm_loop_close(flash->emit, &loop);
  Loop rest = llvm_loop_open(flash->emit, middle, strip->block->key_end, 1);
  strip_step(strip, rest.index, body, 0);
  llvm_loop_close(flash->emit, &rest);
}

static void inject_scores(Flash *flash, Scope *scope, LLVMValueRef place) {
  for (int i = 0; i < flash->form.inner_count; i++)
    llvm_inject(flash->emit, scope, flash->form.inner[i].dot,
                read(flash, floats(flash, flash->scores[i], place)));
}

static void weigh_step(Strip *strip, Scope *scope, LLVMValueRef place, int copy) {
  Flash *flash = strip->flash;
  (void)copy;
  LLVMValueRef weights[ATTENTION_MAX_OUTER];
  inject_scores(flash, scope, place);
  for (int n = 0; n < flash->form.outer_count; n++)
    weights[n] = llvm_value(flash->emit, scope, flash->form.outer[n].weight);
  for (int n = 0; n < flash->form.outer_count; n++)
    write(flash, floats(flash, flash->weights[n], place), weights[n]);
}

static void score_step(Strip *strip, Scope *scope, LLVMValueRef place, int copy) {
  Flash *flash = strip->flash;
  inject_scores(flash, scope, place);
  LLVMValueRef score =
      llvm_splat(flash->emit, llvm_value(flash->emit, scope, flash->form.score), flash->lanes);
  LLVMValueRef before = llvm_get(flash->emit, vector_type(flash), strip->totals[copy]);
  write(flash, floats(flash, flash->scores[0], place), score);
  llvm_set(flash->emit, strip->totals[copy], llvm_extreme(flash->emit, true, score, before));
}

static void share_step(Strip *strip, Scope *scope, LLVMValueRef place, int copy) {
  Flash *flash = strip->flash;
  Emit *emit = flash->emit;
  LLVMValueRef address = floats(flash, flash->weights[0], place);
  LLVMValueRef score = read(flash, address);
  LLVMValueRef share = llvm_math_exp(emit, LLVMBuildFSub(emit->builder, score, strip->shift, ""));
  LLVMValueRef before = llvm_get(emit, vector_type(flash), strip->totals[copy]);
  llvm_set(emit, strip->totals[copy], llvm_fadd(emit, before, share));
  llvm_inject(emit, scope, flash->form.share, share);
  write(flash, address, llvm_value(emit, scope, flash->form.outer[0].weight));
}

static LLVMValueRef join_totals(Strip *strip, bool largest) {
  Emit *emit = strip->flash->emit;
  LLVMValueRef total[COPIES];
  for (int i = 0; i < COPIES; i++) total[i] = llvm_get(emit, vector_type(strip->flash), strip->totals[i]);
  for (int half = COPIES / 2; half; half /= 2)
    for (int i = 0; i < half; i++)
      total[i] = largest ? llvm_extreme(emit, true, total[i + half], total[i])
                         : llvm_fadd(emit, total[i], total[i + half]);
  return total[0];
}

static void set_totals(Strip *strip, LLVMValueRef value) {
  for (int i = 0; i < COPIES; i++) llvm_set(strip->flash->emit, strip->totals[i], value);
}

// What was summed so far, for the strip's rows, times `factor`.
static void scale_sums(Flash *flash, const Block *block, LLVMValueRef offset, LLVMValueRef factor) {
  Emit *emit = flash->emit;
  LLVMValueRef tile = times(flash, subtract(flash, block->row, flash->row_begin), flash->height[0]);
  LLVMValueRef base = floats(flash, floats(flash, flash->sums[0], tile), offset);
  Loop column = llvm_loop_open(emit, number(flash, 0), flash->columns[0].size, 1);
  LLVMValueRef address = floats(flash, base, times(flash, column.index, flash->width));
  write(flash, address, llvm_fmul(emit, read(flash, address), factor));
  llvm_loop_close(emit, &column);
}

// Scores of minus infinity alone leave a largest one of minus infinity: nothing is summed yet then.
static void softmax(Strip *strip, LLVMValueRef statistic) {
  Flash *flash = strip->flash;
  Emit *emit = flash->emit;
  LLVMValueRef largest = floats(flash, flash->largest, statistic),
               total = floats(flash, flash->total, statistic);
  LLVMValueRef before = read(flash, largest);
  set_totals(strip, before);
  for_keys(strip, score_step);
  LLVMValueRef now = join_totals(strip, true);
  write(flash, largest, now);
  strip->shift = choose(flash, is_equal(flash, now, -INFINITY), constant(flash, 0), now);
  LLVMValueRef factor = llvm_math_exp(emit, LLVMBuildFSub(emit->builder, before, strip->shift, ""));
  set_totals(strip, constant(flash, 0));
  for_keys(strip, share_step);
  LLVMValueRef sum = llvm_fadd(emit, llvm_fmul(emit, read(flash, total), factor), join_totals(strip, false));
  write(flash, total, sum);
  LLVMValueRef moved = LLVMBuildNot(emit->builder, is_equal(flash, factor, 1), "");
  LLVMTypeRef type = LLVMTypeOf(moved);
  Branch scale = llvm_branch_open(emit, llvm_intrinsic(emit, "llvm.vector.reduce.or", &type, 1, &moved, 1));
  scale_sums(flash, strip->block, strip->offset, factor);
  llvm_branch_close(emit, &scale);
}

static void weigh(Flash *flash, const Block *block) {
  Emit *emit = flash->emit;
  Strip strip = {.flash = flash, .block = block};
  for (int i = 0; i < COPIES; i++) strip.totals[i] = llvm_variable(emit, vector_type(flash));
  Loop rows = llvm_loop_open(emit, block->row, block->row_end, flash->lanes);
  LLVMValueRef mask = llvm_tail_mask(emit, subtract(flash, block->row_end, rows.index), flash->lanes);
  llvm_bind_lanes(rows.scope, flash->form.row, rows.index, 1, flash->lanes, mask);
  strip.offset = subtract(flash, rows.index, block->row);
  if (flash->form.share)
    softmax(&strip, subtract(flash, rows.index, flash->row_begin));
  else
    for_keys(&strip, weigh_step);
  llvm_loop_close(emit, &rows);
}

// ---- a block of keys ----------------------------------------------------------------------------

static void pack_keys(Flash *flash, const Block *block) {
  Emit *emit = flash->emit;
  for (int i = 0; i < flash->form.inner_count; i++)
    if (!flash->in_place[i])
      dot_evaluate_lines(emit, &flash->inner[i], &flash->inner[i].left, DTYPE_F32, block->key, block->key_end,
                         number(flash, 0), flash->along[i].size, flash->lines[i],
                         number(flash, flash->depth[i]));
  for (int n = 0; n < flash->form.outer_count; n++) {
    DotPanels panels = {.base = flash->values[n],
                        .begin = number(flash, 0),
                        .end = flash->columns[n].size,
                        .k_begin = block->key,
                        .k_end = block->key_end,
                        .width = flash->lanes};
    panels.panel_stride = number(flash, (int64_t)KEYS * flash->lanes);
    dot_pack(emit, &flash->outer[n], &flash->outer[n].left, &panels);
  }
}

static void add_keys(Flash *flash, const Block *all) {
  Emit *emit = flash->emit;
  pack_keys(flash, all);
  Loop tile = llvm_loop_open(emit, all->row, all->row_end, flash->width);
  LLVMValueRef end = llvm_minimum(emit, add(flash, tile.index, number(flash, flash->width)), all->row_end);
  Block block = {tile.index, end, all->key, all->key_end};
  Branch any = llvm_branch_open(emit, any_weight(flash, &block));
  for (int i = 0; i < flash->form.inner_count; i++) multiply_scores(flash, i, &block);
  weigh(flash, &block);
  for (int n = 0; n < flash->form.outer_count; n++) multiply_values(flash, n, &block);
  if (flash->form.is_turned) multiply_turned(flash, &block);
  llvm_branch_close(emit, &any);
  llvm_loop_close(emit, &tile);
}

static void for_key_blocks(Flash *flash) {
  Emit *emit = flash->emit;
  Loop keys = llvm_loop_open(emit, number(flash, 0), flash->keys.size, KEYS);
  LLVMValueRef end = llvm_minimum(emit, add(flash, keys.index, number(flash, KEYS)), flash->keys.size);
  Block block = {flash->row_begin, flash->row_end, keys.index, end};
  Branch any = llvm_branch_open(emit, any_weight(flash, &block));
  add_keys(flash, &block);
  llvm_branch_close(emit, &any);
  llvm_loop_close(emit, &keys);
}

// ---- a block of rows, from its start to its end -------------------------------------------------

static void fill(Flash *flash, LLVMValueRef base, int64_t count, double value) {
  Loop loop = llvm_loop_open(flash->emit, number(flash, 0), number(flash, count), flash->lanes);
  write(flash, floats(flash, base, loop.index), constant(flash, value));
  llvm_loop_close(flash->emit, &loop);
}

static void pack_rows(Flash *flash) {
  for (int i = 0; i < flash->form.inner_count; i++) {
    DotPanels panels = {.base = flash->queries[i],
                        .begin = flash->row_begin,
                        .end = flash->row_end,
                        .k_begin = number(flash, 0),
                        .k_end = flash->along[i].size,
                        .width = flash->width};
    panels.panel_stride = number(flash, flash->depth[i] * flash->width);
    dot_pack(flash->emit, &flash->inner[i], &flash->inner[i].right, &panels);
  }
}

static void start_rows(Flash *flash) {
  int64_t rows = (int64_t)TILES * flash->width;
  for (int n = 0; n < flash->form.outer_count; n++) fill(flash, flash->sums[n], rows * flash->height[n], 0);
  if (!flash->form.share) return;
  fill(flash, flash->largest, rows, -INFINITY);
  fill(flash, flash->total, rows, 0);
}

// All keys, for each value of the further axes that results are summed over.
static void add_all_keys(Flash *flash) {
  Nest nest = {.count = 0};
  llvm_nest_loops(flash->emit, &nest, flash->form.more);
  pack_rows(flash);
  if (flash->form.is_turned) pack_turned(flash);
  for_key_blocks(flash);
  llvm_nest_close(flash->emit, &nest);
}

// A row without any score but minus infinity has no shares: NaN, as exp(-inf - -inf) is. Without keys: 0.
static LLVMValueRef total_of(Flash *flash, LLVMValueRef statistic, LLVMValueRef *largest) {
  LLVMValueRef total = read(flash, floats(flash, flash->total, statistic));
  *largest = read(flash, floats(flash, flash->largest, statistic));
  LLVMValueRef any = LLVMBuildICmp(flash->emit->builder, LLVMIntNE, flash->keys.size, number(flash, 0), "");
  LLVMValueRef none = LLVMBuildAnd(flash->emit->builder, is_equal(flash, *largest, -INFINITY),
                                   llvm_splat(flash->emit, any, flash->lanes), "");
  return choose(flash, none, constant(flash, NAN), total);
}

// Divides the sums of a softmax's weights by the total, and stores what is stored of them.
static void finish_statistics(Flash *flash, const Block *tile) {
  Emit *emit = flash->emit;
  Loop rows = llvm_loop_open(emit, tile->row, tile->row_end, flash->lanes);
  LLVMValueRef mask = llvm_tail_mask(emit, subtract(flash, tile->row_end, rows.index), flash->lanes), largest;
  llvm_bind_lanes(rows.scope, flash->form.row, rows.index, 1, flash->lanes, mask);
  LLVMValueRef total = total_of(flash, subtract(flash, rows.index, flash->row_begin), &largest);
  LLVMValueRef empty = LLVMBuildICmp(emit->builder, LLVMIntEQ, flash->keys.size, number(flash, 0), "");
  LLVMValueRef inverse = LLVMBuildFDiv(emit->builder, constant(flash, 1), total, "");
  inverse = choose(flash, empty, constant(flash, 0), inverse);
  scale_sums(flash, tile, subtract(flash, rows.index, tile->row), inverse);
  llvm_inject(emit, rows.scope, flash->form.largest, largest);
  llvm_inject(emit, rows.scope, flash->form.total, total);
  for (int i = 0; i < emit->kernel->store_count; i++)
    if (!(flash->form.outer[0].stores >> i & 1)) llvm_store(emit, rows.scope, &emit->kernel->stores[i]);
  llvm_loop_close(emit, &rows);
}

typedef struct Finish {
  Flash *flash;
  int outer;
  LLVMValueRef line;
} Finish;

static void finish_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                         LLVMValueRef mask) {
  Finish *finish = context;
  const AttentionOuter *of = &finish->flash->form.outer[finish->outer];
  LLVMValueRef address = floats(finish->flash, finish->line, offset);
  llvm_inject(emit, scope, of->dot, llvm_read(emit, DTYPE_F32, address, lanes, mask));
  for (int i = 0; i < emit->kernel->store_count; i++)
    if (of->stores >> i & 1) llvm_store(emit, scope, &emit->kernel->stores[i]);
}

// One result of a tile: from columns x rows to rows of columns, which are stored.
static void finish_outer(Flash *flash, int n, const Block *tile) {
  Emit *emit = flash->emit;
  LLVMValueRef base = times(flash, subtract(flash, tile->row, flash->row_begin), flash->height[n]);
  LLVMValueRef height = number(flash, flash->height[n]), rows = subtract(flash, tile->row_end, tile->row);
  LLVMValueRef function = dot_transpose_function(emit, &flash->outer[n], DTYPE_F32);
  for (int64_t column = 0; column < flash->height[n]; column += flash->lanes) {
    for (int lane = 0; lane < flash->lanes; lane++) {
      LLVMValueRef line = add(flash, base, number(flash, (column + lane) * flash->width));
      LLVMBuildStore(emit->builder, floats(flash, flash->sums[n], line),
                     llvm_offset(emit, flash->pointers, emit->pointer, number(flash, lane)));
    }
    LLVMValueRef arguments[] = {flash->pointers, rows, floats(flash, flash->result, number(flash, column)),
                                height};
    dot_call(emit, function, arguments, 4);
  }
  Loop row = llvm_loop_open(emit, tile->row, tile->row_end, 1);
  llvm_bind(row.scope, flash->form.row, row.index, 1);
  LLVMValueRef line = times(flash, subtract(flash, row.index, tile->row), flash->height[n]);
  Finish finish = {flash, n, floats(flash, flash->result, line)};
  DotRuns runs = dot_runs_open(emit, &flash->columns[n], number(flash, 0), flash->columns[n].size);
  dot_runs_pieces(emit, &runs, finish_piece, &finish);
  dot_runs_close(emit, &runs);
  llvm_loop_close(emit, &row);
}

static void finish_rows(Flash *flash) {
  Emit *emit = flash->emit;
  Loop tile = llvm_loop_open(emit, flash->row_begin, flash->row_end, flash->width);
  LLVMValueRef end = llvm_minimum(emit, add(flash, tile.index, number(flash, flash->width)), flash->row_end);
  Block block = {.row = tile.index, .row_end = end};
  if (flash->form.share) finish_statistics(flash, &block);
  for (int n = 0; n < flash->form.outer_count; n++) finish_outer(flash, n, &block);
  llvm_loop_close(emit, &tile);
}

bool llvm_attention(Emit *emit) {
  enum { MOST_BATCH = 7 };
  Flash flash = {.emit = emit, .lanes = emit->machine->lanes, .width = DOT_VECTORS * emit->machine->lanes};
  if (kernel_attention(emit->kernel, &flash.form) || __builtin_popcount(flash.form.batch) > MOST_BATCH)
    return false;
  flash.rows = axis_index(emit, flash.form.row);
  flash.keys = axis_index(emit, flash.form.key);
  for (int i = 0; i < flash.form.inner_count; i++) plan_inner(&flash, i);
  for (int n = 0; n < flash.form.outer_count; n++) plan_outer(&flash, n);
  plan_scratch(&flash);
  if (flash.form.is_turned) plan_turned(&flash);
  find_all_conditions(&flash);
  int axes[MOST_BATCH], count = 0;
  for (int axis = 0; axis < emit->kernel->axis_count; axis++)
    if (flash.form.batch >> axis & 1) {
      axes[count++] = axis;
      emit->work.terms[emit->work.count++] = (WorkTerm){emit->kernel->axes[axis].extent, 1};
    }
  int64_t rows = (int64_t)TILES * flash.width;
  WorkTerm blocks = {emit->kernel->axes[flash.form.row].extent, rows};
  if (!flash.form.is_turned) emit->work.terms[emit->work.count++] = blocks;
  flash.pointers = llvm_variable(emit, LLVMArrayType2(emit->pointer, (uint64_t)flash.lanes));
  LLVMValueRef coordinates[8], zero = number(&flash, 0);
  Loop tasks = llvm_tasks_open(emit, coordinates), block;
  for (int i = 0; i < count; i++) llvm_bind(tasks.scope, axes[i], coordinates[i], 1);
  flash.row_begin = flash.form.is_turned ? zero : times(&flash, coordinates[count], rows);
  if (flash.form.is_turned) {
    start_turned(&flash);
    block = llvm_loop_open(emit, zero, flash.rows.size, rows);
    flash.row_begin = block.index;
  }
  flash.row_end = llvm_minimum(emit, add(&flash, flash.row_begin, number(&flash, rows)), flash.rows.size);
  start_rows(&flash);
  add_all_keys(&flash);
  finish_rows(&flash);
  if (flash.form.is_turned) llvm_loop_close(emit, &block);
  llvm_loop_close(emit, &tasks);
  return true;
}
