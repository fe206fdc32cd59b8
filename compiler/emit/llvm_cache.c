// Compiled objects on disk, one file per kernel. Input: a kernel and the CPU; output: its object, if this
// very build has compiled it before. A file that is not whole counts as none; files appear by rename, so they
// are whole or not there.
#include "compiler/emit/llvm_target.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGEST_OBJECT = 64 << 20 };

typedef struct Header {
  char magic[8];
  uint64_t key[2], size, checksum;
  Work work;
  int64_t scratch_bytes;
} Header;
static const char magic[8] = "vlmcobj";

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
  const unsigned char *at = bytes;
  for (size_t i = 0; i < size; i++) hash = (hash ^ at[i]) * UINT64_C(0x100000001B3);
  return hash ^ hash >> 32;
}

// This build of the backend: the file that holds it, by size and time of change.
static void add_build(Text *text) {
  Dl_info info;
  struct stat status = {0};
  unsigned major, minor, patch;
  LLVMGetVersion(&major, &minor, &patch);
  if (dladdr((const void *)&magic, &info)) (void)!stat(info.dli_fname, &status);
  text_print(text, "\nllvm %u.%u.%u build %lld %lld.%09ld", major, minor, patch, (long long)status.st_size,
             (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

static char *cache_path(const char *folder, const Kernel *kernel, const char *cpu, const char *features,
                        uint64_t key[2]) {
  Text text = {0}, path = {0};
  kernel_print(kernel, &text);
  text_print(&text, "\ncpu %s %s", cpu, features);
  add_build(&text);
  key[0] = hash_bytes(UINT64_C(0xCBF29CE484222325), text.bytes, text.length);
  key[1] = hash_bytes(UINT64_C(0x9E3779B97F4A7C15), text.bytes, text.length);
  text_print(&path, "%s/%016" PRIx64 "%016" PRIx64 ".object", folder, key[0], key[1]);
  text_free(&text);
  return path.bytes;
}

static bool read_whole(int file, void *to, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t got = read(file, (char *)to + done, size - done);
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

static bool write_whole(int file, const void *from, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t put = write(file, (const char *)from + done, size - done);
    if (put <= 0) return false;
    done += (size_t)put;
  }
  return true;
}

static bool read_object(int file, const uint64_t key[2], Object *object) {
  Header header;
  if (!read_whole(file, &header, sizeof header)) return false;
  if (memcmp(header.magic, magic, sizeof magic) || memcmp(header.key, key, sizeof header.key)) return false;
  if (header.size > LARGEST_OBJECT || header.work.count < 0 || header.work.count > 8) return false;
  char *bytes = malloc(header.size + 1), extra;
  if (!bytes) return false;
  bool whole = read_whole(file, bytes, header.size) && read(file, &extra, 1) == 0;
  if (!whole || hash_bytes(header.key[0], bytes, header.size) != header.checksum) {
    free(bytes);
    return false;
  }
  *object = (Object){bytes, header.size, header.work, header.scratch_bytes};
  return true;
}

bool llvm_cache_get(const char *folder, const Kernel *kernel, const char *cpu, const char *features,
                    Object *object) {
  uint64_t key[2];
  char *path = cache_path(folder, kernel, cpu, features, key);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  bool found = file >= 0 && read_object(file, key, object);
  if (file >= 0) close(file);
  free(path);
  return found;
}

static void make_folder(const char *folder) {
  char *path = strdup(folder);
  if (!path) return;
  for (char *at = path + 1; *at; at++)
    if (*at == '/') {
      *at = 0;
      mkdir(path, 0777);
      *at = '/';
    }
  mkdir(path, 0777);
  free(path);
}

// A cache that can not be written only costs time: no error.
void llvm_cache_put(const char *folder, const Kernel *kernel, const char *cpu, const char *features,
                    const Object *object) {
  Header header = {.size = object->size, .work = object->work, .scratch_bytes = object->scratch_bytes};
  char *path = cache_path(folder, kernel, cpu, features, header.key);
  Text temporary = {0};
  memcpy(header.magic, magic, sizeof magic);
  header.checksum = hash_bytes(header.key[0], object->bytes, object->size);
  make_folder(folder);
  text_print(&temporary, "%s.XXXXXX", path);
  int file = mkstemp(temporary.bytes);
  if (file >= 0) {
    bool whole = write_whole(file, &header, sizeof header) && write_whole(file, object->bytes, object->size);
    whole = close(file) == 0 && whole;
    if (!whole || rename(temporary.bytes, path)) unlink(temporary.bytes);
  }
  text_free(&temporary);
  free(path);
}
