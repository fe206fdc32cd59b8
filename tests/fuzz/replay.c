// Runs a fuzz target without a fuzzer: over the files of folders, each as it is, cut short, and with bytes
// changed by a counter. As a program: linked with one target, `replay FOLDER ...`.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/counter.h"
#include "runtime/files.h"

typedef int FuzzTarget(const uint8_t *bytes, size_t size);

enum { REPLAY_CHANGES = 60 };

// In a block of exactly `size` bytes, so that a sanitizer sees every byte too far.
static void replay_bytes(FuzzTarget *target, const char *bytes, size_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  if (size) memcpy(copy, bytes, size);
  target(copy, size);
  free(copy);
}

static void replay_changed(FuzzTarget *target, char *bytes, size_t size, uint64_t change) {
  uint64_t draw = counter_random(1, change, size, 0);
  size_t at = (size_t)counter_below(draw, size);
  char kept = bytes[at];
  bytes[at] = (char)(change % 2 ? kept ^ 1 << (draw & 7) : (int)(draw & 255));
  replay_bytes(target, bytes, size);
  bytes[at] = kept;
  replay_bytes(target, bytes, at);
}

// Returns how many files there were.
static int replay_folder(FuzzTarget *target, const char *folder, uint64_t changes) {
  Arena *arena = arena_new();
  DIR *directory = opendir(folder);
  int files = 0;
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    Failure failure;
    char *bytes;
    size_t size;
    if (entry->d_name[0] == '.') continue;
    if (!file_read(arena_print(arena, "%s/%s", folder, entry->d_name), 1 << 24, arena, &bytes, &size,
                   &failure))
      continue;
    files++;
    replay_bytes(target, bytes, size);
    for (uint64_t change = 0; size && change < changes; change++) replay_changed(target, bytes, size, change);
  }
  if (directory) closedir(directory);
  arena_free(arena);
  return files;
}

#ifndef REPLAY_NO_MAIN
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int main(int count, char **arguments) {
  int files = 0;
  for (int i = 1; i < count; i++)
    files += replay_folder(LLVMFuzzerTestOneInput, arguments[i], REPLAY_CHANGES);
  printf("%d files\n", files);
  return files ? 0 : 1;
}
#endif
