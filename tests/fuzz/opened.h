// What the fuzz targets of the compiler's readers share: sources, diagnostics and an arena for one input.
#ifndef VLMC_TESTS_FUZZ_OPENED_H
#define VLMC_TESTS_FUZZ_OPENED_H

#include "runtime/base/diagnostics.h"

typedef struct Opened {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
} Opened;

static inline Opened *opened_new(void) {
  Arena *arena = arena_new();
  Opened *opened = ARENA_NEW(arena, Opened);
  opened->arena = arena;
  sources_init(&opened->sources, arena);
  opened->diagnostics.sources = &opened->sources;
  return opened;
}

static inline void opened_free(Opened *opened) {
  text_free(&opened->diagnostics.text);
  arena_free(opened->arena);
}

#endif
