// Rows: each task reduces whole rows and then writes what is stored along them. Input: a kernel whose
// reductions keep only axes that all stores have; output: its function's body. The sweeps over a row come out
// of llvm_reduce.c in the order in which they need each other.
#include "compiler/emit/llvm_emit.h"

typedef struct Rows {
  Emit *emit;
  bool *seen;
  uint32_t axes;     // kept by some reduction: the rows
  ExprId values[32]; // what the outermost reductions take in
  uint32_t bound;    // what they bind
  int count;
  ExprId reductions[32]; // the outermost
  int reduction_count;
} Rows;

static void visit(Rows *rows, ExprId id) {
  const Kernel *kernel = rows->emit->kernel;
  const Expr *expr = &kernel->exprs[id];
  if (!id || rows->seen[id]) return;
  rows->seen[id] = true;
  if (expr->axes) {
    rows->axes |= rows->emit->free_axes[id];
    rows->bound |= expr->axes;
    if (rows->reduction_count < 32) rows->reductions[rows->reduction_count++] = id;
    for (int i = 0; i < 2; i++)
      if (expr->in[i] && rows->count < 32) rows->values[rows->count++] = expr->in[i];
    return;
  }
  for (int i = 0; i < 3; i++) visit(rows, expr->in[i]);
  if (expr->op == SCALAR_LOAD)
    for (int i = 0; i < kernel->buffers[expr->buffer].rank; i++) visit(rows, expr->index[i]);
}

static double least_cost(Rows *rows, uint32_t axes) {
  double least = 1e30;
  for (int axis = 0; axis < rows->emit->kernel->axis_count; axis++) {
    if (!(axes >> axis & 1)) continue;
    double cost = llvm_axis_cost(rows->emit, rows->values, rows->count, axis).access;
    if (cost < least) least = cost;
  }
  return least;
}

bool llvm_row(Emit *emit) {
  StoreGroup groups[KERNEL_MAX_STORES];
  int count = llvm_store_groups(emit, groups);
  Rows rows = {.emit = emit, .seen = ARENA_ARRAY(emit->arena, bool, emit->kernel->expr_count)};
  uint32_t common = ~0u;
  for (int i = 0; i < count; i++) {
    common &= groups[i].axes;
    for (int k = 0; k < groups[i].count; k++) visit(&rows, groups[i].values[k]);
  }
  if (!rows.bound || rows.axes & ~common) return false;
  // Lanes along a kept axis may read better: that is a column, which llvm_map does.
  int kept = llvm_choose_axis(emit, groups[0].stores, groups[0].count, groups[0].axes);
  if (kept >= 0 && rows.axes >> kept & 1 && least_cost(&rows, 1u << kept) < least_cost(&rows, rows.bound))
    return false;
  double work = llvm_likely_size(emit, rows.bound);
  for (int i = 0; i < count; i++) work += llvm_likely_size(emit, groups[i].axes & ~rows.axes);
  Nest nest = llvm_nest_tasks(emit, rows.axes, work, -1, 1);
  int along = 0, last = 0; // groups that store along rows; values are kept where there is one
  for (int i = 0; i < count; i++)
    if (groups[i].axes & ~rows.axes) along++, last = i;
  if (along == 1) llvm_kept_plan(emit, emit->innermost, &groups[last], rows.axes);
  // All sweeps come before the stores, which then find what the sweeps kept.
  for (int i = 0; i < rows.reduction_count; i++) llvm_value(emit, emit->innermost, rows.reductions[i]);
  for (int i = 0; i < count; i++) llvm_group_loops(emit, &groups[i], rows.axes);
  llvm_nest_close(emit, &nest);
  return true;
}
