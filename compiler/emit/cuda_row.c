// ROW: sums and maxima over a row, then what is computed from them along it. Input: a kernel, also one with
// contractions of few rows, which read each weight once; output: the body. A row is one combination of the
// axes that all reductions' results depend on; short rows get a warp each, long ones and those of unknown
// length a block.
#include "compiler/emit/cuda_emit.h"

#include <string.h>

enum { WARP = 32, WARP_BLOCK = 128, ROW_BLOCK = 256, SHORT_ROW = 2048 };

// Axes of the row: those on which results of reductions depend, as far as every store runs over them.
static uint32_t row_axes(const CSource *c) {
  uint32_t axes = 0;
  for (ExprId id = 1; id < c->kernel->expr_count; id++)
    if (c->reached[id] && c->kernel->exprs[id].axes) axes |= kernel_free_axes(c->kernel, id);
  for (int i = 0; i < c->kernel->store_count; i++) axes &= c->kernel->stores[i].axes;
  return axes;
}

static bool is_short(const CudaKernel *k, uint32_t rows) {
  const CSource *c = &k->c;
  uint64_t limit = SHORT_ROW; // as unsigned, what is not known is long
  for (ExprId id = 1; id < c->kernel->expr_count; id++)
    if (c->reached[id] && (uint64_t)cuda_steps(k, c->kernel->exprs[id].axes) > limit) return false;
  for (int i = 0; i < c->kernel->store_count; i++)
    if ((uint64_t)cuda_steps(k, c->kernel->stores[i].axes & ~rows) > limit) return false;
  return true;
}

static void write_stores(CudaKernel *k, uint32_t rows) {
  CSource *c = &k->c;
  uint32_t left = (1u << c->kernel->store_count) - 1;
  k->team.active = false;
  while (left) {
    uint32_t axes = c->kernel->stores[__builtin_ctz(left)].axes, group = csource_group(c->kernel, left, axes);
    left &= ~group;
    uint32_t along = axes & ~rows;
    if (along) {
      csource_stride(c, along, "step_1", k->team.rank, k->team.size);
    } else {
      csource_open(c, "if (%s == 0)", k->team.rank);
    }
    csource_stores(c, group);
    csource_close(c);
  }
}

void cuda_row(CudaKernel *k) {
  CSource *c = &k->c;
  uint32_t rows = row_axes(c), all = 0;
  for (int i = 0; i < c->kernel->store_count; i++) all |= c->kernel->stores[i].axes;
  bool warp = rows && is_short(k, rows);
  k->threads = warp ? WARP_BLOCK : ROW_BLOCK;
  int in_block = warp ? WARP_BLOCK / WARP : 1;
  cuda_work(&k->work, c->kernel, rows, in_block);
  k->schedule = warp ? "a warp per row, 4 rows in a block" : "a block of 256 threads per row";
  csource_line(c, warp ? "const int thread = threadIdx.x %% 32;" : "const int thread = threadIdx.x;");
  csource_stride(c, rows, "row_1", warp ? "blockIdx.x * 4ll + threadIdx.x / 32" : "blockIdx.x",
                 warp ? "gridDim.x * 4ll" : "gridDim.x");
  cuda_team_begin(k, warp ? (Team){"thread", "32", "warp", true, rows, true}
                          : (Team){"thread", "256", "block", true, rows, true});
  csource_hoist_group(c, (1u << c->kernel->store_count) - 1, all & ~rows);
  write_stores(k, rows);
  csource_close(c);
}
