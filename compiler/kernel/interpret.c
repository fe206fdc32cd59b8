// The meaning of kernels, executed. Input: a kernel, its buffers and the run's sizes; output: what its stores
// leave in the buffers. Each expression is placed at the outermost loop at which all axes that it depends on
// are known; nothing else is clever here.
#include "compiler/kernel/kernel.h"

#include "runtime/base/failure.h"
#include "runtime/base/philox.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

// ---- scalars ------------------------------------------------------------------------------------

static double whole_evaluate(ScalarOp op, double x, double y) {
  if (y == 0) return 0;
  double quotient = floor(x / y);
  if (y > 0 ? quotient * y > x : quotient * y < x) quotient -= 1; // x / y was rounded up
  return op == SCALAR_DIV ? quotient : x - quotient * y;
}

double scalar_evaluate(ScalarOp op, bool whole, double x, double y, double z) {
  if (whole && (op == SCALAR_DIV || op == SCALAR_MOD)) return whole_evaluate(op, x, y);
  switch (op) {
#define SCALAR_OP(enumerator, name, operands, c, cuda, llvm, meaning)                                        \
  case SCALAR_##enumerator:                                                                                  \
    return meaning;
#include "compiler/kernel/ops.def"
#undef SCALAR_OP
  default: return 0;
  }
}

double scalar_round(DType dtype, double value) {
  switch (dtype) {
  case DTYPE_BOOL: return value != 0;
  case DTYPE_U8:
  case DTYPE_I32:
    if (value != value) return 0;
    return value >= 2147483647.0 ? 2147483647.0 : value <= -2147483648.0 ? -2147483648.0 : trunc(value) + 0.0;
  case DTYPE_I64: return value != value ? 0 : trunc(value) + 0.0;
  case DTYPE_F64: return value;
  default: return (double)(float)value;
  }
}

// ---- the plan: a nest of loops; loop 0 is no loop -----------------------------------------------

typedef struct Loop {
  int axis;
  int64_t extent;
  ExprId *work; // evaluated, in this order, after the axis took a value
  size_t count, capacity;
  bool *placed; // by expression: is it in `work`
} Loop;

typedef struct Nest {
  Loop *loops[KERNEL_MAX_AXES + 1];
  int count, first; // loops[first..] are its own, those before belong to nests around it
} Nest;

typedef struct Run {
  const Kernel *kernel;
  Arena *arena;
  const int64_t *symbols;
  void *const *buffers;
  Nest **reductions; // by expression
  double *values;    // by expression
  int64_t axis[KERNEL_MAX_AXES];
  int64_t extents[KERNEL_MAX_BUFFERS][KERNEL_MAX_RANK];
} Run;

static Loop *loop_new(Run *run, int axis) {
  Loop *loop = ARENA_NEW(run->arena, Loop);
  loop->axis = axis;
  loop->extent = axis < 0 ? 1 : extent_value(run->kernel->axes[axis].extent, run->symbols);
  loop->placed = ARENA_ARRAY(run->arena, bool, run->kernel->expr_count);
  return loop;
}

static void nest_add(Run *run, Nest *nest, uint32_t axes) {
  for (int axis = 0; axis < run->kernel->axis_count; axis++)
    if (axes >> axis & 1) nest->loops[nest->count++] = loop_new(run, axis);
}

// Puts an expression, after its operands, where its axes are first known.
static void place(Run *run, const Nest *nest, ExprId id) {
  const Expr *expr = &run->kernel->exprs[id];
  uint32_t axes = kernel_free_axes(run->kernel, id);
  int depth = nest->count - 1;
  if (!id) return;
  while (depth && !(axes >> nest->loops[depth]->axis & 1)) depth--;
  Loop *loop = nest->loops[depth];
  if (loop->placed[id]) return;
  loop->placed[id] = true;
  if (expr->axes) {
    Nest *inner = run->reductions[id] = ARENA_NEW(run->arena, Nest);
    memcpy(inner->loops, nest->loops, sizeof(Loop *) * (size_t)(depth + 1));
    inner->count = inner->first = depth + 1;
    nest_add(run, inner, expr->axes);
    for (int i = 0; i < 3; i++) place(run, inner, expr->in[i]);
  } else {
    for (int i = 0; i < 3; i++) place(run, nest, expr->in[i]);
    if (expr->op == SCALAR_LOAD)
      for (int i = 0; i < KERNEL_MAX_RANK; i++) place(run, nest, expr->index[i]);
  }
  ARENA_PUSH(run->arena, loop->work, loop->count, loop->capacity, id);
}

// ---- execution ----------------------------------------------------------------------------------

// The linear index of an access, or -1 where it is outside of the buffer.
static int64_t locate(const Run *run, int buffer, const ExprId *index) {
  int64_t linear = 0;
  for (int i = 0; i < run->kernel->buffers[buffer].rank; i++) {
    double at = run->values[index[i]];
    if (!(at >= 0 && at < (double)run->extents[buffer][i])) return -1;
    linear = linear * run->extents[buffer][i] + (int64_t)at;
  }
  return linear;
}

static _Noreturn void outside(const Run *run, const char *what, int buffer, const ExprId *index) {
  Text text = {0};
  for (int i = 0; i < run->kernel->buffers[buffer].rank; i++)
    text_print(&text, "%s%.0f of %" PRId64, i ? ", " : "", run->values[index[i]], run->extents[buffer][i]);
  die("kernel %s %s outside of %s: [%s]", run->kernel->name, what, run->kernel->buffers[buffer].name,
      text_string(&text));
}

static void evaluate(Run *run, ExprId id);

static void evaluate_all(Run *run, const Loop *loop) {
  for (size_t i = 0; i < loop->count; i++) evaluate(run, loop->work[i]);
}

static void accumulate(const Run *run, const Expr *expr, double *total) {
  double x = run->values[expr->in[0]];
  if (expr->op == SCALAR_SUM) *total += x;
  if (expr->op == SCALAR_DOT) *total += x * run->values[expr->in[1]];
  if (expr->op == SCALAR_REDMAX) *total = scalar_evaluate(SCALAR_MAX, false, *total, x, 0);
}

static void reduce(Run *run, const Expr *expr, const Nest *nest, int depth, double *total) {
  if (depth == nest->count) {
    accumulate(run, expr, total);
    return;
  }
  const Loop *loop = nest->loops[depth];
  for (int64_t i = 0; i < loop->extent; i++) {
    run->axis[loop->axis] = i;
    evaluate_all(run, loop);
    reduce(run, expr, nest, depth + 1, total);
  }
}

static double lowest(DType dtype) {
  return dtype == DTYPE_I32 ? -2147483648.0 : dtype == DTYPE_BOOL ? 0 : -INFINITY;
}

static double load(const Run *run, const Expr *expr) {
  if (expr->in[0] && run->values[expr->in[0]] == 0) return 0;
  int64_t at = locate(run, expr->buffer, expr->index);
  if (at < 0) outside(run, "reads", expr->buffer, expr->index);
  return dtype_load(run->kernel->buffers[expr->buffer].dtype, run->buffers[expr->buffer], at);
}

static void evaluate(Run *run, ExprId id) {
  const Expr *expr = &run->kernel->exprs[id];
  double value = 0, *values = run->values;
  switch (expr->op) {
  case SCALAR_CONST: value = expr->number; break;
  case SCALAR_AXIS: value = (double)run->axis[expr->axis]; break;
  case SCALAR_SIZE: value = (double)extent_value(expr->extent, run->symbols); break;
  case SCALAR_LOAD: value = load(run, expr); break;
  case SCALAR_RANDOM:
    value = (double)philox_uniform((uint32_t)(int64_t)values[expr->in[0]], expr->stream,
                                   (int64_t)values[expr->in[1]]);
    break;
  case SCALAR_SUM:
  case SCALAR_REDMAX:
  case SCALAR_DOT:
    value = expr->op == SCALAR_REDMAX ? lowest(expr->dtype) : 0;
    reduce(run, expr, run->reductions[id], run->reductions[id]->first, &value);
    break;
  default: {
    DType operand = run->kernel->exprs[expr->in[expr->op == SCALAR_SELECT]].dtype;
    value = scalar_evaluate(expr->op, operand == DTYPE_I64 || operand == DTYPE_I32, values[expr->in[0]],
                            values[expr->in[1]], values[expr->in[2]]);
  }
  }
  values[id] = scalar_round(expr->dtype, value);
}

static void write_store(Run *run, const Store *store) {
  DType dtype = run->kernel->buffers[store->buffer].dtype;
  void *base = run->buffers[store->buffer];
  int64_t at = locate(run, store->buffer, store->index);
  if (at < 0 && store->mode == STORE_ADD) return;
  if (at < 0) outside(run, "writes", store->buffer, store->index);
  double value = run->values[store->value];
  if (store->mode == STORE_ADD) value += dtype_load(dtype, base, at);
  dtype_store(dtype, base, at, value);
}

// All stores over the same axes go together: a step's values are computed before the first one is written.
static void run_stores(Run *run, const Nest *nest, int depth, uint32_t axes) {
  if (depth == nest->count) {
    for (int i = 0; i < run->kernel->store_count; i++)
      if (run->kernel->stores[i].axes == axes) write_store(run, &run->kernel->stores[i]);
    return;
  }
  const Loop *loop = nest->loops[depth];
  for (int64_t i = 0; i < loop->extent; i++) {
    if (depth) run->axis[loop->axis] = i;
    evaluate_all(run, loop);
    run_stores(run, nest, depth + 1, axes);
  }
}

static void run_group(Run *run, uint32_t axes) {
  Nest nest = {.loops = {loop_new(run, -1)}, .count = 1};
  nest_add(run, &nest, axes);
  for (int i = 0; i < run->kernel->store_count; i++) {
    const Store *store = &run->kernel->stores[i];
    if (store->axes != axes) continue;
    place(run, &nest, store->value);
    for (int k = 0; k < run->kernel->buffers[store->buffer].rank; k++) place(run, &nest, store->index[k]);
  }
  run_stores(run, &nest, 0, axes);
}

void kernel_interpret(const Kernel *kernel, void *const *buffers, const int64_t symbols[SYMBOL_COUNT]) {
  Run run = {.kernel = kernel, .arena = arena_new(), .symbols = symbols, .buffers = buffers};
  run.reductions = ARENA_ARRAY(run.arena, Nest *, kernel->expr_count);
  run.values = ARENA_ARRAY(run.arena, double, kernel->expr_count);
  for (int i = 0; i < kernel->buffer_count; i++)
    for (int k = 0; k < kernel->buffers[i].rank; k++)
      run.extents[i][k] = extent_value(kernel->buffers[i].extents[k], symbols);
  for (int i = 0; i < kernel->store_count; i++) {
    bool done = false;
    for (int before = 0; before < i; before++)
      done = done || kernel->stores[before].axes == kernel->stores[i].axes;
    if (!done) run_group(&run, kernel->stores[i].axes);
  }
  arena_free(run.arena);
}
