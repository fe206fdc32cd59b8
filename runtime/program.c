// Facts about a Program: sizes of buffers and launches for given run-time sizes, and the plan of its
// temporaries in one arena. Input: a Program and the sizes; output: counts, bytes, offsets.
#include "runtime/program.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

const char *const role_names[ROLE_COUNT] = {"data",  "scalar", "param",    "part",
                                            "state", "result", "temporary"};

int64_t work_count(const Work *work, const int64_t symbols[SYMBOL_COUNT]) {
  int64_t count = 1;
  for (int i = 0; i < work->count; i++) {
    int64_t length = extent_value(work->terms[i].extent, symbols), divisor = work->terms[i].divisor;
    count *= length <= 0 ? 0 : (length + divisor - 1) / divisor;
  }
  return count;
}

int program_find(const Program *program, const char *name) {
  for (int i = 0; i < program->buffer_count; i++)
    if (!strcmp(program->buffers[i].name, name)) return i;
  return -1;
}

bool code_is_small(const Code *code, const int64_t symbols[SYMBOL_COUNT]) {
  const double small = 12e-6; // seconds; the estimate is rough and rather too long
  int64_t tasks = work_count(&code->work, symbols);
  return tasks <= 1 || (code->task_seconds > 0 && (double)tasks * code->task_seconds < small);
}

int64_t buffer_elements(const Buffer *buffer, const int64_t symbols[SYMBOL_COUNT]) {
  int64_t count = 1;
  for (int i = 0; i < buffer->rank; i++) {
    int64_t length = extent_value(buffer->extents[i], symbols);
    if (length <= 0) return 0;
    if (__builtin_mul_overflow(count, length, &count)) die("buffer %s is too large to count", buffer->name);
  }
  return count;
}

size_t buffer_bytes(const Buffer *buffer, const int64_t symbols[SYMBOL_COUNT]) {
  size_t bytes;
  if (buffer->packing) return 0;
  if (__builtin_mul_overflow((size_t)buffer_elements(buffer, symbols), dtype_bytes(buffer->dtype), &bytes) ||
      bytes > SIZE_MAX / 4)
    die("buffer %s is too large to address", buffer->name);
  return bytes;
}

// ---- the plan -----------------------------------------------------------------------------------

typedef struct Block {
  int buffer, first, last;
  size_t bytes, offset;
} Block;

// Larger blocks first; among equals the one that lives first, so that the plan does not depend on qsort.
static int larger_first(const void *left, const void *right) {
  const Block *a = left, *b = right;
  if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
  if (a->first != b->first) return a->first - b->first;
  return a->buffer - b->buffer;
}

static int by_offset(const void *left, const void *right) {
  const Block *const *a = left, *const *b = right;
  if ((*a)->offset != (*b)->offset) return (*a)->offset < (*b)->offset ? -1 : 1;
  return (*a)->buffer - (*b)->buffer;
}

// First fit: the lowest offset at which the block overlaps none of those alive at the same time.
static size_t first_fit(const Block *block, Block *placed, size_t count, Block **alive) {
  size_t neighbours = 0, offset = 0;
  for (size_t i = 0; i < count; i++)
    if (placed[i].first <= block->last && block->first <= placed[i].last) alive[neighbours++] = &placed[i];
  qsort(alive, neighbours, sizeof *alive, by_offset);
  for (size_t i = 0; i < neighbours; i++) {
    if (offset + block->bytes <= alive[i]->offset) break;
    size_t end = alive[i]->offset + alive[i]->bytes;
    if (end > offset) offset = end;
  }
  return offset;
}

size_t program_plan(const Program *program, const int64_t symbols[SYMBOL_COUNT], size_t *offsets) {
  Arena *arena = arena_new();
  Block *blocks = ARENA_ARRAY(arena, Block, program->buffer_count + 1);
  Block **alive = ARENA_ARRAY(arena, Block *, program->buffer_count + 1);
  size_t count = 0, total = 0;
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_TEMPORARY) continue;
    size_t bytes = (buffer_bytes(buffer, symbols) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    blocks[count++] = (Block){i, buffer->first_launch, buffer->last_launch, bytes, 0};
  }
  qsort(blocks, count, sizeof *blocks, larger_first);
  for (size_t i = 0; i < count; i++) {
    blocks[i].offset = first_fit(&blocks[i], blocks, i, alive);
    offsets[blocks[i].buffer] = blocks[i].offset;
    if (blocks[i].offset + blocks[i].bytes > total) total = blocks[i].offset + blocks[i].bytes;
  }
  arena_free(arena);
  return total;
}

bool program_check_plan(const Program *program, const int64_t symbols[SYMBOL_COUNT], const size_t *offsets,
                        Failure *failure) {
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *a = &program->buffers[i];
    for (int k = 0; k < i && a->role == ROLE_TEMPORARY; k++) {
      const Buffer *b = &program->buffers[k];
      if (b->role != ROLE_TEMPORARY || a->first_launch > b->last_launch || b->first_launch > a->last_launch)
        continue;
      size_t a_bytes = buffer_bytes(a, symbols), b_bytes = buffer_bytes(b, symbols);
      if (offsets[i] < offsets[k] + b_bytes && offsets[k] < offsets[i] + a_bytes)
        return fail_internal(failure, "buffers %s and %s are alive at once and overlap", a->name, b->name);
    }
  }
  for (int i = 0; i < program->launch_count; i++)
    for (int k = 0; k < program->launches[i].buffer_count; k++) {
      const Buffer *buffer = &program->buffers[program->launches[i].buffers[k]];
      if (buffer->role == ROLE_TEMPORARY && (i < buffer->first_launch || i > buffer->last_launch))
        return fail_internal(failure, "launch %s uses %s outside of its lifetime",
                             program->launches[i].kernel, buffer->name);
    }
  return true;
}
