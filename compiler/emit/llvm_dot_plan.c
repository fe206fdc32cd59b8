// What a contraction's axes and operands are like. Input: a kernel; output: its sets of axes in the order of
// memory, axes that run on into each other joined, and how each operand can be read.
#include "compiler/emit/llvm_dot.h"

#include <stdlib.h>
#include <string.h>

typedef struct Plan {
  Emit *emit;
  Kernel *kernel;
  bool *reached; // per expression: needed by a store
} Plan;

static bool depends(const Plan *plan, ExprId expr, uint32_t axes) {
  return (plan->emit->free_axes[expr] & axes) != 0;
}

// ---- order of axes ------------------------------------------------------------------------------

// How fast an access moves along an axis: later dimensions are faster; within one the smaller coefficient is.
// Axes that it does not depend on are the slowest of all.
static int64_t speed(const Plan *plan, int buffer, const ExprId *index, int axis) {
  int64_t coefficients[KERNEL_MAX_AXES];
  enum { STEPS = 1 << 20 };
  for (int i = plan->kernel->buffers[buffer].rank - 1; i >= 0; i--) {
    if (!depends(plan, index[i], 1u << axis)) continue;
    bool affine = kernel_affine(plan->kernel, index[i], 1u << axis, coefficients);
    int64_t step = affine ? llabs(coefficients[axis]) : 1;
    return (int64_t)(i + 1) * STEPS - (step < STEPS ? step : STEPS - 1);
  }
  return 0;
}

static int sort_axes(const Plan *plan, uint32_t axes, int buffer, const ExprId *index, int *sorted) {
  int count = 0;
  int64_t speeds[KERNEL_MAX_AXES];
  for (int axis = 0; axis < plan->kernel->axis_count; axis++) {
    if (!(axes >> axis & 1)) continue;
    int64_t own = speed(plan, buffer, index, axis);
    int place = count++;
    for (; place && speeds[place - 1] > own; place--) {
      speeds[place] = speeds[place - 1];
      sorted[place] = sorted[place - 1];
    }
    speeds[place] = own;
    sorted[place] = axis;
  }
  return count;
}

// ---- axes that run on into each other -----------------------------------------------------------

// Is access[.., slow, fast, ..] one run through memory, so that slow = 0 and fast counted on is the same
// place?
static bool runs_on(const Plan *plan, int buffer, const ExprId *index, int slow, int fast) {
  const KernelBuffer *of = &plan->kernel->buffers[buffer];
  uint32_t both = 1u << slow | 1u << fast;
  Extent inner = plan->kernel->axes[fast].extent;
  int dimensions = 0, last = 0;
  for (int i = 0; i < of->rank; i++)
    if (depends(plan, index[i], both)) dimensions++, last = i;
  if (dimensions == 0) return true;
  int64_t coefficients[KERNEL_MAX_AXES];
  if (dimensions == 1) {
    if (!kernel_affine(plan->kernel, index[last], both, coefficients) || !extent_is_constant(inner))
      return false;
    return coefficients[slow] == coefficients[fast] * inner.offset;
  }
  const Expr *before = &plan->kernel->exprs[index[last - (last > 0)]],
             *after = &plan->kernel->exprs[index[last]];
  return dimensions == 2 && before->op == SCALAR_AXIS && before->axis == slow && after->op == SCALAR_AXIS &&
         after->axis == fast && extent_equal(of->extents[last], inner);
}

static bool joined(const Plan *plan, int slow, int fast) {
  const Kernel *kernel = plan->kernel;
  uint32_t both = 1u << slow | 1u << fast;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!plan->reached[id] || !depends(plan, id, both)) {
      if (!plan->reached[id] || !(expr->axes & both)) continue;
    }
    for (int i = 0; i < 3; i++) { // the axis as a number, not as a place
      bool number = kernel->exprs[expr->in[i]].dtype == DTYPE_I64 && expr->dtype != DTYPE_I64;
      if (expr->in[i] && depends(plan, expr->in[i], both) && (number || expr->op == SCALAR_LOAD))
        return false;
    }
    if (expr->op == SCALAR_LOAD && !runs_on(plan, expr->buffer, expr->index, slow, fast)) return false;
  }
  for (int s = 0; s < kernel->store_count; s++)
    if (!runs_on(plan, kernel->stores[s].buffer, kernel->stores[s].index, slow, fast)) return false;
  return true;
}

static DotIndex index_of(const Plan *plan, uint32_t axes, int buffer, const ExprId *index) {
  Emit *emit = plan->emit;
  int sorted[KERNEL_MAX_AXES], count = sort_axes(plan, axes, buffer, index, sorted);
  DotIndex out = {.size = llvm_i64(emit, 1)};
  for (int i = 0; i < count; i++) {
    LLVMValueRef extent = llvm_extent(emit, plan->kernel->axes[sorted[i]].extent);
    DotDigit *digit = out.count ? &out.digits[out.count - 1] : NULL;
    out.size = LLVMBuildNSWMul(emit->builder, out.size, extent, "");
    if (digit && joined(plan, digit->axis, sorted[i])) {
      digit->zeros |= 1u << digit->axis;
      digit->axis = sorted[i];
      digit->extent = LLVMBuildNSWMul(emit->builder, digit->extent, extent, "");
    } else {
      out.digits[out.count++] = (DotDigit){.axis = sorted[i], .extent = extent};
    }
  }
  return out;
}

static int fastest(const DotIndex *index) { return index->count ? index->digits[index->count - 1].axis : -1; }

// ---- operands -----------------------------------------------------------------------------------

// Loads below `expr` that lanes along `axis` could not read in one piece.
static int scattered_loads(const Plan *plan, ExprId expr, int axis) {
  const Expr *e = &plan->kernel->exprs[expr];
  int count = 0;
  if (axis < 0 || !expr || !depends(plan, expr, 1u << axis)) return 0;
  if (e->op == SCALAR_LOAD) {
    int64_t stride = kernel_stride(plan->kernel, e->buffer, e->index, axis);
    return stride != 0 && stride != 1;
  }
  for (int i = 0; i < 3; i++) count += scattered_loads(plan, e->in[i], axis);
  return count;
}

// A load whose whole line along the contraction lies in one piece.
static bool is_lines(const Plan *plan, ExprId expr, const DotIndex *contract) {
  const Expr *e = &plan->kernel->exprs[expr];
  if (e->op != SCALAR_LOAD || e->in[0] || contract->count != 1) return false;
  DType dtype = plan->kernel->buffers[e->buffer].dtype;
  if (dtype != DTYPE_F32 && dtype != DTYPE_BF16 && dtype != DTYPE_F16) return false;
  return kernel_stride(plan->kernel, e->buffer, e->index, fastest(contract)) == 1;
}

static DotOperand operand_of(const Plan *plan, ExprId expr, const DotIndex *own, const DotIndex *contract) {
  DotOperand out = {.expr = expr, .own = own, .lines = is_lines(plan, expr, contract)};
  out.across = own->count &&
               scattered_loads(plan, expr, fastest(own)) <= scattered_loads(plan, expr, fastest(contract));
  return out;
}

DotOperand dot_operand(Emit *emit, ExprId expr, const DotIndex *own, const DotIndex *contract) {
  Plan plan = {.emit = emit, .kernel = emit->kernel};
  return operand_of(&plan, expr, own, contract);
}

// ---- the whole ----------------------------------------------------------------------------------

static int width_in(const Plan *plan, ExprId expr, uint32_t axes) {
  return __builtin_popcount(plan->emit->free_axes[expr] & axes); // of expression 0, none: 0
}

// The load below `expr` that depends on the most axes of the set.
static void widest_load(const Plan *plan, ExprId expr, uint32_t axes, ExprId *best) {
  const Expr *e = &plan->kernel->exprs[expr];
  if (!expr || !depends(plan, expr, axes)) return;
  if (e->op == SCALAR_LOAD && width_in(plan, expr, axes) > width_in(plan, *best, axes)) *best = expr;
  for (int i = 0; i < 3; i++) widest_load(plan, e->in[i], axes, best);
}

// One contraction; all stores over its axes, or the same few more.
static bool has_form(const Plan *plan, const DotAxes *axes) {
  const Kernel *kernel = plan->kernel;
  int contractions = 0;
  for (ExprId id = 1; id < kernel->expr_count; id++)
    contractions += plan->reached[id] && kernel->exprs[id].op == SCALAR_DOT;
  if (contractions != 1 || !axes->contract) return false;
  uint32_t own = axes->batch | axes->rows | axes->columns;
  for (int s = 0; s < kernel->store_count; s++)
    if (kernel->stores[s].axes != kernel->stores[0].axes || (own & ~kernel->stores[s].axes) ||
        kernel->stores[s].mode != STORE_SET)
      return false;
  // Inside of another reduction a contraction is no anchor.
  for (ExprId id = axes->dot + 1; id < kernel->expr_count; id++)
    if (plan->reached[id] && kernel->exprs[id].axes)
      for (int i = 0; i < 2; i++)
        if (kernel->exprs[id].in[i] == axes->dot) return false;
  return kernel->store_count > 0;
}

// Both operands as they lie in memory, in bf16, on a machine that multiplies pairs of these: pairs lie along the
// contraction's fastest axis, and must not go from one of its runs into the next.
static void set_steps(const Plan *plan, Dot *dot) {
  const Kernel *kernel = plan->kernel;
  const ExprId operands[] = {dot->left.expr, dot->right.expr};
  bool pairs = plan->emit->machine->bf16 && plan->emit->machine->avx512;
  for (int i = 0; i < 2; i++) {
    const Expr *expr = &kernel->exprs[operands[i]];
    pairs = pairs && expr->op == SCALAR_LOAD && kernel->buffers[expr->buffer].dtype == DTYPE_BF16;
  }
  int64_t length = 1;
  bool even = dot->contract.count &&
              dot_constant(dot->contract.digits[dot->contract.count - 1].extent, &length) && length % 2 == 0;
  dot->steps = pairs && (even || dot->contract.count == 1) ? 2 : 1;
  dot->odd = dot->steps == 2 && !even;
}

bool dot_plan(Emit *emit, Dot *dot) {
  Plan plan = {emit, (Kernel *)emit->kernel, ARENA_ARRAY(emit->arena, bool, emit->kernel->expr_count)};
  kernel_reachable(emit->kernel, plan.reached);
  bool any = false;
  for (ExprId id = 1; id < emit->kernel->expr_count; id++)
    any = any || (plan.reached[id] && emit->kernel->exprs[id].op == SCALAR_DOT);
  if (!any) return false;
  DotAxes axes = kernel_dot_axes(emit->kernel);
  if (!has_form(&plan, &axes)) return false;
  const Store *store = &emit->kernel->stores[0];
  const Expr *contraction = &emit->kernel->exprs[axes.dot];
  int sorted[KERNEL_MAX_AXES];
  int count = sort_axes(&plan, axes.rows | axes.columns, store->buffer, store->index, sorted);
  // Vectors run along the operand whose axis is the fastest of the result's.
  bool swap = count && (axes.rows >> sorted[count - 1] & 1);
  ExprId left = contraction->in[swap], right = contraction->in[!swap], widest = 0, of_left = 0;
  widest_load(&plan, right, axes.contract, &widest);
  widest_load(&plan, left, axes.contract, &of_left);
  if (width_in(&plan, of_left, axes.contract) > width_in(&plan, widest, axes.contract)) widest = of_left;
  const Expr *reference = &emit->kernel->exprs[widest];
  *dot = (Dot){.expr = axes.dot, .lanes = emit->machine->lanes};
  uint32_t others =
      store->axes & ~axes.rows & ~axes.columns; // axes of length 1 may be missing in the contraction
  dot->batch = index_of(&plan, others, store->buffer, store->index);
  dot->rows = index_of(&plan, swap ? axes.columns : axes.rows, store->buffer, store->index);
  dot->columns = index_of(&plan, swap ? axes.rows : axes.columns, store->buffer, store->index);
  dot->contract = index_of(&plan, axes.contract, widest ? reference->buffer : store->buffer,
                           widest ? reference->index : store->index);
  dot->left = operand_of(&plan, left, &dot->rows, &dot->contract);
  dot->right = operand_of(&plan, right, &dot->columns, &dot->contract);
  dot->tile_rows = emit->machine->registers >= 32 ? 8 : 4;
  dot->width = DOT_VECTORS * dot->lanes;
  set_steps(&plan, dot);
  return true;
}

// ---- counting through a set ---------------------------------------------------------------------

static LLVMValueRef maximum(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(emit->builder, LLVMBuildICmp(emit->builder, LLVMIntSGT, x, y, ""), x, y, "");
}

static void bind_zeros(Emit *emit, Scope *scope, const DotDigit *digit) {
  for (int axis = 0; axis < emit->kernel->axis_count; axis++)
    if (digit->zeros >> axis & 1) llvm_bind(scope, axis, llvm_i64(emit, 0), 1);
}

void dot_bind_digit(Emit *emit, Scope *scope, const DotDigit *digit, LLVMValueRef value) {
  bind_zeros(emit, scope, digit);
  llvm_bind(scope, digit->axis, value, 1);
}

// An empty axis is divided by as well, to no effect: not by 0.
static LLVMValueRef divisor(Emit *emit, const DotDigit *digit) {
  return maximum(emit, digit->extent, llvm_i64(emit, 1));
}

static void bind_digits(Emit *emit, Scope *scope, const DotIndex *index, int count, LLVMValueRef flat) {
  for (int i = count - 1; i >= 0; i--) {
    LLVMValueRef value = flat;
    if (i) {
      LLVMValueRef extent = divisor(emit, &index->digits[i]);
      flat = LLVMBuildUDiv(emit->builder, value, extent, "");
      LLVMValueRef whole = LLVMBuildNSWMul(emit->builder, flat, extent, "");
      value = LLVMBuildNSWSub(emit->builder, value, whole, "");
    }
    dot_bind_digit(emit, scope, &index->digits[i], value);
  }
}

void dot_bind(Emit *emit, Scope *scope, const DotIndex *index, LLVMValueRef flat) {
  bind_digits(emit, scope, index, index->count, flat);
}

DotRuns dot_runs_open(Emit *emit, const DotIndex *index, LLVMValueRef begin, LLVMValueRef end) {
  DotRuns runs = {.index = index, .axis = fastest(index), .flat = begin};
  if (index->count <= 1) { // one run
    runs.scope = llvm_scope_open(emit);
    runs.first = begin;
    runs.last = end;
    if (index->count) bind_zeros(emit, runs.scope, &index->digits[0]);
    return runs;
  }
  LLVMBuilderRef b = emit->builder;
  const DotDigit *fast = &index->digits[index->count - 1];
  LLVMValueRef extent = divisor(emit, fast), one = llvm_i64(emit, 1);
  LLVMValueRef from = LLVMBuildUDiv(b, begin, extent, "");
  LLVMValueRef to =
      LLVMBuildUDiv(b, LLVMBuildNSWSub(b, LLVMBuildNSWAdd(b, end, extent, ""), one, ""), extent, "");
  runs.loop = llvm_loop_open(emit, from, to, 1);
  runs.scope = runs.loop.scope;
  LLVMValueRef base = LLVMBuildNSWMul(b, runs.loop.index, extent, "");
  runs.first = maximum(emit, LLVMBuildNSWSub(b, begin, base, ""), llvm_i64(emit, 0));
  runs.last = llvm_minimum(emit, LLVMBuildNSWSub(b, end, base, ""), extent);
  runs.flat = LLVMBuildNSWAdd(b, base, runs.first, "");
  bind_digits(emit, runs.scope, index, index->count - 1, runs.loop.index);
  bind_zeros(emit, runs.scope, fast);
  return runs;
}

void dot_runs_close(Emit *emit, DotRuns *runs) {
  if (runs->index->count <= 1)
    llvm_scope_close(emit, runs->scope);
  else
    llvm_loop_close(emit, &runs->loop);
}

// ---- vectors along a run ------------------------------------------------------------------------

bool dot_constant(LLVMValueRef value, int64_t *number) {
  if (!LLVMIsAConstantInt(value)) return false;
  *number = LLVMConstIntGetSExtValue(value);
  return true;
}

bool dot_multiple_of(const DotIndex *index, int64_t multiple) {
  int64_t size;
  return index->count == 1 && dot_constant(index->size, &size) && size % multiple == 0;
}

static void masked_pieces(Emit *emit, const DotRuns *runs, LLVMValueRef count, DotPiece *piece,
                          void *context) {
  int lanes = emit->machine->lanes;
  Loop loop = llvm_loop_open(emit, llvm_i64(emit, 0), count, lanes);
  LLVMValueRef mask = llvm_tail_mask(emit, LLVMBuildNSWSub(emit->builder, count, loop.index, ""), lanes);
  LLVMValueRef first = LLVMBuildNSWAdd(emit->builder, runs->first, loop.index, "");
  llvm_bind_lanes(loop.scope, runs->axis, first, 1, lanes, mask);
  piece(emit, context, loop.scope, loop.index, lanes, mask);
  llvm_loop_close(emit, &loop);
}

static void whole_pieces(Emit *emit, const DotRuns *runs, LLVMValueRef count, DotPiece *piece,
                         void *context) {
  int lanes = emit->machine->lanes;
  Loop loop = llvm_loop_open(emit, llvm_i64(emit, 0), count, lanes);
  LLVMValueRef first = LLVMBuildNSWAdd(emit->builder, runs->first, loop.index, "");
  llvm_bind_lanes(loop.scope, runs->axis, first, 1, lanes, NULL);
  piece(emit, context, loop.scope, loop.index, lanes, NULL);
  llvm_loop_close(emit, &loop);
}

typedef struct Rest { // pieces whose offsets count from `whole` on
  DotPiece *piece;
  void *context;
  LLVMValueRef whole;
} Rest;

static void rest_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                       LLVMValueRef mask) {
  Rest *rest = context;
  rest->piece(emit, rest->context, scope, LLVMBuildNSWAdd(emit->builder, offset, rest->whole, ""), lanes,
              mask);
}

// Masks are free with AVX-512; else full vectors and the rest are code of their own.
void dot_runs_pieces(Emit *emit, const DotRuns *runs, DotPiece *piece, void *context) {
  LLVMBuilderRef b = emit->builder;
  if (runs->axis < 0) {
    piece(emit, context, runs->scope, llvm_i64(emit, 0), 1, NULL);
    return;
  }
  LLVMValueRef count = LLVMBuildNSWSub(b, runs->last, runs->first, "");
  if (dot_multiple_of(runs->index, emit->machine->lanes)) {
    whole_pieces(emit, runs, count, piece, context);
  } else if (emit->machine->avx512) {
    masked_pieces(emit, runs, count, piece, context);
  } else {
    LLVMValueRef whole = LLVMBuildAnd(b, count, llvm_i64(emit, -emit->machine->lanes), "");
    whole_pieces(emit, runs, whole, piece, context);
    DotRuns rest = *runs;
    rest.first = LLVMBuildNSWAdd(b, runs->first, whole, "");
    Rest tail = {piece, context, whole};
    masked_pieces(emit, &rest, LLVMBuildNSWSub(b, count, whole, ""), rest_piece, &tail);
  }
}
