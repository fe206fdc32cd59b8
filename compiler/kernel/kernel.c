// Building kernels: axes, buffers, hash-consed scalar expressions and stores. Input: calls of the builders;
// output: a Kernel in which equal expressions have one id. Simplification is simplify.c's.
#include "compiler/kernel/kernel.h"

#include "runtime/base/failure.h"

#include <ctype.h>
#include <string.h>

const ScalarInfo scalar_table[SCALAR_COUNT] = {
#define SCALAR_OP(enumerator, name, operands, c, cuda, llvm, meaning) {name, operands, c, cuda},
#include "compiler/kernel/ops.def"
#undef SCALAR_OP
};

const char *const anchor_names[ANCHOR_COUNT] = {"map", "row", "column", "dot", "scatter", "attention"};

// Names are kept in the letters that the text form has; what else an author wrote becomes `_`.
static char *clean_name(Arena *arena, const char *name) {
  char *copy = arena_copy(arena, *name ? name : "_", *name ? strlen(name) : 1);
  for (char *c = copy; *c; c++)
    if (!isalnum((unsigned char)*c) && *c != '_' && *c != '.' && *c != '\'') *c = '_';
  if (isdigit((unsigned char)*copy)) return arena_print(arena, "_%s", copy);
  return copy;
}

Kernel *kernel_new(Arena *arena, const char *name) {
  Kernel *kernel = ARENA_NEW(arena, Kernel);
  kernel->arena = arena;
  char *clean = clean_name(arena, name);
  for (char *c = clean; *c; c++)
    if (*c == '.' || *c == '\'') *c = '_'; // an identifier: it names the function
  kernel->name = clean;
  kernel->expr_capacity = 64;
  kernel->exprs = ARENA_ARRAY(arena, Expr, kernel->expr_capacity);
  kernel->facts = ARENA_ARRAY(arena, ExprFacts, kernel->expr_capacity);
  kernel->expr_count = 1;
  return kernel;
}

int kernel_axis(Kernel *kernel, const char *name, Extent extent) {
  if (kernel->axis_count == KERNEL_MAX_AXES) die("kernel %s has too many axes", kernel->name);
  char *clean = clean_name(kernel->arena, name), *unique = clean;
  for (int i = 0, suffix = 2; i < kernel->axis_count; i++)
    if (!strcmp(kernel->axes[i].name, unique)) {
      unique = arena_print(kernel->arena, "%s%d", clean, suffix++);
      i = -1;
    }
  kernel->axes[kernel->axis_count] = (KernelAxis){unique, extent};
  return kernel->axis_count++;
}

int kernel_buffer(Kernel *kernel, const char *name, DType dtype, int rank, const Extent *extents,
                  BufferUse use) {
  if (kernel->buffer_count == KERNEL_MAX_BUFFERS) die("kernel %s has too many buffers", kernel->name);
  if (rank > KERNEL_MAX_RANK) die("kernel %s: buffer %s has rank %d", kernel->name, name, rank);
  KernelBuffer *buffer = &kernel->buffers[kernel->buffer_count];
  *buffer = (KernelBuffer){.dtype = dtype, .rank = rank, .use = use};
  char *clean = clean_name(kernel->arena, name), *unique = clean;
  for (int i = 0, suffix = 2; i < kernel->buffer_count; i++)
    if (!strcmp(kernel->buffers[i].name, unique)) {
      unique = arena_print(kernel->arena, "%s%d", clean, suffix++);
      i = -1;
    }
  buffer->name = unique;
  for (int i = 0; i < rank; i++) buffer->extents[i] = extents[i];
  return kernel->buffer_count++;
}

DType kernel_value_dtype(DType stored) {
  switch (stored) {
  case DTYPE_BF16:
  case DTYPE_F16:
  case DTYPE_F64: return DTYPE_F32;
  case DTYPE_U8: return DTYPE_I32;
  default: return stored;
  }
}

// ---- hash-consing -------------------------------------------------------------------------------

static uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

static uint64_t expr_hash(const Expr *expr) {
  uint64_t number, hash = mix(0, (uint64_t)expr->op << 8 | expr->dtype);
  memcpy(&number, &expr->number, 8);
  for (int i = 0; i < 3; i++) hash = mix(hash, expr->in[i]);
  hash = mix(mix(hash, number), (uint64_t)expr->axis << 32 | (uint32_t)expr->buffer);
  hash = mix(mix(hash, (uint64_t)expr->extent.symbol), (uint64_t)expr->extent.scale);
  hash = mix(mix(hash, (uint64_t)expr->extent.offset), (uint64_t)expr->axes << 32 | expr->stream);
  for (int i = 0; i < KERNEL_MAX_RANK; i++) hash = mix(hash, expr->index[i]);
  return hash;
}

static bool expr_equal(const Expr *a, const Expr *b) {
  return a->op == b->op && a->dtype == b->dtype && !memcmp(a->in, b->in, sizeof a->in) &&
         !memcmp(&a->number, &b->number, sizeof a->number) && a->axis == b->axis &&
         extent_equal(a->extent, b->extent) && a->buffer == b->buffer &&
         !memcmp(a->index, b->index, sizeof a->index) && a->axes == b->axes && a->stream == b->stream;
}

static void table_add(Kernel *kernel, ExprId id) {
  size_t at = expr_hash(&kernel->exprs[id]) & (kernel->table_size - 1);
  while (kernel->table[at]) at = (at + 1) & (kernel->table_size - 1);
  kernel->table[at] = id;
}

static ExprId table_find(const Kernel *kernel, const Expr *expr) {
  if (!kernel->table_size) return 0;
  size_t at = expr_hash(expr) & (kernel->table_size - 1);
  for (; kernel->table[at]; at = (at + 1) & (kernel->table_size - 1))
    if (expr_equal(&kernel->exprs[kernel->table[at]], expr)) return kernel->table[at];
  return 0;
}

static void grow(Kernel *kernel) {
  size_t old = kernel->expr_capacity;
  kernel->expr_capacity *= 2;
  kernel->exprs = arena_grow(kernel->arena, kernel->exprs, old * sizeof(Expr), 2 * old * sizeof(Expr));
  kernel->facts =
      arena_grow(kernel->arena, kernel->facts, old * sizeof(ExprFacts), 2 * old * sizeof(ExprFacts));
}

ExprId kernel_intern(Kernel *kernel, Expr expr) {
  ExprId known = table_find(kernel, &expr);
  if (known) return known;
  if (kernel->expr_count == kernel->expr_capacity) grow(kernel);
  ExprId id = (ExprId)kernel->expr_count++;
  kernel->exprs[id] = expr;
  kernel->facts[id] = kernel_facts(kernel, &expr);
  if (kernel->table_size < kernel->expr_capacity * 2) {
    kernel->table_size = kernel->expr_capacity * 2;
    kernel->table = ARENA_ARRAY(kernel->arena, uint32_t, kernel->table_size);
    for (ExprId each = 1; each < id; each++) table_add(kernel, each);
  }
  table_add(kernel, id);
  return id;
}

uint32_t kernel_free_axes(const Kernel *kernel, ExprId expr) { return kernel->facts[expr].free_axes; }

ExprId kernel_expr(Kernel *kernel, Expr expr) {
  ExprId simple = kernel_simplify(kernel, &expr);
  return simple ? simple : kernel_intern(kernel, expr);
}

// ---- builders -----------------------------------------------------------------------------------

ExprId kernel_number(Kernel *kernel, double value, DType dtype) {
  return kernel_intern(kernel,
                       (Expr){.op = SCALAR_CONST, .dtype = dtype, .number = scalar_round(dtype, value)});
}

ExprId kernel_axis_value(Kernel *kernel, int axis) {
  return kernel_expr(kernel, (Expr){.op = SCALAR_AXIS, .dtype = DTYPE_I64, .axis = axis});
}

ExprId kernel_size(Kernel *kernel, Extent extent) {
  return kernel_expr(kernel, (Expr){.op = SCALAR_SIZE, .dtype = DTYPE_I64, .extent = extent});
}

ExprId kernel_unary(Kernel *kernel, ScalarOp op, ExprId x) {
  DType dtype = op == SCALAR_NOT ? DTYPE_BOOL : kernel->exprs[x].dtype;
  return kernel_expr(kernel, (Expr){.op = op, .dtype = dtype, .in = {x}});
}

ExprId kernel_binary(Kernel *kernel, ScalarOp op, ExprId x, ExprId y) {
  DType dtype = kernel->exprs[x].dtype;
  if (dtype != kernel->exprs[y].dtype)
    die("kernel %s: %s of %s and %s", kernel->name, scalar_table[op].name, dtype_name(dtype),
        dtype_name(kernel->exprs[y].dtype));
  bool logical = op >= SCALAR_LESS && op <= SCALAR_OR;
  return kernel_expr(kernel, (Expr){.op = op, .dtype = logical ? DTYPE_BOOL : dtype, .in = {x, y}});
}

ExprId kernel_select(Kernel *kernel, ExprId condition, ExprId x, ExprId y) {
  return kernel_expr(kernel,
                     (Expr){.op = SCALAR_SELECT, .dtype = kernel->exprs[x].dtype, .in = {condition, x, y}});
}

ExprId kernel_cast(Kernel *kernel, ExprId x, DType dtype) {
  return kernel_expr(kernel, (Expr){.op = SCALAR_CAST, .dtype = dtype, .in = {x}});
}

ExprId kernel_load(Kernel *kernel, int buffer, const ExprId *index, ExprId guard) {
  const KernelBuffer *from = &kernel->buffers[buffer];
  Expr expr = {.op = SCALAR_LOAD, .dtype = kernel_value_dtype(from->dtype), .buffer = buffer, .in = {guard}};
  for (int i = 0; i < from->rank; i++) expr.index[i] = index[i];
  return kernel_expr(kernel, expr);
}

ExprId kernel_reduce(Kernel *kernel, ScalarOp op, ExprId x, uint32_t axes) {
  return kernel_expr(kernel, (Expr){.op = op, .dtype = kernel->exprs[x].dtype, .in = {x}, .axes = axes});
}

ExprId kernel_dot(Kernel *kernel, ExprId x, ExprId y, uint32_t axes) {
  return kernel_expr(kernel, (Expr){.op = SCALAR_DOT, .dtype = DTYPE_F32, .in = {x, y}, .axes = axes});
}

ExprId kernel_random(Kernel *kernel, ExprId counter, ExprId linear, uint32_t stream) {
  return kernel_expr(
      kernel, (Expr){.op = SCALAR_RANDOM, .dtype = DTYPE_F32, .in = {counter, linear}, .stream = stream});
}

void kernel_store(Kernel *kernel, int buffer, const ExprId *index, ExprId value, uint32_t axes,
                  StoreMode mode) {
  if (kernel->store_count == KERNEL_MAX_STORES) die("kernel %s has too many stores", kernel->name);
  Store *store = &kernel->stores[kernel->store_count++];
  *store = (Store){.buffer = buffer, .value = value, .axes = axes, .mode = mode};
  for (int i = 0; i < kernel->buffers[buffer].rank; i++) store->index[i] = index[i];
}
