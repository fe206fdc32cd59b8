// Contractions. Input: a kernel of one dot with expressions before and after it; output: its function.
//
// Tasks are the leaves of a tree that halves the result again and again: batch entries, columns or rows, so
// that a part needs little packing. A call for several tasks works on whole subtrees, so that few threads
// pack less often than many.
#include "compiler/emit/llvm_dot.h"

enum {
  DOT_LEVELS = 7,              // of the tree of tasks
  DOT_TASKS = 1 << DOT_LEVELS, // enough for any number of cores to share evenly
  TASK_WORK = 1 << 18,         // multiply-adds worth a task of its own
  ROW_STEP = 16,               // blocks of rows are multiples of it
  FEW_PANELS = 16,             // of columns that few rows are multiplied with together
  GROUP_ROWS = 256,            // rows of the left operand packed at a time
  LINES_DEPTH = 1536,          // longest block of the contraction: left operand read in place
  PANEL_DEPTH = 512,           //   left operand packed
  LINES_RIGHT = 512 << 10,     // bytes of packed right operand: left operand read in place
  PANEL_RIGHT = 1 << 20,       //   left operand packed
  SUMS_BYTES = 1 << 20,        // sums between blocks of the contraction
};

// What is known when the function runs.
typedef struct Sizes {
  LLVMValueRef panels, steps;     // of columns and of rows
  LLVMValueRef tasks, levels;     // tasks that have work, 2^levels
  LLVMValueRef depth, depths;     // block of the contraction and their number, at least 1
  LLVMValueRef panels_at_once;    // right panels packed together
  LLVMValueRef chunk;             // rows whose sums are kept between blocks of the contraction
  LLVMValueRef right, left, sums; // scratch memory
  LLVMValueRef lines;             // likewise: lines of the right operand as f32
} Sizes;

typedef struct Gemm {
  Emit *emit;
  Dot dot;
  Sizes sizes;
  bool left_in_place;
  DType left_dtype;  // of its lines
  int64_t deepest;   // longest block of the contraction, in steps
  LLVMValueRef few;  // i1: the right operand is read once, by lines or rows; NULL: never
  bool streams;      // few rows: by rows of the right operand, where they lie; else by lines
  bool evaluated;    // the lines are no plain loads (weights to be dequantised, say)
  int64_t unit;      // steps that they come in, which are evaluated in registers; 0: in scratch memory
  LLVMValueRef many; // i1: it is packed for tiles; NULL: never
} Gemm;

// A part of the result: columns and rows [begin, end) of one batch entry.
typedef struct Region {
  LLVMValueRef column_begin, column_end, row_begin, row_end;
} Region;

// ---- builders -----------------------------------------------------------------------------------

static LLVMValueRef number(Gemm *gemm, int64_t value) { return llvm_i64(gemm->emit, value); }
static LLVMValueRef add(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWAdd(gemm->emit->builder, x, y, "");
}
static LLVMValueRef subtract(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWSub(gemm->emit->builder, x, y, "");
}
static LLVMValueRef multiply(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWMul(gemm->emit->builder, x, y, "");
}
static LLVMValueRef divide(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildUDiv(gemm->emit->builder, x, y, "");
}
static LLVMValueRef minimum(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return llvm_minimum(gemm->emit, x, y);
}
static LLVMValueRef compare(Gemm *gemm, LLVMIntPredicate how, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildICmp(gemm->emit->builder, how, x, y, "");
}
static LLVMValueRef choose(Gemm *gemm, LLVMValueRef condition, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(gemm->emit->builder, condition, x, y, "");
}
static LLVMValueRef maximum(Gemm *gemm, LLVMValueRef x, LLVMValueRef y) {
  return choose(gemm, compare(gemm, LLVMIntSGT, x, y), x, y);
}
static LLVMValueRef pieces(Gemm *gemm, LLVMValueRef x, LLVMValueRef size) { // ceil(x / size)
  return divide(gemm, add(gemm, x, subtract(gemm, size, number(gemm, 1))), size);
}
static LLVMValueRef round_up(Gemm *gemm, LLVMValueRef x, int64_t multiple) {
  return multiply(gemm, pieces(gemm, x, number(gemm, multiple)), number(gemm, multiple));
}
static LLVMValueRef floats(Gemm *gemm, LLVMValueRef base, LLVMValueRef index) {
  return llvm_offset(gemm->emit, base, gemm->emit->f32, index);
}

static LLVMValueRef scratch(Gemm *gemm, int64_t bytes) {
  return llvm_offset(gemm->emit, gemm->emit->scratch, gemm->emit->i8,
                     llvm_i64(gemm->emit, llvm_scratch(gemm->emit, bytes)));
}

// Rows of a panel for so many steps of the contraction.
static LLVMValueRef panel_rows(Gemm *gemm, LLVMValueRef steps) {
  return gemm->dot.steps == 1 ? steps : pieces(gemm, steps, number(gemm, gemm->dot.steps));
}

// ---- sizes --------------------------------------------------------------------------------------

// Blocks of the contraction, and what is packed for one.
static void set_depth(Gemm *gemm) {
  Sizes *sizes = &gemm->sizes;
  int64_t width = gemm->dot.width;
  int64_t right_bytes = gemm->left_in_place ? LINES_RIGHT : PANEL_RIGHT;
  LLVMValueRef total = gemm->dot.contract.size, one = number(gemm, 1);
  sizes->depths = maximum(gemm, pieces(gemm, total, number(gemm, gemm->deepest)), one);
  int64_t whole = gemm->unit > gemm->dot.lanes ? gemm->unit : gemm->dot.lanes; // both powers of 2
  sizes->depth =
      maximum(gemm, round_up(gemm, pieces(gemm, total, sizes->depths), whole), number(gemm, whole));
  LLVMValueRef panel = multiply(gemm, sizes->depth, number(gemm, width * 4 / gemm->dot.steps));
  sizes->panels_at_once = maximum(gemm, divide(gemm, number(gemm, right_bytes), panel), one);
  LLVMValueRef panels = maximum(gemm, sizes->panels, one); // in strips of about the same width
  sizes->panels_at_once = pieces(gemm, panels, pieces(gemm, panels, sizes->panels_at_once));
  if (gemm->few)
    sizes->panels_at_once = choose(gemm, gemm->few, number(gemm, FEW_PANELS), sizes->panels_at_once);
  LLVMValueRef row = multiply(gemm, sizes->panels_at_once, number(gemm, width * 4));
  LLVMValueRef rows = round_up(gemm, add(gemm, divide(gemm, number(gemm, SUMS_BYTES), row), one), GROUP_ROWS);
  LLVMValueRef all = round_up(gemm, add(gemm, gemm->dot.rows.size, one), GROUP_ROWS);
  sizes->chunk = choose(gemm, compare(gemm, LLVMIntEQ, sizes->depths, one), all, minimum(gemm, rows, all));
}

// Scratch memory: exact where the sizes are known, else for the largest blocks.
static void set_scratch(Gemm *gemm) {
  Sizes *sizes = &gemm->sizes;
  int64_t depth = gemm->deepest, at_once, depths = 2, chunk;
  int64_t width = gemm->dot.width, tile = width * gemm->dot.tile_rows * 4;
  dot_constant(sizes->depth, &depth);
  dot_constant(sizes->depths, &depths);
  int64_t right = width * depth * 4 / gemm->dot.steps,
          limit = gemm->left_in_place ? LINES_RIGHT : PANEL_RIGHT;
  right = dot_constant(sizes->panels_at_once, &at_once) ? right * at_once : right > limit ? right : limit;
  // A row more than fits, rounded up to groups. (With several blocks each is over half as deep as can be.)
  int64_t row = (limit > right ? limit : right) * gemm->dot.steps / (gemm->deepest / 2);
  int64_t sums = SUMS_BYTES + row * GROUP_ROWS;
  if (dot_constant(sizes->panels_at_once, &at_once) && dot_constant(sizes->chunk, &chunk))
    sums = chunk * at_once * width * 4;
  sizes->right = gemm->many ? scratch(gemm, right) : NULL;
  sizes->left = gemm->left_in_place ? NULL : scratch(gemm, GROUP_ROWS * depth * 4 / gemm->dot.steps);
  if (gemm->few && gemm->evaluated)
    sizes->lines = scratch(gemm, dot_lines_at_once(gemm->emit) * gemm->deepest * 4);
  int64_t strip = gemm->few ? tile * FEW_PANELS : tile;
  sizes->sums = scratch(gemm, depths == 1 || sums < strip ? strip : sums);
}

static LLVMValueRef count_zeros(Gemm *gemm, const char *name, LLVMValueRef x) {
  LLVMValueRef arguments[] = {x, LLVMConstInt(gemm->emit->i1, 0, false)};
  return llvm_intrinsic(gemm->emit, name, &gemm->emit->i64, 1, arguments, 2);
}

static LLVMValueRef log2_of(Gemm *gemm, LLVMValueRef x) { // rounded down; x > 0
  return subtract(gemm, number(gemm, 63), count_zeros(gemm, "llvm.ctlz", x));
}

static LLVMValueRef power_of_two(Gemm *gemm, LLVMValueRef x) {
  return LLVMBuildShl(gemm->emit->builder, number(gemm, 1), x, "");
}

// As many tasks as there is work for.
static void set_tasks(Gemm *gemm) {
  Sizes *sizes = &gemm->sizes;
  Dot *dot = &gemm->dot;
  LLVMValueRef one = number(gemm, 1), steps = number(gemm, (int64_t)ROW_STEP * dot->width);
  sizes->panels = pieces(gemm, dot->columns.size, number(gemm, dot->width));
  sizes->steps = pieces(gemm, dot->rows.size, number(gemm, ROW_STEP));
  LLVMValueRef parts = multiply(gemm, multiply(gemm, dot->batch.size, sizes->panels), sizes->steps);
  LLVMValueRef each = maximum(gemm, multiply(gemm, steps, dot->contract.size), one);
  LLVMValueRef together = maximum(gemm, divide(gemm, number(gemm, TASK_WORK), each), one);
  LLVMValueRef wanted = minimum(gemm, divide(gemm, parts, together), number(gemm, DOT_TASKS));
  sizes->levels = log2_of(gemm, maximum(gemm, wanted, one));
  sizes->tasks = power_of_two(gemm, sizes->levels);
}

// ---- after the contraction ----------------------------------------------------------------------

typedef struct Finish {
  Gemm *gemm;
  LLVMValueRef sums;
} Finish;

// The stores for lanes whose contraction lies at `sums`. All values before all stores: kernel.h,
// BUFFER_UPDATE.
static void finish_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                         LLVMValueRef mask) {
  Finish *finish = context;
  LLVMValueRef address = floats(finish->gemm, finish->sums, offset);
  llvm_inject(emit, scope, finish->gemm->dot.expr, llvm_read(emit, DTYPE_F32, address, lanes, mask));
  for (int i = 0; i < emit->kernel->store_count; i++) llvm_value(emit, scope, emit->kernel->stores[i].value);
  for (int i = 0; i < emit->kernel->store_count; i++) llvm_store(emit, scope, &emit->kernel->stores[i]);
}

// A finished tile, whose sums lie `width` to a row.
static void finish_tile(Gemm *gemm, const Region *tile, LLVMValueRef sums) {
  Emit *emit = gemm->emit;
  Loop row = llvm_loop_open(emit, tile->row_begin, tile->row_end, 1);
  dot_bind(emit, row.scope, &gemm->dot.rows, row.index);
  LLVMValueRef line =
      multiply(gemm, subtract(gemm, row.index, tile->row_begin), number(gemm, gemm->dot.width));
  DotRuns runs = dot_runs_open(emit, &gemm->dot.columns, tile->column_begin, tile->column_end);
  LLVMValueRef offset = add(gemm, line, subtract(gemm, runs.flat, tile->column_begin));
  Finish finish = {gemm, floats(gemm, sums, offset)};
  dot_runs_pieces(emit, &runs, finish_piece, &finish);
  dot_runs_close(emit, &runs);
  llvm_loop_close(emit, &row);
}

// ---- tiles --------------------------------------------------------------------------------------

// The function for as many vectors as `columns` need; of those that the number of columns can lead to.
static LLVMValueRef tile_function(Gemm *gemm, LLVMValueRef columns) {
  int64_t total, lanes = gemm->dot.lanes, width = gemm->dot.width;
  bool known = dot_constant(gemm->dot.columns.size, &total);
  int64_t last = known ? (total + width - 1) % width + 1 : 0; // columns of the last panel
  LLVMValueRef function = NULL;
  for (int vectors = DOT_VECTORS; vectors >= 1; vectors--) {
    bool needed = known ? (vectors == DOT_VECTORS && total >= width) || (last + lanes - 1) / lanes == vectors
                        : vectors == 1 || vectors == DOT_VECTORS;
    if (!needed) continue;
    LLVMValueRef narrow = dot_tile_function(gemm->emit, &gemm->dot, gemm->left_in_place, vectors);
    LLVMValueRef fits = compare(gemm, LLVMIntSLE, columns, number(gemm, vectors * lanes));
    function = function ? choose(gemm, fits, narrow, function) : narrow;
  }
  return function;
}

typedef struct Block { // of the contraction
  LLVMValueRef number, begin, end;
} Block;

static Block block_of(Gemm *gemm, LLVMValueRef index) {
  LLVMValueRef begin = multiply(gemm, index, gemm->sizes.depth);
  return (Block){index, begin, minimum(gemm, add(gemm, begin, gemm->sizes.depth), gemm->dot.contract.size)};
}

static LLVMValueRef not_first(Gemm *gemm, const Block *block) {
  return LLVMBuildZExt(gemm->emit->builder, compare(gemm, LLVMIntNE, block->number, number(gemm, 0)),
                       gemm->emit->i64, "");
}

static void finish_if_last(Gemm *gemm, const Block *block, const Region *tile, LLVMValueRef sums) {
  LLVMValueRef last = subtract(gemm, gemm->sizes.depths, number(gemm, 1));
  Branch branch = llvm_branch_open(gemm->emit, compare(gemm, LLVMIntEQ, block->number, last));
  finish_tile(gemm, tile, sums);
  llvm_branch_close(gemm->emit, &branch);
}

// ---- few rows -----------------------------------------------------------------------------------

// Lines of the right operand from `column` on: where they lie, or evaluated into scratch memory. Beyond the tile's
// end stands anything: those sums are dropped.
static void right_lines(Gemm *gemm, const Region *tile, const Block *block, LLVMValueRef column, int at_once,
                        LLVMValueRef pointers) {
  Emit *emit = gemm->emit;
  if (!gemm->evaluated) {
    dot_lines(emit, &gemm->dot, &gemm->dot.right, column, tile->column_end, block->begin, at_once, pointers);
    return;
  }
  LLVMValueRef end = minimum(gemm, add(gemm, column, number(gemm, at_once)), tile->column_end);
  int64_t stride = gemm->deepest;
  dot_evaluate_lines(emit, &gemm->dot, &gemm->dot.right, DTYPE_F32, column, end, block->begin, block->end,
                     gemm->sizes.lines, number(gemm, stride));
  for (int i = 0; i < at_once; i++)
    LLVMBuildStore(emit->builder, floats(gemm, gemm->sizes.lines, number(gemm, i * stride)),
                   llvm_offset(emit, pointers, emit->pointer, number(gemm, i)));
}

enum { GROUPS_AHEAD = 4 }; // of columns: about what memory delivers in the time that it takes to answer

// One row: a few columns at once, whose elements are evaluated where they are multiplied. A unit of the contraction is
// written out, so that all that it has in common (a block's scale, a byte's two halves) is computed once. What the next
// columns read there is asked for: with so much to compute, the machine has few loads of its own under way.
static void multiply_units(Gemm *gemm, const Region *tile, const Block *block, LLVMValueRef left,
                           LLVMValueRef sums) {
  Emit *emit = gemm->emit;
  int at_once = dot_lines_at_once(emit);
  LLVMValueRef last = subtract(gemm, tile->column_end, number(gemm, 1));
  LLVMValueRef line = llvm_get(emit, emit->pointer, left), totals = dot_totals(emit);
  DotChains chains[8];
  Loop column = llvm_loop_open(emit, tile->column_begin, tile->column_end, at_once);
  for (int i = 0; i < at_once; i++) chains[i] = dot_chains_open(emit, 1);
  Loop unit = llvm_loop_open(emit, block->begin, block->end, gemm->unit);
  LLVMValueRef elements = floats(gemm, line, subtract(gemm, unit.index, block->begin));
  for (int i = 0; i < at_once; i++) {
    LLVMValueRef own = add(gemm, column.index, number(gemm, i));
    Scope *here = llvm_scope_open(emit);
    dot_bind(emit, here, &gemm->dot.columns, minimum(gemm, own, last));
    dot_unit(emit, &gemm->dot, unit.index, elements, &chains[i]);
    llvm_scope_close(emit, here);
    Scope *next = llvm_scope_open(emit);
    dot_bind(emit, next, &gemm->dot.columns, add(gemm, own, number(gemm, GROUPS_AHEAD * at_once)));
    dot_bind(emit, next, &gemm->dot.contract, unit.index);
    dot_prefetch(emit, next, gemm->dot.right.expr, 1);
    llvm_scope_close(emit, next);
  }
  llvm_loop_close(emit, &unit);
  for (int i = 0; i < at_once; i++) dot_chains_close(emit, &chains[i], totals, number(gemm, i));
  dot_fold(emit, totals, floats(gemm, sums, subtract(gemm, column.index, tile->column_begin)),
           not_first(gemm, block));
  llvm_loop_close(emit, &column);
}

// Lines of the right operand, each multiplied with every line of the left one. left: pointers to lines.
static void multiply_lines(Gemm *gemm, const Region *tile, const Block *block, LLVMValueRef left,
                           LLVMValueRef sums) {
  Emit *emit = gemm->emit;
  const Kernel *kernel = emit->kernel;
  int at_once = dot_lines_at_once(emit);
  DType dtype = DTYPE_F32;
  if (!gemm->evaluated) dtype = kernel->buffers[kernel->exprs[gemm->dot.right.expr].buffer].dtype;
  LLVMValueRef function = dot_lines_function(emit, dtype, gemm->left_dtype),
               width = number(gemm, gemm->dot.width);
  LLVMValueRef lines = llvm_variable(emit, LLVMArrayType2(emit->pointer, (uint64_t)at_once));
  Loop column = llvm_loop_open(emit, tile->column_begin, tile->column_end, at_once);
  right_lines(gemm, tile, block, column.index, at_once, lines);
  Loop row = llvm_loop_open(emit, number(gemm, 0), subtract(gemm, tile->row_end, tile->row_begin), 1);
  LLVMValueRef place =
      add(gemm, multiply(gemm, row.index, width), subtract(gemm, column.index, tile->column_begin));
  LLVMValueRef line = llvm_get(emit, emit->pointer, llvm_offset(emit, left, emit->pointer, row.index));
  LLVMValueRef arguments[] = {lines, line, subtract(gemm, block->end, block->begin),
                              floats(gemm, sums, place), not_first(gemm, block)};
  dot_call(emit, function, arguments, 5);
  llvm_loop_close(emit, &row);
  llvm_loop_close(emit, &column);
}

static void multiply_few(Gemm *gemm, const Region *tile, const Block *block, LLVMValueRef left,
                         LLVMValueRef sums) {
  if (!gemm->unit) {
    multiply_lines(gemm, tile, block, left, sums);
    return;
  }
  LLVMValueRef rows = subtract(gemm, tile->row_end, tile->row_begin);
  Branch single = llvm_branch_open(gemm->emit, compare(gemm, LLVMIntEQ, rows, number(gemm, 1)));
  multiply_units(gemm, tile, block, left, sums);
  llvm_branch_close(gemm->emit, &single);
  Branch several = llvm_branch_open(gemm->emit, compare(gemm, LLVMIntNE, rows, number(gemm, 1)));
  multiply_lines(gemm, tile, block, left, sums);
  llvm_branch_close(gemm->emit, &several);
}

enum { STREAMS = 8 }; // rows of the right operand that are read side by side

typedef struct Streams {
  Gemm *gemm;
  LLVMValueRef sums, first; // where the vector's sums lie; the first of the steps of the contraction
  int count;
  LLVMValueRef left[STREAMS]; // one element per step
} Streams;

// sums += left[0] * right[first] + left[1] * right[first + 1] + ... for one vector of columns.
static void streams_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                          LLVMValueRef mask) {
  const Streams *streams = context;
  Gemm *gemm = streams->gemm;
  LLVMValueRef address = floats(gemm, streams->sums, offset),
               sum = llvm_read(emit, DTYPE_F32, address, lanes, NULL);
  (void)scope, (void)mask;
  for (int i = 0; i < streams->count; i++) {
    Scope *step = llvm_scope_open(emit);
    dot_bind(emit, step, &gemm->dot.contract, add(gemm, streams->first, number(gemm, i)));
    LLVMValueRef right = llvm_splat(emit, llvm_value(emit, step, gemm->dot.right.expr), lanes);
    sum = llvm_fma(emit, llvm_splat(emit, streams->left[i], lanes), right, sum);
    llvm_scope_close(emit, step);
  }
  llvm_write(emit, DTYPE_F32, address, sum, lanes, NULL); // panels have room for whole vectors
}

static LLVMValueRef left_element(Gemm *gemm, LLVMValueRef line, LLVMValueRef step) {
  Emit *emit = gemm->emit;
  LLVMValueRef address = llvm_offset(emit, line, llvm_stored_type(emit, gemm->left_dtype), step);
  return llvm_read(emit, gemm->left_dtype, address, 1, NULL);
}

static void streams_steps(Gemm *gemm, const Region *group, const Block *block, LLVMValueRef begin,
                          LLVMValueRef end, int count, LLVMValueRef left) {
  Emit *emit = gemm->emit;
  LLVMValueRef width = number(gemm, gemm->dot.width),
               tile = number(gemm, gemm->dot.width * gemm->dot.tile_rows);
  Loop steps = llvm_loop_open(emit, begin, end, count);
  Loop row = llvm_loop_open(emit, number(gemm, 0), subtract(gemm, group->row_end, group->row_begin), 1);
  LLVMValueRef line = llvm_get(emit, emit->pointer, llvm_offset(emit, left, emit->pointer, row.index));
  Streams streams = {.gemm = gemm, .first = steps.index, .count = count};
  LLVMValueRef within = subtract(gemm, steps.index, block->begin);
  for (int i = 0; i < count; i++)
    streams.left[i] = left_element(gemm, line, add(gemm, within, number(gemm, i)));
  Loop panel = llvm_loop_open(emit, group->column_begin, group->column_end, gemm->dot.width);
  LLVMValueRef panel_number = divide(gemm, subtract(gemm, panel.index, group->column_begin), width);
  LLVMValueRef place = add(gemm, multiply(gemm, panel_number, tile), multiply(gemm, row.index, width));
  streams.sums = floats(gemm, gemm->sizes.sums, place);
  LLVMValueRef column_end = minimum(gemm, add(gemm, panel.index, width), group->column_end);
  DotRuns runs = dot_runs_open(emit, &gemm->dot.columns, panel.index, column_end);
  dot_runs_pieces(emit, &runs, streams_piece, &streams);
  dot_runs_close(emit, &runs);
  llvm_loop_close(emit, &panel);
  llvm_loop_close(emit, &row);
  llvm_loop_close(emit, &steps);
}

// Rows of the right operand, contiguous along the columns: all columns of the group before the next rows.
static void multiply_streams(Gemm *gemm, const Region *group, const Block *block, LLVMValueRef left) {
  Emit *emit = gemm->emit;
  LLVMValueRef zero = number(gemm, 0);
  LLVMValueRef columns = subtract(gemm, group->column_end, group->column_begin);
  LLVMValueRef used =
      multiply(gemm, round_up(gemm, columns, gemm->dot.width), number(gemm, gemm->dot.tile_rows));
  LLVMTypeRef vector = llvm_vector_of(emit->f32, gemm->dot.lanes);
  Branch first = llvm_branch_open(emit, compare(gemm, LLVMIntEQ, block->number, zero));
  Loop clear = llvm_loop_open(emit, zero, used, gemm->dot.lanes);
  llvm_write(emit, DTYPE_F32, floats(gemm, gemm->sizes.sums, clear.index), LLVMConstNull(vector),
             gemm->dot.lanes, NULL);
  llvm_loop_close(emit, &clear);
  llvm_branch_close(emit, &first);
  LLVMValueRef count = subtract(gemm, block->end, block->begin);
  LLVMValueRef whole = LLVMBuildAnd(emit->builder, count, number(gemm, -STREAMS), "");
  LLVMValueRef rest = add(gemm, block->begin, whole);
  streams_steps(gemm, group, block, block->begin, rest, STREAMS, left);
  streams_steps(gemm, group, block, rest, block->end, 1, left);
}

// ---- tiles of the result ------------------------------------------------------------------------

// A tile from panels of the right operand.
static void multiply_tile(Gemm *gemm, const Region *tile, const Region *group, const Block *block,
                          LLVMValueRef left, LLVMValueRef right, LLVMValueRef sums) {
  LLVMValueRef function = tile_function(gemm, subtract(gemm, tile->column_end, tile->column_begin));
  if (!gemm->left_in_place) {
    LLVMValueRef lanes = number(gemm, gemm->dot.lanes);
    LLVMValueRef from_begin = subtract(gemm, tile->row_begin, group->row_begin);
    LLVMValueRef panel = divide(gemm, from_begin, lanes);
    LLVMValueRef within = subtract(gemm, from_begin, multiply(gemm, panel, lanes));
    LLVMValueRef stride = multiply(gemm, panel_rows(gemm, gemm->sizes.depth), lanes);
    left = floats(gemm, gemm->sizes.left, add(gemm, multiply(gemm, panel, stride), within));
  }
  LLVMValueRef arguments[] = {left, right, sums, panel_rows(gemm, subtract(gemm, block->end, block->begin)),
                              not_first(gemm, block)};
  dot_call(gemm->emit, function, arguments, 5);
}

// Pointers to the tile's lines of the left operand: where they lie, or where they were evaluated to.
static void left_lines(Gemm *gemm, const Region *tile, const Block *block, LLVMValueRef pointers) {
  Emit *emit = gemm->emit;
  if (gemm->left_in_place) {
    dot_lines(emit, &gemm->dot, &gemm->dot.left, tile->row_begin, tile->row_end, block->begin,
              gemm->dot.tile_rows, pointers);
    return;
  }
  for (int r = 0; r < gemm->dot.tile_rows; r++)
    LLVMBuildStore(emit->builder,
                   floats(gemm, gemm->sizes.left, multiply(gemm, gemm->sizes.depth, number(gemm, r))),
                   llvm_offset(emit, pointers, emit->pointer, number(gemm, r)));
}

// Where a tile's sums are kept: with a single block of the contraction, and many rows, they are never kept.
static LLVMValueRef sums_of(Gemm *gemm, const Region *chunk, LLVMValueRef row, LLVMValueRef panel) {
  Sizes *sizes = &gemm->sizes;
  LLVMValueRef rows = multiply(gemm, subtract(gemm, row, chunk->row_begin), sizes->panels_at_once);
  LLVMValueRef place = add(gemm, rows, multiply(gemm, panel, number(gemm, gemm->dot.tile_rows)));
  LLVMValueRef reused = compare(gemm, LLVMIntEQ, sizes->depths, number(gemm, 1));
  if (gemm->few)
    reused = LLVMBuildAnd(gemm->emit->builder, reused, LLVMBuildNot(gemm->emit->builder, gemm->few, ""), "");
  place = choose(gemm, reused, number(gemm, 0), place);
  return floats(gemm, sizes->sums, multiply(gemm, place, number(gemm, gemm->dot.width)));
}

// All panels of the group's columns against its rows; `chunk` is the region whose sums are kept.
static void multiply_group(Gemm *gemm, const Region *chunk, const Region *group, const Block *block,
                           LLVMValueRef pointers) {
  Emit *emit = gemm->emit;
  LLVMValueRef width = number(gemm, gemm->dot.width), rows = number(gemm, gemm->dot.tile_rows);
  LLVMValueRef stride = multiply(gemm, panel_rows(gemm, gemm->sizes.depth), width);
  if (gemm->few && gemm->streams) {
    Branch few = llvm_branch_open(emit, gemm->few);
    left_lines(gemm, group, block, pointers); // few rows are one tile
    multiply_streams(gemm, group, block, pointers);
    llvm_branch_close(emit, &few);
  }
  Loop panel = llvm_loop_open(emit, group->column_begin, group->column_end, gemm->dot.width);
  LLVMValueRef panel_number = divide(gemm, subtract(gemm, panel.index, group->column_begin), width);
  Loop row = llvm_loop_open(emit, group->row_begin, group->row_end, gemm->dot.tile_rows);
  Region tile = {panel.index, minimum(gemm, add(gemm, panel.index, width), group->column_end), row.index,
                 minimum(gemm, add(gemm, row.index, rows), group->row_end)};
  LLVMValueRef sums = sums_of(gemm, chunk, row.index, panel_number);
  if (gemm->left_in_place || gemm->few) left_lines(gemm, &tile, block, pointers);
  if (gemm->few && !gemm->streams) {
    Branch few = llvm_branch_open(emit, gemm->few);
    multiply_few(gemm, &tile, block, pointers, sums);
    llvm_branch_close(emit, &few);
  }
  if (gemm->many) {
    Branch many = llvm_branch_open(emit, gemm->many);
    LLVMValueRef right = floats(gemm, gemm->sizes.right, multiply(gemm, panel_number, stride));
    multiply_tile(gemm, &tile, group, block, pointers, right, sums);
    llvm_branch_close(emit, &many);
  }
  finish_if_last(gemm, block, &tile, sums);
  llvm_loop_close(emit, &row);
  llvm_loop_close(emit, &panel);
}

// What the tiles of a group read of the left operand, where that is not what lies in memory.
static void prepare_left(Gemm *gemm, const Region *group, const Block *block) {
  Emit *emit = gemm->emit;
  LLVMValueRef depth = gemm->sizes.depth;
  if (gemm->left_in_place) return;
  if (gemm->few) {
    Branch few = llvm_branch_open(emit, gemm->few);
    dot_evaluate_lines(emit, &gemm->dot, &gemm->dot.left, DTYPE_F32, group->row_begin, group->row_end,
                       block->begin, block->end, gemm->sizes.left, depth);
    llvm_branch_close(emit, &few);
  }
  if (gemm->many) {
    Branch many = llvm_branch_open(emit, gemm->many);
    DotPanels panels = {.base = gemm->sizes.left,
                        .begin = group->row_begin,
                        .end = group->row_end,
                        .k_begin = block->begin,
                        .k_end = block->end,
                        .width = gemm->dot.lanes};
    panels.panel_stride = multiply(gemm, panel_rows(gemm, depth), number(gemm, panels.width));
    dot_pack(emit, &gemm->dot, &gemm->dot.left, &panels);
    llvm_branch_close(emit, &many);
  }
}

static void prepare_right(Gemm *gemm, const Region *chunk, const Block *block) {
  if (!gemm->many) return;
  Branch many = llvm_branch_open(gemm->emit, gemm->many);
  DotPanels panels = {.base = gemm->sizes.right,
                      .begin = chunk->column_begin,
                      .end = chunk->column_end,
                      .k_begin = block->begin,
                      .k_end = block->end,
                      .width = gemm->dot.width};
  panels.panel_stride = multiply(gemm, panel_rows(gemm, gemm->sizes.depth), number(gemm, panels.width));
  dot_pack(gemm->emit, &gemm->dot, &gemm->dot.right, &panels);
  llvm_branch_close(gemm->emit, &many);
}

static void multiply_rows(Gemm *gemm, const Region *chunk, const Block *block, LLVMValueRef pointers) {
  Emit *emit = gemm->emit;
  Loop rows = llvm_loop_open(emit, chunk->row_begin, chunk->row_end, GROUP_ROWS);
  Region group = *chunk;
  group.row_begin = rows.index;
  group.row_end = minimum(gemm, add(gemm, rows.index, number(gemm, GROUP_ROWS)), chunk->row_end);
  prepare_left(gemm, &group, block);
  multiply_group(gemm, chunk, &group, block, pointers);
  llvm_loop_close(emit, &rows);
}

static void multiply_region(Gemm *gemm, const Region *region) {
  Emit *emit = gemm->emit;
  Sizes *sizes = &gemm->sizes;
  LLVMValueRef zero = number(gemm, 0);
  LLVMValueRef pointers = llvm_variable(emit, LLVMArrayType2(emit->pointer, (uint64_t)gemm->dot.tile_rows));
  LLVMValueRef wide = multiply(gemm, sizes->panels_at_once, number(gemm, gemm->dot.width));
  LLVMValueRef strips = pieces(gemm, subtract(gemm, region->column_end, region->column_begin), wide);
  Loop strip = llvm_loop_open(emit, zero, strips, 1);
  Region chunk;
  chunk.column_begin = add(gemm, region->column_begin, multiply(gemm, strip.index, wide));
  chunk.column_end = minimum(gemm, add(gemm, chunk.column_begin, wide), region->column_end);
  LLVMValueRef chunks = pieces(gemm, subtract(gemm, region->row_end, region->row_begin), sizes->chunk);
  Loop rows = llvm_loop_open(emit, zero, chunks, 1);
  chunk.row_begin = add(gemm, region->row_begin, multiply(gemm, rows.index, sizes->chunk));
  chunk.row_end = minimum(gemm, add(gemm, chunk.row_begin, sizes->chunk), region->row_end);
  Loop depth = llvm_loop_open(emit, zero, sizes->depths, 1);
  Block block = block_of(gemm, depth.index);
  prepare_right(gemm, &chunk, &block);
  multiply_rows(gemm, &chunk, &block, pointers);
  llvm_loop_close(emit, &depth);
  llvm_loop_close(emit, &rows);
  llvm_loop_close(emit, &strip);
}

// ---- regions of the tasks -----------------------------------------------------------------------

// Which ways of multiplying there are, and when. Few rows do not pay for packing.
static void set_ways(Gemm *gemm) {
  int64_t rows;
  const Dot *dot = &gemm->dot;
  LLVMValueRef limit = number(gemm, dot->tile_rows), always = LLVMConstInt(gemm->emit->i1, 1, false);
  bool known = dot_constant(dot->rows.size, &rows);
  bool plain = gemm->emit->kernel->exprs[dot->right.expr].op == SCALAR_LOAD;
  gemm->streams = plain && !dot->right.lines && dot->right.across && dot->columns.count == 1 &&
                  dot->contract.count == 1; // else packing spares computing
  gemm->evaluated = !plain && !dot->right.across;
  if (gemm->evaluated) gemm->unit = dot_unit_steps(&dot->contract);
  bool in_place = dot->right.lines || gemm->streams || gemm->evaluated;
  if (in_place && (!known || rows <= dot->tile_rows))
    gemm->few = known ? always : compare(gemm, LLVMIntSLE, dot->rows.size, limit);
  if (!gemm->few)
    gemm->many = always;
  else if (!known)
    gemm->many = LLVMBuildNot(gemm->emit->builder, gemm->few, "");
}

typedef enum Dimension { BATCH, COLUMNS, ROWS, DIMENSIONS } Dimension;

// A subtree's part of the result, in variables: batch entries, panels of columns, steps of rows.
typedef struct Part {
  LLVMValueRef begin[DIMENSIONS], end[DIMENSIONS];
} Part;

static LLVMValueRef is_uneven(Gemm *gemm,
                              LLVMValueRef count) { // halves that differ by more than some percent
  LLVMValueRef odd = LLVMBuildTrunc(gemm->emit->builder, count, gemm->emit->i1, "");
  LLVMValueRef few = compare(gemm, LLVMIntSLT, count, number(gemm, 16));
  return LLVMBuildAnd(gemm->emit->builder, odd, few, "");
}

// How good it is to halve a dimension: batch entries share nothing; halves with the longer side need less
// packing, and the left operand often needs none.
static LLVMValueRef worth(Gemm *gemm, Dimension dimension, LLVMValueRef count) {
  int64_t columns = gemm->dot.width * (gemm->left_in_place ? 8 : 1);
  int64_t weights[] = {1 << 20, columns, ROW_STEP};
  LLVMValueRef all = multiply(gemm, count, number(gemm, weights[dimension]));
  LLVMValueRef less = divide(gemm, all, number(gemm, dimension == BATCH ? 1 << 20 : 4));
  LLVMValueRef some = choose(gemm, is_uneven(gemm, count), less, all);
  return choose(gemm, compare(gemm, LLVMIntSLT, count, number(gemm, 2)), number(gemm, 0), some);
}

// Goes to the first or (upper) the second half of the part.
static void halve(Gemm *gemm, const Part *part, LLVMValueRef upper) {
  Emit *emit = gemm->emit;
  LLVMValueRef begin[DIMENSIONS], end[DIMENSIONS], value[DIMENSIONS], best = NULL;
  for (int d = 0; d < DIMENSIONS; d++) {
    begin[d] = llvm_get(emit, emit->i64, part->begin[d]);
    end[d] = llvm_get(emit, emit->i64, part->end[d]);
    value[d] = worth(gemm, d, subtract(gemm, end[d], begin[d]));
    best = best ? maximum(gemm, best, value[d]) : value[d];
  }
  LLVMValueRef taken = LLVMConstInt(emit->i1, 0, false);
  for (int d = 0; d < DIMENSIONS; d++) {
    LLVMValueRef here = compare(gemm, LLVMIntEQ, value[d], best);
    here = LLVMBuildAnd(emit->builder, here, LLVMBuildNot(emit->builder, taken, ""), "");
    taken = LLVMBuildOr(emit->builder, taken, here, "");
    LLVMValueRef length = add(gemm, subtract(gemm, end[d], begin[d]), number(gemm, 1));
    LLVMValueRef middle = add(gemm, begin[d], divide(gemm, length, number(gemm, 2)));
    LLVMValueRef new_begin = choose(gemm, upper, middle, begin[d]),
                 new_end = choose(gemm, upper, end[d], middle);
    llvm_set(emit, part->begin[d], choose(gemm, here, new_begin, begin[d]));
    llvm_set(emit, part->end[d], choose(gemm, here, new_end, end[d]));
  }
}

// Down the tree to the subtree of 2^level tasks from `task` on.
static void find_part(Gemm *gemm, const Part *part, LLVMValueRef task, LLVMValueRef level) {
  Emit *emit = gemm->emit;
  LLVMValueRef whole[] = {gemm->dot.batch.size, gemm->sizes.panels, gemm->sizes.steps};
  for (int d = 0; d < DIMENSIONS; d++) {
    llvm_set(emit, part->begin[d], number(gemm, 0));
    llvm_set(emit, part->end[d], whole[d]);
  }
  Loop down = llvm_loop_open(emit, level, gemm->sizes.levels, 1);
  LLVMValueRef bit =
      subtract(gemm, subtract(gemm, gemm->sizes.levels, number(gemm, 1)), subtract(gemm, down.index, level));
  LLVMValueRef upper =
      LLVMBuildTrunc(emit->builder, LLVMBuildLShr(emit->builder, task, bit, ""), emit->i1, "");
  halve(gemm, part, upper);
  llvm_loop_close(emit, &down);
}

static void emit_part(Gemm *gemm, const Part *part) {
  Emit *emit = gemm->emit;
  LLVMValueRef begin[DIMENSIONS], end[DIMENSIONS];
  for (int d = 0; d < DIMENSIONS; d++) {
    begin[d] = llvm_get(emit, emit->i64, part->begin[d]);
    end[d] = llvm_get(emit, emit->i64, part->end[d]);
  }
  LLVMValueRef width = number(gemm, gemm->dot.width), step = number(gemm, ROW_STEP);
  Region region = {multiply(gemm, begin[COLUMNS], width),
                   minimum(gemm, multiply(gemm, end[COLUMNS], width), gemm->dot.columns.size),
                   multiply(gemm, begin[ROWS], step),
                   minimum(gemm, multiply(gemm, end[ROWS], step), gemm->dot.rows.size)};
  LLVMValueRef columns = compare(gemm, LLVMIntSLT, region.column_begin, region.column_end);
  LLVMValueRef rows = compare(gemm, LLVMIntSLT, region.row_begin, region.row_end);
  Branch any = llvm_branch_open(emit, LLVMBuildAnd(emit->builder, columns, rows, ""));
  Loop batch = llvm_loop_open(emit, begin[BATCH], end[BATCH], 1);
  dot_bind(emit, batch.scope, &gemm->dot.batch, batch.index);
  multiply_region(gemm, &region);
  llvm_loop_close(emit, &batch);
  llvm_branch_close(emit, &any);
}

bool llvm_dot(Emit *emit) {
  Gemm gemm = {.emit = emit};
  if (!dot_plan(emit, &gemm.dot)) return false;
  const Expr *left = &emit->kernel->exprs[gemm.dot.left.expr];
  gemm.left_dtype = gemm.dot.steps == 2 ? DTYPE_BF16 : DTYPE_F32;
  gemm.left_in_place =
      gemm.dot.left.lines && emit->kernel->buffers[left->buffer].dtype == gemm.left_dtype && !gemm.dot.odd;
  if (!gemm.left_in_place) gemm.left_dtype = DTYPE_F32; // that few rows are evaluated to
  gemm.deepest = (gemm.left_in_place ? LINES_DEPTH : PANEL_DEPTH) * gemm.dot.steps;
  emit->work = (Work){.count = 1, .terms = {{extent_constant(DOT_TASKS), 1}}};
  set_ways(&gemm);
  set_tasks(&gemm);
  set_depth(&gemm);
  set_scratch(&gemm);
  Part part;
  for (int d = 0; d < DIMENSIONS; d++) {
    part.begin[d] = llvm_variable(emit, emit->i64);
    part.end[d] = llvm_variable(emit, emit->i64);
  }
  LLVMValueRef next = llvm_variable(emit, emit->i64), tasks = gemm.sizes.tasks;
  LLVMValueRef end = minimum(&gemm, emit->end, tasks);
  llvm_set(emit, next, minimum(&gemm, emit->begin, tasks));
  // [begin, end) is at most so many whole subtrees, each as large as its place and the end allow.
  Loop subtree = llvm_loop_open(emit, number(&gemm, 0), number(&gemm, 2 * DOT_LEVELS), 1);
  LLVMValueRef task = llvm_get(emit, emit->i64, next);
  Branch more = llvm_branch_open(emit, compare(&gemm, LLVMIntSLT, task, end));
  LLVMValueRef aligned = count_zeros(&gemm, "llvm.cttz", LLVMBuildOr(emit->builder, task, tasks, ""));
  LLVMValueRef level = minimum(&gemm, aligned, log2_of(&gemm, subtract(&gemm, end, task)));
  llvm_set(emit, next, add(&gemm, task, power_of_two(&gemm, level)));
  find_part(&gemm, &part, task, level);
  emit_part(&gemm, &part);
  llvm_branch_close(emit, &more);
  llvm_loop_close(emit, &subtree);
  return true;
}
