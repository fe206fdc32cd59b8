// Facts about kernels that schedules, emitters and tables ask for. Input: a kernel (and the run's sizes);
// output: affine coefficients, strides, the axes of a contraction, FLOPs and bytes.
#include "compiler/kernel/kernel.h"

#include "runtime/base/failure.h"

#include <math.h>
#include <string.h>

static bool whole_constant(const Kernel *kernel, ExprId id, int64_t *value) {
  const Expr *expr = &kernel->exprs[id];
  if (expr->op != SCALAR_CONST || !(fabs(expr->number) < 1e15)) return false;
  *value = (int64_t)expr->number;
  return true;
}

static bool affine(const Kernel *kernel, ExprId id, uint32_t axes, int64_t factor, int64_t *coefficients) {
  const Expr *expr = &kernel->exprs[id];
  int64_t other;
  if (!(kernel_free_axes(kernel, id) & axes)) return true;
  switch (expr->op) {
  case SCALAR_AXIS:
    return !__builtin_add_overflow(coefficients[expr->axis], factor, &coefficients[expr->axis]);
  case SCALAR_NEG: return affine(kernel, expr->in[0], axes, -factor, coefficients);
  case SCALAR_ADD:
  case SCALAR_SUB:
    return affine(kernel, expr->in[0], axes, factor, coefficients) &&
           affine(kernel, expr->in[1], axes, expr->op == SCALAR_ADD ? factor : -factor, coefficients);
  case SCALAR_MUL:
    for (int i = 0; i < 2; i++)
      if (whole_constant(kernel, expr->in[1 - i], &other))
        return !__builtin_mul_overflow(factor, other, &other) &&
               affine(kernel, expr->in[i], axes, other, coefficients);
    return false;
  default: return false;
  }
}

bool kernel_affine(Kernel *kernel, ExprId index, uint32_t axes, int64_t coefficients[KERNEL_MAX_AXES]) {
  memset(coefficients, 0, sizeof(int64_t) * KERNEL_MAX_AXES);
  return affine(kernel, index, axes, 1, coefficients);
}

int64_t kernel_stride(Kernel *kernel, int buffer, const ExprId *index, int axis) {
  const KernelBuffer *of = &kernel->buffers[buffer];
  int64_t coefficients[KERNEL_MAX_AXES], stride = 0, step = 1; // step: elements per step of this dimension
  for (int i = of->rank; i-- > 0;) {
    if (!kernel_affine(kernel, index[i], 1u << axis, coefficients)) return -1;
    if (coefficients[axis]) {
      if (step < 0 || coefficients[axis] < 0) return -1;
      stride += coefficients[axis] * step;
    }
    step = step >= 0 && extent_is_constant(of->extents[i]) ? step * of->extents[i].offset : -1;
  }
  return stride;
}

bool kernel_depends(const Kernel *kernel, ExprId id, ExprId on) {
  Arena *arena = arena_new();
  bool *below = ARENA_ARRAY(arena, bool, id + 1); // operands have smaller numbers
  below[id] = true;
  for (ExprId each = id; each > on; each--) {
    if (!below[each]) continue;
    for (int i = 0; i < 3; i++) below[kernel->exprs[each].in[i]] = true;
    for (int i = 0; i < KERNEL_MAX_RANK; i++) below[kernel->exprs[each].index[i]] = true;
  }
  bool found = on <= id && below[on];
  arena_free(arena);
  return found;
}

DotAxes kernel_dot_axes(const Kernel *kernel) {
  DotAxes out = {0};
  bool *reached = arena_alloc(kernel->arena, kernel->expr_count);
  kernel_reachable(kernel, reached);
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (reached[id] && kernel->exprs[id].op == SCALAR_DOT) out.dot = id;
  if (!out.dot) die("kernel %s has no contraction", kernel->name);
  const Expr *dot = &kernel->exprs[out.dot];
  uint32_t left = kernel_free_axes(kernel, dot->in[0]), right = kernel_free_axes(kernel, dot->in[1]);
  out.contract = dot->axes;
  out.batch = left & right & ~dot->axes;
  out.rows = left & ~right & ~dot->axes;
  out.columns = right & ~left & ~dot->axes;
  return out;
}

bool kernel_multiplies_bf16(const Kernel *kernel) {
  if (kernel->anchor != ANCHOR_DOT) return false;
  const Expr *dot = &kernel->exprs[kernel_dot_axes(kernel).dot];
  for (int i = 0; i < 2; i++) {
    const Expr *operand = &kernel->exprs[dot->in[i]];
    if (operand->op == SCALAR_CAST) operand = &kernel->exprs[operand->in[0]];
    if (operand->op != SCALAR_LOAD || kernel->buffers[operand->buffer].dtype != DTYPE_BF16) return false;
  }
  return true;
}

static double steps(const Kernel *kernel, uint32_t axes, const int64_t *symbols) {
  double product = 1;
  for (int i = 0; i < kernel->axis_count; i++)
    if (axes >> i & 1) product *= (double)extent_value(kernel->axes[i].extent, symbols);
  return product;
}

// What a kernel computes. An attention's largest score and sum are of scores that its weights are made of: they
// are computed once.
static void find_computed(const Kernel *kernel, bool *computed) {
  Attention attention;
  kernel_reachable(kernel, computed);
  if (kernel->anchor != ANCHOR_ATTENTION || kernel_attention(kernel, &attention) || !attention.share) return;
  memset(computed, 0, kernel->expr_count);
  for (int i = 0; i < kernel->store_count; i++) computed[kernel->stores[i].value] = true;
  for (size_t id = kernel->expr_count; id-- > 1;)
    for (int i = 0; i < 3 && computed[id] && id != attention.largest && id != attention.total; i++)
      computed[kernel->exprs[id].in[i]] = true;
}

// Every operation counts once per step of the axes that it depends on, as if it were hoisted perfectly.
double kernel_flops(const Kernel *kernel, const int64_t symbols[SYMBOL_COUNT]) {
  Arena *arena = arena_new();
  bool *reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  double flops = 0;
  find_computed(kernel, reached);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!reached[id] || expr->dtype != DTYPE_F32) continue;
    bool free_of_charge = expr->op <= SCALAR_LOAD || expr->op == SCALAR_CAST || expr->op == SCALAR_SELECT;
    if (free_of_charge) continue;
    double each = expr->op == SCALAR_DOT ? 2 : 1;
    flops += each * steps(kernel, kernel_free_axes(kernel, id) | expr->axes, symbols);
  }
  arena_free(arena);
  return flops;
}

static void touch(const Kernel *kernel, int buffer, const ExprId *index, const int64_t *symbols,
                  double *touched) {
  double size = 1;
  uint32_t axes = 0;
  for (int i = 0; i < kernel->buffers[buffer].rank; i++) {
    size *= (double)extent_value(kernel->buffers[buffer].extents[i], symbols);
    axes |= kernel_free_axes(kernel, index[i]);
  }
  double accesses = steps(kernel, axes, symbols);
  touched[buffer] = fmin(size, touched[buffer] + accesses);
}

void kernel_traffic(const Kernel *kernel, const int64_t symbols[SYMBOL_COUNT], double *read,
                    double *written) {
  Arena *arena = arena_new();
  bool *reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  for (int i = 0; i < kernel->buffer_count; i++) read[i] = written[i] = 0;
  kernel_reachable(kernel, reached);
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (reached[id] && kernel->exprs[id].op == SCALAR_LOAD)
      touch(kernel, kernel->exprs[id].buffer, kernel->exprs[id].index, symbols, read);
  for (int i = 0; i < kernel->store_count; i++) {
    touch(kernel, kernel->stores[i].buffer, kernel->stores[i].index, symbols, written);
    if (kernel->stores[i].mode == STORE_ADD)
      touch(kernel, kernel->stores[i].buffer, kernel->stores[i].index, symbols, read);
  }
  for (int i = 0; i < kernel->buffer_count; i++) {
    read[i] *= (double)dtype_bytes(kernel->buffers[i].dtype);
    written[i] *= (double)dtype_bytes(kernel->buffers[i].dtype);
  }
  arena_free(arena);
}

double kernel_bytes(const Kernel *kernel, const int64_t symbols[SYMBOL_COUNT]) {
  double read[KERNEL_MAX_BUFFERS], written[KERNEL_MAX_BUFFERS], bytes = 0;
  kernel_traffic(kernel, symbols, read, written);
  for (int i = 0; i < kernel->buffer_count; i++) bytes += read[i] + written[i];
  return bytes;
}
