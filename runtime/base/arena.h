// Arenas: memory grouped by lifetime. Everything made for a session, a module or a pass is taken from
// one arena and dies with it at one visible line; nothing is freed alone.
#ifndef VLMC_BASE_ARENA_H
#define VLMC_BASE_ARENA_H

#include <stddef.h>

typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *arena); // accepts NULL

// Zeroed memory of `size` bytes, aligned to 16. Never NULL: out of memory ends the program (exit 2).
void *arena_alloc(Arena *arena, size_t size);

// Grows an array of the same arena; the old bytes are copied, the old block dies with the arena.
void *arena_grow(Arena *arena, const void *old, size_t old_size, size_t new_size);

char *arena_copy(Arena *arena, const char *text, size_t length); // NUL-terminated copy
char *arena_print(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define ARENA_NEW(arena, Type)          ((Type *)arena_alloc((arena), sizeof(Type)))
#define ARENA_ARRAY(arena, Type, count) ((Type *)arena_alloc((arena), sizeof(Type) * (size_t)(count)))

// Appends one element to a {pointer, count, capacity} triple that lives in `arena`.
#define ARENA_PUSH(arena, pointer, count, capacity, value)                                                   \
  do {                                                                                                       \
    if ((count) == (capacity)) {                                                                             \
      size_t grown_ = (capacity) ? (size_t)(capacity) * 2 : 8;                                               \
      (pointer) = arena_grow((arena), (pointer), sizeof(*(pointer)) * (size_t)(count),                       \
                             sizeof(*(pointer)) * grown_);                                                   \
      (capacity) = grown_;                                                                                   \
    }                                                                                                        \
    (pointer)[(count)++] = (value);                                                                          \
  } while (0)

#endif
