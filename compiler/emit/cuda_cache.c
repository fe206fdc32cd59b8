// Compiled CUDA text on disk, one file per text. Input: the text, the architecture, NVRTC's version; output:
// the cubin that they led to before, if its file is whole. Files take their names when they are whole.
#include "compiler/emit/cuda_emit.h"
#include "runtime/files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_CUBIN = 64 << 20 };
static const char magic[8] = "vlmccub";

typedef struct Header {
  char magic[8];
  uint64_t key[2], count, checksum;
  int32_t registers, spill_bytes, shared_bytes, zero;
} Header;

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001B3);
  return hash ^ hash >> 32;
}

static const char *locate(Arena *arena, const char *folder, const CudaCompiler *compiler, const char *source,
                          const char *architecture, uint64_t key[2]) {
  int major = 0, minor = 0;
  compiler->nvrtcVersion(&major, &minor);
  const char *text = arena_print(arena, "nvrtc %d.%d %s\n%s", major, minor, architecture, source);
  key[0] = hash_bytes(UINT64_C(0xCBF29CE484222325), text, strlen(text));
  key[1] = hash_bytes(UINT64_C(0x9E3779B97F4A7C15), text, strlen(text));
  return arena_print(arena, "%s/%016" PRIx64 "%016" PRIx64 ".cubin", folder, key[0], key[1]);
}

static bool unpack(const char *bytes, size_t size, const uint64_t key[2], CudaObject *object) {
  Header header;
  if (size < sizeof header) return false;
  memcpy(&header, bytes, sizeof header);
  bool fits = !memcmp(header.magic, magic, sizeof magic) && !memcmp(header.key, key, sizeof header.key) &&
              header.count == size - sizeof header && header.count > 0;
  if (!fits || hash_bytes(key[0], bytes + sizeof header, header.count) != header.checksum) return false;
  char *copy = malloc(header.count);
  if (!copy) return false;
  memcpy(copy, bytes + sizeof header, header.count);
  *object = (CudaObject){copy, header.count, header.registers, header.spill_bytes, header.shared_bytes};
  return true;
}

bool cuda_cache_get(const char *folder, const CudaCompiler *compiler, const char *source,
                    const char *architecture, CudaObject *object) {
  Arena *arena = arena_new();
  uint64_t key[2];
  char *bytes;
  size_t size;
  Failure ignored;
  const char *path = locate(arena, folder, compiler, source, architecture, key);
  bool found = file_exists(path) && file_read(path, LARGEST_CUBIN, arena, &bytes, &size, &ignored) &&
               unpack(bytes, size, key, object);
  arena_free(arena);
  return found;
}

// A cache that can not be written only costs time: no error.
void cuda_cache_put(const char *folder, const CudaCompiler *compiler, const char *source,
                    const char *architecture, const CudaObject *object) {
  Arena *arena = arena_new();
  Failure ignored;
  Header header = {.count = object->count,
                   .registers = object->registers,
                   .spill_bytes = object->spill_bytes,
                   .shared_bytes = object->shared_bytes};
  const char *path = locate(arena, folder, compiler, source, architecture, header.key);
  memcpy(header.magic, magic, sizeof magic);
  header.checksum = hash_bytes(header.key[0], object->bytes, object->count);
  char *bytes = arena_alloc(arena, sizeof header + object->count);
  memcpy(bytes, &header, sizeof header);
  memcpy(bytes + sizeof header, object->bytes, object->count);
  if (folder_make(folder, &ignored)) file_replace(path, bytes, sizeof header + object->count, &ignored);
  arena_free(arena);
}
