// Sums, maxima and contractions met inside of an expression. Input: the reduction and the scope where its
// value is wanted; output: loops over what it binds, in that scope. Reductions over the same axes that are
// ready at the same time share one sweep. The order of a sum depends on extents and the machine's lanes
// alone.
#include "compiler/emit/llvm_emit.h"

#include <math.h>

enum { MOST_PEERS = 16, MOST_COPIES = 4 };

// One reduction of a sweep. Copies are summed apart, so that one addition need not wait for the one before.
typedef struct Peer {
  ExprId id;
  const Expr *expr;
  LLVMValueRef total[MOST_COPIES], tail; // variables
} Peer;

typedef struct Sweep {
  Peer peers[MOST_PEERS];
  int count;
  int lanes, copies; // of the accumulators
  int tail_lanes;
  const Scope *home; // where the totals are wanted
} Sweep;

static LLVMValueRef identity(Emit *emit, const Expr *expr, int lanes) {
  LLVMTypeRef type = llvm_type(emit, expr->dtype, 1);
  LLVMValueRef one = LLVMConstNull(type);
  if (expr->op == SCALAR_REDMAX && expr->dtype == DTYPE_F32) one = LLVMConstReal(type, -INFINITY);
  if (expr->op == SCALAR_REDMAX && expr->dtype == DTYPE_I32) one = llvm_i32(emit, INT32_MIN);
  if (expr->op == SCALAR_REDMAX && expr->dtype == DTYPE_I64) one = llvm_i64(emit, INT64_MIN);
  return llvm_splat(emit, one, lanes);
}

static LLVMValueRef join(Emit *emit, const Expr *expr, LLVMValueRef total, LLVMValueRef x) {
  LLVMBuilderRef b = emit->builder;
  if (expr->dtype == DTYPE_BOOL) return LLVMBuildOr(b, total, x, "");
  if (expr->op == SCALAR_REDMAX) {
    if (expr->dtype == DTYPE_F32) return llvm_extreme(emit, true, x, total);
    return LLVMBuildSelect(b, LLVMBuildICmp(b, LLVMIntSGT, x, total, ""), x, total, "");
  }
  return expr->dtype == DTYPE_F32 ? llvm_fadd(emit, total, x) : LLVMBuildAdd(b, total, x, "");
}

static LLVMValueRef step(Emit *emit, Scope *scope, const Peer *peer, LLVMValueRef total, int lanes,
                         LLVMValueRef mask) {
  LLVMValueRef x = llvm_splat(emit, llvm_value(emit, scope, peer->expr->in[0]), lanes), next;
  if (peer->expr->op == SCALAR_DOT)
    next = llvm_fma(emit, x, llvm_splat(emit, llvm_value(emit, scope, peer->expr->in[1]), lanes), total);
  else
    next = join(emit, peer->expr, total, x);
  return mask ? LLVMBuildSelect(emit->builder, mask, next, total, "") : next;
}

// ---- who takes part -----------------------------------------------------------------------------

static void gather_peers(Emit *emit, Scope *scope, ExprId id, Sweep *sweep) {
  const Kernel *kernel = emit->kernel;
  const Scope *vector = llvm_vector_scope(emit, scope, id);
  for (ExprId each = 1; each < kernel->expr_count && sweep->count < MOST_PEERS; each++) {
    const Expr *expr = &kernel->exprs[each];
    if (each != id) {
      if (expr->op != SCALAR_SUM && expr->op != SCALAR_REDMAX) continue;
      if (!emit->live[each] || expr->axes != kernel->exprs[id].axes || emit->level[each] != emit->level[id])
        continue;
      if (scope->memo[each].scalar || scope->memo[each].vector) continue;
      if ((emit->free_axes[each] | emit->free_axes[id]) != emit->free_axes[id]) continue;
      if (llvm_placement(emit, scope, each) != scope || llvm_vector_scope(emit, scope, each) != vector)
        continue;
    }
    sweep->peers[sweep->count++] = (Peer){.id = each, .expr = expr};
  }
}

// ---- along lanes that are already there, or without any: each lane has its own total ------------

static void open_totals(Emit *emit, Sweep *sweep, bool tail) {
  for (int i = 0; i < sweep->count; i++) {
    Peer *peer = &sweep->peers[i];
    for (int copy = 0; copy < sweep->copies; copy++) {
      peer->total[copy] = llvm_variable(emit, llvm_type(emit, peer->expr->dtype, sweep->lanes));
      llvm_set(emit, peer->total[copy], identity(emit, peer->expr, sweep->lanes));
    }
    if (!tail) continue;
    peer->tail = llvm_variable(emit, llvm_type(emit, peer->expr->dtype, sweep->tail_lanes));
    llvm_set(emit, peer->tail, identity(emit, peer->expr, sweep->tail_lanes));
  }
}

static void accumulate(Emit *emit, Scope *scope, Sweep *sweep, int copy) {
  for (int i = 0; i < sweep->count; i++) {
    Peer *peer = &sweep->peers[i];
    LLVMTypeRef type = llvm_type(emit, peer->expr->dtype, sweep->lanes);
    LLVMValueRef total = llvm_get(emit, type, peer->total[copy]);
    llvm_set(emit, peer->total[copy], step(emit, scope, peer, total, sweep->lanes, NULL));
  }
}

static LLVMValueRef join_copies(Emit *emit, const Sweep *sweep, const Peer *peer) {
  LLVMValueRef part[MOST_COPIES];
  LLVMTypeRef type = llvm_type(emit, peer->expr->dtype, sweep->lanes);
  for (int copy = 0; copy < sweep->copies; copy++) part[copy] = llvm_get(emit, type, peer->total[copy]);
  for (int apart = 1; apart < sweep->copies; apart *= 2)
    for (int copy = 0; copy + apart < sweep->copies; copy += 2 * apart)
      part[copy] = join(emit, peer->expr, part[copy], part[copy + apart]);
  return part[0];
}

// The innermost loop in steps of `copies`, then one by one.
static void inner_loop(Emit *emit, Sweep *sweep, int axis) {
  LLVMValueRef extent = llvm_extent(emit, emit->kernel->axes[axis].extent), begin = llvm_i64(emit, 0);
  if (sweep->copies > 1) {
    LLVMValueRef copies = llvm_i64(emit, sweep->copies);
    LLVMValueRef whole =
        LLVMBuildMul(emit->builder, LLVMBuildUDiv(emit->builder, extent, copies, ""), copies, "");
    Loop loop = llvm_loop_open(emit, begin, whole, sweep->copies);
    for (int copy = 0; copy < sweep->copies; copy++) {
      Scope *scope = llvm_scope_open(emit);
      llvm_bind(scope, axis, LLVMBuildAdd(emit->builder, loop.index, llvm_i64(emit, copy), ""), 1);
      accumulate(emit, scope, sweep, copy);
      llvm_scope_close(emit, scope);
    }
    llvm_loop_close(emit, &loop);
    if (LLVMIsAConstantInt(extent) && LLVMConstIntGetSExtValue(extent) % sweep->copies == 0) return;
    begin = whole;
  }
  Loop loop = llvm_loop_open(emit, begin, extent, 1);
  llvm_bind(loop.scope, axis, loop.index, 1);
  accumulate(emit, loop.scope, sweep, 0);
  llvm_loop_close(emit, &loop);
}

static void sweep_apart(Emit *emit, Sweep *sweep, uint32_t axes) {
  int last = 31 - __builtin_clz(axes);
  Nest nest = {.count = 0};
  open_totals(emit, sweep, false);
  llvm_nest_loops(emit, &nest, axes & ~(1u << last));
  inner_loop(emit, sweep, last);
  llvm_nest_close(emit, &nest);
}

// ---- along one of the reduced axes: lanes are joined in the end ---------------------------------

static void lane_body(Emit *emit, Scope *scope, bool tail, void *context) {
  Sweep *sweep = context;
  llvm_kept_read(emit, scope, sweep->home);
  for (int i = 0; i < sweep->count; i++) {
    Peer *peer = &sweep->peers[i];
    bool narrow = tail || scope->lanes != sweep->lanes;
    LLVMValueRef variable = narrow ? peer->tail : peer->total[0];
    LLVMTypeRef type = llvm_type(emit, peer->expr->dtype, scope->lanes);
    LLVMValueRef total = llvm_get(emit, type, variable);
    llvm_set(emit, variable, step(emit, scope, peer, total, scope->lanes, scope->mask));
  }
  llvm_kept_write(emit, scope, sweep->home);
}

static LLVMValueRef part_of(Emit *emit, LLVMValueRef value, int first, int lanes) {
  if (lanes == 1) return LLVMBuildExtractElement(emit->builder, value, llvm_i32(emit, first), "");
  LLVMValueRef *places = ARENA_ARRAY(emit->arena, LLVMValueRef, lanes);
  for (int i = 0; i < lanes; i++) places[i] = llvm_i32(emit, first + i);
  return LLVMBuildShuffleVector(emit->builder, value, LLVMGetPoison(LLVMTypeOf(value)),
                                LLVMConstVector(places, (unsigned)lanes), "");
}

// Halves onto halves, down to `lanes`.
static LLVMValueRef fold(Emit *emit, const Expr *expr, LLVMValueRef value, int lanes) {
  for (int have = llvm_width(value); have > lanes; have /= 2)
    value = join(emit, expr, part_of(emit, value, 0, have / 2), part_of(emit, value, have / 2, have / 2));
  return value;
}

static void sweep_lanes(Emit *emit, Sweep *sweep, uint32_t axes, int axis) {
  Range range = llvm_range_whole(emit, axis);
  Nest nest = {.count = 0};
  sweep->copies = 1;
  sweep->tail_lanes = llvm_tail_lanes(emit, &range, sweep->lanes);
  open_totals(emit, sweep, sweep->tail_lanes > 0);
  llvm_nest_loops(emit, &nest, axes & ~(1u << axis));
  llvm_vector_loop(emit, axis, &range, sweep->lanes, lane_body, sweep);
  llvm_nest_close(emit, &nest);
  llvm_kept_done(emit);
}

static LLVMValueRef join_lanes(Emit *emit, const Sweep *sweep, const Peer *peer) {
  LLVMValueRef total = llvm_get(emit, llvm_type(emit, peer->expr->dtype, sweep->lanes), peer->total[0]);
  if (sweep->tail_lanes) {
    LLVMValueRef tail = llvm_get(emit, llvm_type(emit, peer->expr->dtype, sweep->tail_lanes), peer->tail);
    total = join(emit, peer->expr, fold(emit, peer->expr, total, sweep->tail_lanes), tail);
  }
  return fold(emit, peer->expr, total, 1);
}

// ---- the choice ---------------------------------------------------------------------------------

static int best_axis(Emit *emit, uint32_t axes, ExprId *values, int count) {
  int best = -1;
  double least = INFINITY;
  for (int axis = 0; axis < emit->kernel->axis_count; axis++) {
    if (!(axes >> axis & 1)) continue;
    double cost = llvm_axis_cost(emit, values, count, axis).access;
    if (cost <= least) least = cost, best = axis;
  }
  return best;
}

void llvm_reduce(Emit *emit, Scope *scope, ExprId id) {
  Sweep *sweep = ARENA_NEW(emit->arena, Sweep);
  const Scope *vector = llvm_vector_scope(emit, scope, id);
  uint32_t axes = emit->kernel->exprs[id].axes;
  sweep->home = scope;
  gather_peers(emit, scope, id, sweep);
  ExprId values[2 * MOST_PEERS];
  int count = 0;
  for (int i = 0; i < sweep->count; i++)
    for (int k = 0; k < 2; k++)
      if (sweep->peers[i].expr->in[k]) values[count++] = sweep->peers[i].expr->in[k];
  int axis = best_axis(emit, axes, values, count);
  sweep->lanes = vector ? vector->lanes : llvm_choose_lanes(emit, values, count, axis, 4);
  bool apart = vector || sweep->lanes == 1;
  if (apart) {
    sweep->copies = MOST_COPIES * emit->machine->lanes /
                    (sweep->lanes > emit->machine->lanes ? sweep->lanes : emit->machine->lanes);
    if (sweep->copies < 1 || llvm_axis_cost(emit, values, count, axis).operations > 24) sweep->copies = 1;
    sweep_apart(emit, sweep, axes);
  } else {
    sweep_lanes(emit, sweep, axes, axis);
  }
  for (int i = 0; i < sweep->count; i++) {
    LLVMValueRef value = (apart ? join_copies : join_lanes)(emit, sweep, &sweep->peers[i]);
    scope->memo[sweep->peers[i].id] =
        (Value){.scalar = vector ? NULL : value, .vector = vector ? value : NULL, .multiple = 1};
  }
}
