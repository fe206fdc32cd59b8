// Compiled code on disk, a file per kernel. The key is a text that holds everything the code was made from:
// the kernel or its source, the compiler's version, the machine it is for. A file that is damaged, cut or of
// another key counts as none; a cache that can not be written only costs time, and is no error.
#ifndef VLMC_COMPILER_EMIT_CACHE_H
#define VLMC_COMPILER_EMIT_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/text.h"

// `about`, of `about_size` bytes, is what the emitter wants to know of the code again. `bytes` comes on the C
// heap. `ending` tells an emitter's files apart: "object".
bool cache_get(const char *folder, const char *ending, const Text *key, void *about, size_t about_size,
               char **bytes, size_t *size);
void cache_put(const char *folder, const char *ending, const Text *key, const void *about, size_t about_size,
               const char *bytes, size_t size);

#endif
