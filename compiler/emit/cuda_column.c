// COLUMN: sums over slow axes, kept along the fast one. Input: a kernel whose stores all run over the same
// axes; output: the body. A block does 32 neighbouring columns; its 16 rows of threads walk down the columns,
// each taking every 16th step, and add up through shared memory in a fixed order.
#include "compiler/emit/cuda_emit.h"

#include <string.h>

enum { WIDTH = 32, THREADS = 512 };

// The kept axis along which most loads are contiguous.
static int fast_axis(const CSource *c, uint32_t kept) {
  int best = 31 - __builtin_clz(kept), most = -1;
  for (int axis = 0; axis < c->kernel->axis_count; axis++) {
    if (!(kept >> axis & 1)) continue;
    int contiguous = 0;
    for (ExprId id = 1; id < c->kernel->expr_count; id++) {
      const Expr *expr = &c->kernel->exprs[id];
      contiguous += c->reached[id] && expr->op == SCALAR_LOAD &&
                    kernel_stride(c->kernel, expr->buffer, expr->index, axis) == 1;
    }
    if (contiguous >= most) best = axis, most = contiguous;
  }
  return best;
}

bool cuda_column(CudaKernel *k) {
  CSource *c = &k->c;
  const Kernel *kernel = c->kernel;
  uint32_t kept = kernel->stores[0].axes, every = (1u << kernel->store_count) - 1;
  if (!kept || csource_group(kernel, every, kept) != every) return false;
  int axis = fast_axis(c, kept);
  uint32_t outer = kept & ~(1u << axis);
  const char *extent = csource_extent(c, kernel->axes[axis].extent);
  k->threads = THREADS;
  cuda_work(&k->work, kernel, 1u << axis, WIDTH);
  cuda_work(&k->work, kernel, outer, 1);
  k->schedule = "a block of 32 x 16 threads for 32 columns";
  csource_line(c, "const int walker = threadIdx.x / 32;");
  csource_line(c, "const long long tiles = (%s + 31) / 32;", extent);
  csource_open(c, "for (long long tile = blockIdx.x; tile < %s * tiles; tile += gridDim.x)",
               csource_product(c, outer));
  csource_line(c, "const long long column = tile %% tiles * 32 + threadIdx.x %% 32;");
  // Threads beyond the last column repeat it, so that all come by the barriers; they store nothing.
  csource_line(c, "const long long %s = column < %s ? column : %s - 1;", csource_axis(c, axis), extent,
               extent);
  c->axis_value[axis] = csource_axis(c, axis);
  if (outer) csource_split(c, outer, "tile / tiles");
  cuda_team_begin(k, (Team){"walker", "16", "column", false, kept, true});
  csource_hoist_group(c, every, 0);
  k->team.active = false;
  csource_open(c, "if (walker == 0 && column < %s)", extent);
  csource_stores(c, every);
  csource_close(c);
  csource_close(c);
  return true;
}
