// Source texts: reading them with care, and turning offsets into lines and columns.
#include "runtime/base/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void sources_init(Sources *sources, Arena *arena) {
  *sources = (Sources){.arena = arena};
  ARENA_PUSH(arena, sources->list, sources->count, sources->capacity, ((Source){"", "", 0, 1}));
}

uint32_t sources_add(Sources *sources, const char *path, const char *text, size_t length) {
  return sources_add_line(sources, path, strlen(path), 1, text, length);
}

uint32_t sources_add_line(Sources *sources, const char *path, size_t path_length, int line, const char *text,
                          size_t length) {
  Source source = {arena_copy(sources->arena, path, path_length), arena_copy(sources->arena, text, length),
                   length, line};
  ARENA_PUSH(sources->arena, sources->list, sources->count, sources->capacity, source);
  return (uint32_t)sources->count - 1;
}

static bool read_all(FILE *file, const char *path, char *bytes, size_t *length, Failure *failure) {
  *length = fread(bytes, 1, *length, file);
  if (ferror(file)) return fail(failure, "%s: %s", path, strerror(errno));
  const char *nul = memchr(bytes, 0, *length);
  if (nul) return fail(failure, "%s: byte %zu is NUL; a model file is text", path, (size_t)(nul - bytes));
  return true;
}

bool sources_read(Sources *sources, const char *path, uint32_t *source, Failure *failure) {
  struct stat status;
  if (stat(path, &status)) return fail(failure, "%s: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) return fail(failure, "%s: not a regular file", path);
  if (status.st_size > SOURCE_MAX_BYTES)
    return fail(failure, "%s: larger than %d MiB, which no model file is", path, SOURCE_MAX_BYTES >> 20);
  FILE *file = fopen(path, "rb");
  if (!file) return fail(failure, "%s: %s", path, strerror(errno));
  size_t length = (size_t)status.st_size;
  char *bytes = malloc(length + 1);
  bool good =
      bytes ? read_all(file, path, bytes, &length, failure) : fail(failure, "%s: out of memory", path);
  if (good) *source = sources_add(sources, path, bytes, length);
  free(bytes);
  fclose(file);
  return good;
}

Span span_join(Span first, Span last) {
  if (first.source != last.source || last.end < first.begin) return first.source ? first : last;
  return (Span){first.source, first.begin, last.end};
}

void span_locate(const Sources *sources, Span span, int *line, int *column) {
  const Source *source = &sources->list[span.source < sources->count ? span.source : 0];
  size_t end = span.begin < source->length ? span.begin : source->length;
  *line = source->first_line, *column = 1;
  for (size_t i = 0; i < end; i++) {
    if (source->text[i] == '\n') {
      ++*line, *column = 1;
    } else if ((source->text[i] & 0xc0) != 0x80) {
      ++*column;
    }
  }
}

int span_line(const Sources *sources, Span span) {
  int line, column;
  span_locate(sources, span, &line, &column);
  return line;
}
