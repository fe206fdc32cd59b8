// Which kernels are the same code: a kernel -> the words that its code depends on, names and model lines left
// out. Emitters' caches and lowering share code by them.
#include "compiler/kernel/kernel.h"

#include <string.h>

typedef struct Words {
  Arena *arena;
  uint64_t *list;
  size_t count, capacity;
} Words;

static void add(Words *words, uint64_t word) {
  ARENA_PUSH(words->arena, words->list, words->count, words->capacity, word);
}

static void add_pair(Words *words, uint64_t high, uint64_t low) { add(words, high << 32 | (uint32_t)low); }

static void add_extent(Words *words, Extent extent) {
  add_pair(words, (uint64_t)extent.symbol, (uint64_t)extent.scale);
  add(words, (uint64_t)extent.offset);
}

// Adds the words of an expression once, after those of its operands; how expressions were numbered while the
// kernel was built does not matter.
static uint32_t add_expr(Words *words, const Kernel *kernel, ExprId id, uint32_t *number) {
  if (!id) return 0;
  if (number[id]) return number[id];
  const Expr *expr = &kernel->exprs[id];
  uint32_t in[3], index[KERNEL_MAX_RANK] = {0};
  uint64_t bits;
  for (int i = 0; i < 3; i++) in[i] = add_expr(words, kernel, expr->in[i], number);
  int rank = expr->op == SCALAR_LOAD ? kernel->buffers[expr->buffer].rank : 0;
  for (int i = 0; i < rank; i++) index[i] = add_expr(words, kernel, expr->index[i], number);
  memcpy(&bits, &expr->number, 8);
  add_pair(words, (uint64_t)expr->op << 8 | expr->dtype, in[0]);
  add_pair(words, in[1], in[2]);
  switch (expr->op) {
  case SCALAR_CONST: add(words, bits); break;
  case SCALAR_AXIS: add(words, (uint64_t)expr->axis); break;
  case SCALAR_SIZE: add_extent(words, expr->extent); break;
  case SCALAR_RANDOM: add(words, expr->stream); break;
  case SCALAR_LOAD:
    add(words, (uint64_t)expr->buffer);
    for (int i = 0; i < rank; i++) add(words, index[i]);
    break;
  default:
    if (expr->axes) add(words, expr->axes);
  }
  number[0]++; // how many there are; expression 0 is none
  return number[id] = number[0];
}

static Words code_words(const Kernel *kernel, Arena *arena) {
  Words words = {.arena = arena, .capacity = 8 * kernel->expr_count + 256};
  words.list = ARENA_ARRAY(arena, uint64_t, words.capacity);
  uint32_t *number = ARENA_ARRAY(arena, uint32_t, kernel->expr_count);
  add_pair(&words, kernel->anchor, (uint64_t)kernel->axis_count);
  for (int i = 0; i < kernel->axis_count; i++) add_extent(&words, kernel->axes[i].extent);
  add(&words, (uint64_t)kernel->buffer_count);
  for (int i = 0; i < kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &kernel->buffers[i];
    add_pair(&words, (uint64_t)buffer->dtype << 8 | buffer->use, (uint64_t)buffer->rank);
    for (int k = 0; k < buffer->rank; k++) add_extent(&words, buffer->extents[k]);
  }
  for (int i = 0; i < kernel->store_count; i++) {
    const Store *store = &kernel->stores[i];
    uint32_t value = add_expr(&words, kernel, store->value, number);
    for (int k = 0; k < kernel->buffers[store->buffer].rank; k++)
      add(&words, add_expr(&words, kernel, store->index[k], number));
    add_pair(&words, (uint64_t)store->buffer << 8 | store->mode, value);
    add(&words, store->axes);
  }
  return words;
}

bool kernel_same_code(const Kernel *a, const Kernel *b) {
  Arena *arena = arena_new();
  Words first = code_words(a, arena), second = code_words(b, arena);
  bool same =
      first.count == second.count && !memcmp(first.list, second.list, first.count * sizeof *first.list);
  arena_free(arena);
  return same;
}

uint64_t kernel_hash(const Kernel *kernel) {
  Arena *arena = arena_new();
  Words words = code_words(kernel, arena);
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < words.count; i++) {
    hash = (hash ^ words.list[i]) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  arena_free(arena);
  return hash;
}
