// Random kernels: a seed leads to stores over some axes, of expressions with reductions in reductions,
// shifted, guarded, strided, merged and data-dependent loads. What the samples do not think of.
#ifndef VLMC_TESTS_RANDOM_KERNEL_H
#define VLMC_TESTS_RANDOM_KERNEL_H

#include "tests/sample_kernels.h"

typedef struct RandomKernel {
  Kernel *k;
  uint64_t state;
  bool reduces;
} RandomKernel;

static inline int random_below(RandomKernel *r, int bound) {
  r->state = r->state * 6364136223846793005u + 1442695040888963407u;
  return (int)((r->state >> 33) % (uint64_t)bound);
}

static inline Extent random_extent(RandomKernel *r) {
  static const int lengths[] = {1, 2, 3, 5, 8, 12, 16, 17, 24, 33, 48};
  switch (random_below(r, 5)) {
  case 0: return extent_symbol(SYMBOL_BATCH);
  case 1: return extent_symbol(random_below(r, 2) ? SYMBOL_TIME : SYMBOL_SEEN);
  default: return extent_constant(lengths[random_below(r, sizeof lengths / sizeof *lengths)]);
  }
}

// One or two dimensions of a buffer that is read along `axis`: their extents and indices, and a guard or 0.
static inline int random_dimension(RandomKernel *r, int axis, Extent *extents, ExprId *index, ExprId *guard) {
  Kernel *k = r->k;
  ExprId at = kernel_axis_value(k, axis);
  Extent extent = k->axes[axis].extent;
  int shift = 1 + random_below(r, 4);
  extents[0] = extent, index[0] = at;
  switch (random_below(r, 12)) {
  case 0: // shifted
    extent_add(extent, extent_constant(shift), &extents[0]);
    index[0] = sample_add(k, at, sample_i(k, shift));
    return 1;
  case 1: { // what lies before the start is 0
    ExprId inside = kernel_binary(k, SCALAR_LESSEQ, sample_i(k, shift), at);
    *guard = *guard ? kernel_binary(k, SCALAR_AND, *guard, inside) : inside;
    index[0] = sample_sub(k, at, sample_i(k, shift));
    return 1;
  }
  case 2: // backwards
    index[0] = sample_sub(k, sample_sub(k, kernel_size(k, extent), sample_i(k, 1)), at);
    return 1;
  case 3: // every second one
    extent_multiply(extent, extent_constant(2), &extents[0]);
    index[0] = sample_add(k, sample_mul(k, at, sample_i(k, 2)), sample_i(k, 1));
    return 1;
  case 4: // split in two
    if (!extent_is_constant(extent)) return 1;
    extents[0] = extent_constant((extent.offset + 7) / 8), extents[1] = extent_constant(8);
    index[0] = kernel_binary(k, SCALAR_DIV, at, sample_i(k, 8));
    index[1] = kernel_binary(k, SCALAR_MOD, at, sample_i(k, 8));
    return 2;
  case 5: { // looked up
    int ids = kernel_buffer(k, "ids", DTYPE_I32, 1, &extent, BUFFER_READ);
    extents[0] = extent_constant(11);
    index[0] = kernel_cast(k, kernel_load(k, ids, &at, 0), DTYPE_I64);
    return 1;
  }
  default: return 1;
  }
}

static inline ExprId random_load(RandomKernel *r, uint32_t axes) {
  Kernel *k = r->k;
  Extent extents[KERNEL_MAX_RANK];
  ExprId index[KERNEL_MAX_RANK] = {0}, guard = 0;
  int rank = 0;
  if (k->buffer_count + 4 > KERNEL_MAX_BUFFERS) return sample_f(k, 0.5);
  for (int axis = 0; axis < k->axis_count; axis++)
    if (axes >> axis & 1 && random_below(r, 4) && rank + 2 <= 6)
      rank += random_dimension(r, axis, extents + rank, index + rank, &guard);
  if (rank > 1 && !random_below(r, 5)) { // the last dimension first
    Extent extent = extents[0];
    ExprId first = index[0];
    extents[0] = extents[rank - 1], index[0] = index[rank - 1];
    extents[rank - 1] = extent, index[rank - 1] = first;
  }
  static const DType dtypes[] = {DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_BF16, DTYPE_F16};
  int buffer = kernel_buffer(k, "x", dtypes[random_below(r, 5)], rank, extents, BUFFER_READ);
  return kernel_load(k, buffer, index, guard);
}

static inline int random_axis_of(RandomKernel *r, uint32_t axes) {
  for (;;) {
    int axis = random_below(r, r->k->axis_count);
    if (axes >> axis & 1) return axis;
  }
}

static inline ExprId random_value(RandomKernel *r, uint32_t axes, int depth);

// Over one or two axes of its own, which may be as long as one that is there already.
static inline ExprId random_reduction(RandomKernel *r, uint32_t axes, int depth) {
  Kernel *k = r->k;
  uint32_t bound = 0, inner = 0;
  if (k->axis_count + 2 > 20) return sample_f(k, 0.25);
  for (int count = 1 + !random_below(r, 4); count > 0; count--) {
    Extent extent = axes && random_below(r, 2) ? k->axes[random_axis_of(r, axes)].extent : random_extent(r);
    bound |= 1u << kernel_axis(k, "r", extent);
  }
  for (int axis = 0; axis < k->axis_count; axis++) // usually it keeps only some of the axes
    if (axes >> axis & 1 && random_below(r, 3)) inner |= 1u << axis;
  r->reduces = true;
  ExprId value = random_value(r, inner | bound, depth - 1);
  if (!random_below(r, 3)) return kernel_unary(k, SCALAR_TANH, kernel_reduce(k, SCALAR_REDMAX, value, bound));
  return sample_mul(k, kernel_reduce(k, SCALAR_SUM, value, bound), sample_f(k, 0.01));
}

static inline ExprId random_value(RandomKernel *r, uint32_t axes, int depth) {
  static const ScalarOp smooth[] = {SCALAR_TANH, SCALAR_SIN, SCALAR_ERF, SCALAR_NEG, SCALAR_ABS};
  static const ScalarOp two[] = {SCALAR_ADD, SCALAR_SUB, SCALAR_MUL, SCALAR_MIN, SCALAR_MAX};
  Kernel *k = r->k;
  if (depth <= 0) return random_load(r, axes);
  switch (random_below(r, 10)) {
  case 0: return kernel_unary(k, smooth[random_below(r, 5)], random_value(r, axes, depth - 1));
  case 1: return kernel_unary(k, SCALAR_EXP, kernel_unary(k, SCALAR_TANH, random_value(r, axes, depth - 1)));
  case 2:
  case 3: return random_reduction(r, axes, depth);
  case 4: { // comparisons of indices are exact
    if (!axes) return random_load(r, axes);
    int a = random_axis_of(r, axes), b = random_axis_of(r, axes);
    ExprId other = random_below(r, 2) ? sample_at(k, b) : sample_i(k, random_below(r, 9));
    ExprId condition =
        kernel_binary(k, random_below(r, 2) ? SCALAR_LESS : SCALAR_EQUAL, sample_at(k, a), other);
    return kernel_select(k, condition, random_value(r, axes, depth - 1), random_value(r, axes, depth - 2));
  }
  case 5: {
    if (!axes) return random_load(r, axes);
    ExprId at = kernel_cast(k, sample_at(k, random_axis_of(r, axes)), DTYPE_F32);
    return sample_add(k, sample_mul(k, at, sample_f(k, 0.001)), random_value(r, axes, depth - 1));
  }
  case 6: return random_load(r, axes);
  default:
    return kernel_binary(k, two[random_below(r, 5)], random_value(r, axes, depth - 1),
                         random_value(r, axes, depth - 1 - random_below(r, 2)));
  }
}

static inline void random_store(RandomKernel *r, uint32_t axes, int depth) {
  Kernel *k = r->k;
  Extent extents[KERNEL_MAX_RANK];
  ExprId index[KERNEL_MAX_RANK];
  int rank = 0;
  bool swap = !random_below(r, 6);
  for (int axis = 0; axis < k->axis_count; axis++)
    if (axes >> axis & 1) extents[rank] = k->axes[axis].extent, index[rank++] = sample_at(k, axis);
  if (swap && rank > 1) {
    Extent extent = extents[0];
    ExprId first = index[0];
    extents[0] = extents[rank - 1], index[0] = index[rank - 1];
    extents[rank - 1] = extent, index[rank - 1] = first;
  }
  ExprId value = random_value(r, axes, depth);
  int buffer = kernel_buffer(k, "y", DTYPE_F32, rank, extents, BUFFER_WRITE);
  kernel_store(k, buffer, index, value, axes, STORE_SET);
}

static inline Kernel *random_kernel(Arena *arena, uint64_t seed) {
  char name[32];
  snprintf(name, sizeof name, "random_%d", (int)seed);
  RandomKernel r = {.k = kernel_new(arena, name), .state = seed * 0x9E3779B97F4A7C15u + 1};
  uint32_t rows = 0, inner = 0;
  for (int count = random_below(&r, 3); count > 0; count--)
    rows |= 1u << kernel_axis(r.k, "b", random_extent(&r));
  for (int count = random_below(&r, 3); count > 0; count--)
    inner |= 1u << kernel_axis(r.k, "d", random_extent(&r));
  random_store(&r, rows | inner, 4);
  for (int count = random_below(&r, 3); count > 0; count--)
    random_store(&r, random_below(&r, 2) ? rows : rows | inner, 3);
  r.k->anchor = r.reduces ? (random_below(&r, 2) ? ANCHOR_ROW : ANCHOR_COLUMN) : ANCHOR_MAP;
  return r.k;
}

#endif
