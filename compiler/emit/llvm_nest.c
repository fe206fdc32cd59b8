// How loops are chosen and opened: which axis becomes lanes and how many of them, which axes are tasks.
// Input: the kernel and the values that are computed in the loops; output: open loops whose scopes bind the
// axes.
#include "compiler/emit/llvm_emit.h"

#include <math.h>

// What one task should do at least, in units of about 16 operations of one lane.
enum { TASK_WORK = 16384, LIKELY_SIZE = 256 };

// ---- costs --------------------------------------------------------------------------------------

static int operation_cost(ScalarOp op) {
  switch (op) {
  case SCALAR_CONST:
  case SCALAR_AXIS:
  case SCALAR_SIZE: return 0;
  case SCALAR_EXP: return 16;
  case SCALAR_LOG:
  case SCALAR_TANH:
  case SCALAR_ERF: return 30;
  case SCALAR_SIN:
  case SCALAR_COS: return 50;
  case SCALAR_POW: return 120;
  case SCALAR_RANDOM: return 10; // four lanes share a block, so that it wants many
  case SCALAR_DIV:
  case SCALAR_SQRT:
  case SCALAR_RSQRT: return 4;
  default: return 1;
  }
}

typedef struct Walk {
  Emit *emit;
  int axis;
  bool *seen;
  double operations; // of the parts that depend on the axis
  double access;     // loads: 1 for neighbours, more for others
  bool gathers;      // some lanes would not be neighbours
} Walk;

static void walk(Walk *state, ExprId id) {
  Emit *emit = state->emit;
  const Expr *expr = &emit->kernel->exprs[id];
  if (!id || state->seen[id] || !(emit->free_axes[id] >> state->axis & 1)) return;
  state->seen[id] = true;
  state->operations += operation_cost(expr->op);
  for (int i = 0; i < 3; i++) walk(state, expr->in[i]);
  if (expr->op != SCALAR_LOAD) return;
  for (int i = 0; i < emit->kernel->buffers[expr->buffer].rank; i++) walk(state, expr->index[i]);
  int64_t stride = kernel_stride(emit->kernel, expr->buffer, expr->index, state->axis);
  if (stride == 0) return; // only its guard depends on the axis
  state->access += stride == 1 ? 1 : emit->machine->lanes;
  state->gathers = state->gathers || stride != 1;
}

AxisCost llvm_axis_cost(Emit *emit, const ExprId *values, int count, int axis) {
  Walk state = {.emit = emit, .axis = axis, .seen = ARENA_ARRAY(emit->arena, bool, emit->kernel->expr_count)};
  for (int i = 0; i < count; i++) walk(&state, values[i]);
  Extent extent = emit->kernel->axes[axis].extent;
  double idle = 1; // short axes leave lanes idle
  if (extent_is_constant(extent) && extent.offset < emit->machine->lanes && extent.offset > 0)
    idle = (double)emit->machine->lanes / (double)extent.offset;
  return (AxisCost){state.operations, state.access * idle + (idle - 1), state.gathers};
}

// Several registers at once hide latency and share index arithmetic; long expressions would spill.
int llvm_choose_lanes(Emit *emit, const ExprId *values, int count, int axis, int most) {
  AxisCost cost = llvm_axis_cost(emit, values, count, axis);
  int width = emit->machine->lanes, registers = cost.operations > 60 ? 1 : cost.operations > 24 ? 2 : 4;
  if (cost.operations <= 8) registers = 8;
  if (emit->machine->registers < 32) registers = (registers + 1) / 2;
  if (cost.gathers) registers = 1;
  if (registers > most) registers = most;
  Extent extent = emit->kernel->axes[axis].extent;
  if (!extent_is_constant(extent)) return width * (registers > 2 ? 2 : registers);
  while (registers > 1 && (int64_t)width * registers > extent.offset) registers /= 2;
  while (registers > 1 && extent.offset % ((int64_t)width * registers) &&
         extent.offset < 16 * width * registers)
    registers /= 2;
  if (extent.offset >= width) return width * registers;
  int lanes = 1;
  while (lanes < extent.offset) lanes *= 2;
  return lanes;
}

int llvm_choose_axis(Emit *emit, const Store *const *stores, int count, uint32_t candidates) {
  int best = -1;
  double least = INFINITY;
  ExprId *values = ARENA_ARRAY(emit->arena, ExprId, count + 1);
  for (int i = 0; i < count; i++) values[i] = stores[i]->value;
  for (int axis = 0; axis < emit->kernel->axis_count; axis++) {
    if (!(candidates >> axis & 1)) continue;
    double cost = llvm_axis_cost(emit, values, count, axis).access;
    for (int i = 0; i < count; i++) {
      int64_t stride = kernel_stride(emit->kernel, stores[i]->buffer, stores[i]->index, axis);
      cost += stride == 1 ? 1 : 1.5 * emit->machine->lanes;
    }
    if (cost <= least) least = cost, best = axis; // the later one: it runs faster
  }
  return best;
}

// ---- loops along the vector axis ----------------------------------------------------------------

static void vector_pass(Emit *emit, int axis, LLVMValueRef begin, LLVMValueRef end, int64_t multiple,
                        int lanes, bool masked, VectorBody *body, void *context) {
  Loop loop = llvm_loop_open(emit, begin, end, lanes);
  LLVMValueRef mask = NULL;
  if (masked) mask = llvm_tail_mask(emit, LLVMBuildSub(emit->builder, end, loop.index, ""), lanes);
  llvm_bind_lanes(loop.scope, axis, loop.index, llvm_common_divisor(multiple, lanes), lanes, mask);
  body(emit, loop.scope, masked, context);
  llvm_loop_close(emit, &loop);
}

Range llvm_range_whole(Emit *emit, int axis) {
  Extent extent = emit->kernel->axes[axis].extent;
  int64_t multiple = extent_is_constant(extent) ? extent.offset : 1;
  return (Range){llvm_i64(emit, 0), llvm_extent(emit, extent), 0, multiple};
}

// A last piece of known size takes no more lanes than it needs.
int llvm_tail_lanes(Emit *emit, const Range *range, int lanes) {
  int64_t first, last;
  int width = lanes < emit->machine->lanes ? lanes : emit->machine->lanes;
  if (range->length_multiple % lanes == 0) return 0;
  if (!llvm_known(range->begin, &first) || !llvm_known(range->end, &last)) return width;
  int64_t rest = (last - first) % lanes;
  while (width > 1 && width / 2 >= rest) width /= 2;
  return rest ? width : 0;
}

void llvm_vector_loop(Emit *emit, int axis, const Range *range, int lanes, VectorBody *body, void *context) {
  int64_t first, last, multiple = llvm_common_divisor(range->begin_multiple, lanes);
  int tail_lanes = llvm_tail_lanes(emit, range, lanes);
  LLVMBuilderRef b = emit->builder;
  LLVMValueRef length = LLVMBuildSub(b, range->end, range->begin, ""), whole = range->end;
  bool fixed = llvm_known(range->begin, &first) && llvm_known(range->end, &last);
  if (tail_lanes) {
    LLVMValueRef blocks = LLVMBuildUDiv(b, length, llvm_i64(emit, lanes), "");
    whole = LLVMBuildAdd(b, range->begin, LLVMBuildMul(b, blocks, llvm_i64(emit, lanes), ""), "");
  }
  if (!fixed || last - first >= lanes)
    vector_pass(emit, axis, range->begin, whole, multiple, lanes, false, body, context);
  if (!tail_lanes) return;
  bool masked = !fixed || (last - first) % lanes % tail_lanes;
  vector_pass(emit, axis, whole, range->end, multiple, tail_lanes, masked, body, context);
}

// ---- tasks --------------------------------------------------------------------------------------

static double likely(Extent extent) {
  return extent_is_constant(extent) ? (double)extent.offset : (double)LIKELY_SIZE;
}

double llvm_likely_size(Emit *emit, uint32_t axes) {
  double size = 1;
  for (int axis = 0; axis < emit->kernel->axis_count; axis++)
    if (axes >> axis & 1) size *= likely(emit->kernel->axes[axis].extent);
  return size;
}

// From the fastest axis on: whole axes while the task stays small, then one that is cut into blocks; the
// slower ones are cut into steps. A run-time size is never taken whole: it may be large.
static int cut(Emit *emit, const int *axes, int count, double work, int vector_axis, int lanes,
               int64_t *divisor) {
  int i = count;
  while (i-- > 0) {
    Extent extent = emit->kernel->axes[axes[i]].extent;
    if (extent_is_constant(extent) && work * likely(extent) <= TASK_WORK) {
      work *= likely(extent);
      continue;
    }
    *divisor = work >= TASK_WORK ? 1 : (int64_t)(TASK_WORK / fmax(work, 1.0 / 16));
    if (axes[i] == vector_axis) *divisor = (*divisor + lanes - 1) / lanes * lanes;
    if (extent_is_constant(extent) && *divisor > extent.offset)
      *divisor = extent.offset > 1 ? extent.offset : 1;
    return i;
  }
  return -1;
}

static void add_term(Work *work, Extent extent, int64_t divisor) {
  work->terms[work->count++] = (WorkTerm){extent, divisor};
}

static void loop_over(Emit *emit, Nest *nest, int axis, LLVMValueRef begin, LLVMValueRef end) {
  Loop *loop = &nest->loops[nest->count++];
  *loop = llvm_loop_open(emit, begin, end, 1);
  llvm_bind(loop->scope, axis, loop->index, 1);
}

void llvm_nest_loops(Emit *emit, Nest *nest, uint32_t axes) {
  for (int axis = 0; axis < emit->kernel->axis_count; axis++)
    if (axes >> axis & 1)
      loop_over(emit, nest, axis, llvm_i64(emit, 0), llvm_extent(emit, emit->kernel->axes[axis].extent));
}

Nest llvm_nest_tasks(Emit *emit, uint32_t mask, double work, int vector_axis, int lanes) {
  enum { MOST_STEPS = 7 };
  Nest nest = {.count = 0};
  int axes[KERNEL_MAX_AXES], count = 0, first = 0;
  int64_t divisor = 1;
  for (int axis = 0; axis < emit->kernel->axis_count; axis++)
    if (mask >> axis & 1 && axis != vector_axis) axes[count++] = axis;
  if (vector_axis >= 0) {
    axes[count++] = vector_axis;
    nest.range = llvm_range_whole(emit, vector_axis);
  }
  int split = cut(emit, axes, count, work, vector_axis, lanes, &divisor);
  while (first < split && first < MOST_STEPS)
    add_term(&emit->work, emit->kernel->axes[axes[first++]].extent, 1);
  bool block = split >= 0 && first == split;
  if (block) add_term(&emit->work, emit->kernel->axes[axes[split]].extent, divisor);
  LLVMValueRef coordinates[8];
  Loop tasks = llvm_tasks_open(emit, coordinates);
  nest.loops[nest.count++] = tasks;
  for (int i = 0; i < first; i++) llvm_bind(tasks.scope, axes[i], coordinates[i], 1);
  if (block) {
    LLVMValueRef extent = llvm_extent(emit, emit->kernel->axes[axes[split]].extent);
    LLVMValueRef begin = LLVMBuildMul(emit->builder, coordinates[first], llvm_i64(emit, divisor), "");
    LLVMValueRef end = LLVMBuildAdd(emit->builder, begin, llvm_i64(emit, divisor), "");
    end = llvm_minimum(emit, end, extent);
    if (axes[split] == vector_axis) {
      nest.range = (Range){begin, end, divisor, llvm_common_divisor(nest.range.length_multiple, divisor)};
    } else if (divisor == 1) {
      llvm_bind(tasks.scope, axes[split], coordinates[first], 1);
    } else {
      loop_over(emit, &nest, axes[split], begin, end);
    }
    first++;
  }
  for (int i = first; i < count; i++)
    if (axes[i] != vector_axis)
      loop_over(emit, &nest, axes[i], llvm_i64(emit, 0),
                llvm_extent(emit, emit->kernel->axes[axes[i]].extent));
  return nest;
}

void llvm_nest_close(Emit *emit, Nest *nest) {
  while (nest->count) llvm_loop_close(emit, &nest->loops[--nest->count]);
}
