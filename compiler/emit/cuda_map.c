// MAP: a thread per element. Input: a kernel; output: the body, a loop over all elements by stride of the
// grid. Where the fastest axis is contiguous and aligned in what it touches, a thread does four elements with
// one access for each buffer. Reductions that a kernel may have are done by each thread alone, so that this
// file can write every kernel: it is the plain twin of the other anchors.
#include "compiler/emit/cuda_emit.h"

#include <inttypes.h>
#include <string.h>

enum { THREADS = 256, LANES = 4 };

// ---- may a group of stores go four elements at a time? ------------------------------------------

static bool multiple(const Kernel *kernel, ExprId id) {
  const Expr *expr = &kernel->exprs[id];
  switch (expr->op) {
  case SCALAR_CONST: return (int64_t)expr->number % LANES == 0;
  case SCALAR_ADD:
  case SCALAR_SUB: return multiple(kernel, expr->in[0]) && multiple(kernel, expr->in[1]);
  case SCALAR_MUL: return multiple(kernel, expr->in[0]) || multiple(kernel, expr->in[1]);
  default: return false;
  }
}

// Is the index the axis plus a multiple of LANES?
static bool starts_aligned(const Kernel *kernel, ExprId id, int axis) {
  const Expr *expr = &kernel->exprs[id];
  if (expr->op == SCALAR_AXIS) return expr->axis == axis;
  if (expr->op != SCALAR_ADD) return false;
  return (starts_aligned(kernel, expr->in[0], axis) && multiple(kernel, expr->in[1])) ||
         (starts_aligned(kernel, expr->in[1], axis) && multiple(kernel, expr->in[0]));
}

static bool aligned_access(const Kernel *kernel, int buffer, const ExprId *index, int axis) {
  const KernelBuffer *of = &kernel->buffers[buffer];
  if (!of->rank || !extent_is_constant(of->extents[of->rank - 1])) return false;
  if (of->extents[of->rank - 1].offset % LANES) return false;
  for (int i = 0; i + 1 < of->rank; i++)
    if (kernel_free_axes(kernel, index[i]) >> axis & 1) return false;
  return starts_aligned(kernel, index[of->rank - 1], axis);
}

static int fastest(uint32_t axes) { return 31 - __builtin_clz(axes); }

static bool four_at_a_time(const Kernel *kernel, uint32_t group) {
  uint32_t axes = kernel->stores[__builtin_ctz(group)].axes;
  if (kernel->anchor != ANCHOR_MAP || !axes) return false;
  Extent extent = kernel->axes[fastest(axes)].extent;
  if (!extent_is_constant(extent) || extent.offset % LANES) return false;
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1 &&
        !aligned_access(kernel, kernel->stores[i].buffer, kernel->stores[i].index, fastest(axes)))
      return false;
  return true;
}

// ---- bodies -------------------------------------------------------------------------------------

static const char *stored_type(const CSource *c, int buffer) {
  return dtype_cuda(c->kernel->buffers[buffer].dtype);
}

// The loads below an expression that are read by one access for all lanes.
static void load_lanes(CSource *c, ExprId id, int axis, const char *first) {
  const Expr *expr = &c->kernel->exprs[id];
  if (!id || c->value[id] || !(kernel_free_axes(c->kernel, id) >> axis & 1) || c->visited[id] == c->visit)
    return;
  c->visited[id] = c->visit;
  for (int i = 0; i < 3; i++) load_lanes(c, expr->in[i], axis, first);
  for (int i = 0; i < KERNEL_MAX_RANK; i++) load_lanes(c, expr->index[i], axis, first);
  if (expr->op != SCALAR_LOAD || !aligned_access(c->kernel, expr->buffer, expr->index, axis)) return;
  if (expr->in[0] && kernel_free_axes(c->kernel, expr->in[0]) >> axis & 1) return;
  const char *guard = expr->in[0] ? csource_value(c, expr->in[0]) : NULL;
  c->axis_value[axis] = first;
  const char *offset = csource_offset(c, expr->buffer, expr->index);
  c->axis_value[axis] = NULL;
  const char *array =
      csource_name(c, arena_print(c->arena, "%s_lanes", c->kernel->buffers[expr->buffer].name));
  csource_line(c, "%s %s[%d]%s;", stored_type(c, expr->buffer), array, LANES, guard ? " = {}" : "");
  csource_line(c, "%s%s%sload_lanes(%s, %s + %s);", guard ? "if (" : "", guard ? guard : "",
               guard ? ") " : "", array, c->buffer_name[expr->buffer], offset);
  csource_set(c, id, csource_element(c, expr->buffer, arena_print(c->arena, "%s[lane]", array)));
}

static void write_lanes(CSource *c, uint32_t group, int axis, const char *first) {
  const Kernel *kernel = c->kernel;
  const char *arrays[KERNEL_MAX_STORES], *values[KERNEL_MAX_STORES];
  c->visit = ++c->last_visit;
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1) load_lanes(c, kernel->stores[i].value, axis, first);
  for (int i = 0; i < kernel->store_count; i++) {
    if (!(group >> i & 1)) continue;
    const char *name = kernel->buffers[kernel->stores[i].buffer].name;
    arrays[i] = csource_name(c, arena_print(c->arena, "%s_out", name));
    csource_line(c, "%s %s[%d];", stored_type(c, kernel->stores[i].buffer), arrays[i], LANES);
  }
  csource_line(c, "#pragma unroll");
  csource_open(c, "for (int lane = 0; lane < %d; lane++)", LANES);
  csource_line(c, "const long long %s = %s + lane;", csource_axis(c, axis), first);
  c->axis_value[axis] = csource_axis(c, axis);
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1) values[i] = csource_value(c, kernel->stores[i].value);
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1)
      csource_line(c, "%s[lane] = %s;", arrays[i], csource_stored(c, kernel->stores[i].buffer, values[i]));
  csource_close(c);
  c->axis_value[axis] = first;
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1)
      csource_line(c, "store_lanes(%s + %s, %s);", c->buffer_name[kernel->stores[i].buffer],
                   csource_offset(c, kernel->stores[i].buffer, kernel->stores[i].index), arrays[i]);
}

static void four_elements(CudaKernel *k, uint32_t group, uint32_t axes) {
  CSource *c = &k->c;
  int axis = fastest(axes);
  int64_t chunks = c->kernel->axes[axis].extent.offset / LANES;
  uint32_t outer = axes & ~(1u << axis);
  const char *i = csource_name(c, "i"),
             *first = csource_name(c, arena_print(c->arena, "%s_first", csource_axis(c, axis)));
  const char *rows = csource_product(c, outer);
  csource_open(c,
               "for (long long %s = blockIdx.x * %dll + threadIdx.x; %s < %s * %" PRId64
               "; %s += gridDim.x * %dll)",
               i, THREADS, i, rows, chunks, i, THREADS);
  csource_line(c, "const long long %s = %s %% %" PRId64 " * %d;", first, i, chunks, LANES);
  if (outer) csource_split(c, outer, arena_print(c->arena, "%s / %" PRId64, i, chunks));
  csource_hoist_group(c, group, 1u << axis);
  write_lanes(c, group, axis, first);
  csource_close(c);
}

static void one_element(CudaKernel *k, uint32_t group, uint32_t axes) {
  CSource *c = &k->c;
  if (!axes) {
    csource_open(c, "if (blockIdx.x == 0 && threadIdx.x == 0)");
  } else {
    csource_stride(c, axes, "i", "blockIdx.x * 256ll + threadIdx.x", "gridDim.x * 256ll");
  }
  csource_stores(c, group);
  csource_close(c);
}

void cuda_map(CudaKernel *k) {
  const Kernel *kernel = k->c.kernel;
  uint32_t left = (1u << kernel->store_count) - 1, largest = 0;
  bool four = false;
  k->threads = THREADS;
  while (left) {
    uint32_t axes = kernel->stores[__builtin_ctz(left)].axes, group = csource_group(kernel, left, axes);
    left &= ~group;
    bool lanes = four_at_a_time(kernel, group);
    if (lanes)
      four_elements(k, group, axes);
    else
      one_element(k, group, axes);
    four = four || lanes;
    if (__builtin_popcount(axes) >= __builtin_popcount(largest)) {
      largest = axes;
      k->work.count = 0;
      cuda_work(&k->work, kernel, axes, lanes ? THREADS * LANES : THREADS);
    }
  }
  k->schedule =
      four ? "a thread does four elements, 256 threads in a block" : "a thread per element, 256 in a block";
}
