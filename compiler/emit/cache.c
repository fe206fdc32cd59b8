// Compiled code on disk: key text -> file name -> bytes that are whole. Files appear by rename.
#include "compiler/emit/cache.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/files.h"

enum { LARGEST = 64 << 20 };
static const char magic[8] = "vlmcode";

typedef struct Header {
  char magic[8];
  uint64_t key[2], about_size, size, checksum;
} Header;

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001B3);
  return hash ^ hash >> 32;
}

static char *locate(const char *folder, const char *ending, const Text *key, Header *header) {
  Text path = {0};
  memcpy(header->magic, magic, sizeof magic);
  header->key[0] = hash_bytes(UINT64_C(0xCBF29CE484222325), key->bytes, key->length);
  header->key[1] = hash_bytes(UINT64_C(0x9E3779B97F4A7C15), key->bytes, key->length);
  text_print(&path, "%s/%016" PRIx64 "%016" PRIx64 ".%s", folder, header->key[0], header->key[1], ending);
  return path.bytes;
}

static uint64_t checksum(const Header *header, const void *about, const void *bytes) {
  return hash_bytes(hash_bytes(header->key[0], about, header->about_size), bytes, header->size);
}

static bool read_code(FILE *file, const Header *wanted, void *about, char **bytes, size_t *size) {
  Header header;
  if (fread(&header, sizeof header, 1, file) != 1 || memcmp(header.magic, magic, sizeof magic) ||
      memcmp(header.key, wanted->key, sizeof header.key) || header.about_size != wanted->about_size ||
      !header.size || header.size > LARGEST)
    return false;
  char *code = malloc(header.size);
  bool whole = code && fread(about, header.about_size, 1, file) == 1 &&
               fread(code, header.size, 1, file) == 1 && fgetc(file) == EOF &&
               checksum(&header, about, code) == header.checksum;
  if (!whole) {
    free(code);
    return false;
  }
  *bytes = code;
  *size = header.size;
  return true;
}

bool cache_get(const char *folder, const char *ending, const Text *key, void *about, size_t about_size,
               char **bytes, size_t *size) {
  Header header = {.about_size = about_size};
  char *path = locate(folder, ending, key, &header);
  FILE *file = fopen(path, "rbe");
  bool found = file && read_code(file, &header, about, bytes, size);
  if (file) fclose(file);
  free(path);
  return found;
}

// Not forced to the disk as file_replace does: what a power cut leaves is told by its checksum.
void cache_put(const char *folder, const char *ending, const Text *key, const void *about, size_t about_size,
               const char *bytes, size_t size) {
  Header header = {.about_size = about_size, .size = size};
  Text temporary = {0};
  Failure ignored;
  char *path = locate(folder, ending, key, &header);
  header.checksum = checksum(&header, about, bytes);
  text_print(&temporary, "%s.XXXXXX", path);
  int descriptor = folder_make(folder, &ignored) ? mkstemp(temporary.bytes) : -1;
  FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "wb");
  if (file) {
    bool whole = fwrite(&header, sizeof header, 1, file) == 1 && fwrite(about, about_size, 1, file) == 1 &&
                 fwrite(bytes, size, 1, file) == 1;
    whole = fclose(file) == 0 && whole;
    if (!whole || rename(temporary.bytes, path)) unlink(temporary.bytes);
  }
  text_free(&temporary);
  free(path);
}
