// Zip archives whose entries are stored, not compressed: names and the bytes where they lie. With zip64, for
// archives above 4 GiB. Checksums are not computed: that would read the whole archive.
#ifndef VLMC_WEIGHTS_ZIP_H
#define VLMC_WEIGHTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef struct ZipEntry {
  const char *name;
  const unsigned char *data;
  size_t size;
} ZipEntry;

typedef struct Zip {
  ZipEntry *entries; // by name
  size_t count;
} Zip;

// Checked: the directory and every entry within the archive, nothing compressed or encrypted, no name twice,
// no two entries over the same bytes.
bool zip_read(const unsigned char *bytes, size_t size, const char *path, Arena *arena, Zip *zip,
              Failure *failure);
const ZipEntry *zip_find(const Zip *zip, const char *name); // NULL: none

#endif
