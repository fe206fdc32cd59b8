// Reductions over axes of one extent come to bind the same axis. Input: a kernel; output: a kernel of the
// same meaning in which the terms of several sweeps over a row are the same expressions, so that emitters see
// what one sweep can do:
//
//   sum over e of x[e], sum over f of x[f] y[f]      both over e, one load of x
#include "compiler/kernel/kernel.h"

#include <string.h>

typedef struct Share {
  Kernel *kernel;  // being built
  uint32_t stored; // axes of stores
  ExprId *done;    // by expression: it with one axis renamed, while that is done
  size_t done_size;
} Share;

// `id` with axis `from` replaced by `to`; 0 where a reduction inside binds `to` and would catch it.
static ExprId rename_axis(Share *share, ExprId id, int from, int to) {
  Kernel *kernel = share->kernel;
  if (!id || !(kernel_free_axes(kernel, id) >> from & 1)) return id;
  if (id < share->done_size && share->done[id]) return share->done[id];
  Expr expr = kernel->exprs[id]; // a copy: the array may move
  if (expr.axes >> to & 1) return 0;
  if (expr.op == SCALAR_AXIS) expr.axis = to;
  for (int i = 0; i < 3; i++)
    if (expr.in[i] && !(expr.in[i] = rename_axis(share, expr.in[i], from, to))) return 0;
  for (int i = 0; i < KERNEL_MAX_RANK; i++)
    if (expr.index[i] && !(expr.index[i] = rename_axis(share, expr.index[i], from, to))) return 0;
  ExprId renamed = kernel_expr(kernel, expr);
  if (id < share->done_size) share->done[id] = renamed;
  return renamed;
}

static ExprId try_axis(Share *share, ExprId body, int from, int to) {
  if (kernel_free_axes(share->kernel, body) >> to & 1) return 0;
  share->done_size = share->kernel->expr_count;
  share->done = arena_alloc(share->kernel->arena, share->done_size * sizeof(ExprId));
  return rename_axis(share, body, from, to);
}

// The first axis that can stand for each one that this sum or maximum binds.
static void rename_bound(Share *share, Expr *expr, uint32_t *bound) {
  Kernel *kernel = share->kernel;
  for (int axis = 0; axis < kernel->axis_count; axis++) {
    if (!(expr->axes >> axis & 1)) continue;
    for (int to = 0; to < kernel->axis_count; to++) {
      bool other = *bound >> to & 1 && to != axis && !(share->stored >> to & 1) && !(expr->axes >> to & 1);
      if (!other || !extent_equal(kernel->axes[to].extent, kernel->axes[axis].extent)) continue;
      ExprId body = try_axis(share, expr->in[0], axis, to);
      if (!body) continue;
      expr->in[0] = body;
      expr->axes = (expr->axes & ~(1u << axis)) | 1u << to;
      break;
    }
  }
  *bound |= expr->axes;
}

static Kernel *copy_frame(Arena *arena, const Kernel *kernel) {
  Kernel *copy = kernel_new(arena, kernel->name);
  copy->anchor = kernel->anchor;
  memcpy(copy->axes, kernel->axes, sizeof copy->axes);
  copy->axis_count = kernel->axis_count;
  memcpy(copy->buffers, kernel->buffers, sizeof copy->buffers);
  copy->buffer_count = kernel->buffer_count;
  copy->spans = kernel->spans;
  copy->span_count = kernel->span_count;
  return copy;
}

Kernel *kernel_share(Arena *arena, const Kernel *kernel) {
  Share share = {.kernel = copy_frame(arena, kernel)};
  ExprId *map = ARENA_ARRAY(arena, ExprId, kernel->expr_count);
  bool *reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  uint32_t bound = 0;
  for (int i = 0; i < kernel->store_count; i++) share.stored |= kernel->stores[i].axes;
  kernel_reachable(kernel, reached);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    if (!reached[id]) continue;
    Expr expr = kernel->exprs[id];
    for (int i = 0; i < 3; i++) expr.in[i] = map[expr.in[i]];
    for (int i = 0; i < KERNEL_MAX_RANK; i++) expr.index[i] = map[expr.index[i]];
    if (expr.op == SCALAR_SUM || expr.op == SCALAR_REDMAX) rename_bound(&share, &expr, &bound);
    map[id] = kernel_intern(share.kernel, expr);
  }
  for (int i = 0; i < kernel->store_count; i++) {
    Store *store = &share.kernel->stores[share.kernel->store_count++];
    *store = kernel->stores[i];
    store->value = map[store->value];
    for (int k = 0; k < KERNEL_MAX_RANK; k++) store->index[k] = map[store->index[k]];
  }
  return share.kernel;
}
