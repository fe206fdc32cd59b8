// SCATTER: adding to places that data name, always in the same order. Input: a kernel of STORE_ADD stores;
// output: the body. No atomics: each place has an owner. An axis that a store only writes along (the width of
// an embedding) is owned; the other axes are scanned, in order. A block owns destination rows: its threads
// test 256 scanned steps at a time for whether they go to the row, and then each thread adds the values of
// those that do, along the owned axes.
#include "compiler/emit/cuda_emit.h"

#include <string.h>

enum { THREADS = 256, WARPS = THREADS / 32 };

// Dimensions of the destination that are indexed by just one axis, which no other index holds.
static uint32_t owned_axes(const Kernel *kernel, const Store *store, bool *owned) {
  const KernelBuffer *buffer = &kernel->buffers[store->buffer];
  uint32_t axes = 0;
  for (int i = 0; i < buffer->rank; i++) {
    const Expr *index = &kernel->exprs[store->index[i]];
    owned[i] = index->op == SCALAR_AXIS && extent_equal(kernel->axes[index->axis].extent, buffer->extents[i]);
    for (int k = 0; owned[i] && k < buffer->rank; k++)
      if (k != i && kernel_free_axes(kernel, store->index[k]) >> index->axis & 1) owned[i] = false;
    if (owned[i]) axes |= 1u << index->axis;
  }
  return axes;
}

// The coordinates of the destination row that are not owned, from one number.
static void split_row(CSource *c, const Store *store, const bool *owned, const char **coordinates) {
  const KernelBuffer *buffer = &c->kernel->buffers[store->buffer];
  int left = 0;
  for (int i = 0; i < buffer->rank; i++) left += !owned[i];
  const char *linear = "row";
  for (int i = buffer->rank; i-- > 0;) {
    if (owned[i]) continue;
    const char *extent = csource_extent(c, buffer->extents[i]);
    coordinates[i] = csource_name(c, arena_print(c->arena, "to_%d", i));
    left--;
    csource_line(c, left ? "const long long %s = %s %% %s;" : "const long long %s = %s;", coordinates[i],
                 linear, extent);
    linear = arena_print(c->arena, "%s / %s", linear, extent);
  }
}

static const char *row_count(CSource *c, const Store *store, const bool *owned) {
  const KernelBuffer *buffer = &c->kernel->buffers[store->buffer];
  const char *count = NULL;
  for (int i = 0; i < buffer->rank; i++) {
    const char *extent = csource_extent(c, buffer->extents[i]);
    if (!owned[i]) count = count ? arena_print(c->arena, "%s * %s", count, extent) : extent;
  }
  return count ? count : "1";
}

// Which of 256 steps go to this row: one bit each, by ballot.
static void test_steps(CSource *c, const Store *store, const bool *owned, const char **coordinates,
                       uint32_t scanned) {
  csource_line(c, "bool hit = false;");
  csource_open(c, "if (first + threadIdx.x < steps)");
  if (scanned) csource_split(c, scanned, "(first + threadIdx.x)");
  Text test = {0};
  for (int i = 0; i < c->kernel->buffers[store->buffer].rank; i++)
    if (!owned[i])
      text_print(&test, "%s%s == %s", test.length ? " && " : "", csource_value(c, store->index[i]),
                 coordinates[i]);
  csource_line(c, "hit = %s;", test.length ? text_string(&test) : "true");
  text_free(&test);
  csource_close(c);
  csource_line(c, "const unsigned ballot = __ballot_sync(0xffffffffu, hit);");
  csource_line(c, "if (threadIdx.x %% 32 == 0) hits[threadIdx.x / 32] = ballot;");
  csource_line(c, "if (!__syncthreads_or(hit)) continue;");
}

static void add_hits(CSource *c, const Store *store, const bool *owned, const char **coordinates,
                     uint32_t scanned, uint32_t along) {
  const KernelBuffer *buffer = &c->kernel->buffers[store->buffer];
  csource_stride(c, along, "place_1", "threadIdx.x", "256");
  const char *offset = NULL;
  for (int i = 0; i < buffer->rank; i++) {
    const char *at = owned[i] ? csource_value(c, store->index[i]) : coordinates[i];
    offset = offset
                 ? arena_print(c->arena, "(%s) * %s + %s", offset, csource_extent(c, buffer->extents[i]), at)
                 : at;
  }
  if (!offset) offset = "0";
  const char *total = csource_name(c, "total");
  csource_line(c, "%s %s = %s;", csource_type(c, kernel_value_dtype(buffer->dtype)), total,
               csource_load(c, store->buffer, offset));
  csource_open(c, "for (int warp = 0; warp < %d; warp++)", WARPS);
  csource_open(c, "for (unsigned left = hits[warp]; left; left &= left - 1)");
  csource_line(c, "const long long scan = first + warp * 32 + __ffs((int)left) - 1;");
  if (scanned) csource_split(c, scanned, "scan");
  csource_line(c, "%s += %s;", total, csource_value(c, store->value));
  csource_close(c);
  csource_close(c);
  csource_line(c, "%s[%s] = %s;", c->buffer_name[store->buffer], offset,
               csource_stored(c, store->buffer, total));
  csource_close(c);
}

static void scatter(CudaKernel *k, const Store *store) {
  CSource *c = &k->c;
  bool owned[KERNEL_MAX_RANK];
  const char *coordinates[KERNEL_MAX_RANK];
  uint32_t along = owned_axes(c->kernel, store, owned), scanned = store->axes & ~along;
  csource_open(c, "for (long long row = blockIdx.x; row < %s; row += gridDim.x)", row_count(c, store, owned));
  split_row(c, store, owned, coordinates);
  csource_line(c, "const long long steps = %s;", csource_product(c, scanned));
  csource_open(c, "for (long long first = 0; first < steps; first += %d)", THREADS);
  test_steps(c, store, owned, coordinates, scanned);
  add_hits(c, store, owned, coordinates, scanned, along);
  csource_line(c, "__syncthreads();");
  csource_close(c);
  csource_close(c);
}

void cuda_scatter(CudaKernel *k) {
  CSource *c = &k->c;
  k->threads = THREADS;
  k->schedule = "a block of 256 threads per destination row, steps scanned in order";
  csource_line(c, "__shared__ unsigned hits[%d];", WARPS);
  const Store *first = &c->kernel->stores[0];
  const KernelBuffer *buffer = &c->kernel->buffers[first->buffer];
  bool owned[KERNEL_MAX_RANK];
  owned_axes(c->kernel, first, owned);
  for (int i = 0; i < buffer->rank && k->work.count < 8; i++)
    if (!owned[i]) k->work.terms[k->work.count++] = (WorkTerm){buffer->extents[i], 1};
  for (int i = 0; i < c->kernel->store_count; i++) scatter(k, &c->kernel->stores[i]);
}
