// Is a kernel well formed? Input: a kernel; output: true, or false and a sentence that names the expression
// or store that breaks a rule of kernel.h. Each rule is one small function.
#include "compiler/kernel/kernel.h"

#include <string.h>

typedef struct Check {
  const Kernel *kernel;
  const bool *reached;
  Text *reason;
} Check;

static bool refuse(Check *check, const char *what, size_t id, const char *why) {
  text_print(check->reason, "kernel %s: %s %zu: %s", check->kernel->name, what, id, why);
  return false;
}

static DType type_of(const Check *check, ExprId id) { return check->kernel->exprs[id].dtype; }

static bool check_index(Check *check, const char *what, size_t id, int buffer, const ExprId *index,
                        ExprId limit) {
  if (buffer < 0 || buffer >= check->kernel->buffer_count) return refuse(check, what, id, "no such buffer");
  int rank = check->kernel->buffers[buffer].rank;
  for (int i = 0; i < KERNEL_MAX_RANK; i++) {
    if (i >= rank && index[i]) return refuse(check, what, id, "more indices than the buffer has axes");
    if (i >= rank) continue;
    if (!index[i] || index[i] >= limit) return refuse(check, what, id, "an index is missing or comes later");
    if (type_of(check, index[i]) != DTYPE_I64) return refuse(check, what, id, "an index is not i64");
  }
  return true;
}

// Operand and result types, by group of operations.
static bool check_types(Check *check, ExprId id, const Expr *expr) {
  DType x = type_of(check, expr->in[0]), y = type_of(check, expr->in[1]), z = type_of(check, expr->in[2]);
  bool numeric = expr->dtype == DTYPE_F32 || expr->dtype == DTYPE_I64 || expr->dtype == DTYPE_I32;
  bool fine = true;
  switch (expr->op) {
  case SCALAR_CONST: break;
  case SCALAR_AXIS:
  case SCALAR_SIZE: fine = expr->dtype == DTYPE_I64; break;
  case SCALAR_LOAD:
    fine = expr->dtype == kernel_value_dtype(check->kernel->buffers[expr->buffer].dtype) &&
           (!expr->in[0] || x == DTYPE_BOOL);
    break;
  case SCALAR_NOT: fine = x == DTYPE_BOOL && expr->dtype == DTYPE_BOOL; break;
  case SCALAR_NEG:
  case SCALAR_ABS: fine = numeric && x == expr->dtype; break;
  case SCALAR_CAST: fine = numeric || expr->dtype == DTYPE_BOOL; break;
  case SCALAR_ADD:
  case SCALAR_SUB:
  case SCALAR_MUL:
  case SCALAR_DIV:
  case SCALAR_MOD:
  case SCALAR_MIN:
  case SCALAR_MAX: fine = numeric && x == expr->dtype && y == x; break;
  case SCALAR_LESS:
  case SCALAR_LESSEQ:
  case SCALAR_EQUAL: fine = expr->dtype == DTYPE_BOOL && x == y; break;
  case SCALAR_AND:
  case SCALAR_OR: fine = expr->dtype == DTYPE_BOOL && x == DTYPE_BOOL && y == DTYPE_BOOL; break;
  case SCALAR_SELECT: fine = x == DTYPE_BOOL && y == z && y == expr->dtype; break;
  case SCALAR_RANDOM: fine = x == DTYPE_I32 && y == DTYPE_I64 && expr->dtype == DTYPE_F32; break;
  case SCALAR_SUM:
  case SCALAR_REDMAX: fine = numeric && x == expr->dtype; break;
  case SCALAR_POW:
  case SCALAR_DOT: fine = x == DTYPE_F32 && y == DTYPE_F32 && expr->dtype == DTYPE_F32; break;
  default: fine = x == DTYPE_F32 && expr->dtype == DTYPE_F32;
  }
  return fine || refuse(check, "expression", id, "its operands and its type do not fit");
}

static bool is_reduction(ScalarOp op) { return op >= SCALAR_SUM; }

static bool check_expr(Check *check, ExprId id) {
  const Kernel *kernel = check->kernel;
  const Expr *expr = &kernel->exprs[id];
  if (expr->op >= SCALAR_COUNT) return refuse(check, "expression", id, "no such operation");
  for (int i = 0; i < 3; i++) {
    bool needed = i < scalar_table[expr->op].operands && expr->op != SCALAR_LOAD;
    bool allowed = i < scalar_table[expr->op].operands;
    if (expr->in[i] >= id) return refuse(check, "expression", id, "an operand comes later");
    if (needed != (expr->in[i] != 0) && !(allowed && !needed))
      return refuse(check, "expression", id, "it has the wrong number of operands");
  }
  if (expr->op == SCALAR_AXIS && (expr->axis < 0 || expr->axis >= kernel->axis_count))
    return refuse(check, "expression", id, "no such axis");
  if (expr->op == SCALAR_LOAD) {
    if (!check_index(check, "expression", id, expr->buffer, expr->index, id)) return false;
    if (kernel->buffers[expr->buffer].use == BUFFER_WRITE)
      return refuse(check, "expression", id, "it loads from a buffer that is only written");
  }
  if (is_reduction(expr->op) != (expr->axes != 0))
    return refuse(check, "expression", id, "only reductions bind axes, and they bind at least one");
  if (expr->axes >> kernel->axis_count && kernel->axis_count < 32)
    return refuse(check, "expression", id, "it binds an axis that is not there");
  return check_types(check, id, expr);
}

// Does a part of `id` that changes with `axes` contain a reduction that binds one of them itself?
static bool binds_again(const Kernel *kernel, ExprId id, uint32_t axes, bool *seen) {
  const Expr *expr = &kernel->exprs[id];
  if (!(kernel_free_axes(kernel, id) & axes) || seen[id]) return false;
  seen[id] = true;
  if (expr->axes & axes) return true;
  for (int i = 0; i < 3; i++)
    if (binds_again(kernel, expr->in[i], axes, seen)) return true;
  for (int i = 0; i < KERNEL_MAX_RANK; i++)
    if (binds_again(kernel, expr->index[i], axes, seen)) return true;
  return false;
}

static bool check_binding(Check *check, bool *seen) {
  const Kernel *kernel = check->kernel;
  uint32_t stored = 0;
  for (int i = 0; i < kernel->store_count; i++) stored |= kernel->stores[i].axes;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!check->reached[id] || !expr->axes) continue;
    if (expr->axes & stored)
      return refuse(check, "expression", id, "it binds an axis that a store runs over");
    memset(seen, 0, kernel->expr_count);
    if (binds_again(kernel, expr->in[0], expr->axes, seen) ||
        binds_again(kernel, expr->in[1], expr->axes, seen))
      return refuse(check, "expression", id, "a reduction that depends on its axes binds one of them again");
  }
  return true;
}

static bool check_store(Check *check, int number) {
  const Kernel *kernel = check->kernel;
  const Store *store = &kernel->stores[number];
  size_t id = (size_t)number;
  if (!store->value || store->value >= kernel->expr_count)
    return refuse(check, "store", id, "it has no value");
  if (!check_index(check, "store", id, store->buffer, store->index, (ExprId)kernel->expr_count)) return false;
  const KernelBuffer *buffer = &kernel->buffers[store->buffer];
  if (buffer->use == BUFFER_READ) return refuse(check, "store", id, "its buffer is only read");
  if (type_of(check, store->value) != kernel_value_dtype(buffer->dtype))
    return refuse(check, "store", id, "the value's type does not fit the buffer's");
  uint32_t free_axes = kernel_free_axes(kernel, store->value);
  for (int i = 0; i < buffer->rank; i++) free_axes |= kernel_free_axes(kernel, store->index[i]);
  if (free_axes & ~store->axes)
    return refuse(check, "store", id, "it depends on an axis that it does not run over");
  if (store->axes >> kernel->axis_count && kernel->axis_count < 32)
    return refuse(check, "store", id, "it runs over an axis that is not there");
  return true;
}

// Where a store writes is known without reading data, but for STORE_ADD.
static bool check_destinations(Check *check, bool *loads) {
  const Kernel *kernel = check->kernel;
  memset(loads, 0, kernel->expr_count);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    loads[id] = expr->op == SCALAR_LOAD || loads[expr->in[0]] || loads[expr->in[1]] || loads[expr->in[2]];
  }
  for (int i = 0; i < kernel->store_count; i++)
    for (int k = 0; k < i; k++)
      if (kernel->stores[i].mode == STORE_ADD && kernel->stores[i].buffer == kernel->stores[k].buffer)
        return refuse(check, "store", (size_t)i, "another store adds to the same buffer");
  for (int i = 0; i < kernel->store_count; i++)
    for (int k = 0; k < KERNEL_MAX_RANK; k++)
      if (kernel->stores[i].mode == STORE_SET && loads[kernel->stores[i].index[k]])
        return refuse(check, "store", (size_t)i, "its index depends on data");
  return true;
}

// Loads of an update buffer use the index of the store to it, under stores of the same axes.
static bool check_updates(Check *check, int number, bool *reached) {
  const Kernel *kernel = check->kernel;
  Kernel alone = *kernel;
  alone.stores[0] = kernel->stores[number];
  alone.store_count = 1;
  kernel_reachable(&alone, reached);
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (!reached[id] || expr->op != SCALAR_LOAD || kernel->buffers[expr->buffer].use != BUFFER_UPDATE)
      continue;
    bool found = false;
    for (int i = 0; i < kernel->store_count; i++) {
      const Store *store = &kernel->stores[i];
      found = found || (store->buffer == expr->buffer && store->axes == kernel->stores[number].axes &&
                        store->mode == STORE_SET && !memcmp(store->index, expr->index, sizeof store->index));
    }
    if (!found)
      return refuse(check, "expression", id, "it reads an update buffer elsewhere than where it is stored");
  }
  return true;
}

// What an anchor promises to the schedules.
static bool check_anchor(Check *check) {
  const Kernel *kernel = check->kernel;
  int reductions = 0, dots = 0, additions = 0;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    reductions += check->reached[id] && kernel->exprs[id].axes;
    dots += check->reached[id] && kernel->exprs[id].op == SCALAR_DOT;
  }
  for (int i = 0; i < kernel->store_count; i++) additions += kernel->stores[i].mode == STORE_ADD;
  bool fine = true;
  switch (kernel->anchor) {
  case ANCHOR_MAP: fine = !reductions && !additions; break;
  case ANCHOR_ROW:
  case ANCHOR_COLUMN: fine = reductions && !dots && !additions; break;
  case ANCHOR_DOT: fine = reductions == 1 && dots == 1 && !additions; break;
  case ANCHOR_ATTENTION: {
    Attention attention;
    const char *why = kernel_attention(kernel, &attention);
    if (why) return refuse(check, "anchor", kernel->anchor, why);
    break;
  }
  case ANCHOR_SCATTER: fine = additions && additions == kernel->store_count && !dots; break;
  default: fine = false;
  }
  return fine || refuse(check, "anchor", kernel->anchor, "it does not fit what the kernel does");
}

void kernel_reachable(const Kernel *kernel, bool *reached) {
  memset(reached, 0, kernel->expr_count);
  for (int i = 0; i < kernel->store_count; i++) {
    reached[kernel->stores[i].value] = true;
    for (int k = 0; k < KERNEL_MAX_RANK; k++) reached[kernel->stores[i].index[k]] = true;
  }
  for (size_t id = kernel->expr_count; id-- > 1;) {
    if (!reached[id]) continue;
    const Expr *expr = &kernel->exprs[id];
    for (int i = 0; i < 3; i++) reached[expr->in[i]] = true;
    for (int i = 0; i < KERNEL_MAX_RANK; i++) reached[expr->index[i]] = true;
  }
  reached[0] = false;
}

bool kernel_verify(const Kernel *kernel, Text *reason) {
  Check check = {.kernel = kernel, .reason = reason};
  if (!kernel->store_count) return refuse(&check, "store", 0, "there is none");
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (!check_expr(&check, id)) return false;
  for (int i = 0; i < kernel->store_count; i++)
    if (!check_store(&check, i)) return false;
  Arena *arena = arena_new();
  bool *reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  kernel_reachable(kernel, reached);
  check.reached = reached;
  bool *scratch = ARENA_ARRAY(arena, bool, kernel->expr_count);
  bool fine = check_binding(&check, scratch) && check_anchor(&check) && check_destinations(&check, scratch);
  for (int i = 0; fine && i < kernel->store_count; i++) fine = check_updates(&check, i, scratch);
  arena_free(arena);
  return fine;
}
