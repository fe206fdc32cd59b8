// Source texts and places in them. A Span is kept on every syntax node, graph node and kernel, so that any
// message, late as it may come, can show the user's own line.
#ifndef VLMC_BASE_SOURCE_H
#define VLMC_BASE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef struct Span {
  uint32_t source;     // index into Sources; 0: nowhere
  uint32_t begin, end; // byte offsets, end exclusive
} Span;

typedef struct Source {
  const char *path; // as the user would write it
  const char *text; // NUL-terminated, may hold any bytes
  size_t length;
  int first_line; // number of the text's first line: 1 but where the text is one line of a file
} Source;

typedef struct Sources {
  Arena *arena;
  Source *list; // list[0] is unused
  size_t count, capacity;
} Sources;

enum { SOURCE_MAX_BYTES = 16 << 20 };

void sources_init(Sources *sources, Arena *arena);
uint32_t sources_add(Sources *sources, const char *path, const char *text, size_t length); // copies
// One line of a file that need not be at hand, as the text of a kernel tells it. Places in it have that line.
uint32_t sources_add_line(Sources *sources, const char *path, size_t path_length, int line, const char *text,
                          size_t length);
// Reads a file; fails on a missing file, a folder, more than SOURCE_MAX_BYTES or a NUL byte.
bool sources_read(Sources *sources, const char *path, uint32_t *source, Failure *failure);

Span span_join(Span first, Span last);
// 1-based line and column (in characters, UTF-8 aware) of the span's begin.
void span_locate(const Sources *sources, Span span, int *line, int *column);
int span_line(const Sources *sources, Span span);

#endif
