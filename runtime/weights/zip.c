// Zip: the end record leads to the directory, the directory to the entries.
#include "runtime/weights/zip.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/weights/parts.h"

enum { END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, DIRECTORY_BYTES = 46, LOCAL_BYTES = 30 };

typedef struct Directory {
  uint64_t offset, bytes, count;
} Directory;

static unsigned load_u16(const unsigned char *at) { return at[0] | (unsigned)at[1] << 8; }

static bool signed_as(const unsigned char *at, const char *signature) { return !memcmp(at, signature, 4); }

// The end record is the last 22 bytes but for a comment whose length it tells.
static const unsigned char *find_end(const unsigned char *bytes, size_t size) {
  for (size_t comment = 0; comment <= 0xffff && END_BYTES + comment <= size; comment++) {
    const unsigned char *at = bytes + size - END_BYTES - comment;
    if (signed_as(at, "PK\5\6") && load_u16(at + 20) == comment) return at;
  }
  return NULL;
}

static bool find_directory(const unsigned char *bytes, size_t size, const char *path, Directory *directory,
                           Failure *failure) {
  const unsigned char *end = find_end(bytes, size);
  if (!end) return fail(failure, "%s: is no whole zip archive: its directory is missing", path);
  *directory = (Directory){load_u32(end + 16), load_u32(end + 12), load_u16(end + 10)};
  const unsigned char *locator = end - LOCATOR_BYTES;
  if (end - bytes >= LOCATOR_BYTES && signed_as(locator, "PK\6\7")) {
    uint64_t at = load_u64(locator + 8), before = (uint64_t)(locator - bytes);
    if (before < END64_BYTES || at > before - END64_BYTES || !signed_as(bytes + at, "PK\6\6"))
      return fail(failure, "%s: the zip archive's directory for large files is not where it should be", path);
    *directory = (Directory){load_u64(bytes + at + 48), load_u64(bytes + at + 40), load_u64(bytes + at + 32)};
  }
  size_t limit = (size_t)(end - bytes);
  if (directory->offset > limit || directory->bytes > limit - directory->offset ||
      directory->count > directory->bytes / DIRECTORY_BYTES)
    return fail(failure,
                "%s: the zip archive's directory (%llu entries in %llu bytes at %llu) is not within it", path,
                (unsigned long long)directory->count, (unsigned long long)directory->bytes,
                (unsigned long long)directory->offset);
  return true;
}

typedef struct Sizes {
  uint64_t stored, packed, offset;
} Sizes;

// Sizes that do not fit 32 bits are all ones in the directory and stand, in this order, in the extra field 1.
static void widen(Sizes *sizes, const unsigned char *extra, size_t bytes) {
  while (bytes >= 4) {
    size_t length = load_u16(extra + 2), at = 4;
    if (length > bytes - 4) return;
    uint64_t *fields[] = {&sizes->stored, &sizes->packed, &sizes->offset};
    for (int i = 0; load_u16(extra) == 1 && i < 3; i++)
      if (*fields[i] == UINT32_MAX && at + 8 <= 4 + length) *fields[i] = load_u64(extra + at), at += 8;
    extra += 4 + length;
    bytes -= 4 + length;
  }
}

// One record of the directory, of which `left` bytes remain; `*taken` of them were this one's.
static bool read_entry(const unsigned char *bytes, size_t size, const unsigned char *at, size_t left,
                       const char *path, Arena *arena, ZipEntry *entry, size_t *taken, Failure *failure) {
  if (left < DIRECTORY_BYTES || !signed_as(at, "PK\1\2"))
    return fail(failure, "%s: the zip archive's directory is damaged at byte %td", path, at - bytes);
  size_t name = load_u16(at + 28), extra = load_u16(at + 30);
  *taken = DIRECTORY_BYTES + name + extra + load_u16(at + 32);
  if (*taken > left || !name || memchr(at + DIRECTORY_BYTES, 0, name))
    return fail(failure, "%s: the zip archive's directory is damaged at byte %td", path, at - bytes);
  entry->name = arena_copy(arena, (const char *)at + DIRECTORY_BYTES, name);
  Sizes sizes = {load_u32(at + 24), load_u32(at + 20), load_u32(at + 42)};
  widen(&sizes, at + DIRECTORY_BYTES + name, extra);
  if (load_u16(at + 10) != 0 || load_u16(at + 8) & 1 || sizes.stored != sizes.packed)
    return fail(failure, "%s: \"%.200s\" in it is %s; only stored entries can be mapped", path, entry->name,
                load_u16(at + 8) & 1 ? "encrypted" : "compressed");
  if (sizes.offset > size || size - sizes.offset < LOCAL_BYTES || !signed_as(bytes + sizes.offset, "PK\3\4"))
    return fail(failure, "%s: \"%.200s\" in it is not at byte %llu, where the directory says", path,
                entry->name, (unsigned long long)sizes.offset);
  const unsigned char *local = bytes + sizes.offset;
  size_t before = (size_t)sizes.offset + LOCAL_BYTES + load_u16(local + 26) + load_u16(local + 28);
  if (before > size || sizes.stored > size - before)
    return fail(failure, "%s: \"%.200s\" in it has %llu bytes, which are not all there", path, entry->name,
                (unsigned long long)sizes.stored);
  entry->data = bytes + before;
  entry->size = (size_t)sizes.stored;
  return true;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const ZipEntry *)a)->name, ((const ZipEntry *)b)->name);
}

static int by_place(const void *a, const void *b) {
  const ZipEntry *first = a, *second = b;
  if (first->data != second->data) return first->data < second->data ? -1 : 1;
  return (first->size > second->size) - (first->size < second->size);
}

static bool check_entries(Zip *zip, const char *path, Failure *failure) {
  qsort(zip->entries, zip->count, sizeof *zip->entries, by_place);
  for (size_t i = 1; i < zip->count; i++)
    if (zip->entries[i - 1].data + zip->entries[i - 1].size > zip->entries[i].data)
      return fail(failure, "%s: \"%.120s\" and \"%.120s\" in it overlap", path, zip->entries[i - 1].name,
                  zip->entries[i].name);
  qsort(zip->entries, zip->count, sizeof *zip->entries, by_name);
  for (size_t i = 1; i < zip->count; i++)
    if (!strcmp(zip->entries[i - 1].name, zip->entries[i].name))
      return fail(failure, "%s: \"%.200s\" is in it twice", path, zip->entries[i].name);
  return true;
}

bool zip_read(const unsigned char *bytes, size_t size, const char *path, Arena *arena, Zip *zip,
              Failure *failure) {
  *zip = (Zip){0};
  Directory directory = {0};
  if (!find_directory(bytes, size, path, &directory, failure)) return false;
  zip->entries = ARENA_ARRAY(arena, ZipEntry, directory.count + 1);
  const unsigned char *at = bytes + directory.offset;
  size_t left = (size_t)directory.bytes, taken = 0;
  for (; zip->count < directory.count; zip->count++, at += taken, left -= taken)
    if (!read_entry(bytes, size, at, left, path, arena, &zip->entries[zip->count], &taken, failure))
      return false;
  return check_entries(zip, path, failure);
}

const ZipEntry *zip_find(const Zip *zip, const char *name) {
  ZipEntry wanted = {.name = name};
  return bsearch(&wanted, zip->entries, zip->count, sizeof *zip->entries, by_name);
}
