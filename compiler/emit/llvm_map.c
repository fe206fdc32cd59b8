// The anchor for all: loops over the stores' axes, the cheapest of them as lanes, values computed where they
// are known. Input: any kernel without STORE_ADD; output: its function's body. Maps and columns come out
// well: a sum over slow axes is kept in registers, one total per lane.
#include "compiler/emit/llvm_emit.h"

static void stores_body(Emit *emit, Scope *scope, bool tail, void *context) {
  (void)tail;
  llvm_kept_read(emit, scope, scope->outer);
  llvm_store_all(emit, scope, context);
}

// The values of a step are all computed before the first is written: an updated buffer is read by them.
void llvm_store_all(Emit *emit, Scope *scope, const StoreGroup *group) {
  for (int i = 0; i < group->count; i++) llvm_value(emit, scope, group->stores[i]->value);
  for (int i = 0; i < group->count; i++) llvm_store(emit, scope, group->stores[i]);
}

int llvm_store_groups(Emit *emit, StoreGroup groups[KERNEL_MAX_STORES]) {
  int count = 0;
  for (int i = 0; i < emit->kernel->store_count; i++) {
    const Store *store = &emit->kernel->stores[i];
    int at = 0;
    while (at < count && groups[at].axes != store->axes) at++;
    if (at == count) groups[count++] = (StoreGroup){.axes = store->axes};
    StoreGroup *group = &groups[at];
    group->values[group->count] = store->value;
    group->stores[group->count++] = store;
  }
  return count;
}

static int lanes_of_group(Emit *emit, const StoreGroup *group, int axis) {
  return axis < 0 ? 1 : llvm_choose_lanes(emit, group->values, group->count, axis, 8);
}

void llvm_group_loops(Emit *emit, const StoreGroup *group, uint32_t bound) {
  uint32_t left = group->axes & ~bound;
  Nest nest = {.count = 0};
  int axis = llvm_choose_axis(emit, group->stores, group->count, left);
  if (axis < 0) {
    llvm_store_all(emit, emit->innermost, group);
    return;
  }
  Range range = llvm_range_whole(emit, axis);
  llvm_nest_loops(emit, &nest, left & ~(1u << axis));
  llvm_vector_loop(emit, axis, &range, lanes_of_group(emit, group, axis), stores_body, (void *)group);
  llvm_nest_close(emit, &nest);
}

// What one step of the stores' axes costs, with the loops of the reductions in it.
static double step_work(Emit *emit) {
  const Kernel *kernel = emit->kernel;
  double work = 1;
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (emit->live[id] && kernel->exprs[id].axes) work += llvm_likely_size(emit, kernel->exprs[id].axes);
  return work;
}

bool llvm_map(Emit *emit) {
  StoreGroup groups[KERNEL_MAX_STORES];
  int count = llvm_store_groups(emit, groups);
  if (count == 1) {
    int axis = llvm_choose_axis(emit, groups[0].stores, groups[0].count, groups[0].axes);
    int lanes = lanes_of_group(emit, &groups[0], axis);
    double cost = axis < 0 ? 0 : llvm_axis_cost(emit, groups[0].values, groups[0].count, axis).operations;
    Nest nest = llvm_nest_tasks(emit, groups[0].axes, step_work(emit) * (1 + cost / 16), axis, lanes);
    if (axis < 0)
      llvm_store_all(emit, emit->innermost, &groups[0]);
    else
      llvm_vector_loop(emit, axis, &nest.range, lanes, stores_body, &groups[0]);
    llvm_nest_close(emit, &nest);
    return true;
  }
  uint32_t common = groups[0].axes;
  for (int i = 1; i < count; i++) common &= groups[i].axes;
  for (int i = 0; i < count; i++) {
    int axis = llvm_choose_axis(emit, groups[i].stores, groups[i].count, groups[i].axes);
    if (axis >= 0) common &= ~(1u << axis);
  }
  double work = 0;
  for (int i = 0; i < count; i++) work += llvm_likely_size(emit, groups[i].axes & ~common);
  Nest nest = llvm_nest_tasks(emit, common, work * step_work(emit), -1, 1);
  for (int i = 0; i < count; i++) llvm_group_loops(emit, &groups[i], common);
  llvm_nest_close(emit, &nest);
  return true;
}
