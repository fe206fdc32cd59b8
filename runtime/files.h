// Files: read whole within a bound, mapped read-only, and replaced atomically. Every function that can fail
// returns false with one sentence that names the path and the reason.
#ifndef VLMC_RUNTIME_FILES_H
#define VLMC_RUNTIME_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

// The whole of a regular file in `arena`, followed by one NUL byte that `size` does not count. Fails on a
// missing file, on anything but a regular file, and on more than `limit` bytes.
bool file_read(const char *path, size_t limit, Arena *arena, char **bytes, size_t *size, Failure *failure);

bool file_exists(const char *path); // a regular file, or a link to one

// A file mapped read-only; `bytes` is page-aligned, and not NULL even for an empty file. Someone who
// shortens the file while it is mapped ends the process with SIGBUS: nothing of ours does (see below).
typedef struct Mapping {
  const unsigned char *bytes;
  size_t size;
} Mapping;
bool file_map(const char *path, Mapping *mapping, Failure *failure);
void file_unmap(Mapping *mapping); // accepts a zeroed Mapping

// A file on its way to its name: written beside it under a temporary name, and only when it is whole and on
// the disk does it take the name. Until then whatever bore the name stays as it was.
typedef struct Replacement {
  int descriptor;
  char *path, *temporary;
} Replacement;
bool replacement_begin(Replacement *replacement, const char *path, Failure *failure);
bool replacement_write(Replacement *replacement, size_t offset, const void *bytes, size_t size,
                       Failure *failure);
bool replacement_commit(Replacement *replacement, Failure *failure); // on failure it is already abandoned
void replacement_abandon(Replacement *replacement);                  // accepts a zeroed or finished one
bool file_replace(const char *path, const void *bytes, size_t size, Failure *failure); // all of it at once

bool folder_make(const char *path, Failure *failure); // with the folders above it; existing ones are fine

#endif
