// Adjacent axes become one where every access to memory walks over both as over one: a map over [512, 128]
// runs over 65536 elements, heads of q, k and v are columns of one product. Kernel in, kernel with fewer axes
// out; buffers keep their order and their elements.
//
// Axes a (outer) and b (inner) collapse to c: everywhere a is replaced by 0 and b by c. In an access they
// stand together either in one index, a with b's extent times b's factor, or as indices of two neighbouring
// axes of the buffer, which then become one as well.
#include "compiler/lower/lowering.h"

#include <string.h>

typedef struct Collapse {
  Kernel *kernel;
  bool *reached;                       // by expression
  bool *data;                          // by expression: computed as a value, not only as an index
  int a, b;                            // the pair at hand
  uint32_t merged[KERNEL_MAX_BUFFERS]; // bit i: axes i and i + 1 of the buffer become one
  uint32_t seen[KERNEL_MAX_BUFFERS];   // bits of pairs of buffer axes that some access has otherwise
} Collapse;

static bool index_is_axis(const Kernel *kernel, ExprId id, int axis) {
  return kernel->exprs[id].op == SCALAR_AXIS && kernel->exprs[id].axis == axis;
}

static bool depends(const Collapse *collapse, ExprId id) {
  return kernel_free_axes(collapse->kernel, id) & (1u << collapse->a | 1u << collapse->b);
}

// One index in which a stands with b's extent times b's factor.
static bool joint(const Collapse *collapse, ExprId id) {
  int64_t factors[KERNEL_MAX_AXES], expected;
  Extent inner = collapse->kernel->axes[collapse->b].extent;
  if (!kernel_affine(collapse->kernel, id, 1u << collapse->a | 1u << collapse->b, factors)) return false;
  return extent_is_constant(inner) &&
         !__builtin_mul_overflow(factors[collapse->b], inner.offset, &expected) &&
         factors[collapse->a] == expected;
}

static bool check_access(Collapse *collapse, int number, const ExprId *index) {
  const Kernel *kernel = collapse->kernel;
  const KernelBuffer *buffer = &kernel->buffers[number];
  uint32_t merged = 0;
  for (int i = 0; i < buffer->rank; i++) {
    if (!depends(collapse, index[i])) continue;
    Extent both;
    bool pair = i + 1 < buffer->rank && extent_multiply(buffer->extents[i], buffer->extents[i + 1], &both) &&
                index_is_axis(kernel, index[i], collapse->a) &&
                index_is_axis(kernel, index[i + 1], collapse->b) &&
                extent_equal(buffer->extents[i + 1], kernel->axes[collapse->b].extent);
    if (pair) {
      merged |= 1u << i++;
    } else if (!joint(collapse, index[i])) {
      return false;
    }
  }
  bool first = !collapse->seen[number];
  collapse->seen[number] = 1;
  if (!first && collapse->merged[number] != merged) return false; // all accesses agree on the buffer's axes
  collapse->merged[number] = merged;
  return true;
}

// Values, as opposed to indices, may not hold the two axes themselves.
static void mark_data(Collapse *collapse) {
  const Kernel *kernel = collapse->kernel;
  memset(collapse->data, 0, kernel->expr_count);
  for (int i = 0; i < kernel->store_count; i++) collapse->data[kernel->stores[i].value] = true;
  for (ExprId id = (ExprId)kernel->expr_count; id-- > 1;) {
    const Expr *expr = &kernel->exprs[id];
    if (expr->op == SCALAR_LOAD && collapse->reached[id] && !collapse->data[id])
      collapse->data[expr->in[0]] = true;
    if (!collapse->data[id]) continue;
    for (int k = 0; k < 3; k++)
      if (!(expr->op == SCALAR_RANDOM && k == 1)) collapse->data[expr->in[k]] = true;
  }
  collapse->data[0] = false;
}

static bool masks_agree(const Collapse *collapse, uint32_t mask) {
  return (mask >> collapse->a & 1) == (mask >> collapse->b & 1);
}

static bool check_pair(Collapse *collapse) {
  const Kernel *kernel = collapse->kernel;
  Extent product;
  if (!extent_multiply(kernel->axes[collapse->a].extent, kernel->axes[collapse->b].extent, &product))
    return false;
  memset(collapse->merged, 0, sizeof collapse->merged);
  memset(collapse->seen, 0, sizeof collapse->seen);
  for (int i = 0; i < kernel->store_count; i++) {
    const Store *store = &kernel->stores[i];
    if (!masks_agree(collapse, store->axes) || !check_access(collapse, store->buffer, store->index))
      return false;
  }
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!collapse->reached[id]) continue;
    if (expr->axes && !masks_agree(collapse, expr->axes)) return false;
    if (expr->op == SCALAR_AXIS && collapse->data[id] &&
        (expr->axis == collapse->a || expr->axis == collapse->b))
      return false;
    if (expr->op == SCALAR_LOAD && !check_access(collapse, expr->buffer, expr->index)) return false;
    if (expr->op == SCALAR_RANDOM && depends(collapse, expr->in[1]) && !joint(collapse, expr->in[1]))
      return false;
  }
  return true;
}

// ---- candidates: what stands just outside of axis b in the first access that has it -------------

static int outer_in_index(Collapse *collapse, ExprId id) {
  Kernel *kernel = collapse->kernel;
  int64_t factors[KERNEL_MAX_AXES];
  Extent inner = kernel->axes[collapse->b].extent;
  if (!extent_is_constant(inner) || inner.offset < 1 ||
      !kernel_affine(kernel, id, kernel_free_axes(kernel, id), factors))
    return -1;
  for (int axis = 0; axis < kernel->axis_count; axis++)
    if (axis != collapse->b && factors[axis] && factors[axis] / inner.offset == factors[collapse->b])
      return axis;
  return -1;
}

static int outer_in_access(Collapse *collapse, int rank, const ExprId *index) {
  const Kernel *kernel = collapse->kernel;
  for (int i = 0; i < rank; i++) {
    if (!(kernel_free_axes(kernel, index[i]) >> collapse->b & 1)) continue;
    if (!index_is_axis(kernel, index[i], collapse->b)) return outer_in_index(collapse, index[i]);
    bool axis = i && kernel->exprs[index[i - 1]].op == SCALAR_AXIS;
    return axis ? kernel->exprs[index[i - 1]].axis : -1;
  }
  return -2; // not in this access
}

static int find_outer(Collapse *collapse) {
  const Kernel *kernel = collapse->kernel;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!collapse->reached[id] || expr->op != SCALAR_LOAD) continue;
    int outer = outer_in_access(collapse, kernel->buffers[expr->buffer].rank, expr->index);
    if (outer != -2) return outer;
  }
  for (int i = 0; i < kernel->store_count; i++) {
    const Store *store = &kernel->stores[i];
    int outer = outer_in_access(collapse, kernel->buffers[store->buffer].rank, store->index);
    if (outer != -2) return outer;
  }
  return -1;
}

// ---- the kernel anew ----------------------------------------------------------------------------

static uint32_t map_mask(uint32_t mask, const int *map) {
  uint32_t out = 0;
  for (int i = 0; i < KERNEL_MAX_AXES; i++)
    if (mask >> i & 1 && map[i] >= 0) out |= 1u << map[i];
  return out;
}

static void map_index(const Collapse *collapse, int buffer, const ExprId *from, const ExprId *ids,
                      ExprId *to) {
  int rank = collapse->kernel->buffers[buffer].rank, count = 0;
  for (int i = 0; i < rank; i++)
    if (!(collapse->merged[buffer] >> i & 1)) to[count++] = ids[from[i]]; // the outer of a pair is 0 by now
}

static ExprId map_expr(const Collapse *collapse, Kernel *out, const Expr *expr, const int *axes,
                       const ExprId *ids) {
  Expr copy = *expr;
  if (expr->op == SCALAR_AXIS) {
    if (axes[expr->axis] < 0) return kernel_number(out, 0, DTYPE_I64);
    return kernel_axis_value(out, axes[expr->axis]);
  }
  for (int k = 0; k < 3; k++) copy.in[k] = ids[expr->in[k]];
  memset(copy.index, 0, sizeof copy.index);
  if (expr->op == SCALAR_LOAD) map_index(collapse, expr->buffer, expr->index, ids, copy.index);
  copy.axes = map_mask(expr->axes, axes);
  return kernel_expr(out, copy);
}

static Kernel *rebuild(Collapse *collapse, Arena *arena) {
  Kernel *kernel = collapse->kernel, *out = kernel_new(arena, kernel->name);
  int axes[KERNEL_MAX_AXES];
  out->anchor = kernel->anchor;
  out->spans = ARENA_ARRAY(arena, Span, kernel->span_count + 1);
  out->span_count = out->span_capacity = kernel->span_count;
  for (size_t i = 0; i < kernel->span_count; i++) out->spans[i] = kernel->spans[i];
  for (int i = 0; i < kernel->axis_count; i++) {
    Extent extent = kernel->axes[i].extent;
    if (i == collapse->b) extent_multiply(kernel->axes[collapse->a].extent, extent, &extent);
    axes[i] = i == collapse->a ? -1 : kernel_axis(out, kernel->axes[i].name, extent);
  }
  for (int i = 0; i < kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &kernel->buffers[i];
    Extent extents[KERNEL_MAX_RANK];
    int rank = 0;
    for (int k = 0; k < buffer->rank; k++) {
      extents[rank] = buffer->extents[k];
      if (k && collapse->merged[i] >> (k - 1) & 1)
        extent_multiply(buffer->extents[k - 1], extents[rank], &extents[rank]);
      rank += !(collapse->merged[i] >> k & 1);
    }
    kernel_buffer(out, buffer->name, buffer->dtype, rank, extents, buffer->use);
  }
  ExprId *ids = ARENA_ARRAY(arena, ExprId, kernel->expr_count);
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (collapse->reached[id]) ids[id] = map_expr(collapse, out, &kernel->exprs[id], axes, ids);
  for (int i = 0; i < kernel->store_count; i++) {
    const Store *store = &kernel->stores[i];
    ExprId index[KERNEL_MAX_RANK] = {0};
    map_index(collapse, store->buffer, store->index, ids, index);
    kernel_store(out, store->buffer, index, ids[store->value], map_mask(store->axes, axes), store->mode);
  }
  return out;
}

Kernel *kernel_copy(const Kernel *kernel, Arena *arena) {
  Collapse nothing = {.kernel = (Kernel *)(uintptr_t)kernel, .a = -1, .b = -1};
  nothing.reached = arena_alloc(arena, kernel->expr_count);
  kernel_reachable(kernel, nothing.reached);
  return rebuild(&nothing, arena);
}

Kernel *collapse(Kernel *kernel) {
  Collapse collapse = {.kernel = kernel};
  for (collapse.b = 0; collapse.b < kernel->axis_count;) {
    kernel = collapse.kernel;
    collapse.reached = arena_alloc(kernel->arena, kernel->expr_count);
    collapse.data = arena_alloc(kernel->arena, kernel->expr_count);
    kernel_reachable(kernel, collapse.reached);
    mark_data(&collapse);
    bool found = false;
    for (; collapse.b < kernel->axis_count && !found; collapse.b += !found) {
      collapse.a = find_outer(&collapse);
      found = collapse.a >= 0 && collapse.a != collapse.b && check_pair(&collapse);
    }
    if (!found) break;
    collapse.kernel = kernel = rebuild(&collapse, kernel->arena);
    collapse.b = 0;
  }
  return kernel;
}
