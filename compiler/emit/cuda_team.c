// Reductions by teams of threads. Input: a reduction that csource has come to while all threads of a team are
// at the same place; output: a sweep in which each thread takes every n-th step, then the total by shuffles
// and shared memory. Reductions that need one another's results not are done in one sweep; a maximum and the
// sum of exponentials above it too ("online": the sum is scaled down whenever the maximum grows).
#include "compiler/emit/cuda_emit.h"

#include <string.h>

enum { MAX_TOGETHER = 8 };

typedef struct Sweep {
  ExprId reductions[MAX_TOGETHER];
  const char *totals[MAX_TOGETHER];
  int count;
} Sweep;

// Does it need a reduction whose result is not there yet?
static bool waits(CSource *c, ExprId id) {
  for (ExprId other = 1; other < id; other++) {
    if (!c->reached[other] || !c->kernel->exprs[other].axes || c->value[other]) continue;
    if (kernel_free_axes(c->kernel, other) & c->kernel->exprs[id].axes) continue; // inside of its own sweep
    if (kernel_depends(c->kernel, id, other)) return true;
  }
  return false;
}

// sum over e of exp(x - redmax over e of x)
static ExprId exponentials_above(const CSource *c, ExprId maximum) {
  const Expr *top = &c->kernel->exprs[maximum];
  for (ExprId id = maximum + 1; top->op == SCALAR_REDMAX && id < c->kernel->expr_count; id++) {
    const Expr *sum = &c->kernel->exprs[id];
    if (!c->reached[id] || c->value[id] || sum->op != SCALAR_SUM || sum->axes != top->axes) continue;
    const Expr *power = &c->kernel->exprs[sum->in[0]], *difference = &c->kernel->exprs[power->in[0]];
    if (power->op == SCALAR_EXP && difference->op == SCALAR_SUB && difference->in[0] == top->in[0] &&
        difference->in[1] == maximum)
      return id;
  }
  return 0;
}

static void open_sweep(CudaKernel *k, uint32_t axes) {
  csource_stride(&k->c, axes, "step_1", k->team.rank, k->team.size);
  k->team.active = false;
}

static void close_sweep(CudaKernel *k, uint32_t axes) {
  csource_close(&k->c);
  for (int axis = 0; axis < k->c.kernel->axis_count; axis++)
    if (axes >> axis & 1) k->c.axis_value[axis] = NULL;
  k->team.active = true;
}

static void online(CudaKernel *k, ExprId maximum, ExprId sum) {
  CSource *c = &k->c;
  const Expr *top = &c->kernel->exprs[maximum];
  const char *largest = csource_variable(c, "redmax"), *total = csource_variable(c, "sum");
  csource_line(c, "float %s = -INFINITY, %s = 0.0f;", largest, total);
  open_sweep(k, top->axes);
  csource_line(c, "online_step(%s, %s, %s);", largest, total, csource_value(c, top->in[0]));
  close_sweep(k, top->axes);
  csource_line(c, "%s_online(%s, %s);", k->team.name, largest, total);
  csource_set(c, maximum, largest);
  csource_set(c, sum, total);
}

static void together(CudaKernel *k, const Sweep *sweep) {
  CSource *c = &k->c;
  const char *totals[MAX_TOGETHER];
  uint32_t axes = c->kernel->exprs[sweep->reductions[0]].axes;
  for (int i = 0; i < sweep->count; i++) {
    const Expr *expr = &c->kernel->exprs[sweep->reductions[i]];
    totals[i] = csource_variable(c, scalar_table[expr->op].name);
    csource_line(c, "%s %s = %s;", csource_type(c, expr->dtype), totals[i], csource_initial(c, expr));
  }
  open_sweep(k, axes);
  for (int i = 0; i < sweep->count; i++) {
    const Expr *expr = &c->kernel->exprs[sweep->reductions[i]];
    const char *value = csource_value(c, expr->in[0]);
    if (expr->op == SCALAR_DOT)
      value = arena_print(c->arena, "%s * %s", value, csource_value(c, expr->in[1]));
    csource_line(c, "%s = %s;", totals[i], csource_accumulate(c, expr, totals[i], value));
  }
  close_sweep(k, axes);
  for (int i = 0; i < sweep->count; i++) {
    const Expr *expr = &c->kernel->exprs[sweep->reductions[i]];
    csource_line(c, "%s = %s_%s%s(%s);", totals[i], k->team.name, expr->op == SCALAR_REDMAX ? "max" : "sum",
                 expr->dtype == DTYPE_F32 ? "" : "_whole", totals[i]);
    csource_set(c, sweep->reductions[i], totals[i]);
  }
}

static bool reduce(CSource *c, ExprId reduction) {
  CudaKernel *k = c->context;
  const Kernel *kernel = c->kernel;
  const Expr *expr = &kernel->exprs[reduction];
  if (!k->team.active || kernel_free_axes(kernel, reduction) & ~k->team.axes) return false;
  csource_hoist(c, expr->in[0], expr->axes);
  csource_hoist(c, expr->in[1], expr->axes);
  if (c->value[reduction]) return true; // it came with the maximum inside of it
  ExprId sum = k->team.online ? exponentials_above(c, reduction) : 0;
  if (sum) {
    online(k, reduction, sum);
    return true;
  }
  Sweep sweep = {.reductions = {reduction}, .count = 1};
  for (ExprId id = 1; id < kernel->expr_count && sweep.count < MAX_TOGETHER; id++) {
    if (id == reduction || !c->reached[id] || c->value[id] || kernel->exprs[id].axes != expr->axes) continue;
    if (kernel_free_axes(kernel, id) & ~k->team.axes || waits(c, id)) continue;
    if (k->team.online && exponentials_above(c, id)) continue;
    csource_hoist(c, kernel->exprs[id].in[0], expr->axes);
    csource_hoist(c, kernel->exprs[id].in[1], expr->axes);
    if (!c->value[id]) sweep.reductions[sweep.count++] = id;
  }
  together(k, &sweep);
  return true;
}

void cuda_team_begin(CudaKernel *k, Team team) {
  k->team = team;
  k->c.context = k;
  k->c.reduce = reduce;
}
