// Scatter: buffer[index..] += value at data-dependent places. Input: a kernel of one STORE_ADD; output: its
// function's body. No two tasks write the same element and each adds in the order of the store's axes, so
// that the sums are the same for any number of threads: tasks split the axes that are an index of their own,
// and walk all of the others.
#include "compiler/emit/llvm_emit.h"

// Axes of which one index is just the axis, and that no other index depends on.
static uint32_t own_axes(const Emit *emit, const Store *store) {
  uint32_t own = 0, shared = 0;
  for (int i = 0; i < emit->kernel->buffers[store->buffer].rank; i++) {
    const Expr *index = &emit->kernel->exprs[store->index[i]];
    uint32_t axes = emit->free_axes[store->index[i]];
    shared |= own & axes;
    if (index->op == SCALAR_AXIS)
      own |= axes;
    else
      shared |= axes;
  }
  return own & ~shared;
}

static void add_value(Emit *emit, Scope *scope, bool tail, void *context) {
  const Store *store = context;
  const KernelBuffer *buffer = &emit->kernel->buffers[store->buffer];
  LLVMValueRef mask = NULL, inside = NULL;
  int64_t step;
  int axis, lanes = llvm_lanes(scope, &mask, &axis);
  (void)tail;
  for (int i = 0; i < buffer->rank; i++) {
    ExprId index = store->index[i];
    if (emit->kernel->exprs[index].op == SCALAR_AXIS) continue; // it is as long as the buffer, or shorter
    LLVMValueRef at = llvm_value(emit, scope, index), extent = llvm_extent(emit, buffer->extents[i]);
    LLVMValueRef fits = LLVMBuildICmp(emit->builder, LLVMIntULT, at, extent, ""); // negative ones are large
    inside = inside ? LLVMBuildAnd(emit->builder, inside, fits, "") : fits;
  }
  LLVMValueRef value = llvm_vector(emit, scope, store->value);
  Branch branch = {0};
  if (inside) branch = llvm_branch_open(emit, inside);
  LLVMValueRef address = llvm_address(emit, emit->innermost, store->buffer, store->index, lanes, &step);
  LLVMValueRef old = llvm_read(emit, buffer->dtype, address, lanes, mask);
  bool whole = emit->kernel->exprs[store->value].dtype != DTYPE_F32;
  LLVMValueRef sum = whole ? LLVMBuildAdd(emit->builder, old, value, "") : llvm_fadd(emit, old, value);
  llvm_write(emit, buffer->dtype, address, sum, lanes, mask);
  if (inside) llvm_branch_close(emit, &branch);
}

bool llvm_scatter(Emit *emit) {
  if (emit->kernel->store_count != 1 || emit->kernel->stores[0].mode != STORE_ADD)
    die("kernel %s: a scatter has one store, which adds", emit->kernel->name);
  const Store *store = &emit->kernel->stores[0];
  uint32_t own = own_axes(emit, store), others = store->axes & ~own;
  int axis = llvm_choose_axis(emit, &store, 1, own);
  int lanes = axis < 0 ? 1 : llvm_choose_lanes(emit, &store->value, 1, axis, 4);
  Nest nest = llvm_nest_tasks(emit, own, llvm_likely_size(emit, others) / 64, axis, lanes);
  llvm_nest_loops(emit, &nest, others);
  if (axis < 0)
    add_value(emit, emit->innermost, false, (void *)store);
  else
    llvm_vector_loop(emit, axis, &nest.range, lanes, add_value, (void *)store);
  llvm_nest_close(emit, &nest);
  return true;
}
