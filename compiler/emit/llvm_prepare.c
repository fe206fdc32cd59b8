// Reductions over axes of one extent come to bind the same axis, where one of the stores' has that extent
// that one. Input: a kernel; output: a kernel of the same meaning in which the terms of several sweeps over a
// row, and of what is stored along it, are the same expressions. An axis may then be bound inside of its own
// loop: the inner one holds.
#include "compiler/emit/llvm_emit.h"

#include <string.h>

typedef struct Prepare {
  Kernel *kernel; // being built
  Arena *arena;
  uint32_t stored; // axes of stores
} Prepare;

// `id` with axis `from` replaced by `to`; 0 where an inner reduction binds `to` and would catch it.
static ExprId substitute(Prepare *prepare, ExprId id, int from, int to, ExprId *done) {
  Kernel *kernel = prepare->kernel;
  if (!id || !(kernel_free_axes(kernel, id) >> from & 1)) return id;
  if (done[id]) return done[id];
  Expr expr = kernel->exprs[id]; // a copy: the array may move
  if (expr.axes >> to & 1) return 0;
  if (expr.op == SCALAR_AXIS) expr.axis = to;
  for (int i = 0; i < 3; i++) {
    ExprId old = expr.in[i];
    expr.in[i] = substitute(prepare, old, from, to, done);
    if (old && !expr.in[i]) return 0;
  }
  int rank = expr.op == SCALAR_LOAD ? kernel->buffers[expr.buffer].rank : 0;
  for (int i = 0; i < rank; i++) {
    expr.index[i] = substitute(prepare, expr.index[i], from, to, done);
    if (!expr.index[i]) return 0;
  }
  return done[id] = kernel_expr(kernel, expr);
}

// Axes of the stores first, then the one that earlier reductions took.
static int choose_axis(const Prepare *prepare, uint32_t taken, int axis) {
  const Kernel *kernel = prepare->kernel;
  for (int pass = 0; pass < 2; pass++)
    for (int each = 0; each < kernel->axis_count; each++) {
      bool right_kind = pass || prepare->stored >> each & 1;
      if (each == axis && right_kind) return axis;
      if (right_kind && !(taken >> each & 1) &&
          extent_equal(kernel->axes[each].extent, kernel->axes[axis].extent))
        return each;
    }
  return axis;
}

static void rename_bound(Prepare *prepare, Expr *expr) {
  for (int axis = 0; axis < prepare->kernel->axis_count; axis++) {
    if (!(expr->axes >> axis & 1)) continue;
    uint32_t taken = kernel_free_axes(prepare->kernel, expr->in[0]) | expr->axes;
    int to = choose_axis(prepare, taken, axis);
    if (to == axis) continue;
    ExprId *done = ARENA_ARRAY(prepare->arena, ExprId, prepare->kernel->expr_count);
    ExprId renamed = substitute(prepare, expr->in[0], axis, to, done);
    if (!renamed) continue;
    expr->in[0] = renamed;
    expr->axes = (expr->axes & ~(1u << axis)) | 1u << to;
  }
}

// In an attention, what values per row and key are divided by is mostly known per row, or per key, or once: then
// they are multiplied by its inverse. Not the sum of a softmax, which kernel_attention looks for.
static ExprId by_inverse(Kernel *kernel, const Expr *expr) {
  uint32_t value = kernel_free_axes(kernel, expr->in[0]), divisor = kernel_free_axes(kernel, expr->in[1]);
  bool fewer = (value | divisor) != divisor && kernel->exprs[expr->in[1]].op != SCALAR_SUM;
  if (kernel->anchor != ANCHOR_ATTENTION || expr->op != SCALAR_DIV || expr->dtype != DTYPE_F32 || !fewer)
    return 0;
  ExprId inverse = kernel_binary(kernel, SCALAR_DIV, kernel_number(kernel, 1, DTYPE_F32), expr->in[1]);
  return kernel_binary(kernel, SCALAR_MUL, expr->in[0], inverse);
}

Kernel *llvm_prepare(Arena *arena, const Kernel *kernel) {
  Prepare prepare = {.kernel = kernel_new(arena, kernel->name), .arena = arena};
  Kernel *made = prepare.kernel;
  made->anchor = kernel->anchor;
  made->axis_count = kernel->axis_count, made->buffer_count = kernel->buffer_count;
  made->store_count = kernel->store_count;
  memcpy(made->axes, kernel->axes, sizeof made->axes);
  memcpy(made->buffers, kernel->buffers, sizeof made->buffers);
  memcpy(made->stores, kernel->stores, sizeof made->stores);
  for (int i = 0; i < kernel->store_count; i++) prepare.stored |= kernel->stores[i].axes;
  ExprId *map = ARENA_ARRAY(arena, ExprId, kernel->expr_count);
  bool *live = ARENA_ARRAY(arena, bool, kernel->expr_count);
  kernel_reachable(kernel, live);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    if (!live[id]) continue;
    Expr expr = kernel->exprs[id];
    for (int i = 0; i < 3; i++) expr.in[i] = map[expr.in[i]];
    for (int i = 0; i < KERNEL_MAX_RANK; i++) expr.index[i] = map[expr.index[i]];
    if (expr.op == SCALAR_SUM || expr.op == SCALAR_REDMAX) rename_bound(&prepare, &expr);
    ExprId inverse = by_inverse(made, &expr);
    map[id] = inverse ? inverse : kernel_expr(made, expr);
  }
  for (int i = 0; i < made->store_count; i++) {
    made->stores[i].value = map[kernel->stores[i].value];
    for (int k = 0; k < kernel->buffers[kernel->stores[i].buffer].rank; k++)
      made->stores[i].index[k] = map[kernel->stores[i].index[k]];
  }
  return made;
}
