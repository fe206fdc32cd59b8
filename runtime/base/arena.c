// Arenas as a chain of blocks, each at least 64 KiB; a large request gets a block of its own.
#include "runtime/base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Block {
  struct Block *next;
  size_t used, size;
  _Alignas(16) unsigned char bytes[];
} Block;

struct Arena {
  Block *first;
};

static void *checked_calloc(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (!memory) {
    fprintf(stderr, "vlmc: out of memory (%zu bytes)\n", size);
    exit(2);
  }
  return memory;
}

Arena *arena_new(void) { return checked_calloc(1, sizeof(Arena)); }

void arena_free(Arena *arena) {
  if (!arena) return;
  for (Block *block = arena->first, *next; block; block = next) {
    next = block->next;
    free(block);
  }
  free(arena);
}

void *arena_alloc(Arena *arena, size_t size) {
  size = (size + 15) & ~(size_t)15;
  Block *block = arena->first;
  if (!block || block->size - block->used < size) {
    size_t capacity = size > 65536 - sizeof(Block) ? size : 65536 - sizeof(Block);
    block = checked_calloc(1, sizeof(Block) + capacity);
    block->size = capacity;
    block->next = arena->first;
    arena->first = block;
  }
  void *memory = block->bytes + block->used;
  block->used += size;
  return memory;
}

void *arena_grow(Arena *arena, const void *old, size_t old_size, size_t new_size) {
  void *memory = arena_alloc(arena, new_size);
  if (old_size) memcpy(memory, old, old_size);
  return memory;
}

char *arena_copy(Arena *arena, const char *text, size_t length) {
  char *copy = arena_alloc(arena, length + 1);
  if (length) memcpy(copy, text, length);
  return copy;
}

char *arena_print(Arena *arena, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  char *text = arena_alloc(arena, (size_t)length + 1);
  vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  return text;
}
