// A small executor for tests: a lowered graph runs launch by launch through the kernel interpreter,
// temporaries in one arena at the planned offsets, and whatever is not alive is poisoned. The twin of the
// runtime's session.
#ifndef VLMC_TESTS_EXECUTE_H
#define VLMC_TESTS_EXECUTE_H

#include "compiler/lower/lower.h"
#include "tests/check.h"

typedef struct Memory {
  void **buffers; // per buffer of the program
  unsigned char *arena;
  size_t arena_bytes;
} Memory;

// NaN in every float type, an absurd number in every whole one.
static inline void poison(const Buffer *buffer, void *memory, const int64_t *symbols) {
  memset(memory, buffer->dtype == DTYPE_BOOL ? 1 : 0xFF, buffer_bytes(buffer, symbols));
}

static inline Memory memory_open(const Program *program, const int64_t *symbols, Arena *arena) {
  Memory memory = {.buffers = ARENA_ARRAY(arena, void *, program->buffer_count + 1)};
  size_t *offsets = ARENA_ARRAY(arena, size_t, program->buffer_count + 1);
  memory.arena_bytes = program_plan(program, symbols, offsets);
  memory.arena = arena_alloc(arena, memory.arena_bytes + 64);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    memory.buffers[i] = buffer->role == ROLE_TEMPORARY
                            ? memory.arena + offsets[i]
                            : arena_alloc(arena, buffer_bytes(buffer, symbols) + 16);
    poison(buffer, memory.buffers[i], symbols);
  }
  Failure failure;
  bool planned = program_check_plan(program, symbols, offsets, &failure);
  CHECK(planned, "%s", failure.message);
  return memory;
}

static inline void execute(const Lowered *lowered, const int64_t *symbols, Memory *memory) {
  const Program *program = &lowered->program;
  for (int i = 0; i < program->launch_count; i++) {
    const Launch *launch = &program->launches[i];
    void *buffers[KERNEL_MAX_BUFFERS];
    for (int k = 0; k < launch->buffer_count; k++) {
      const Buffer *buffer = &program->buffers[launch->buffers[k]];
      buffers[k] = memory->buffers[launch->buffers[k]];
      if (buffer->first_launch != i) continue;
      if (buffer->role == ROLE_TEMPORARY) poison(buffer, buffers[k], symbols);
      if (buffer->zeroed) memset(buffers[k], 0, buffer_bytes(buffer, symbols));
    }
    kernel_interpret(lowered->kernels[launch->code], buffers, symbols);
    for (int k = 0; k < launch->buffer_count; k++) {
      const Buffer *buffer = &program->buffers[launch->buffers[k]];
      if (buffer->role == ROLE_TEMPORARY && buffer->last_launch == i) poison(buffer, buffers[k], symbols);
    }
  }
}

#endif
