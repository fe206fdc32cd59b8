// Values kept between sweeps over a row. Input: a kernel of rows; output: for terms that are costly and used
// by more than one sweep (the exponentials of a softmax), code that writes them down in the first and reads
// them in the others: into the row that is to be stored in the end where that fits, else into scratch memory.
#include "compiler/emit/llvm_emit.h"

enum { COSTLY = 16, LARGEST_ROW = 65536, MOST_SWEEPS = 64 };

typedef struct Users {
  Emit *emit;
  int axis;
  uint64_t *sweeps; // per expression: the sweeps along the axis that compute it, as bits
} Users;

// Everything along the axis that `id` is made of, reductions aside: those are sweeps of their own.
static void mark(Users *users, ExprId id, uint64_t sweep) {
  Emit *emit = users->emit;
  const Expr *expr = &emit->kernel->exprs[id];
  if (!id || !(emit->free_axes[id] >> users->axis & 1) || users->sweeps[id] & sweep) return;
  users->sweeps[id] |= sweep;
  if (expr->axes) return;
  for (int i = 0; i < 3; i++) mark(users, expr->in[i], sweep);
  if (expr->op == SCALAR_LOAD)
    for (int i = 0; i < emit->kernel->buffers[expr->buffer].rank; i++) mark(users, expr->index[i], sweep);
}

// Reductions of one level share a sweep; so do the stores.
static void mark_all(Users *users, const StoreGroup *group) {
  const Kernel *kernel = users->emit->kernel;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!users->emit->live[id] || expr->axes != 1u << users->axis || users->emit->level[id] >= MOST_SWEEPS)
      continue;
    for (int i = 0; i < 2; i++) mark(users, expr->in[i], UINT64_C(1) << users->emit->level[id]);
  }
  for (int i = 0; i < group->count; i++) mark(users, group->values[i], 1);
}

static bool shared(const Users *users, ExprId id) {
  uint64_t sweeps = users->sweeps[id];
  return sweeps & (sweeps - 1) && users->emit->kernel->exprs[id].dtype == DTYPE_F32;
}

// Kept is what nothing larger that is kept would hold already.
static bool inside_of_another(const Users *users, ExprId id) {
  const Kernel *kernel = users->emit->kernel;
  for (ExprId user = id + 1; user < kernel->expr_count; user++) {
    const Expr *expr = &kernel->exprs[user];
    if (expr->axes || !shared(users, user) || users->sweeps[user] != users->sweeps[id]) continue;
    if (expr->in[0] == id || expr->in[1] == id || expr->in[2] == id) return true;
  }
  return false;
}

// The stored row as a place: floats that lie side by side along the axis and are only written.
static const Store *place_in_result(Emit *emit, const StoreGroup *group, int axis) {
  for (int i = 0; i < group->count; i++) {
    const Store *store = group->stores[i];
    const KernelBuffer *buffer = &emit->kernel->buffers[store->buffer];
    if (buffer->dtype == DTYPE_F32 && buffer->use == BUFFER_WRITE &&
        kernel_stride(emit->kernel, store->buffer, store->index, axis) == 1)
      return store;
  }
  return NULL;
}

void llvm_kept_plan(Emit *emit, Scope *rows, const StoreGroup *group, uint32_t row_axes) {
  uint32_t inner = group->axes & ~row_axes;
  if (!inner || inner & (inner - 1)) return;
  int axis = __builtin_ctz(inner);
  Users users = {emit, axis, ARENA_ARRAY(emit->arena, uint64_t, emit->kernel->expr_count)};
  mark_all(&users, group);
  const Store *result = place_in_result(emit, group, axis);
  Extent extent = emit->kernel->axes[axis].extent;
  for (ExprId id = 1; id < emit->kernel->expr_count && emit->kept_count < LLVM_MAX_KEPT; id++) {
    if (!shared(&users, id) || emit->kernel->exprs[id].axes || inside_of_another(&users, id)) continue;
    if (emit->free_axes[id] & ~(row_axes | inner)) continue;
    if (llvm_axis_cost(emit, &id, 1, axis).operations < COSTLY) continue;
    bool fits = extent_is_constant(extent) && extent.offset > 0 && extent.offset <= LARGEST_ROW;
    if (!result && !fits) continue;
    Kept *kept = &emit->kept[emit->kept_count++];
    *kept = (Kept){.expr = id, .axis = axis, .rows = rows, .result = result};
    if (!result) kept->offset = llvm_scratch(emit, extent.offset * 4);
    result = NULL; // one row, one tenant
  }
}

// Lane 0's place of a kept value in a scope along the axis.
static LLVMValueRef address_of(Emit *emit, Scope *scope, const Kept *kept) {
  int64_t step;
  if (kept->result)
    return llvm_address(emit, scope, kept->result->buffer, kept->result->index, scope->lanes, &step);
  LLVMValueRef row = llvm_offset(emit, emit->scratch, emit->i8, llvm_i64(emit, kept->offset));
  return llvm_offset(emit, row, emit->f32, scope->axis[kept->axis]);
}

static bool along(const Scope *scope, const Scope *rows, const Kept *kept) {
  return kept->rows == rows && scope->vector_axis == kept->axis && scope->lanes > 1;
}

void llvm_kept_read(Emit *emit, Scope *scope, const Scope *rows) {
  for (int i = 0; i < emit->kept_count; i++) {
    const Kept *kept = &emit->kept[i];
    if (!kept->written || !along(scope, rows, kept)) continue;
    LLVMValueRef address = address_of(emit, scope, kept);
    llvm_inject(emit, scope, kept->expr, llvm_read(emit, DTYPE_F32, address, scope->lanes, scope->mask));
  }
}

void llvm_kept_write(Emit *emit, Scope *scope, const Scope *rows) {
  for (int i = 0; i < emit->kept_count; i++) {
    Kept *kept = &emit->kept[i];
    LLVMValueRef value = scope->memo[kept->expr].vector;
    if (kept->written || !value || !along(scope, rows, kept)) continue;
    llvm_write(emit, DTYPE_F32, address_of(emit, scope, kept), value, scope->lanes, scope->mask);
    kept->writing = true;
  }
}

void llvm_kept_done(Emit *emit) {
  for (int i = 0; i < emit->kept_count; i++)
    if (emit->kept[i].writing) emit->kept[i].written = true;
}
